//! The bundle on a machine without a network.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::{kayak, scratch, show, succeed};

pub fn the_bundle_travels_in_one_file() {
    let file = scratch().join("bundle.tar.zst");
    let elsewhere = scratch().join("elsewhere");
    let path = file.to_str().unwrap();
    let there = |arguments: &[&str]| -> Command {
        let mut command = kayak(arguments);
        command.env("KAYAK_CACHE_DIR", &elsewhere);
        command
    };
    succeed(&mut kayak(&["bundle", "export", path]));
    succeed(&mut there(&["bundle", "import", path]));
    assert_eq!(succeed(&mut there(&["bundle", "ls"])), succeed(&mut kayak(&["bundle", "ls"])));
    succeed(&mut there(&["bundle", "verify"]));
    let licences = succeed(&mut kayak(&["bundle", "ls", "--licenses"]));
    for component in ["kubernetes-1.36", "etcd", "containerd", "runc", "cni-plugins", "coredns", "flannel"] {
        assert!(licences.lines().any(|l| l.starts_with(component) && l.contains("Apache-2.0")), "{licences}");
    }
    // One flipped byte in the middle of the largest image, and one in the file.
    flip(&largest(&elsewhere.join("bundle/blobs/sha256")));
    let output = there(&["bundle", "verify"]).output().unwrap();
    assert!(!output.status.success() && show(&output).contains("has other content"), "{}", show(&output));
    flip(&file);
    let output = there(&["bundle", "import", path]).output().unwrap();
    assert!(!output.status.success(), "a damaged file was taken");
    let start = Instant::now();
    succeed(&mut kayak(&["bundle", "build"]));
    assert!(start.elapsed() < Duration::from_secs(1), "nothing to build took {:?}", start.elapsed());
    std::fs::remove_dir_all(&elsewhere).unwrap();
    std::fs::remove_file(&file).unwrap();
}

fn largest(directory: &std::path::Path) -> std::path::PathBuf {
    let blobs = std::fs::read_dir(directory).unwrap().flatten();
    blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap().path()
}

fn flip(path: &std::path::Path) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}
