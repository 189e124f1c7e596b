//! The example's prefixes beside umdl's own. The names were made by running MirrorManager2's `repo_prefix` (49f0cf26) on
//! these paths.

use super::prefix;
use super::support::example_prefixes;

/// Directory, version, prefix; `-` = none.
const NAMES: &[(&str, &str, &str)] = &[
    ("pub/fedora/linux/releases/29/Everything/x86_64/os", "29", "fedora-29"),
    ("pub/fedora/linux/development/30/Everything/x86_64/os", "development", "fedora-30"),
    ("pub/fedora/linux/releases/29/Modular/x86_64/os", "29", "fedora-modular-29"),
    ("pub/fedora/linux/development/30/Modular/x86_64/os", "development", "fedora-modular-30"),
    ("pub/fedora/linux/development/rawhide/Everything/x86_64/os", "development", "rawhide"),
    ("pub/fedora/linux/development/rawhide/Modular/x86_64/os", "development", "rawhide-modular"),
    ("pub/fedora/linux/releases/test/29_Beta/Everything/x86_64/os", "29_Beta", "-"),
    ("pub/fedora/linux/releases/29/Workstation/x86_64/os", "29", "-"),
    ("pub/fedora/linux/releases/29/Everything/x86_64/debug/tree", "29", "fedora-debug-29"),
    ("pub/fedora/linux/development/30/Everything/x86_64/debug/tree", "development", "fedora-debug-30"),
    ("pub/fedora/linux/releases/29/Modular/x86_64/debug/tree", "29", "fedora-modular-debug-29"),
    ("pub/fedora/linux/development/30/Modular/x86_64/debug/tree", "development", "fedora-modular-debug-30"),
    ("pub/fedora/linux/development/rawhide/Everything/x86_64/debug/tree", "development", "rawhide-debug"),
    ("pub/fedora/linux/development/rawhide/Modular/x86_64/debug/tree", "development", "rawhide-modular-debug"),
    ("pub/fedora/linux/releases/test/29_Beta/Everything/x86_64/debug/tree", "29_Beta", "-"),
    ("pub/fedora/linux/releases/29/Workstation/x86_64/debug/tree", "29", "-"),
    ("pub/fedora/linux/releases/29/Everything/source/tree", "29", "fedora-source-29"),
    ("pub/fedora/linux/development/30/Everything/source/tree", "development", "fedora-source-30"),
    ("pub/fedora/linux/releases/29/Modular/source/tree", "29", "fedora-modular-source-29"),
    ("pub/fedora/linux/development/30/Modular/source/tree", "development", "fedora-modular-source-30"),
    ("pub/fedora/linux/development/rawhide/Everything/source/tree", "development", "rawhide-source"),
    ("pub/fedora/linux/development/rawhide/Modular/source/tree", "development", "rawhide-modular-source"),
    ("pub/fedora/linux/releases/test/29_Beta/Everything/source/tree", "29_Beta", "-"),
    ("pub/fedora/linux/releases/29/Workstation/source/tree", "29", "-"),
    ("pub/fedora/linux/releases/20/Fedora/x86_64/os", "20", "fedora-install-20"),
    ("pub/fedora/linux/releases/20/Fedora/x86_64/debug", "20", "-"),
    ("pub/fedora/linux/releases/20/Fedora/source/SRPMS", "20", "-"),
    ("pub/fedora/linux/updates/29/Everything/x86_64", "29", "updates-released-f29"),
    ("pub/fedora/linux/updates/29/Everything/x86_64/debug", "29", "updates-released-debug-f29"),
    ("pub/fedora/linux/updates/29/Everything/source/tree", "29", "updates-released-source-f29"),
    ("pub/fedora/linux/updates/29/Everything/SRPMS", "29", "updates-released-source-f29"),
    ("pub/fedora/linux/updates/29/Modular/x86_64", "29", "updates-released-modular-f29"),
    ("pub/fedora/linux/updates/29/Modular/x86_64/debug", "29", "updates-released-modular-debug-f29"),
    ("pub/fedora/linux/updates/29/Modular/source/tree", "29", "updates-released-modular-source-f29"),
    ("pub/fedora/linux/updates/29/Modular/SRPMS", "29", "updates-released-modular-source-f29"),
    ("pub/fedora/linux/updates/20/x86_64", "20", "-"),
    ("pub/fedora/linux/updates/testing/29/Everything/x86_64", "29", "updates-testing-f29"),
    ("pub/fedora/linux/updates/testing/29/Everything/x86_64/debug", "29", "updates-testing-debug-f29"),
    ("pub/fedora/linux/updates/testing/29/Everything/source/tree", "29", "updates-testing-source-f29"),
    ("pub/fedora/linux/updates/testing/29/Everything/SRPMS", "29", "updates-testing-source-f29"),
    ("pub/fedora/linux/updates/testing/29/Modular/x86_64", "29", "updates-testing-modular-f29"),
    ("pub/fedora/linux/updates/testing/29/Modular/x86_64/debug", "29", "updates-testing-modular-debug-f29"),
    ("pub/fedora/linux/updates/testing/29/Modular/source/tree", "29", "updates-testing-modular-source-f29"),
    ("pub/fedora/linux/updates/testing/29/Modular/SRPMS", "29", "updates-testing-modular-source-f29"),
    ("pub/fedora/linux/updates/testing/20/x86_64", "20", "-"),
    ("pub/fedora/linux/atomic/29", "29", "atomic-29"),
    ("pub/fedora/linux/extras/6/x86_64", "6", "-"),
    ("pub/fedora-secondary/development/rawhide/Modular/x86_64/os", "development", "rawhide-modular"),
    ("pub/fedora-secondary/development/30/Modular/x86_64/debug/tree", "development", "fedora-modular-debug-30"),
    ("pub/fedora-secondary/development/30/Everything/source/tree", "development", "fedora-source-30"),
    ("pub/fedora-secondary/releases/29/Workstation/source/tree", "29", "-"),
    ("pub/fedora-secondary/updates/29/Everything/source/tree", "29", "updates-released-source-f29"),
    ("pub/fedora-secondary/updates/20/x86_64", "20", "-"),
    ("pub/fedora-secondary/updates/testing/29/Modular/x86_64/debug", "29", "updates-testing-modular-debug-f29"),
    ("pub/epel/8/Everything/x86_64", "8", "epel-8"),
    ("pub/epel/testing/8/Everything/x86_64", "8", "testing-epel8"),
    ("pub/epel/playground/8/Everything/x86_64", "8", "playground-epel8"),
    ("pub/epel/8/Everything/x86_64/debug", "8", "epel-debug-8"),
    ("pub/epel/testing/8/Everything/x86_64/debug", "8", "testing-debug-epel8"),
    ("pub/epel/playground/8/Everything/x86_64/debug", "8", "playground-debug-epel8"),
    ("pub/epel/8/Everything/source/tree", "8", "epel-source-8"),
    ("pub/epel/testing/8/Everything/source/tree", "8", "testing-source-epel8"),
    ("pub/epel/playground/8/Everything/source/tree", "8", "playground-source-epel8"),
    ("pub/epel/8/Everything/SRPMS", "8", "epel-source-8"),
    ("pub/epel/testing/8/Everything/SRPMS", "8", "testing-source-epel8"),
    ("pub/epel/playground/8/Everything/SRPMS", "8", "playground-source-epel8"),
    ("pub/epel/8/Modular/x86_64", "8", "epel-modular-8"),
    ("pub/epel/testing/8/Modular/x86_64", "8", "testing-modular-epel8"),
    ("pub/epel/playground/8/Modular/x86_64", "8", "playground-modular-epel8"),
    ("pub/epel/8/Modular/x86_64/debug", "8", "epel-modular-debug-8"),
    ("pub/epel/testing/8/Modular/x86_64/debug", "8", "testing-modular-debug-epel8"),
    ("pub/epel/playground/8/Modular/x86_64/debug", "8", "playground-modular-debug-epel8"),
    ("pub/epel/8/Modular/source/tree", "8", "epel-modular-source-8"),
    ("pub/epel/testing/8/Modular/source/tree", "8", "testing-modular-source-epel8"),
    ("pub/epel/playground/8/Modular/source/tree", "8", "playground-modular-source-epel8"),
    ("pub/epel/8/Modular/SRPMS", "8", "epel-modular-source-8"),
    ("pub/epel/testing/8/Modular/SRPMS", "8", "testing-modular-source-epel8"),
    ("pub/epel/playground/8/Modular/SRPMS", "8", "playground-modular-source-epel8"),
    ("pub/epel/7/x86_64", "7", "epel-7"),
    ("pub/epel/7/SRPMS", "7", "epel-source-7"),
    ("pub/epel/testing/7/x86_64/debug", "7", "testing-debug-epel7"),
    ("pub/codecs/29/x86_64/os", "29", "fedora-cisco-openh264-29"),
    ("pub/codecs/29/x86_64/debug", "29", "fedora-cisco-openh264-debug-29"),
    ("pub/codecs/29/source", "29", "fedora-cisco-openh264-29"),
];

#[test]
fn the_example_makes_umdls_names() {
    let mut rules = example_prefixes();
    rules.retain(|rule| !rule.prefix.as_ref().is_some_and(|prefix| prefix.starts_with("epel-z")));
    let tops = ["pub/fedora/linux/", "pub/fedora-secondary/", "pub/epel/", "pub/codecs/"];
    for (name, version, wanted) in NAMES {
        let path = tops.iter().find_map(|top| name.strip_prefix(top)).unwrap();
        let made = prefix::of(&rules, name, path, version).unwrap();
        assert_eq!(made.as_deref().unwrap_or("-"), *wanted, "{name}");
    }
}

#[test]
fn epel_with_minor_versions_has_names_of_its_own() {
    let rules = example_prefixes();
    let of =
        |path: &str, version: &str| prefix::of(&rules, &format!("pub/epel/{path}"), path, version).unwrap().unwrap();
    assert_eq!(of("10.1/Everything/x86_64/debug", "10.1"), "epel-z-debug-10.1");
    assert_eq!(of("testing/10.1/Everything/source/tree", "10.1"), "epel-z-testing-source-10.1");
    assert_eq!(of("10/Everything/x86_64", "10"), "epel-10");
    assert_eq!(of("testing/10/Everything/x86_64", "10"), "testing-epel10");
}
