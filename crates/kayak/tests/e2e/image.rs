//! A small real image: busybox with its web server, as users' tools would save it.

use std::fs::File;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cluster::scratch;

/// The program that the machine's package of busybox brings.
const BUSYBOX: &str = "/bin/busybox";
/// The applets that scenarios use.
const APPLETS: [&str; 12] =
    ["sh", "httpd", "wget", "nslookup", "timeout", "sleep", "cat", "mount", "umount", "mkdir", "test", "id"];

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn layer() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, "bin/busybox", &std::fs::read(BUSYBOX).expect("busybox-static is installed"), 0o755);
    for applet in APPLETS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    add(&mut tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644);
    add(&mut tar, "www/index.html", b"hello from a web server\n", 0o644);
    tar.into_inner().unwrap()
}

fn add(tar: &mut Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, content).unwrap();
}

fn config(layer: &[u8]) -> Vec<u8> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":["/bin/httpd","-f","-p","8080","-h","/www"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        hex(layer)
    )
    .into_bytes()
}

/// The image's configuration and its layer.
pub fn blobs() -> (Vec<u8>, Vec<u8>) {
    let layer = layer();
    (config(&layer), layer)
}

/// Writes an archive as `docker save` does and returns its path.
pub fn docker_archive(reference: &str) -> PathBuf {
    let (layer, mut tar) = (layer(), Builder::new(Vec::new()));
    let config = config(&layer);
    let name = format!("{}.json", hex(&config));
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":["{reference}"],"Layers":["layer.tar"]}}]"#);
    add(&mut tar, &name, &config, 0o644);
    add(&mut tar, "layer.tar", &layer, 0o644);
    add(&mut tar, "manifest.json", manifest.as_bytes(), 0o644);
    let path = scratch().join("docker.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    path
}

/// Writes an OCI image layout into a directory and returns its path.
pub fn oci_layout(reference: &str) -> PathBuf {
    let directory = scratch().join("oci");
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |content: &[u8], kind: &str| {
        std::fs::write(blobs.join(hex(content)), content).unwrap();
        format!(
            r#""mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{}","size":{}"#,
            hex(content),
            content.len()
        )
    };
    let layer = layer();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{{}}},"layers":[{{{}}}]}}"#,
        blob(&config(&layer), "config.v1+json"),
        blob(&layer, "layer.v1.tar")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{},"annotations":{{"io.containerd.image.name":"{reference}"}}}}]}}"#,
        blob(manifest.as_bytes(), "manifest.v1+json")
    );
    std::fs::write(directory.join("index.json"), index).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    directory
}

/// Packs that directory, as tools that write one file do.
pub fn oci_archive(reference: &str) -> PathBuf {
    let path = scratch().join("oci.tar");
    let mut tar = Builder::new(File::create(&path).unwrap());
    tar.append_dir_all(".", oci_layout(reference)).unwrap();
    tar.into_inner().unwrap().sync_all().unwrap();
    path
}
