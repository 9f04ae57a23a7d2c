use kayak_core::checkpoint::pod;
use serde_json::json;

use super::*;

fn made(image: &str) -> Resolved {
    let file = |content: &str, mode| pod::File { content: content.into(), mode };
    let files = [("files/secrets/key", file(image, 0o400)), ("files/config/d/a", file("a", 0o444))];
    Resolved {
        pod: json!({ "image": image }),
        files: files.map(|(path, file)| (path.to_owned(), file)).into(),
    }
}

fn of(uid: &str) -> Origin {
    Origin { pod: format!("pod-{uid}"), uid: uid.into(), created_at: 7 }
}

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("kube-apiserver"));
    (root, store)
}

fn usable(store: &Store) -> Vec<String> {
    store.find().unwrap().usable.into_iter().map(|one| one.of.uid).collect()
}

#[test]
fn generations_are_found_newest_first_and_old_ones_go() {
    let (_root, store) = store();
    assert!(usable(&store).is_empty() && store.chosen().is_none());
    let first = store.keep(&of("1"), &made("1"), None).unwrap();
    for uid in ["2", "3", "4", "5"] {
        store.keep(&of(uid), &made(uid), Some(&first)).unwrap();
    }
    assert_eq!(usable(&store), ["5", "4", "3", "1"], "the one in use stays");
    store.choose(&first).unwrap();
    assert_eq!(store.chosen().as_ref(), Some(&first));
    assert_eq!(fs::read(store.current().join("files/secrets/key")).unwrap(), b"1");
    assert_eq!(store.pod(&first).unwrap(), fs::read(store.current().join(POD)).unwrap());
}

#[test]
fn secrets_are_for_root_alone() {
    let (_root, store) = store();
    let name = store.keep(&of("1"), &made("1"), None).unwrap();
    let mode =
        |path: &str| fs::metadata(store.root.join(&name).join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        ["", POD, RECORD, "files/secrets/key", "files/config/d/a"].map(mode),
        [0o700, 0o600, 0o600, 0o400, 0o444]
    );
    assert_eq!(fs::metadata(&store.root).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Every file of a generation in turn loses its last byte, or has one changed, or is gone.
#[test]
fn a_damaged_generation_is_passed_over() {
    let (_root, store) = store();
    store.keep(&of("1"), &made("1"), None).unwrap();
    let name = store.keep(&of("2"), &made("2"), None).unwrap();
    for path in [POD, RECORD, "files/secrets/key", "files/config/d/a"] {
        let path = store.root.join(&name).join(path);
        let content = fs::read(&path).unwrap();
        let mut changed = content.clone();
        changed[0] ^= 1;
        for damaged in [Some(&content[..content.len() - 1]), Some(&changed), None] {
            fs::remove_file(&path).unwrap();
            if let Some(damaged) = damaged {
                fs::write(&path, damaged).unwrap();
            }
            let found = store.find().unwrap();
            assert_eq!(found.usable.len(), 1, "{}", path.display());
            assert_eq!(found.usable[0].of, of("1"));
            assert!(found.broken[0].starts_with(&name), "{:?}", found.broken);
            if damaged.is_none() {
                fs::write(&path, &content).unwrap();
            }
        }
        fs::write(&path, &content).unwrap();
        assert_eq!(usable(&store), ["2", "1"]);
    }
}

#[test]
fn what_was_cut_off_is_neither_used_nor_left() {
    let (_root, store) = store();
    store.keep(&of("1"), &made("1"), None).unwrap();
    let half = store.root.join(".000002-abcd.new");
    fs::create_dir_all(half.join("files")).unwrap();
    fs::write(half.join(POD), "{").unwrap();
    fs::create_dir_all(store.root.join("000002-abcd")).unwrap();
    let found = store.find().unwrap();
    assert_eq!((found.usable.len(), found.broken.len()), (1, 1));
    let name = store.keep(&of("3"), &made("3"), None).unwrap();
    assert!(name.starts_with("000003-"));
    assert_eq!(usable(&store), ["3", "1"]);
    assert!(!half.exists());
}
