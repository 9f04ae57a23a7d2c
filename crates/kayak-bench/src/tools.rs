//! Both tools, built and found, and what they are given alike.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_bundle::{Bundle, Image};

use crate::command;
use crate::error::BenchError;
use crate::kayak::Kayak;
use crate::kubeadm::{self, Kubeadm};
use crate::scene::Scene;
use crate::subject::{FIRST, Shape};

/// What subjects are made of.
#[derive(Debug)]
pub struct Tools {
    bundle: Arc<Bundle>,
    kubeadm: Utf8PathBuf,
    containerd: String,
}

impl Tools {
    /// Builds kubeadm from its module, and renders what kayak gives to the runtime, so that kubeadm has it too.
    pub async fn find(scene: &Scene, kubeadm: &Utf8Path) -> Result<Self, BenchError> {
        let bundle = Bundle::open(&scene.cache.join("bundle")).map_err(BenchError::Bundle)?;
        let kubernetes = image(&bundle, "kubernetes")?;
        let version = kubernetes.rsplit(':').next().unwrap_or_default();
        let kubeadm = kubeadm::build(scene, kubeadm, version).await?;
        let mut tools = Self { bundle: Arc::new(bundle), kubeadm, containerd: String::new() };
        tools.containerd =
            containerd_config(scene, &tools.kayak("bn-render", "default", Shape::ONE)?).await?;
        Ok(tools)
    }

    /// kayak, with a name for its cluster.
    pub fn kayak(
        &self,
        name: &'static str,
        profile: &'static str,
        shape: Shape,
    ) -> Result<Kayak, BenchError> {
        Ok(Kayak { name, profile, shape, image: image(&self.bundle, "pause")?.to_owned() })
    }

    /// kubeadm, with a name for its cluster.
    pub fn kubeadm(&self, name: &'static str, shape: Shape) -> Kubeadm {
        let (bundle, containerd) = (self.bundle.clone(), self.containerd.clone());
        Kubeadm { program: self.kubeadm.clone(), bundle, containerd, name, shape }
    }
}

/// Returns the reference of one of the bundle's images.
pub fn image<'a>(bundle: &'a Bundle, name: &str) -> Result<&'a str, BenchError> {
    let prefix = format!("kayak.local/{name}:");
    let found = bundle.images().iter().map(Image::reference).rfind(|r| r.starts_with(&prefix));
    found.ok_or_else(|| BenchError::NoImage(name.to_owned()))
}

async fn containerd_config(scene: &Scene, kayak: &Kayak) -> Result<String, BenchError> {
    let (config, assets) = (kayak.configure(scene)?, scene.run_logs("assets")?);
    let mut render = kayak.command(scene, &["render", "--config", config.as_str(), "-o", assets.as_str()]);
    command::run(&mut render).await?;
    let path = assets.join(format!("nodes/{FIRST}/etc/kubernetes/containerd/config.toml"));
    fs::read_to_string(&path).map_err(BenchError::read(path))
}
