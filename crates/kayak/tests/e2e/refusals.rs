//! Bad input is refused before anything is touched.

use crate::cluster::{kayak, scratch, show};
use crate::inventory::Inventory;

pub fn refusals_touch_nothing() {
    let before = Inventory::take();
    let config = scratch().join("bad.yaml");
    let missing = scratch().join("missing.yaml");
    let empty = scratch().join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let owners = scratch().join("owners");
    std::fs::create_dir_all(owners.join("manifests")).unwrap();
    std::fs::write(owners.join("manifests/mine.yaml"), "kind: Mine").unwrap();
    let owners = owners.to_str().unwrap();
    let (config, missing, empty) =
        (config.to_str().unwrap(), missing.to_str().unwrap(), empty.to_str().unwrap());
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "netwrok: {}",
            &["up", "--config", config],
            &["bad.yaml:1:1", "netwrok", "did you mean `network`?", "nothing was touched"],
        ),
        ("name: Home", &["up", "--config", config], &["Home", "lower-case"]),
        ("network: { pods: 10.96.0.0/16 }", &["up", "--config", config], &["overlap"]),
        ("", &["up", "--config", missing], &["missing.yaml"]),
        ("", &["up", "--until", "tomorrow"], &["nodes, temporary"]),
        ("", &["start", "--assets", empty], &["kayak render"]),
        ("", &["--cluster", "nobody", "kubectl", "get", "nodes"], &["no cluster `nobody`", "kayak up"]),
        ("", &["--cluster", "", "down", "--yes"], &["is no name"]),
        ("", &["--cluster", "..", "down", "--yes"], &["is no name"]),
        ("", &["--cluster", "a/b", "down", "--yes"], &["is no name"]),
        ("", &["render", "-o", owners], &["nothing was written"]),
        ("", &["--cluster", "e2e", "down"], &["nothing was removed", "--yes"]),
    ];
    for (text, arguments, wanted) in cases {
        std::fs::write(config, text).unwrap();
        let output = kayak(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{}", show(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        for word in *wanted {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
        }
    }
    before.assert_unchanged();
}
