//! Preparing a store: containerd itself unpacks the images, in a container that ends with its input.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_bundle::{ArchiveError, Bundle, Image};
use rustix::fs::FlockOperation;
use serde_json::Value;

use super::{PARTS, Store, StoreError, lock};
use crate::driver::local::cgroup::Hierarchies;
use crate::driver::local::command::{self, CommandError};
use crate::driver::local::container::{Overlay, Runc};
use crate::driver::local::{LocalError, disk, image, oci, paths};

/// What runs in the container.
const IMPORT: &str = include_str!("import.sh");

/// The control group of the containers that stores are prepared in.
const GROUP: &str = "kayak/.store";

/// Prepares the store of a bundle, unless the cache has it; stores of other bundles go. The images
/// are unpacked by containerd in a container of the node image, which the nodes do without.
pub async fn prepare(bundle: &Bundle, cache: &Utf8Path) -> Result<Store, StoreError> {
    let (bundle, cache) = (bundle.directory().to_owned(), cache.to_owned());
    let groups = Hierarchies::find()?;
    let begun = tokio::task::spawn_blocking(move || Preparation::begin(&bundle, &cache));
    let preparation = match begun.await.map_err(StoreError::Task)?? {
        Begun::Ready(store) => return Ok(store),
        Begun::Wanted(preparation) => preparation,
    };
    // A killed run leaves its container to itself, which then ends for lack of input.
    let group = preparation.group();
    groups.kill(&group).await?;
    groups.remove(&group).await?;
    let done = tokio::task::spawn_blocking(move || preparation.finish()).await;
    let done = done.map_err(StoreError::Task)?;
    groups.remove(&group).await?;
    groups.remove_if_empty(GROUP)?;
    groups.remove_if_empty(paths::CGROUP)?;
    done
}

/// Tells whether an image is a node container's root, not a pod's.
fn is_node_image(reference: &str) -> bool {
    reference.starts_with("kayak.local/node:")
}

enum Begun {
    Ready(Store),
    Wanted(Preparation),
}

/// A store that is being made.
struct Preparation {
    store: Store,
    bundle: Bundle,
    /// The node image, unpacked.
    root: Utf8PathBuf,
    /// What is removed afterwards.
    scratch: Utf8PathBuf,
    _lock: File,
}

impl Preparation {
    fn begin(bundle: &Utf8Path, cache: &Utf8Path) -> Result<Begun, StoreError> {
        let bundle = Bundle::open(bundle).map_err(StoreError::Bundle)?;
        let digest = bundle.digest().hex().to_owned();
        let stores = cache.join("store");
        let store = Store { directory: stores.join(&digest), digest };
        disk::create_directory(&stores, 0o755)?;
        let lock = lock(&store.directory, FlockOperation::LockExclusive)?;
        if store.directory.is_dir() {
            return Ok(Begun::Ready(store));
        }
        let mut images = bundle.images().iter().map(Image::reference);
        let node_image = images.rfind(|image| is_node_image(image));
        let node_image = node_image.ok_or(StoreError::NoNodeImage)?;
        let root = paths::unpacked(cache).join(image::unpack(&bundle, cache, node_image)?);
        let scratch = Utf8PathBuf::from(format!("{}.partial", store.directory));
        Ok(Begun::Wanted(Self { store, bundle, root, scratch, _lock: lock }))
    }

    fn group(&self) -> String {
        // Another cache may be given the same bundle at the same time.
        format!("{GROUP}/{}", paths::tag(self.scratch.as_str()))
    }

    fn finish(self) -> Result<Store, StoreError> {
        let stores = self.scratch.parent().unwrap_or(&self.scratch);
        for name in disk::names(stores)? {
            disk::remove(&stores.join(name))?;
        }
        let made = self.scratch.join("containerd");
        disk::create_directory(&made, 0o700)?;
        self.import(&made)?;
        for name in disk::names(&made)? {
            if !PARTS.contains(&name.as_str()) {
                disk::remove(&made.join(name))?;
            }
        }
        // Neither containerd nor the kernel has written all of it to the disk by itself.
        let synced = File::open(&made).and_then(|made| Ok(rustix::fs::syncfs(made)?));
        synced.map_err(|source| StoreError::Sync { path: made.clone(), source })?;
        let place = &self.store.directory;
        fs::rename(&made, place).map_err(|source| LocalError::Commit { path: place.clone(), source })?;
        disk::remove(&self.scratch)?;
        Ok(self.store)
    }

    fn import(&self, made: &Utf8Path) -> Result<(), StoreError> {
        // The node image is unpacked for containers of its own already.
        let images = self.bundle.images().iter().map(Image::reference);
        let images: Vec<&str> = images.filter(|image| !is_node_image(image)).collect();
        let mut program = ["bash", "-c", IMPORT, "import"].map(str::to_owned).to_vec();
        for image in &images {
            program.extend([(*image).to_owned(), self.id(image)?]);
        }
        let overlay = Overlay::new(self.root.clone(), self.scratch.join("root"));
        overlay.reset()?;
        let container = oci::Container {
            root: &overlay.root(),
            host_name: "store",
            command: &program,
            cgroup: &self.group(),
            own_network: true,
            memory_limit: None,
            binds: vec![(made.to_string(), "/var/lib/containerd".into(), true)],
        };
        let config = oci::config(&container, &oci::Host::look()?);
        let runc = Runc::of_image(&self.root, self.scratch.join("runc"));
        let command = runc.run("store", &self.scratch.join("bundle"), &overlay, &config)?;
        self.feed(command, &images)
    }

    /// Runs the import to its end with the images as its input.
    fn feed(&self, command: tokio::process::Command, images: &[&str]) -> Result<(), StoreError> {
        let line = command::describe(&command);
        let log = self.scratch.join("import.log");
        let said = File::create(&log).and_then(|said| Ok((said.try_clone()?, said)));
        let (output, complaints) = said.map_err(LocalError::write(&log))?;
        let mut command = command.into_std();
        command.stdin(Stdio::piped()).stdout(output).stderr(complaints);
        let failed = |source| StoreError::Import(CommandError::Start { command: line.clone(), source });
        let mut child = command.spawn().map_err(failed)?;
        let given = child.stdin.take().map(|stdin| {
            let mut stdin = io::BufWriter::with_capacity(1 << 20, stdin);
            self.bundle.archive(&mut stdin, images)?;
            stdin.flush().map_err(|source| ArchiveError::Write { source })
        });
        let failed = |source| StoreError::Import(CommandError::Talk { command: line.clone(), source });
        let status = child.wait().map_err(failed)?;
        let complaint = command::tail(&disk::read(&log)?.unwrap_or_default());
        if !status.success() {
            let failed = CommandError::Failed { command: line, status, complaint };
            return Err(StoreError::Import(failed));
        }
        match given {
            Some(Err(source)) => Err(StoreError::Give { said: complaint, source }),
            _ => Ok(()),
        }
    }

    /// Returns what the kubelet calls an image: the digest of its configuration.
    fn id(&self, image: &str) -> Result<String, StoreError> {
        let failed = |source| StoreError::Id { image: image.to_owned(), source };
        let absent = || failed(io::ErrorKind::NotFound.into());
        let digest = self.bundle.image(image).ok_or_else(absent)?.digest().hex();
        let manifest = self.bundle.directory().join("blobs/sha256").join(digest);
        let manifest = fs::read(manifest).map_err(failed)?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| failed(error.into()))?;
        manifest["config"]["digest"].as_str().map(str::to_owned).ok_or_else(absent)
    }
}
