//! What a bundle is made of, read from the descriptions embedded in the binary: no bundle has to
//! exist for it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use include_dir::{Dir, include_dir};
use serde::Deserialize;

use crate::version::Version;

/// The folder `components/`, so that an installed binary can build a bundle without a checkout.
static COMPONENTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../components");

/// The file that describes a component.
const DESCRIPTION: &str = "component.yaml";

/// The host part of every image reference. It names no registry: nodes are given all their images.
const REGISTRY: &str = "kayak.local";

/// Why the embedded descriptions do not make sense. A test proves that they do.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file is not there.
    #[error("there is no file `{file}` in components/")]
    Absent {
        /// Where it should be.
        file: Utf8PathBuf,
    },
    /// A description cannot be read.
    #[error("failed to read components/{file}")]
    Description {
        /// Which one.
        file: Utf8PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
    /// A component names neither an upstream module nor its own version, or both.
    #[error("component `{component}` must have either a module or a version")]
    Unversioned {
        /// Which one.
        component: String,
    },
    /// A component's `go.mod` does not require the module that gives it its version.
    #[error("go.mod of component `{component}` does not require `{module}` in a release version")]
    NotRequired {
        /// Which one.
        component: String,
        /// The module.
        module: String,
    },
}

/// Everything that a bundle can be made of.
#[derive(Debug)]
pub struct Catalog {
    components: Vec<Component>,
    userlands: Userlands,
}

/// An upstream project (or a few lines of our own), built from one Go module.
#[derive(Debug)]
pub struct Component {
    /// The name of its folder.
    pub name: String,
    /// The version of the upstream module that its `go.mod` requires.
    pub version: Version,
    /// Its licence, as an SPDX expression.
    pub license: String,
    /// The images that bear its version.
    pub images: Vec<ImageSpec>,
    pub(crate) go: GoBuild,
}

/// An image: which files make it up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The last part of its reference, without the version.
    pub name: String,
    /// The kind of Debian userland it stands on; without one it holds its files and little else.
    pub userland: Option<String>,
    /// Path in the image → what is there: a program of the same component, or `component/program`.
    pub files: BTreeMap<String, String>,
    /// Path in the image → where the symbolic link there points to.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// What a container of it runs unless told otherwise.
    pub entrypoint: Vec<String>,
}

/// How a component's programs are built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    module: Option<String>,
    version: Option<Version>,
    license: String,
    packages: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    cgo: bool,
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    ldflags: Vec<String>,
    #[serde(default)]
    images: Vec<ImageSpec>,
}

/// What `go build` is told.
#[derive(Debug)]
pub(crate) struct GoBuild {
    /// Packages, each of which becomes a program; `tool` means those that `go.mod` lists as tools.
    pub(crate) packages: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) cgo: bool,
    /// C libraries by their pkg-config name.
    pub(crate) libraries: Vec<String>,
    pub(crate) ldflags: Vec<String>,
}

/// The Debian packages of each kind of userland.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Userlands {
    license: String,
    packages: BTreeMap<String, Vec<String>>,
}

impl Catalog {
    /// Reads the embedded descriptions.
    pub fn embedded() -> Result<Self, CatalogError> {
        let mut components = Vec::new();
        for folder in COMPONENTS.dirs() {
            let name = folder.path().to_string_lossy().into_owned();
            if folder.get_file(folder.path().join("go.mod")).is_some() {
                components.push(Component::read(name)?);
            }
        }
        Ok(Self { components, userlands: describe("base/userlands.yaml")? })
    }

    /// Returns every component, in the order of their names.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Returns every image, with the component that gives it its version.
    pub fn images(&self) -> impl Iterator<Item = (&Component, &ImageSpec)> {
        self.components.iter().flat_map(|owner| owner.images.iter().map(move |image| (owner, image)))
    }

    /// Returns the reference of an image by its name: in that version, or in the newest there is.
    pub fn reference(&self, name: &str, version: Option<&Version>) -> Option<String> {
        self.images()
            .filter(|(owner, image)| {
                image.name == name && version.is_none_or(|wanted| owner.version == *wanted)
            })
            .min_by_key(|(owner, _)| Reverse(&owner.version))
            .map(|(owner, image)| owner.reference(image))
    }

    /// Returns the licence of what Debian's packages hold.
    pub(crate) fn userland_license(&self) -> &str {
        &self.userlands.license
    }

    /// Returns the packages of each kind of userland.
    pub(crate) fn userlands(&self) -> &BTreeMap<String, Vec<String>> {
        &self.userlands.packages
    }
}

impl Component {
    fn read(name: String) -> Result<Self, CatalogError> {
        let description: Description = describe(&format!("{name}/{DESCRIPTION}"))?;
        let version = match (description.module, description.version) {
            (Some(module), None) => Version::required(text(&format!("{name}/go.mod"))?, &module)
                .ok_or_else(|| CatalogError::NotRequired { component: name.clone(), module })?,
            (None, Some(own)) => own,
            _ => return Err(CatalogError::Unversioned { component: name }),
        };
        Ok(Self {
            name,
            version,
            license: description.license,
            images: description.images,
            go: GoBuild {
                packages: description.packages,
                tags: description.tags,
                cgo: description.cgo,
                libraries: description.libraries,
                ldflags: description.ldflags,
            },
        })
    }

    /// Returns the full reference of one of its images.
    pub fn reference(&self, image: &ImageSpec) -> String {
        format!("{REGISTRY}/{}:{}", image.name, self.version)
    }

    /// Returns the path, relative to the component's folder, and the content of each file that Go
    /// reads.
    pub(crate) fn sources(&self) -> Vec<(Utf8PathBuf, &'static [u8])> {
        let mut files = files_below(&self.name);
        files.retain(|(path, _)| path != DESCRIPTION);
        files
    }
}

/// Returns the files that every image holds, by their path in it.
pub(crate) fn common_files() -> Vec<(Utf8PathBuf, &'static [u8])> {
    files_below("base/files")
}

fn files_below(folder: &str) -> Vec<(Utf8PathBuf, &'static [u8])> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = COMPONENTS.get_dir(folder).into_iter().collect();
    while let Some(next) = folders.pop() {
        folders.extend(next.dirs());
        files.extend(next.files().filter_map(|file| {
            let path = file.path().strip_prefix(folder).ok()?.to_str()?;
            Some((Utf8PathBuf::from(path), file.contents()))
        }));
    }
    files.sort();
    files
}

fn text(file: &str) -> Result<&'static str, CatalogError> {
    COMPONENTS
        .get_file(file)
        .and_then(|found| found.contents_utf8())
        .ok_or_else(|| CatalogError::Absent { file: file.into() })
}

fn describe<T: serde::de::DeserializeOwned>(file: &str) -> Result<T, CatalogError> {
    serde_saphyr::from_str(text(file)?)
        .map_err(|source| CatalogError::Description { file: file.into(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_descriptions_are_complete() {
        let catalog = Catalog::embedded().unwrap();
        let programs: Vec<_> = catalog.components().iter().map(|found| found.name.as_str()).collect();
        for (owner, image) in catalog.images() {
            assert!(!image.entrypoint.is_empty(), "{}: a sandbox needs an entrypoint", image.name);
            for program in image.files.values() {
                let component = program.split_once('/').map_or(owner.name.as_str(), |(name, _)| name);
                assert!(programs.contains(&component), "{}: no component {component}", image.name);
            }
            if let Some(userland) = &image.userland {
                assert!(catalog.userlands().contains_key(userland), "{}: {userland}", image.name);
            }
        }
    }

    #[test]
    fn every_image_of_a_cluster_is_there() {
        let catalog = Catalog::embedded().unwrap();
        for name in ["coredns", "etcd", "flannel", "kubernetes", "node", "pause"] {
            let reference = catalog.reference(name, None).unwrap();
            assert!(reference.starts_with(&format!("kayak.local/{name}:v")), "{reference}");
        }
        assert_eq!(catalog.reference("kubernetes", Some(&"v1.0.0".parse().unwrap())), None);
    }

    #[test]
    fn every_image_holds_the_files_that_a_sandbox_needs() {
        let paths: Vec<_> = common_files().into_iter().map(|(path, _)| path).collect();
        for needed in ["etc/group", "etc/hosts", "etc/passwd"] {
            assert!(paths.iter().any(|path| path == needed), "{needed}");
        }
    }
}
