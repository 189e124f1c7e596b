//! The corpus in `testdata`: every broken file, and how its errors read. `UPDATE_GOLDEN=1 cargo test -p reactor` writes
//! the renderings anew; look at each as someone would who has to mend the file.

use std::fs;

use super::*;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/testdata")
}

fn compare(name: &str, rendered: &str) -> Result<(), String> {
    let golden = testdata().join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, rendered).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    if expected == rendered { Ok(()) } else { Err(format!("{name}.txt should be:\n{rendered}\nbut is:\n{expected}")) }
}

#[test]
fn every_broken_file_reads_as_recorded() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(testdata()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let loaded = if path.is_dir() {
            read(std::slice::from_ref(&path))
        } else if path.extension().is_some_and(|ext| ext == "yaml") {
            read_str(&format!("{name}.yaml"), &fs::read_to_string(&path).unwrap(), Path::new("/site"))
        } else {
            continue;
        };
        seen += 1;
        let rendered = loaded.diagnostics.to_string().replace(&format!("{}/", testdata().display()), "");
        assert_eq!(loaded.site.is_none(), loaded.diagnostics.has_errors(), "{name}");
        wrong.extend(compare(&name, &rendered).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "the corpus is gone: {seen}");
}
