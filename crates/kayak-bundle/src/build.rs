//! Building a bundle: each component and userland on its own and in parallel, then the images.
//! What is up to date is not built again, and what a failed build finished stays.

mod command;
mod host;
mod image;
mod unit;

use std::collections::{BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

pub use self::command::CommandError;
pub use self::host::Missing;
pub use self::image::ImageError;
pub use self::unit::UnitError;

use self::host::Host;
use self::image::Assembly;
use self::unit::Unit;
use crate::bundle::{Bundle, OpenError};
use crate::catalog::{Catalog, CatalogError};
use crate::digest::Digest;
use crate::files::{self, FileError, Lock};
use crate::layout::{Descriptor, Index, KEY, Layout, NAME};

/// Where to build, and how much at a time.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bundle, an OCI image layout.
    pub bundle: Utf8PathBuf,
    /// What is needed only for building it again faster.
    pub build: Utf8PathBuf,
    /// How many components are built at a time; each uses more than one processor.
    pub jobs: usize,
}

impl Options {
    /// Returns the usual places below kayak's cache directory.
    pub fn in_cache(cache: &Utf8Path) -> Self {
        Self { bundle: cache.join("bundle"), build: cache.join("build"), jobs: 2 }
    }
}

/// What happens during a build.
#[derive(Clone, Debug)]
pub enum BuildEvent<'a> {
    /// Another process builds or imports; this one goes on when that is done.
    Waiting,
    /// Something is being built.
    Started {
        /// The name of a component or userland, or the reference of an image.
        what: &'a str,
    },
    /// Something is up to date.
    Cached {
        /// See [`BuildEvent::Started`].
        what: &'a str,
    },
    /// Something is done.
    Finished {
        /// See [`BuildEvent::Started`].
        what: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// Something failed. What runs beside it goes on, and nothing more is started.
    Failed {
        /// See [`BuildEvent::Started`].
        what: &'a str,
        /// How long it took.
        took: Duration,
    },
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nothing was built, because the machine lacks what it takes.
    #[error("failed to find what building needs: {}", join(missing, ", "))]
    MissingTools {
        /// Each of them.
        missing: Vec<Missing>,
    },
    /// Some components failed. The others are kept.
    #[error("failed to build {}", join(failures, "\n"))]
    Units {
        /// Each of them, at least one.
        failures: Vec<UnitFailure>,
    },
    /// An image names something that no component builds.
    #[error("the description of image `{image}` names what no component builds")]
    Unknown {
        /// The image's reference.
        image: String,
    },
    /// The descriptions of components do not make sense.
    #[error("failed to read the descriptions of components")]
    Catalog(#[source] CatalogError),
    /// An image could not be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Files of the bundle could not be handled.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was built is not a bundle.
    #[error("failed to open the bundle just built")]
    Open(#[source] OpenError),
}

/// A component or userland that could not be built.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {error}")]
pub struct UnitFailure {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: UnitError,
}

impl BuildError {
    /// Returns the Debian packages whose installation would let the build begin.
    pub fn packages_to_install(&self) -> BTreeSet<&str> {
        match self {
            Self::MissingTools { missing } => missing.iter().map(|found| found.package.as_str()).collect(),
            _ => BTreeSet::new(),
        }
    }
}

fn join<T: ToString>(values: &[T], separator: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

type Listener<'a> = &'a (dyn Fn(BuildEvent<'_>) + Sync);

/// Brings the bundle up to date with what this binary describes.
pub fn build(options: &Options, events: impl Fn(BuildEvent<'_>) + Sync) -> Result<Bundle, BuildError> {
    let events: Listener<'_> = &events;
    // Commands run in directories of their own, where a relative path would mean another place.
    let options = &Options {
        bundle: files::absolute(&options.bundle)?,
        build: files::absolute(&options.build)?,
        jobs: options.jobs,
    };
    let _lock = Lock::beside(&options.bundle, || events(BuildEvent::Waiting))?;
    let catalog = Catalog::embedded().map_err(BuildError::Catalog)?;
    let host = Host::probe();
    let units = unit::units(&catalog, &host, &options.build);
    let images = assemblies(&catalog, &units, &host)?;

    let finished = Finished::in_bundle(&options.bundle);
    let outdated: BTreeSet<_> = images
        .iter()
        .filter(|image| finished.get(image).is_none())
        .flat_map(|image| image.units().map(|unit| unit.name.as_str()))
        .collect();
    let (cached, due): (Vec<_>, Vec<_>) =
        units.iter().partition(|unit| unit.is_built() || !outdated.contains(unit.name.as_str()));
    for unit in cached {
        events(BuildEvent::Cached { what: &unit.name });
    }
    refuse_if_missing(&due)?;
    build_units(&due, options.jobs, events)?;
    write_images(options, &images, &finished, events)?;
    Bundle::open(&options.bundle).map_err(BuildError::Open)
}

fn assemblies<'a>(
    catalog: &'a Catalog,
    units: &'a [Unit<'a>],
    host: &Host,
) -> Result<Vec<Assembly<'a>>, BuildError> {
    catalog
        .images()
        .map(|(owner, image)| {
            Assembly::of(catalog, (owner, image), units, host)
                .ok_or_else(|| BuildError::Unknown { image: owner.reference(image) })
        })
        .collect()
}

/// The images of the bundle that is already there.
struct Finished {
    images: Vec<Descriptor>,
}

impl Finished {
    /// Reads them; a bundle that cannot be opened, or an image that is not whole, counts as absent
    /// and is made again.
    fn in_bundle(directory: &Utf8Path) -> Self {
        let images = Bundle::open(directory).map(Bundle::into_whole_images).unwrap_or_default();
        Self { images }
    }

    /// Returns the entry of an image, if it was made from the same inputs.
    fn get(&self, image: &Assembly<'_>) -> Option<&Descriptor> {
        let key = image.key.to_string();
        self.images.iter().find(|found| {
            found.annotations.get(NAME) == Some(&image.reference) && found.annotations.get(KEY) == Some(&key)
        })
    }
}

fn refuse_if_missing(due: &[&Unit<'_>]) -> Result<(), BuildError> {
    let missing: BTreeSet<_> = due.iter().flat_map(|unit| unit.missing()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(BuildError::MissingTools { missing: missing.into_iter().collect() })
}

fn build_units(due: &[&Unit<'_>], jobs: usize, events: Listener<'_>) -> Result<(), BuildError> {
    let queue = Mutex::new(due.iter().copied().collect::<VecDeque<_>>());
    // A panic elsewhere leaves these as they were between two operations, so poison means nothing.
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
    let stop = || {
        queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    };
    let worker = || {
        let mut failures = Vec::new();
        while let Some(unit) = next() {
            if let Err(error) = timed(&unit.name, events, || unit.build()) {
                failures.push(UnitFailure { name: unit.name.clone(), error });
                stop();
            }
        }
        failures
    };
    let failures: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(BuildError::Units { failures }) }
}

fn write_images(
    options: &Options,
    images: &[Assembly<'_>],
    finished: &Finished,
    events: Listener<'_>,
) -> Result<(), BuildError> {
    let layout = Layout::at(&options.bundle);
    let mut manifests = Vec::new();
    for image in images {
        if let Some(descriptor) = finished.get(image) {
            events(BuildEvent::Cached { what: &image.reference });
            manifests.push(descriptor.clone());
            continue;
        }
        layout.create()?;
        manifests.push(timed(&image.reference, events, || image.write(&layout))?);
    }
    if manifests != finished.images {
        layout.commit(&Index::new(manifests))?;
        remove_unused(options)?;
    }
    Ok(())
}

/// Removes blobs that no image refers to any more.
fn remove_unused(options: &Options) -> Result<(), BuildError> {
    let bundle = Bundle::open(&options.bundle).map_err(BuildError::Open)?;
    let used: BTreeSet<Digest> = bundle.blobs().map(|blob| blob.digest.clone()).collect();
    Ok(Layout::at(&options.bundle).remove_blobs_except(&used)?)
}

/// Does something, and tells when it began and how it ended.
fn timed<T, E>(what: &str, events: Listener<'_>, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    events(BuildEvent::Started { what });
    let begin = Instant::now();
    let result = act();
    let took = begin.elapsed();
    events(match result {
        Ok(_) => BuildEvent::Finished { what, took },
        Err(_) => BuildEvent::Failed { what, took },
    });
    result
}
