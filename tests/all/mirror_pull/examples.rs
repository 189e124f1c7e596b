//! The files that people copy are right: their rule tests as they stand, `check` once the directories are there.

use std::path::Path;

use reactor_tests::Scratch;
use reactor_tests::daemon::reactor_output;

use super::site::{Net, T1A, Wish};

#[test]
fn both_examples_pass_their_own_rule_tests() {
    let scratch = Scratch::new("mirror-examples");
    for tier in ["tier1", "tier2"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../handlers/mirror-pull/example");
        let file = file.join(format!("{tier}.yaml")).display().to_string();
        let output = reactor_output(scratch.path(), &["test", &file]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "reactor test {file}: {said}");
    }
}

#[test]
fn both_examples_pass_the_check_with_addresses_and_directories_that_are_there() {
    let net = Net::new("check");
    for (name, tier, from) in [(T1A, 1, net.master.url()), ("t2a.example.org", 2, "rsync://127.0.0.1:9/pub".to_owned())]
    {
        let mirror = net.mirror(name, tier);
        net.write_rules(&mirror, &from, T1A, Wish::default());
        let (code, said) = mirror.reactor(&["check", "rules.yaml"]);
        assert_eq!(code, 0, "{said}");
    }
}
