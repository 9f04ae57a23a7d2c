//! Images from what was built.

use std::collections::BTreeSet;
use std::io;

use super::host::Host;
use super::unit::{self, Unit};
use crate::catalog::{Catalog, Component, ImageSpec};
use crate::digest::Digest;
use crate::files::FileError;
use crate::layout::{
    CONFIG_TYPE, Descriptor, ImageConfig, KEY, LAYER_TYPE, LICENSES, Layout, MANIFEST_TYPE, Manifest, NAME,
    Platform, REF_NAME, RootFs, RunConfig,
};
use crate::tree::{Content, Entry, Tree};
use crate::{catalog, userland};

/// Where programs are looked for in every image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How images come about: they are outdated when the code that makes them changes.
const RECIPE: [&str; 4] = [
    include_str!("image.rs"),
    include_str!("../layout.rs"),
    include_str!("../tree.rs"),
    include_str!("../userland.rs"),
];

/// An image to make, with all that goes into it.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    pub(crate) reference: String,
    /// Digest of everything that the image depends on.
    pub(crate) key: Digest,
    owner: &'a Component,
    spec: &'a ImageSpec,
    userland: Option<&'a Unit<'a>>,
    /// Path in the image, the unit that builds the program, and the program's name.
    programs: Vec<(&'a str, &'a Unit<'a>, &'a str)>,
    licenses: BTreeSet<&'a str>,
    platform: Platform,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// What was built cannot be read.
    #[error("failed to read the userland of `{image}`")]
    Userland {
        /// The image's reference.
        image: String,
        /// Why.
        source: io::Error,
    },
    /// A component did not build what the image is to hold.
    #[error("failed to find the program `{program}` of `{image}`")]
    Program {
        /// The image's reference.
        image: String,
        /// The program's file.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its description cannot be written as JSON.
    #[error("failed to describe `{image}`")]
    Describe {
        /// The image's reference.
        image: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Its blobs could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl<'a> Assembly<'a> {
    /// Finds what goes into an image; nothing, if it names a unit that does not exist.
    pub(crate) fn of(
        catalog: &'a Catalog,
        (owner, spec): (&'a Component, &'a ImageSpec),
        units: &'a [Unit<'a>],
        host: &Host,
    ) -> Option<Self> {
        let find = |name: &str| units.iter().find(|unit| unit.name == name);
        let userland = match &spec.userland {
            Some(name) => Some(find(&unit::userland(name))?),
            None => None,
        };
        let mut licenses = BTreeSet::new();
        licenses.extend(userland.map(|_| catalog.userland_license()));
        let mut programs = Vec::new();
        for (path, program) in &spec.files {
            let (component, program) = program.split_once('/').unwrap_or((&owner.name, program));
            programs.push((path.as_str(), find(component)?, program));
            licenses.extend(
                catalog
                    .components()
                    .iter()
                    .filter(|found| found.name == component)
                    .map(|found| found.license.as_str()),
            );
        }
        let mut assembly = Self {
            reference: owner.reference(spec),
            key: Digest::of(&[]),
            owner,
            spec,
            userland,
            programs,
            licenses,
            platform: Platform { architecture: host.architecture.to_owned(), os: "linux".to_owned() },
        };
        assembly.key = assembly.compute_key();
        Some(assembly)
    }

    fn compute_key(&self) -> Digest {
        let units = self.units().map(|unit| unit.key.to_string());
        let common = catalog::common_files()
            .into_iter()
            .flat_map(|(path, content)| [path.into_string(), Digest::of(content).to_string()]);
        let recipe = RECIPE.into_iter().map(str::to_owned);
        let spec = [self.reference.clone(), format!("{:?} {:?}", self.spec, self.licenses)];
        Digest::of_all(recipe.chain(spec).chain(units).chain(common))
    }

    /// Returns every unit it is made of.
    pub(crate) fn units(&self) -> impl Iterator<Item = &'a Unit<'a>> {
        self.userland.into_iter().chain(self.programs.iter().map(|&(_, unit, _)| unit))
    }

    /// Writes the image's blobs, and returns its entry for the index.
    pub(crate) fn write(&self, layout: &Layout) -> Result<Descriptor, ImageError> {
        let tree = self.tree()?;
        let layer = layout.add_with(LAYER_TYPE, |out| tree.write(out))?;
        let config = ImageConfig {
            platform: self.platform.clone(),
            config: RunConfig { env: vec![PATH.to_owned()], entrypoint: self.spec.entrypoint.clone() },
            // An uncompressed layer is what it unpacks to, so both have one digest.
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.digest.clone()] },
        };
        let licenses: Vec<_> = self.licenses.iter().copied().collect();
        let licenses = (LICENSES.to_owned(), licenses.join(" AND "));
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            config: layout.add(CONFIG_TYPE, &self.json(&config)?)?,
            layers: vec![layer],
            annotations: [licenses.clone()].into(),
        };
        let mut descriptor = layout.add(MANIFEST_TYPE, &self.json(&manifest)?)?;
        descriptor.platform = Some(self.platform.clone());
        descriptor.annotations = [
            licenses,
            (NAME.to_owned(), self.reference.clone()),
            (REF_NAME.to_owned(), self.owner.version.to_string()),
            (KEY.to_owned(), self.key.to_string()),
        ]
        .into();
        Ok(descriptor)
    }

    fn tree(&self) -> Result<Tree, ImageError> {
        let mut tree = match self.userland {
            None => userland::scratch(),
            Some(unit) => userland::from_archive(&unit.archive())
                .map_err(|source| ImageError::Userland { image: self.reference.clone(), source })?,
        };
        for (path, unit, program) in &self.programs {
            let file = unit.program(program);
            let content = Content::whole(&file).map_err(|source| ImageError::Program {
                image: self.reference.clone(),
                program: file.into_string(),
                source,
            })?;
            tree.insert(path, Entry::file(0o755, content));
        }
        for (path, target) in &self.spec.links {
            tree.insert(path, Entry::symlink(target));
        }
        Ok(tree)
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
        serde_json::to_vec(value)
            .map_err(|source| ImageError::Describe { image: self.reference.clone(), source })
    }
}

#[cfg(test)]
mod tests;
