//! What people look at stays as it is: whole answers of the built binary, kept in `tests/golden/`. `UPDATE_GOLDEN=1` writes them
//! anew; look at the difference before you commit it. And what the documents tell people to type works as it stands there.

use std::path::Path;
use std::process::Output;

use reactor_tests::Scratch;
use reactor_tests::daemon::{program, reactor_output};
use reactor_tests::process::command;

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// stdout, then stderr, then the exit code.
fn all_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}exit code {}\n", text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

/// Compares with `tests/golden/NAME.txt`.
fn looks(name: &str, now: &str) {
    let file = Path::new(REPO).join("tests/golden").join(name).with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, now).expect("tests/golden can be written");
    }
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(before == now, "{} is\n{before}\nand now it looks\n{now}\nhint: UPDATE_GOLDEN=1", file.display());
}

/// Runs the commands of the ```bash blocks between two headings of a document, in `dir`, as they stand there; ends at the
/// first that fails.
fn type_in(document: &str, heading: &str, dir: &Path) -> String {
    let text = std::fs::read_to_string(Path::new(REPO).join(document)).expect("the document");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("the heading");
    let blocks = section.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next());
    let typed: String =
        blocks.flat_map(str::lines).filter(|line| !line.starts_with("alias ")).collect::<Vec<_>>().join("\n");
    assert!(typed.contains("reactor "), "{document}, {heading}: {typed}");
    let script = format!("set -euo pipefail\nreactor() {{ '{}' \"$@\"; }}\n{typed}", program().display());
    let output = command("bash").args(["-c", &script]).current_dir(dir).output().expect("bash runs");
    let said = all_of(&output);
    assert!(output.status.success(), "{document}, {heading}:\n{typed}\nsaid\n{said}");
    said
}

#[test]
fn a_plan_of_the_example_message_looks_like_a_diff() {
    let args = ["plan", "--message", "handlers/examples/messages/email-changed.json", "rules.yaml"];
    let output = in_repo(&args);
    looks("plan", &all_of(&output));
    let readme = std::fs::read_to_string(Path::new(REPO).join("README.md")).expect("the README");
    assert!(readme.contains(&*String::from_utf8_lossy(&output.stdout)), "README.md shows another plan");
}

#[test]
fn a_typo_in_the_rules_is_told_with_line_caret_and_what_was_meant() {
    let scratch = Scratch::new("looks");
    let rules = std::fs::read_to_string(Path::new(REPO).join("rules.yaml")).expect("the example site");
    let broken = rules.replacen("\n    on: ", "\n    onn: ", 1);
    std::fs::write(scratch.path().join("rules.yaml"), broken).expect("a file in /tmp");
    let output = reactor_output(scratch.path(), &["check", "rules.yaml"]);
    looks("check", &all_of(&output));
    let readme = std::fs::read_to_string(Path::new(REPO).join("README.md")).expect("the README");
    assert!(readme.contains(&*String::from_utf8_lossy(&output.stderr)), "README.md shows another error");
}

#[test]
fn the_rule_tests_of_the_example_site_pass() {
    looks("test", &all_of(&in_repo(&["test", "rules.yaml"])));
}

#[test]
fn the_help_tells_every_verb_in_a_line_and_each_verb_has_an_example() {
    let help = all_of(&in_repo(&["--help"]));
    looks("help", &help);
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(verbs.len() > 19, "{verbs:?}");
    for verb in verbs.into_iter().filter(|verb| !verb.is_empty() && *verb != "help") {
        assert!(all_of(&in_repo(&[verb, "--help"])).contains("\nExample: reactor "), "{verb} has no example");
    }
}

#[test]
fn the_schema_in_the_repository_is_this_programs() {
    let schema = std::fs::read(Path::new(REPO).join("rules.schema.json")).expect("rules.schema.json");
    assert!(schema == in_repo(&["schema"]).stdout, "hint: make schema");
}

#[test]
fn what_the_readme_says_to_type_works() {
    let said = type_in("README.md", "Five minutes", Path::new(REPO));
    assert!(said.contains("it would be applied"), "{said}");
}

#[test]
fn the_first_handler_of_contributing_works_by_copy_and_paste() {
    let scratch = Scratch::new("first-handler");
    let said = type_in("CONTRIBUTING.md", "Your first handler", scratch.path());
    let document = std::fs::read_to_string(Path::new(REPO).join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    for shown in ["after apply, the plan is empty", "  + line ada", "ok: 1 rule, 1 handler"] {
        assert!(said.contains(shown) && document.contains(shown), "{shown}:\n{said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for verb in ["schema", "completions bash", "check rules.yaml --format json", "test rules.yaml"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(program()).args(verb.split(' ')).current_dir(REPO).stdout(writer).output();
        let said = String::from_utf8_lossy(&output.expect("reactor runs").stderr).into_owned();
        assert!(!said.contains("roken pipe") && !said.contains("panicked"), "{verb}: {said}");
    }
}

#[test]
fn what_can_not_be_done_says_so_once_with_one_hint() {
    let scratch = Scratch::new("errors");
    let dir = scratch.path();
    std::fs::write(dir.join("text.json"), "hello").expect("a file in /tmp");
    std::fs::write(dir.join("trust.yaml"), "x509: { ca: /nosuch, crll: x }").expect("a file in /tmp");
    let cases: [&[&str]; 9] = [
        &["check", "nosuch.yaml"],
        &["plan", "--message", "text.json", concat!(env!("CARGO_MANIFEST_DIR"), "/../rules.yaml")],
        &["plan", "--message", "nosuch.json", concat!(env!("CARGO_MANIFEST_DIR"), "/../rules.yaml")],
        &["status"],
        &["show", "nosuch"],
        &["verify", "--trust", "nosuch.yaml", "text.json"],
        &["verify", "--trust", "trust.yaml", "text.json"],
        &["handler", "test", "./nosuch"],
        &["publish", "a.b", "{", "--bind", "tcp://127.0.0.1:*", "--unsigned"],
    ];
    for args in cases {
        let output = reactor_output(dir, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let hint = said.find("hint: ").unwrap_or_else(|| panic!("{args:?} has no hint: {said}"));
        assert!(said.starts_with("error: ") && said.matches("error: ").count() == 1, "{args:?}: {said}");
        assert_eq!(said[hint + 1..].matches("hint: ").count(), 0, "{args:?} has one hint: {said}");
    }
}

fn in_repo(args: &[&str]) -> Output {
    let mut reactor = command(program());
    reactor.args(args).current_dir(REPO).env_remove("COLUMNS").output().expect("reactor runs")
}
