//! A list is older than what a message has let us see since. It must not undo that. Pure.

use crate::rows::{Files, Found, Known, KnownDirectory, Tree};

/// Puts back what the database knows of directories that changed after `begun`, where the list has an older state of them or does
/// not have them at all: a directory's time only ever grows, so the database saw it later than the list did. They stay as
/// they are until there is a newer list, or a message.
pub(super) fn keep_what_is_newer(tree: &mut Tree, known: &Known, begun: i64) {
    let mut kept = 0_usize;
    for (name, row) in &known.directories {
        let Some(time) = row.time.filter(|time| *time >= begun) else { continue };
        match tree.directories.get_mut(name) {
            // The top directory of a list has no line, and so no time.
            Some(found) if found.time != 0 && found.time < time => {
                found.time = time;
                found.readable = row.readable;
                found.files = Files::Unchanged;
                found.read.clear();
            }
            None => drop(tree.directories.insert(name.clone(), as_known(row, time))),
            Some(_) => continue,
        }
        kept += 1;
    }
    if kept > 0 {
        let s = if kept == 1 { "y" } else { "ies" };
        tree.notes.push(format!("{kept} director{s} changed after the list was begun: left as the database has them"));
    }
}

fn as_known(row: &KnownDirectory, time: i64) -> Found {
    Found {
        time,
        readable: row.readable,
        files: Files::Unchanged,
        has_repodata: false,
        is_ostree: false,
        read: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: Option<i64>) -> KnownDirectory {
        KnownDirectory { id: 1, time, readable: true, categories: 1 }
    }

    #[test]
    fn what_a_message_let_us_see_after_the_list_stays() {
        let found = |time| Found { files: Files::All(Vec::new()), ..as_known(&row(None), time) };
        let mut tree = Tree::default();
        for (name, time) in
            [("p", 0), ("p/same", 90), ("p/older-in-list", 50), ("p/newer-in-list", 300), ("p/went-back", 10)]
        {
            tree.directories.insert(name.into(), found(time));
        }
        let mut known = Known::default();
        for (name, time) in [
            ("p", Some(200)),
            ("p/same", Some(90)),
            ("p/older-in-list", Some(200)),
            ("p/newer-in-list", Some(200)),
            ("p/went-back", Some(50)),
            ("p/new-since", Some(100)),
            ("p/gone", Some(99)),
            ("p/no-time", None),
        ] {
            known.directories.insert(name.into(), row(time));
        }
        keep_what_is_newer(&mut tree, &known, 100);
        let time = |name: &str| tree.directories.get(name).map(|found| (found.time, found.files == Files::Unchanged));
        assert_eq!(time("p"), Some((0, false)));
        assert_eq!(time("p/same"), Some((90, false)));
        assert_eq!(time("p/older-in-list"), Some((200, true)), "not back to what it was before the message");
        assert_eq!(time("p/newer-in-list"), Some((300, false)));
        assert_eq!(time("p/went-back"), Some((10, false)), "long before the list: the list is right");
        assert_eq!(time("p/new-since"), Some((100, true)), "not deleted because the list does not have it yet");
        assert_eq!(time("p/gone"), None, "gone before the list was begun");
        assert_eq!(time("p/no-time"), None);
        assert_eq!(tree.notes.len(), 1);
        assert!(tree.notes[0].starts_with("2 directories"), "{}", tree.notes[0]);
    }
}
