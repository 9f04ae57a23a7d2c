//! Gives a user's images to nodes, which have no registry to pull them from.

use std::io;
use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};

use crate::driver::{Driver, DriverError, ExecIo, NodeId};

/// Keeps the kubelet from collecting what no registry could give back.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// Why a node did not take an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The archive cannot be read.
    #[error("failed to read `{archive}`")]
    Read {
        /// Which one.
        archive: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node cannot be reached.
    #[error(transparent)]
    Node(#[from] DriverError),
    /// containerd refused it.
    #[error("containerd on node `{node}` did not take `{archive}`: {stderr}")]
    Refused {
        /// Which node.
        node: String,
        /// Which archive.
        archive: Utf8PathBuf,
        /// What it said.
        stderr: String,
    },
}

/// Loads an OCI layout (directory or archive) or a `docker save` archive into a node's runtime and
/// returns the references that it made known. `name` is for images that bear no reference.
pub async fn load(
    driver: &dyn Driver,
    node: &NodeId,
    archive: &Utf8Path,
    name: Option<&str>,
) -> Result<Vec<String>, ImageError> {
    let fail = |source| ImageError::Read { archive: archive.to_owned(), source };
    let (mut input, _packer) = open(archive).await.map_err(fail)?;
    let mut command: Vec<_> =
        ["ctr", "--namespace=k8s.io", "images", "import", "--snapshotter=overlayfs", "--label", PINNED]
            .map(str::to_owned)
            .into();
    if let Some(name) = name {
        command.push(format!("--index-name={name}"));
    }
    command.push("-".into());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let io = ExecIo::Streams { stdin: &mut input, stdout: &mut stdout, stderr: &mut stderr };
    if driver.exec(node, &command, io).await? != 0 {
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(ImageError::Refused { node: node.name.clone(), archive: archive.to_owned(), stderr });
    }
    // containerd does not sync what it unpacks: a power cut would leave an image of empty files.
    driver.output(node, &["sync".to_owned(), "--file-system".into(), "/var/lib/containerd".into()]).await?;
    Ok(references(&String::from_utf8_lossy(&stdout)))
}

/// Opens an archive, or packs a directory while it is read.
async fn open(path: &Utf8Path) -> io::Result<(Box<dyn AsyncRead + Send + Unpin>, Option<Child>)> {
    if !tokio::fs::metadata(path).await?.is_dir() {
        return Ok((Box::new(File::open(path).await?), None));
    }
    let mut packer = Command::new("tar")
        .args(["--create", "--directory", path.as_str(), "."])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = packer.stdout.take().ok_or_else(|| io::Error::other("tar has no output"))?;
    Ok((Box::new(output), Some(packer)))
}

/// Reads from what `ctr images import` prints which references it made: `NAME  saved` lines.
fn references(output: &str) -> Vec<String> {
    let saved = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        (words.next() == Some("saved")).then(|| name.to_owned())
    };
    output.lines().filter_map(saved).collect()
}
