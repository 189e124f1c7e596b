//! What stands in the admin repository of a site of many repositories, in each of the ways that are compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Users of the site.
const USERS: usize = 2_000;
/// Groups, of ten users each.
pub const GROUPS: usize = 100;
/// The branches that exist, and that only the maintainers push to.
pub const BRANCHES: [&str; 4] = ["rawhide", "f42", "f41", "epel9"];
/// The branches that nobody makes.
const RESERVED: [&str; 5] = ["f[0-9][0-9]", "epel[0-9]", "epel[0-9][0-9]", "el[0-9]", "olpc[0-9]"];

/// Somebody in one list, in 100 and in 2,000 of them; at a small site in as many as there are.
pub const WHO: [(&str, usize); 3] = [("one", 1), ("hundred", 100), ("thousands", 2_000)];

/// Where the rules stand, and whom they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All in gitolite.conf; people by name.
    Flat,
    /// A file for each repository; people by name, groups in files of their own.
    Files,
    /// A file for each repository; lists that are asked for.
    Asked,
    /// One section for all repositories, by a pattern; one list, asked for by repository.
    Pattern,
}

/// A path and what the file holds.
pub type File = (String, String);

/// A repository's name.
pub fn repo(n: usize) -> String {
    format!("rpms/pkg{n:05}")
}

/// The name of its list.
pub fn list(n: usize) -> String {
    format!("commit@rpms@pkg{n:05}")
}

/// The file of its rules. Shards of 100 do what those of the handler do: no directory is large.
pub fn rules_file(n: usize) -> String {
    format!("conf/reactor/repos/{:03}/rpms@pkg{n:05}.conf", n / 100)
}

/// Who maintains it.
pub fn people(n: usize) -> Vec<String> {
    let mut people: Vec<String> = (0..=n % 3).map(|k| format!("user{:04}", (n * 7 + k * 131) % USERS)).collect();
    if n.is_multiple_of(5) {
        people.push(format!("@sig{:02}", n % GROUPS));
    }
    people.extend(WHO.iter().filter(|(_, lists)| n < *lists).map(|(who, _)| (*who).to_owned()));
    people
}

/// Who is in a group.
pub fn members(group: usize) -> Vec<String> {
    (0..10).map(|k| format!("user{:04}", (group * 17 + k) % USERS)).collect()
}

/// The section of one repository; Fedora's layout. `more` is one more who may push.
pub fn section(n: usize, way: Way, more: &str) -> String {
    let who = if way == Way::Asked { format!("@{}", list(n)) } else { people(n).join(" ") };
    rules(&repo(n), &format!("{who}{more}"))
}

fn rules(repo: &str, who: &str) -> String {
    let mut text = format!("repo {repo}\n    R   = @all\n");
    for branch in BRANCHES {
        let _ = writeln!(text, "    RWC {branch}$ = {who}");
    }
    for branch in RESERVED {
        let _ = writeln!(text, "    -   {branch} = @all");
    }
    let _ = writeln!(text, "    RWC refs/tags/ = {who}\n    RWC = {who} @provenpackager");
    text
}

/// Everything on `master` below `conf`.
pub fn site(repos: usize, way: Way) -> Vec<File> {
    let mut head = "repo gitolite-admin\n    RW+ = admin reactor\n".to_owned();
    let mut files = Vec::new();
    if matches!(way, Way::Flat | Way::Files) {
        head += "include \"reactor/groups/*.conf\"\n";
        files.extend((0..GROUPS).map(|n| group_file(n, &members(n))));
        files.push(("conf/reactor/groups/provenpackager.conf".into(), "@provenpackager = user0001 user0002\n".into()));
    }
    match way {
        Way::Flat => head.extend((0..repos).map(|n| section(n, way, ""))),
        Way::Pattern => head += &rules("rpms/[0-9A-Za-z].*", "@commit"),
        Way::Files | Way::Asked => {
            head += "include \"reactor/repos/*/*.conf\"\n";
            files.extend((0..repos).map(|n| (rules_file(n), section(n, way, ""))));
        }
    }
    head += "repo wild/[a-z].*\n    C   = admin\n    RW+ = WRITERS\n";
    files.push(("conf/gitolite.conf".into(), head));
    files
}

/// A group on `master`.
pub fn group_file(group: usize, members: &[String]) -> File {
    let lines = members.iter().map(|member| format!("@sig{group:02} = {member}\n")).collect();
    (format!("conf/reactor/groups/sig{group:02}.conf"), lines)
}

/// The index on `members`: what a name is directly in.
pub fn index_file(name: &str, inside: &[String]) -> File {
    (format!("in/{}/{name}", &name[..2]), inside.iter().map(|one| format!("{one}\n")).collect())
}

/// Everything on `members`.
pub fn members_branch(repos: usize) -> Vec<File> {
    let mut index: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files = Vec::new();
    for n in 0..repos {
        let people = people(n);
        let lines = people.iter().map(|who| format!("commit {who}\n")).collect();
        files.push((format!("lists/{:03}/rpms@pkg{n:05}", n / 100), lines));
        people.into_iter().for_each(|who| index.entry(who).or_default().push(list(n)));
    }
    for group in 0..GROUPS {
        let members = members(group);
        files.push((format!("groups/sig{group:02}"), members.iter().map(|one| format!("{one}\n")).collect()));
        members.into_iter().for_each(|who| index.entry(who).or_default().push(format!("sig{group:02}")));
    }
    files.extend(index.iter().map(|(name, inside)| index_file(name, inside)));
    files
}
