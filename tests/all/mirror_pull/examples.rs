//! The files that people copy are right as they stand.

use std::path::Path;

use reactor_tests::Scratch;
use reactor_tests::daemon::reactor_output;

#[test]
fn both_examples_pass_their_own_rule_tests_and_the_check() {
    let scratch = Scratch::new("mirror-examples");
    for tier in ["tier1", "tier2"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../handlers/mirror-pull/example");
        let file = file.join(format!("{tier}.yaml")).display().to_string();
        for verb in ["test", "check"] {
            let output = reactor_output(scratch.path(), &[verb, &file]);
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "reactor {verb} {file}: {said}");
        }
    }
}
