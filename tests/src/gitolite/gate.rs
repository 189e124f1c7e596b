//! Holds [`REACTOR`]'s pushes to the admin repository at a place that a test chooses, until it opens the gate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Gitolite, REACTOR, give};
use crate::wait_until;

/// How long a push may take until it is at a gate, on a loaded machine.
const COMES_MAX: Duration = Duration::from_secs(60);

/// Where a push is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// gitolite has let it in; git-receive-pack has not begun. The commit is made, the push is not.
    Before,
    /// The objects are on the server, the branch is not moved.
    Taken,
    /// The branch is moved; gitolite has not compiled, whoever pushed does not know.
    Moved,
    /// gitolite has read its configuration, and written nothing yet of what it compiles.
    Compiling,
}

impl Gate {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Taken => "taken",
            Self::Moved => "moved",
            Self::Compiling => "compiling",
        }
    }
}

impl Gitolite {
    fn gate(&self, gate: Gate, what: &str) -> PathBuf {
        self.dir.join("gate").join(format!("{}.{what}", gate.name()))
    }

    /// From now on every push of reactor's waits here. Of what it did before, nothing is under way any more: after a compile it
    /// pushes a mark, for which nobody waits.
    ///
    /// # Panics
    /// When it can't be shut.
    pub fn shut(&self, gate: Gate) {
        wait_until("the last compile is marked", COMES_MAX, || {
            let ours = self.admin_log("master").first().is_none_or(|commit| commit.message.contains("\nReactor: "));
            let tip = |name: &str| self.admin_git(&["rev-parse", "--verify", "--quiet", name]);
            !ours || tip("refs/heads/master") == tip("refs/reactor/compiled")
        });
        let _ = fs::remove_file(self.gate(gate, "came"));
        fs::write(self.gate(gate, "shut"), "").expect("a shut gate");
    }

    /// Lets everybody go on.
    ///
    /// # Panics
    /// When it was not shut.
    pub fn open(&self, gate: Gate) {
        fs::remove_file(self.gate(gate, "shut")).expect("a shut gate");
    }

    /// Waits until a push is held here.
    ///
    /// # Panics
    /// When none comes.
    pub fn until_one_waits(&self, gate: Gate) {
        wait_until(&format!("a push is at {gate:?}"), COMES_MAX, || self.gate(gate, "came").exists());
    }
}

/// The script, and where gitolite looks for it.
pub(super) fn install(it: &Gitolite) {
    let (gates, triggers) = (it.dir.join("gate"), it.dir.join("local/triggers"));
    fs::create_dir(&gates).expect("a directory");
    give(&gates, &it.account, 0o755);
    fs::create_dir_all(&triggers).expect("a directory");
    let script = format!(
        "#!/bin/sh\n# gate NAME [PRE_GIT REPO USER ACCESS …]\n[ \"${{GL_USER-}}\" = {REACTOR} ] || exit 0\n\
         [ $# = 1 ] || [ \"$3 $5\" = 'gitolite-admin W' ] || exit 0\nat={}/$1\n[ -e \"$at.shut\" ] || exit 0\n\
         : >\"$at.came\"\nwhile [ -e \"$at.shut\" ]; do sleep 0.02; done\n",
        gates.display()
    );
    write_script(&triggers.join("gate"), &script);
    let sugar = it.dir.join("local/syntactic-sugar");
    fs::create_dir(&sugar).expect("a directory");
    let gate = triggers.join("gate");
    let script = format!("sub sugar_script {{ system('{}', 'compiling'); return shift; }}\n1;\n", gate.display());
    write_script(&sugar.join("gate"), &script);
}

/// The lines of gitolite.rc.
pub(super) fn rc(it: &Gitolite) -> String {
    format!(
        "    LOCAL_CODE => '{}/local',\n    PRE_GIT => [ 'gate before' ],\n    SYNTACTIC_SUGAR => [ 'gate' ],\n",
        it.dir.display()
    )
}

/// The hooks of the admin repository that gitolite does not use itself.
pub(super) fn install_hooks(it: &Gitolite) {
    let hooks = it.repository("gitolite-admin").join("hooks");
    for (hook, gate) in [("pre-receive", Gate::Taken), ("post-receive", Gate::Moved)] {
        // A mark's push (refs/reactor/…) may still be here when its ref has moved.
        let script = format!(
            "#!/bin/sh\ngrep ' refs/heads/' >/dev/null || exit 0\nexec {}/local/triggers/gate {}\n",
            it.dir.display(),
            gate.name()
        );
        write_script(&hooks.join(hook), &script);
    }
}

fn write_script(path: &std::path::Path, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}
