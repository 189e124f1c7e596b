//! Whatever the lists are: what is planned, once it is done, leaves nothing to do, and no list gets shorter.

use proptest::prelude::*;

use super::*;

/// Two tags of a hub, of which f45 inherits from f40: for each its own rows of a package, as a hub keeps them (owner, blocked).
#[derive(Clone, Debug)]
struct Hub {
    own: Option<(String, bool)>,
    parent: Option<(String, bool)>,
}

impl Hub {
    /// What f45's list shows.
    fn shown(&self) -> Option<Entry> {
        let entry =
            |(owner, blocked): &(String, bool), tag: &str| Entry { blocked: *blocked, ..from(tag, row("bash", owner)) };
        self.own.as_ref().map(|own| entry(own, "f45")).or(self.parent.as_ref().map(|parent| entry(parent, "f40")))
    }

    /// What a hub 1.35 does (`packageList…` of kojihub.py): an owner of an inherited row is taken and not shown.
    fn write(&mut self, what: &What) {
        let shown = self.shown();
        match (what, shown) {
            (What::Add { owner, .. }, None) => self.own = Some((owner.to_string(), false)),
            (What::SetOwner(owner), Some(shown)) => match &mut self.own {
                Some(own) => own.0 = owner.to_string(),
                None => panic!("an owner was sent for a row that is inherited: {owner}, {shown:?}"),
            },
            (What::Block, Some(shown)) if !shown.blocked => self.own = Some((shown.owner, true)),
            (What::Unblock, Some(shown)) if shown.blocked => {
                self.own = None;
                if self.parent.as_ref().is_none_or(|(_, blocked)| *blocked) {
                    self.own = Some((shown.owner, false));
                }
            }
            (what, shown) => panic!("the hub would answer with a fault: {what:?}, {shown:?}"),
        }
    }
}

fn person() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["alice", "bob", "carol", "orphan", "releng"]).prop_map(str::to_owned)
}

fn own_row() -> impl Strategy<Value = Option<(String, bool)>> {
    prop::option::of((person(), any::<bool>()))
}

proptest! {
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(
        own in own_row(),
        parent in own_row(),
        owner in person(),
        retired in prop::option::of(any::<bool>()),
        strangers in prop::collection::btree_set(person(), 0..3),
        instead in prop::option::of(Just("releng")),
    ) {
        let mut hub = Hub { own, parent };
        // Unblocked, it would show the parent's row: nothing can be said of its owner before.
        prop_assume!(!(hub.own.as_ref().is_some_and(|own| own.1) && hub.parent.as_ref().is_some_and(|parent| !parent.1)));
        let was_there = hub.shown();
        let ways = Ways { no_account: instead.map(user), ..ways() };
        let truth = truth(&owner, retired);
        let mut missing: BTreeSet<UserName> = strangers.iter().map(|name| user(name)).collect();
        missing.remove(&user("releng"));
        let plan = |entry: Option<Entry>| {
            let mut draft = Draft::default();
            let (tag, package) = (tag("f45"), package("bash"));
            draft.judge(Case { tag: &tag, package: &package, truth: &truth, entry: entry.as_ref() }, &ways, |_| false);
            draft.settle(&missing, &ways, false).unwrap().0
        };
        let steps = plan(hub.shown());
        let unblocks = steps.iter().any(|step| step.write.what == What::Unblock);
        for step in &steps {
            prop_assert_eq!(step.stand(was_there.as_ref(), unblocks), Stand::Open);
            hub.write(&step.write.what);
        }
        for step in &steps {
            let stand = step.stand(hub.shown().as_ref(), unblocks);
            prop_assert_eq!(stand, Stand::Done, "{:?}", step);
        }
        prop_assert!(plan(hub.shown()).is_empty(), "{:?} {:?}", steps, hub);
        prop_assert!(was_there.is_none() || hub.shown().is_some());
        if let (Some(before), Some(after)) = (was_there, hub.shown()) {
            prop_assert!(retired.is_some() || before.blocked == after.blocked, "nobody knows whether it is retired");
            let has_account = !missing.contains(&user(&after.owner));
            prop_assert!(before.owner == after.owner || has_account, "{} has no account", after.owner);
        }
    }
}
