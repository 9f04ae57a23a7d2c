//! What commands share: where things are, which cluster is meant, how to get at bundle and driver.

use std::future::Future;
use std::sync::Arc;

use camino::Utf8PathBuf;
use kayak_bundle::{Bundle, Catalog, Options, build};
use kayak_core::cluster::Images;
use kayak_engine::dirs::{Dirs, RUN};
use kayak_engine::driver::local::{Local, Paths};
use kayak_engine::driver::{Driver, NodeId, NodeState};
use kayak_engine::store::{self, Store};

use crate::error::CommandError;
use crate::lock::Lock;
use crate::report::{Output, Progress};

/// What every command is given.
pub struct Context {
    /// How data is printed.
    pub output: Output,
    /// Where things are.
    pub dirs: Dirs,
    /// The cluster that was named.
    pub cluster: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum ContextError {
    #[error("failed to start the asynchronous runtime")]
    Runtime(#[source] std::io::Error),
    #[error("failed to find the program that this process runs")]
    Own(#[source] std::io::Error),
    #[error("the path `{}` is not text", .0.display())]
    NotText(std::path::PathBuf),
    #[error("the bundle's description names no image `{0}`")]
    NoImage(&'static str),
}

impl Context {
    /// Takes the global flags.
    pub fn new(output: Output, cluster: Option<String>) -> Self {
        Self { output, dirs: Dirs::from_env(), cluster }
    }

    /// The output's name, for a kayak inside a node.
    pub fn output_name(&self) -> &'static str {
        match self.output {
            Output::Text => "text",
            Output::Json => "json",
        }
    }

    /// Says which cluster is meant: the one named, or the only one there is.
    pub fn cluster_name(&self) -> Result<String, CommandError> {
        let hint = "bring one up with `kayak up`";
        match (&self.cluster, self.dirs.clusters().as_slice()) {
            (Some(name), all) if all.contains(name) => Ok(name.clone()),
            (Some(name), _) => Err(CommandError::usage(format!("there is no cluster `{name}`")).hint(hint)),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(CommandError::usage("there is no cluster on this machine").hint(hint)),
            (None, all) => Err(CommandError::usage(format!("which cluster? There are {}", all.join(", ")))
                .hint("name it with `--cluster NAME`")),
        }
    }

    /// As [`Self::cluster_name`], but a named one need not be known: a killed `up` may have left
    /// things behind that no directory tells of.
    pub fn cluster_name_or(&self, default: &str) -> Result<String, CommandError> {
        match (&self.cluster, self.dirs.clusters().is_empty()) {
            (Some(name), _) => Ok(name.clone()),
            (None, true) => Ok(default.to_owned()),
            (None, false) => self.cluster_name(),
        }
    }

    /// Refuses where no node of a cluster runs: the API's address would lead to wherever the machine sends
    /// what it does not know.
    pub fn require_running(&self, cluster: &str) -> Result<(), CommandError> {
        let driver = self.driver()?;
        let runs = block_on(async {
            for node in driver.nodes(cluster).await? {
                if let NodeState::Running { .. } = driver.state(&NodeId::new(cluster, node)).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if runs {
            return Ok(());
        }
        Err(CommandError::failed(format!("cluster `{cluster}` does not run"))
            .hint("start it with `kayak resume`"))
    }

    /// Opens the bundle; builds it first if it lacks an image that this kayak runs.
    pub fn bundle(&self, progress: &Progress) -> Result<Bundle, CommandError> {
        let options = Options::in_cache(&self.dirs.cache);
        match Bundle::open(&options.bundle) {
            Ok(bundle) if bundle.lacks(&Catalog::embedded()?).is_empty() => Ok(bundle),
            Ok(_) | Err(_) => Ok(build(&options, |event| progress.build_event(&event))?),
        }
    }

    /// Prepares the images for nodes, once a bundle, which is built first if need be.
    pub async fn store(&self, progress: &Progress) -> Result<Store, CommandError> {
        self.prepare(&self.bundle(progress)?, progress).await
    }

    /// As [`Self::store`], but only of a bundle that is there.
    pub async fn store_of_bundle(&self, progress: &Progress) -> Result<Option<Store>, CommandError> {
        match Bundle::open(&Options::in_cache(&self.dirs.cache).bundle) {
            Ok(bundle) => Ok(Some(self.prepare(&bundle, progress).await?)),
            Err(error) => {
                tracing::info!("the nodes start with the images that they have: {error}");
                Ok(None)
            }
        }
    }

    async fn prepare(&self, bundle: &Bundle, progress: &Progress) -> Result<Store, CommandError> {
        let start = std::time::Instant::now();
        let store = store::prepare(bundle, &self.dirs.cache).await?;
        if start.elapsed().as_secs() >= 1 {
            progress.done("prepare the images, once for all nodes", start.elapsed().as_secs_f64());
        }
        Ok(store)
    }

    /// The driver of this machine. Nodes run the kayak that this process is.
    pub fn driver(&self) -> Result<Arc<dyn Driver>, CommandError> {
        let own = std::env::current_exe().map_err(ContextError::Own)?;
        let own = Utf8PathBuf::from_path_buf(own).map_err(ContextError::NotText)?;
        Ok(Arc::new(Local::new(self.paths(), own)))
    }

    /// Where everything of this machine's clusters is.
    pub fn paths(&self) -> Paths {
        Paths { state: self.dirs.state.clone(), run: RUN.into(), cache: self.dirs.cache.clone() }
    }

    /// Returns a cluster's kubectl, which is kept beside its state: it must work when the cache is
    /// gone, and when this kayak is newer than the cluster.
    pub fn kubectl(&self, cluster: &str) -> Result<Utf8PathBuf, CommandError> {
        let path = self.dirs.cluster(cluster).join("bin/kubectl");
        if !path.exists() {
            let bundle = self.bundle(&Progress::new(self.output))?;
            bundle.extract_file(&images()?.node, "/usr/local/bin/kubectl".into(), &path)?;
        }
        Ok(path)
    }

    /// Makes sure that no other kayak works on the same cluster.
    pub fn lock(&self, cluster: &str) -> Result<Lock, CommandError> {
        Lock::take(RUN.as_ref(), &self.dirs.state, cluster)
    }
}

/// Runs asynchronous work to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ContextError::Runtime)?;
    let result = runtime.block_on(work);
    // A terminal that is being read from would keep the process until the next key.
    runtime.shutdown_background();
    result
}

/// The references that this version of kayak runs, whether or not the bundle has been built.
pub fn images() -> Result<Images, CommandError> {
    let catalog = Catalog::embedded()?;
    let image = |name| catalog.reference(name, None).ok_or(ContextError::NoImage(name));
    let kubernetes = image("kubernetes")?;
    let version = kubernetes.rsplit(':').next().unwrap_or_default();
    Ok(Images::of(version, image)?)
}
