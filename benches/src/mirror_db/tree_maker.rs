//! A master mirror as Fedora's EPEL lays it out, with as many files as wanted, the same each time: on disk, and as the file list
//! that `create-filelist` would make of it. Packages are holes: they have their sizes and take no room.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// The category's top directory.
pub const TOP: &str = "pub/epel";
/// When the tree was made, in seconds since 1970: in 2023.
const MADE: i64 = 1_700_000_000;
/// Within so many seconds after it.
const MADE_WITHIN: u64 = 90_000;
/// A new content of a repository is so many seconds younger than the last.
const ROUND_SECONDS: i64 = 1_000_000;
const ARCHES: [&str; 4] = ["x86_64", "aarch64", "ppc64le", "s390x"];
const LETTERS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
const METADATA: [&str; 3] = ["primary", "filelists", "other"];

/// A tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Releases: 4, 5, …
    pub versions: usize,
    /// Whether each has a `testing` beside it.
    pub testing: bool,
    /// Of x86_64, aarch64, ppc64le, s390x; and there are the sources.
    pub arches: usize,
    /// Directories of packages in a repository.
    pub letters: usize,
    /// Packages in each.
    pub packages: usize,
    /// How often a repository got new content: one package, and its metadata.
    pub rounds: BTreeMap<String, u32>,
}

/// A directory; the name is relative to [`TOP`].
#[derive(Debug, Default)]
pub struct Directory {
    /// Its name.
    pub name: String,
    /// When it last changed.
    pub time: i64,
    /// Its files.
    pub files: Vec<Entry>,
}

/// A file.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it last changed.
    pub time: i64,
    /// Its size, if it is a hole.
    pub size: u64,
    /// Its content, if it has one.
    pub content: Option<String>,
}

impl Tree {
    /// 20 thousand files, or ten and a hundred times as many. `short` is for CI: a few hundred.
    #[must_use]
    pub fn of(times: usize, short: bool) -> Self {
        let (versions, testing, arches) = match times {
            1 => (1, false, 3),
            10 => (4, true, 4),
            more => (more / 10 * 4, true, 4),
        };
        let (letters, packages) = if short { (2, 12) } else { (LETTERS.len(), 78) };
        Self { versions, testing, arches, letters, packages, rounds: BTreeMap::new() }
    }

    /// The repositories, relative to [`TOP`].
    #[must_use]
    pub fn repositories(&self) -> Vec<String> {
        let bases = (4..4 + self.versions).flat_map(|version| {
            let stable = format!("{version}/Everything");
            [Some(stable.clone()), self.testing.then(|| format!("testing/{stable}"))]
        });
        let one = |base: String| {
            let arches = ARCHES.iter().take(self.arches);
            let binary = arches.flat_map(|arch| [format!("{base}/{arch}"), format!("{base}/{arch}/debug")]);
            binary.chain([format!("{base}/source/tree")]).collect::<Vec<_>>()
        };
        bases.flatten().flat_map(one).collect()
    }

    /// New content for a repository: a package and metadata.
    pub fn update(&mut self, repository: &str) {
        *self.rounds.entry(repository.to_owned()).or_default() += 1;
    }

    /// The directories of a repository: itself, its packages', its metadata's.
    #[must_use]
    pub fn directories(&self, repository: &str) -> Vec<Directory> {
        let round = self.rounds.get(repository).copied().unwrap_or_default();
        let empty = |name: String| Directory { time: time(&name), name, files: Vec::new() };
        let mut all = vec![empty(repository.to_owned()), empty(format!("{repository}/Packages"))];
        for (at, letter) in LETTERS.chars().take(self.letters).enumerate() {
            let mut directory = empty(format!("{repository}/Packages/{letter}"));
            directory.files =
                (0..self.packages).map(|n| package(&directory.name, &format!("{letter}pkg{n}"))).collect();
            if at == 0 && round > 0 {
                later(&mut directory, round);
                let mut new = package(&directory.name, &format!("{letter}new{round}"));
                new.time = directory.time;
                directory.files.push(new);
            }
            all.push(directory);
        }
        all.push(metadata(repository, round));
        all
    }

    /// Shows all directories but the top one, each after the one it is in.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn each(&self, mut look: impl FnMut(&Directory) -> Result<()>) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        for repository in self.repositories() {
            for (at, _) in repository.match_indices('/') {
                let above = &repository[..at];
                if seen.insert(above.to_owned()) {
                    look(&Directory { name: above.to_owned(), time: time(above), files: Vec::new() })?;
                }
            }
            for directory in self.directories(&repository) {
                if seen.insert(directory.name.clone()) {
                    look(&directory)?;
                }
            }
        }
        Ok(())
    }

    /// How many directories (the top one counted) and files.
    ///
    /// # Errors
    /// Never.
    pub fn count(&self) -> Result<(usize, usize)> {
        let (mut directories, mut files) = (1, 0);
        self.each(|directory| {
            directories += 1;
            files += directory.files.len();
            Ok(())
        })?;
        Ok((directories, files))
    }

    /// Writes all of it below `root`; or, if it is `sparse`, only the files that have content, and directories for them.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, root: &Path, sparse: bool) -> Result<()> {
        let top = root.join(TOP);
        fs::create_dir_all(&top)?;
        self.each(|directory| write_directory(&top, directory, sparse))
    }

    /// Writes what [`Tree::update`] changed in a repository.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_update(&self, root: &Path, repository: &str) -> Result<()> {
        let top = root.join(TOP);
        let is_new = |file: &&Entry| file.time >= MADE + ROUND_SECONDS;
        for directory in self.directories(repository) {
            let new: Vec<&Entry> = directory.files.iter().filter(is_new).collect();
            if new.is_empty() {
                continue;
            }
            let before = fs::read_dir(top.join(&directory.name))?.map(|entry| Ok(entry?.path()));
            for old in before.collect::<Result<Vec<PathBuf>>>()? {
                let name = old.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if directory.files.iter().all(|file| file.name != name) {
                    fs::remove_file(old)?;
                }
            }
            write_files(&top.join(&directory.name), new, false)?;
        }
        Ok(())
    }

    /// Writes the list; where: the real tools look for it at the top.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_list(&self, root: &Path) -> Result<PathBuf> {
        let path = root.join(TOP).join("fullfiletimelist-epel");
        let new = path.with_extension("new");
        let mut to = BufWriter::new(File::create(&new)?);
        let mut sums: [String; 4] = Default::default();
        to.write_all(b"[Version]\n2\n\n[Files]\n")?;
        self.each(|directory| {
            for file in &directory.files {
                let size = file.content.as_ref().map_or(file.size, |content| content.len() as u64);
                writeln!(to, "{}\tf\t{size}\t{}/{}", file.time, directory.name, file.name)?;
                if file.name == "repomd.xml"
                    && let Some(content) = &file.content
                {
                    add_sums(&mut sums, content.as_bytes(), &format!("{}/{}", directory.name, file.name))?;
                }
            }
            writeln!(to, "{}\td\t4096\t{}", directory.time, directory.name)?;
            Ok(())
        })?;
        for (name, lines) in ["SHA1", "MD5", "SHA256", "SHA512"].iter().zip(&sums) {
            write!(to, "\n[Checksums {name}]\n{lines}")?;
        }
        to.write_all(b"\n[End]\n")?;
        to.into_inner()?;
        fs::rename(new, &path)?;
        Ok(path)
    }
}

/// Some time that belongs to the name (FNV-1a).
fn time(name: &str) -> i64 {
    MADE + (hash(name) % MADE_WITHIN) as i64
}

fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn package(directory: &str, name: &str) -> Entry {
    let arch = directory.split('/').find(|part| ARCHES.contains(part)).unwrap_or("src");
    let name = format!("{name}-1.{}-1.el.{arch}.rpm", hash(name) % 10);
    let number = hash(&format!("{directory}/{name}"));
    Entry { name, time: MADE + (number % MADE_WITHIN) as i64, size: number % 5_000_000, content: None }
}

fn later(directory: &mut Directory, round: u32) {
    directory.time += ROUND_SECONDS * i64::from(round);
}

fn metadata(repository: &str, round: u32) -> Directory {
    let name = format!("{repository}/repodata");
    let mut directory = Directory { time: time(&name), name, files: Vec::new() };
    later(&mut directory, round);
    let time = directory.time;
    let mut xml =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n"
            .to_owned();
    for kind in METADATA {
        let file = format!("{:016x}-{kind}.xml.zst", hash(&format!("{repository} {kind} {round}")));
        // Writing to a String can't fail.
        let _ = writeln!(
            xml,
            "<data type=\"{kind}\"><location href=\"repodata/{file}\"/><timestamp>{time}</timestamp></data>"
        );
        directory.files.push(Entry { name: file, time, size: 100_000, content: None });
    }
    xml.push_str("</repomd>\n");
    directory.files.push(Entry { name: "repomd.xml".into(), time, size: 0, content: Some(xml) });
    directory
}

fn write_directory(top: &Path, directory: &Directory, sparse: bool) -> Result<()> {
    if sparse && directory.files.iter().all(|file| file.content.is_none()) {
        return Ok(());
    }
    let path = top.join(&directory.name);
    fs::create_dir_all(&path)?;
    write_files(&path, &directory.files, sparse)
}

fn write_files<'a>(path: &Path, files: impl IntoIterator<Item = &'a Entry>, sparse: bool) -> Result<()> {
    for file in files {
        match &file.content {
            Some(content) => fs::write(path.join(&file.name), content)?,
            None if sparse => {}
            None => File::create(path.join(&file.name))?.set_len(file.size)?,
        }
    }
    Ok(())
}

fn add_sums(sums: &mut [String; 4], content: &[u8], name: &str) -> Result<()> {
    let all = [
        hex(&Sha1::digest(content)),
        hex(&Md5::digest(content)),
        hex(&Sha256::digest(content)),
        hex(&Sha512::digest(content)),
    ];
    for (lines, sum) in sums.iter_mut().zip(all) {
        writeln!(lines, "{sum}\t{name}")?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_what_they_are_called() {
        assert_eq!(Tree::of(1, false).count().unwrap(), (277, 19_684));
        assert_eq!(Tree::of(10, false).count().unwrap(), (2_834, 202_464));
    }

    #[test]
    fn an_update_is_one_package_and_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::of(1, true);
        tree.write(dir.path(), false).unwrap();
        let before = fs::read_to_string(tree.write_list(dir.path()).unwrap()).unwrap();
        tree.update("4/Everything/x86_64");
        tree.write_update(dir.path(), "4/Everything/x86_64").unwrap();
        let after = fs::read_to_string(tree.write_list(dir.path()).unwrap()).unwrap();
        let other = |a: &str, b: &str| a.lines().filter(|line| !b.lines().any(|one| one == *line)).count();
        // The package; three files, repomd.xml and its four sums; two directories.
        assert_eq!((other(&before, &after), other(&after, &before)), (10, 11));
        let on_disk = fs::read_dir(dir.path().join("pub/epel/4/Everything/x86_64/repodata")).unwrap().count();
        assert_eq!(on_disk, 4);
    }
}
