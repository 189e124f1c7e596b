//! What we take, the real gitolite takes too, without a warning, and understands the same. Where gitolite 3 is not installed these
//! tests say so and end.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Lines made up, of which some are taken.
const SAMPLES: usize = 10_000;
/// So many of them must be taken, or the test says nothing.
const TAKEN_MIN: usize = 500;

/// Prints the rules of the repository in the directory as we do, in their order.
const RULES: &str = r#"
    our (%one_repo, %one_config); do "./gl-conf" or die "gl-conf: $! $@";
    my ($repo) = keys %one_repo; my @rules;
    for my $who (keys %{$one_repo{$repo}}) { push @rules, [@$_, $who] for @{$one_repo{$repo}{$who}} }
    print join("|", $repo, @$_[1, 2, 3]), "\n" for sort { $a->[0] <=> $b->[0] } @rules;
"#;

/// Reads each line as a regular expression, as gitolite does when somebody comes.
const PATTERNS: &str = r#"while (<STDIN>) { chomp; eval { "x" =~ /^$_/ }; print "$_: $@" if $@ }"#;

#[allow(clippy::disallowed_methods, reason = "a test runs the real gitolite")]
fn run(home: &Path, program: &str, args: &[&str], stdin: Option<&Path>) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(args).current_dir(home).env_clear().env("HOME", home).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("USER", "reactor");
    if let Some(path) = stdin {
        command.stdin(std::fs::File::open(path).unwrap());
    }
    let output = command.output().ok()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.success(), said))
}

/// A private gitolite that asks a program for groups, so that none need be declared.
fn gitolite(home: &Path) -> bool {
    match run(home, "gitolite", &["setup", "-a", "admin"], None) {
        Some((true, _)) => {}
        other => {
            eprintln!("SKIPPED: gitolite 3 can't be set up here: {other:?}");
            return false;
        }
    }
    let rc = home.join(".gitolite.rc");
    let text = std::fs::read_to_string(&rc).unwrap();
    // what stands last counts
    let text = text.replacen("\n);", "\n    GROUPLIST_PGM => '/bin/true',\n    GIT_CONFIG_KEYS => '.*',\n);", 1);
    assert!(text.contains("/bin/true"), "{text}");
    std::fs::write(rc, text).unwrap();
    true
}

/// A line near the border of what is taken.
fn line() -> impl Strategy<Value = String> {
    let permission = "(-|C|R|RW\\+?(C|D|CD|DC)?M?|RWX|rw|R\\+)";
    let refex = prop_oneof![
        2 => Just(String::new()),
        3 => " [a-f0-9]{1,3}(\\$|\\.\\*|\\[0-9\\]\\+?)?",
        3 => " (refs/|VREF/|NAME/|)[a-d./@,+-]{0,4}[\\[\\]\\\\(){}0-9^$|*?+a-]{0,6}( [a-z]{1,3})?",
    ];
    let who = "( |\t)?([a-c@.+_/%\"#-]{1,6}|@all|@[a-z]{1,5}(@[a-z]{1,3})?|@commit\\.f4@rpms@foo|READERS|alice)( [a-z0-9+.-]{1,4})?";
    let who = prop_oneof![who, "(alice|@all|@[a-z]{1,5}|@any@foo|[a-c.+_-]{1,4})( [a-z0-9+.-]{1,4})?"];
    let is = prop_oneof![" {0,2}={1,2}", " ?= ?"];
    let rule = (permission, refex, is, who).prop_map(|(p, r, is, w)| format!("{p}{r}{is}{w}"));
    prop_oneof![
        8 => rule,
        1 => "(option|config) [a-z.A-Z-]{1,8} {0,2}= {0,2}[a-z0-9 '\"%$=.,/-]{0,8}( # [a-z\"]{0,4})?",
        1 => "#{0,2} ?[a-z\"# 0-9]{0,10}",
        1 => "(desc|owner|include|subconf|repo|@g|=) ?=? ?[a-z\"]{0,5}",
        1 => "\\PC{0,10}",
    ]
}

/// As [`RULES`] prints them.
fn ours(section: &Section) -> String {
    section.rules.iter().fold(String::new(), |mut all, rule| {
        let refex = match rule.refex.as_str() {
            "" => "refs/.*".to_owned(),
            named if named.starts_with("NAME/") && rule.permission != "R" && rule.permission != "C" => {
                format!("VREF/{named}")
            }
            full if full.starts_with("refs/") || full.starts_with("VREF/") => full.to_owned(),
            branch => format!("refs/heads/{branch}"),
        };
        writeln!(all, "{}|{}|{refex}|{}", rule.repo, rule.permission, rule.who).unwrap();
        all
    })
}

#[test]
fn what_is_taken_gitolite_takes_without_a_warning_and_understands_the_same() {
    let home = tempfile::tempdir().unwrap();
    if !gitolite(home.path()) {
        return;
    }
    let mut runner = TestRunner::deterministic();
    let mut text = "repo rpms/foo\n".to_owned();
    let mut taken = 0;
    for _ in 0..SAMPLES {
        let line = line().new_tree(&mut runner).unwrap().current();
        let one = format!("repo rpms/foo\n    {line}\n");
        // other repositories would each be made; their names have a test of their own
        if read(&one).is_ok() && !line.starts_with("repo") {
            taken += usize::from(!read(&one).unwrap().rules.is_empty());
            writeln!(text, "    {line}").unwrap();
        }
    }
    assert!(taken > TAKEN_MIN, "only {taken} rules were taken");
    let section = read(&text).unwrap();

    let conf = home.path().join(".gitolite/conf/gitolite.conf");
    let before = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{before}\n{text}")).unwrap();
    let (well, said) = run(home.path(), "gitolite", &["compile"], None).unwrap();
    let ill = said.lines().find(|line| ["WARN", "FATAL", "syntax", "rror"].iter().any(|word| line.contains(word)));
    assert!(well && ill.is_none(), "{ill:?}\n{said}");

    let repository = home.path().join("repositories/rpms/foo.git");
    let (_, theirs) = run(&repository, "perl", &["-e", RULES], None).unwrap();
    let ours = ours(&section);
    let differ = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
    assert_eq!(differ, None);
    assert_eq!(theirs.lines().count(), ours.lines().count());

    let patterns: String = section.rules.iter().map(|rule| format!("{}\n", rule.refex)).collect();
    let file = home.path().join("patterns");
    std::fs::write(&file, patterns).unwrap();
    let (_, said) = run(home.path(), "perl", &["-e", PATTERNS], Some(&file)).unwrap();
    assert_eq!(said, "", "Perl can't read what is taken as a pattern");
}

/// What Fedora's layout promises, asked of the real gitolite.
#[test]
fn fedoras_layout_means_what_it_says() {
    use crate::layout::{FEDORA, Layout, Membership};
    use crate::names::BranchName;
    use crate::truth::{People, Repo};

    let home = tempfile::tempdir().unwrap();
    if !gitolite(home.path()) {
        return;
    }
    let people = |name: &str| People { users: [UserName::parse(name).unwrap()].into(), ..People::default() };
    let branch = |name: &str| BranchName::parse(name).unwrap();
    let own = |name: &str| Some(people(name));
    let truth = Repo {
        commit: people("alice"),
        branches: [(branch("f41"), None), (branch("epel10"), own("bob")), (branch("main"), own("carol"))].into(),
        deploy_keys: [(UserName::parse("robot").unwrap(), true)].into(),
        ..Repo::default()
    };
    let layout = Layout::read("fedora.hbs", FEDORA).unwrap();
    let name = RepoName::parse("rpms/foo").unwrap();
    let text = layout.render(&name, &truth, Membership::Compiled).unwrap().text;
    let conf = home.path().join(".gitolite/conf/gitolite.conf");
    std::fs::write(&conf, format!("{}\n{text}", std::fs::read_to_string(&conf).unwrap())).unwrap();
    assert!(run(home.path(), "gitolite", &["compile"], None).unwrap().0);

    for (who, what, on, may) in [
        ("nobody", "R", "any", true),
        ("nobody", "W", "any", false),
        ("alice", "W", "refs/heads/f41", true),
        ("alice", "C", "refs/heads/f42", false),
        ("alice", "C", "refs/heads/f41-mine", false),
        ("alice", "C", "refs/heads/mine", true),
        ("alice", "W", "refs/heads/main", false),
        ("alice", "W", "refs/heads/epel10", false),
        ("alice", "C", "refs/tags/v1", true),
        ("alice", "+", "refs/heads/mine", false),
        ("bob", "W", "refs/heads/epel10", true),
        ("bob", "C", "refs/heads/epel10.1", false),
        ("bob", "C", "refs/heads/mine", false),
        ("bob", "C", "refs/tags/v1", true),
        ("carol", "W", "refs/heads/main", true),
        ("carol", "W", "refs/heads/f41", false),
        ("robot", "W", "refs/heads/mine", true),
        ("robot", "W", "refs/heads/f41", false),
        ("robot", "W", "refs/heads/main", false),
    ] {
        let (does, said) = run(home.path(), "gitolite", &["access", "rpms/foo", who, what, on], None).unwrap();
        assert_eq!(does, may, "{who} {what} {on}: {said}");
    }
}
