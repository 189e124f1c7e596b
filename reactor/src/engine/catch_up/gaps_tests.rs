use super::*;

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn gap(from: i64, to: i64) -> Gap {
    let why = "the bus's queue was full".to_owned();
    let (bus, lacking) = ("b".into(), Some("x".repeat(2 * REASON_CHARS_MAX)));
    Gap {
        bus,
        from: at(from),
        to: at(to),
        why,
        is_asked: false,
        recovered: false,
        came: 0,
        new: 0,
        lacking,
        hint: None,
    }
}

fn gaps(of: &[(i64, i64)]) -> Gaps {
    let mut gaps = Gaps::default();
    of.iter().for_each(|(from, to)| gaps.add(at(1_000), &gap(*from, *to)));
    gaps
}

fn told(gaps: &Gaps) -> Vec<(i64, i64)> {
    gaps.open.iter().map(|one| (one.gap.from.as_second(), one.gap.to.as_second())).collect()
}

fn close(gaps: &mut Gaps, from: i64, to: i64) {
    gaps.close(Window { from: at(from), to: at(to) });
}

/// What a journal holds after these.
fn write(journal: &mut BTreeMap<String, String>, entries: Vec<Entry>) {
    for entry in entries {
        match entry {
            Entry::Setting { name, value: Some(value) } => drop(journal.insert(name, value)),
            Entry::Setting { name, value: None } => drop(journal.remove(&name)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_recovered_closes_a_gap_whole_or_from_an_end() {
    let mut gaps = gaps(&[(10, 20), (30, 40), (50, 60)]);
    close(&mut gaps, 10, 20);
    assert_eq!(told(&gaps), [(30, 40), (50, 60)]);
    close(&mut gaps, 25, 35);
    close(&mut gaps, 55, 99);
    assert_eq!(told(&gaps), [(35, 40), (50, 55)], "in pieces, as a large one is asked for");
    close(&mut gaps, 36, 39);
    assert_eq!(told(&gaps), [(35, 40), (50, 55)], "out of the middle nothing is taken");
    close(&mut gaps, 35, 40);
    close(&mut gaps, 40, 50);
    assert_eq!(told(&gaps), [(50, 55)]);
}

#[test]
fn what_overlaps_is_one_and_of_too_many_the_oldest_are_one() {
    let mut gaps = gaps(&[(10, 20), (30, 40), (15, 30)]);
    assert_eq!(told(&gaps), [(10, 40)]);
    (0..GAPS_MAX as i64).for_each(|n| gaps.add(at(1_000), &gap(100 + 2 * n, 101 + 2 * n)));
    assert_eq!((gaps.open.len(), told(&gaps)[0]), (GAPS_MAX, (10, 101)), "none of the time is forgotten");
}

#[test]
fn the_journal_has_what_is_open_and_another_daemon_reads_it() {
    let (mut journal, mut gaps) = (BTreeMap::new(), gaps(&[(10, 20), (30, 40)]));
    write(&mut journal, gaps.entries("b/c", at(1_000)));
    assert!(gaps.entries("b/c", at(1_001)).is_empty(), "it is written once");
    assert_eq!(journal.keys().collect::<Vec<_>>(), ["gap/b/c/10000000", "gap/b/c/30000000"]);
    assert!(journal.values().all(|value| value.len() < 2 * REASON_CHARS_MAX), "{journal:?}");
    close(&mut gaps, 10, 15);
    write(&mut journal, gaps.entries("b/c", at(1_002)));

    journal.insert("gap/b/c/1".into(), "not of this version".into());
    let mut again = Gaps::of(journal.clone().into_iter());
    assert_eq!(told(&again), [(15, 20), (30, 40)]);
    assert_eq!(again.told(at(1_003))[0]["command"], gap(15, 20).command());
    close(&mut again, 15, 40);
    write(&mut journal, again.entries("b/c", at(1_004)));
    assert!(journal.is_empty(), "{journal:?}");
}

#[test]
fn what_nobody_can_close_goes_by_itself() {
    let mut journal = BTreeMap::new();
    let mut gaps = gaps(&[(10, 20)]);
    let over = at(1_000 + GAP_TOLD_DAYS * DAY);
    write(&mut journal, gaps.entries("b", at(1_000)));
    assert_eq!(gaps.told(at(1_000 + DAY)).as_array().map(Vec::len), Some(1));
    assert_eq!(gaps.told(over), json!([]));
    write(&mut journal, gaps.entries("b", over));
    assert!(journal.is_empty() && gaps.open.is_empty());
}
