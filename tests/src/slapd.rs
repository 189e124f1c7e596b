//! A real OpenLDAP of the test's own, with two trees of the same people: FreeIPA's and the one of openssh-lpk.
//!
//! FreeIPA's: `uid=…,cn=users,cn=accounts` with `ipaSshPubKey`, `memberOf` (nested groups included) and `nsAccountLock`;
//! `cn=…,cn=groups,cn=accounts` with `member`. The other: `uid=…,ou=People` with `sshPublicKey`, `cn=…,ou=Groups` with
//! `memberUid`. Below [`BASE`] both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::process::{Child, command};
use crate::{free_port, wait_until};

/// The suffix of the directory.
pub const BASE: &str = "dc=reactor,dc=test";
/// Who may write.
pub const ADMIN: &str = "cn=admin,dc=reactor,dc=test";
/// Who may read what [`Settings::access`] says, and by default everything.
pub const READER: &str = "uid=reader,cn=users,cn=accounts,dc=reactor,dc=test";
/// The password of [`ADMIN`] and of [`READER`].
pub const PASSWORD: &str = "correct-horse";
/// Longest start, and longest stop.
const START_MAX: Duration = Duration::from_secs(30);

/// A person of the directory.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The key texts, in both trees.
    pub keys: Vec<String>,
    /// `nsAccountLock: TRUE`, in FreeIPA's tree.
    pub locked: bool,
}

/// Who is in the directory when it starts.
#[derive(Clone, Debug, Default)]
pub struct People {
    people: BTreeMap<String, Person>,
    /// Name to the names of people and of groups in it.
    groups: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

impl People {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And this person.
    #[must_use]
    pub fn person(mut self, name: &str, keys: &[&str]) -> Self {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.people.insert(name.to_owned(), Person { keys, locked: false });
        self
    }

    /// And this person, whose account is locked.
    #[must_use]
    pub fn locked(mut self, name: &str, keys: &[&str]) -> Self {
        self = self.person(name, keys);
        self.people.entry(name.to_owned()).or_default().locked = true;
        self
    }

    /// And this group of people.
    #[must_use]
    pub fn group(self, name: &str, people: &[&str]) -> Self {
        self.nested(name, people, &[])
    }

    /// And this group of people and of groups.
    #[must_use]
    pub fn nested(mut self, name: &str, people: &[&str], groups: &[&str]) -> Self {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.groups.insert(name.to_owned(), (set(people), set(groups)));
        self
    }

    /// The groups that list `name` themselves, and those that these are in.
    fn groups_of(&self, name: &str) -> BTreeSet<&str> {
        let direct = self.groups.iter().filter(|(_, (people, _))| people.contains(name));
        let mut found: BTreeSet<&str> = direct.map(|(group, _)| group.as_str()).collect();
        loop {
            let outer = self.groups.iter().filter(|(_, (_, inner))| inner.iter().any(|g| found.contains(g.as_str())));
            let outer: Vec<&str> = outer.map(|(group, _)| group.as_str()).filter(|g| !found.contains(g)).collect();
            if outer.is_empty() {
                return found;
            }
            found.extend(outer);
        }
    }

    fn ldif(&self) -> String {
        let mut out = format!(
            "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: test\ndc: reactor\n\n\
             dn: cn=accounts,{BASE}\nobjectClass: organizationalRole\ncn: accounts\n\n"
        );
        for name in ["users", "groups"] {
            let _ = write!(out, "dn: cn={name},cn=accounts,{BASE}\nobjectClass: organizationalRole\ncn: {name}\n\n");
        }
        for name in ["People", "Groups"] {
            let _ = write!(out, "dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n");
        }
        let _ = write!(
            out,
            "dn: {READER}\nobjectClass: inetOrgPerson\nuid: reader\ncn: reader\nsn: reader\nuserPassword: {PASSWORD}\n\n"
        );
        for (number, (name, person)) in self.people.iter().enumerate() {
            let keys = |attribute: &str| {
                let values = person.keys.iter().map(|key| format!("{attribute}:: {}\n", STANDARD.encode(key)));
                values.collect::<String>()
            };
            let member_of = self.groups_of(name);
            let member_of: String = member_of.iter().map(|group| format!("memberof: {}\n", group_dn(group))).collect();
            let lock = if person.locked { "nsAccountLock: TRUE\n" } else { "" };
            let _ = write!(
                out,
                "dn: {}\nobjectClass: inetOrgPerson\nobjectClass: ipaSshUser\nobjectClass: fasUser\nuid: {name}\ncn: {name}\n\
                 sn: {name}\ngivenName: Test\ndisplayName: Test {name}\nmail: {name}@reactor.test\nfasIsPrivate: FALSE\n\
                 fasCreationTime: 20200102030405Z\n{lock}{member_of}{}\n\
                 dn: {}\nobjectClass: account\nobjectClass: posixAccount\n\
                 objectClass: ldapPublicKey\nuid: {name}\ncn: {name}\nuidNumber: {}\ngidNumber: 100\n\
                 homeDirectory: /home/{name}\n{}\n",
                user_dn(name),
                keys("ipaSshPubKey"),
                lpk_dn(name),
                10_000 + number,
                keys("sshPublicKey"),
            );
        }
        for (number, (name, (people, groups))) in self.groups.iter().enumerate() {
            let members: String = people
                .iter()
                .map(|person| user_dn(person))
                .chain(groups.iter().map(|group| group_dn(group)))
                .map(|dn| format!("member: {dn}\n"))
                .collect();
            let uids: String = people.iter().map(|person| format!("memberUid: {person}\n")).collect();
            let _ = write!(
                out,
                "dn: {}\nobjectClass: nestedGroup\nobjectClass: fasGroup\ncn: {name}\n{members}\n\
                 dn: cn={name},ou=Groups,{BASE}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {}\n{uids}\n",
                group_dn(name),
                20_000 + number,
            );
        }
        out
    }
}

/// Where a person stands in FreeIPA's tree.
#[must_use]
pub fn user_dn(name: &str) -> String {
    format!("uid={},cn=users,cn=accounts,{BASE}", escaped(name))
}

/// Where a group stands in FreeIPA's tree.
#[must_use]
pub fn group_dn(name: &str) -> String {
    format!("cn={},cn=groups,cn=accounts,{BASE}", escaped(name))
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace(',', "\\,").replace('+', "\\+")
}

/// What is special about a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lines for the database's part of slapd.conf, such as `limits * size=100`.
    pub lines: String,
    /// The `access` lines.
    pub access: String,
    /// The environment, for Kerberos.
    pub env: Vec<(String, PathBuf)>,
    /// Certificate authority, certificate and key: then it offers StartTLS, and listens for `ldaps` too.
    pub tls: Option<[PathBuf; 3]>,
}

impl Default for Settings {
    fn default() -> Self {
        let access = "access to attrs=userPassword by anonymous auth\naccess to * by users read by anonymous auth\n";
        Self { lines: String::new(), access: access.to_owned(), env: Vec::new(), tls: None }
    }
}

/// A running slapd.
#[derive(Debug)]
pub struct Slapd {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    tls_port: u16,
    settings: Settings,
}

impl Slapd {
    /// Starts one below `dir` with these people.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dir: &Path, people: &People, settings: Settings) -> Self {
        let dir = dir.join("slapd");
        std::fs::create_dir_all(dir.join("db")).expect("a directory for the database");
        let me = Self { child: None, dir, port: free_port(), tls_port: free_port(), settings };
        std::fs::write(me.dir.join("slapd.conf"), me.conf()).expect("its configuration");
        std::fs::write(me.dir.join("people.ldif"), people.ldif()).expect("its people");
        // `-q`: no checks that only matter for data that somebody wants to keep.
        let mut load = command("/usr/sbin/slapadd");
        load.args(["-q", "-f"]).arg(me.dir.join("slapd.conf")).arg("-l").arg(me.dir.join("people.ldif"));
        run(&mut load, "");
        let mut me = me;
        me.resume();
        me
    }

    fn conf(&self) -> String {
        let Settings { lines, access, tls, .. } = &self.settings;
        let dir = self.dir.display();
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let tls = tls.as_ref().map_or(String::new(), |[ca, certificate, key]| {
            let [ca, certificate, key] = [ca, certificate, key].map(|path| path.display());
            format!("TLSCACertificateFile {ca}\nTLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n")
        });
        format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/nis.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
             include {}\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {dir}/slapd.pid\n\
             sasl-host localhost\n{tls}sizelimit unlimited\n{access}\n\
             database mdb\nsuffix {BASE}\nrootdn {ADMIN}\nrootpw {PASSWORD}\ndirectory {dir}/db\nmaxsize 268435456\n\
             dbnosync\nindex objectClass,uid,cn,member,memberof,memberUid eq\n{lines}\n",
            peers.join("slapd.schema").display()
        )
    }

    /// Ends it. What it holds stays.
    pub fn stop(&mut self) {
        self.child = None;
    }

    /// Starts it again, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        let urls = format!(
            "{}{}",
            self.url(),
            if self.settings.tls.is_some() { format!(" {}", self.tls_url()) } else { String::new() }
        );
        let log = std::fs::File::create(self.dir.join("log")).expect("its log");
        let mut slapd = crate::process::mortal("/usr/sbin/slapd");
        slapd.args(["-d", "0", "-h", &urls, "-f"]).arg(self.dir.join("slapd.conf"));
        slapd.envs(self.settings.env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(Child::start(&mut slapd));
        let (port, dir) = (self.port, self.dir.clone());
        wait_until("slapd listens", START_MAX, || {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(!child.has_ended(), "slapd has ended: {}", log());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.child.as_ref().expect("a running slapd").signal(rustix::process::Signal::STOP);
    }

    /// `ldap://127.0.0.1:…`
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// `ldaps://127.0.0.1:…`
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// Its port for plain LDAP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes changes, given as LDIF (`changetype:` lines and all), as [`ADMIN`].
    ///
    /// # Panics
    /// When the server refuses.
    pub fn modify(&self, ldif: &str) {
        let mut program = command("/usr/bin/ldapmodify");
        program.args(["-x", "-H", &self.url(), "-D", ADMIN, "-w", PASSWORD]);
        run(&mut program, ldif);
    }

    /// Gives a person these keys, and no others, in both trees.
    pub fn set_keys(&self, name: &str, keys: &[&str]) {
        let mut ldif = String::new();
        for (dn, attribute) in [(user_dn(name), "ipaSshPubKey"), (lpk_dn(name), "sshPublicKey")] {
            let values: String = keys.iter().map(|key| format!("{attribute}:: {}\n", STANDARD.encode(key))).collect();
            let _ = write!(ldif, "dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{values}\n");
        }
        self.modify(&ldif);
    }

    /// Locks an account, or opens it again.
    pub fn set_locked(&self, name: &str, locked: bool) {
        let value = if locked { "TRUE" } else { "FALSE" };
        let dn = user_dn(name);
        self.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: nsAccountLock\nnsAccountLock: {value}\n"));
    }

    /// Puts a person into a group, in both trees.
    pub fn join(&self, name: &str, group: &str) {
        self.membership("add", name, group);
    }

    /// Takes a person out of a group, in both trees.
    pub fn leave(&self, name: &str, group: &str) {
        self.membership("delete", name, group);
    }

    fn membership(&self, verb: &str, name: &str, group: &str) {
        let (user, group_entry) = (user_dn(name), group_dn(group));
        self.modify(&format!(
            "dn: {group_entry}\nchangetype: modify\n{verb}: member\nmember: {user}\n\n\
             dn: {user}\nchangetype: modify\n{verb}: memberof\nmemberof: {group_entry}\n\n\
             dn: cn={group},ou=Groups,{BASE}\nchangetype: modify\n{verb}: memberUid\nmemberUid: {name}\n"
        ));
    }
}

fn lpk_dn(name: &str) -> String {
    format!("uid={},ou=People,{BASE}", escaped(name))
}

/// Runs a program to its end, with this on its stdin.
pub(crate) fn run(program: &mut std::process::Command, stdin: &str) {
    use std::io::Write as _;
    let name = program.get_program().to_owned();
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap_or_else(|error| {
        panic!("{}: {error}\nhint: run scripts/install-test-deps", name.display());
    });
    child.stdin.take().expect("its stdin").write_all(stdin.as_bytes()).expect("it reads its stdin");
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}: {}", name.display(), String::from_utf8_lossy(&ended.stderr));
}
