//! What is built on its own, and built again only when something it depends on changed: the
//! programs of one component, or one userland.

use camino::{Utf8Path, Utf8PathBuf};

use super::command::{CommandError, Invocation};
use super::host::{self, Host, Missing};
use crate::catalog::{Catalog, Component};
use crate::digest::Digest;
use crate::files::{self, FileError};

/// The file that the output of a userland is.
const ARCHIVE: &str = "root.tar";

/// Where a component's files are written to, and where output is until it is finished.
const SOURCE: &str = "source";
const UNFINISHED: &str = "unfinished";

/// One thing to build.
#[derive(Clone, Debug)]
pub(crate) struct Unit<'a> {
    /// Its name, for people and as its directory.
    pub(crate) name: String,
    /// Digest of everything that its output depends on.
    pub(crate) key: Digest,
    directory: Utf8PathBuf,
    kind: Kind<'a>,
}

#[derive(Clone, Debug)]
enum Kind<'a> {
    Go(&'a Component),
    Userland { packages: &'a [String], suite: &'a str, sources: Option<&'static str> },
}

impl Kind<'_> {
    /// Returns what builds it, in and below `directory`.
    fn command(&self, directory: &Utf8Path) -> Invocation {
        let output = directory.join(UNFINISHED);
        match *self {
            Kind::Go(component) => go_build(component, directory.join(SOURCE), &output),
            Kind::Userland { packages, suite, sources } => {
                mmdebstrap(packages, suite, sources, directory.to_owned(), &output)
            }
        }
    }
}

/// Why a unit could not be built.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Its command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its files could not be handled.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Returns everything a catalog needs to have built, the heaviest first.
pub(crate) fn units<'a>(catalog: &'a Catalog, host: &'a Host, build: &Utf8Path) -> Vec<Unit<'a>> {
    let mut units: Vec<_> = catalog
        .components()
        .iter()
        .map(|component| Unit::component(component, host, build))
        .chain(catalog.userlands().iter().map(|(name, packages)| Unit::userland(name, packages, host, build)))
        .collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.weight()));
    units
}

impl<'a> Unit<'a> {
    fn component(component: &'a Component, host: &Host, build: &Utf8Path) -> Self {
        let kind = Kind::Go(component);
        let command = kind.command("/".into()).to_string();
        let go = host.go.as_deref().unwrap_or_default();
        let sources = component.sources();
        let inputs = sources.iter().flat_map(|(path, content)| [path.as_str().as_bytes(), *content]);
        let key = Digest::of_all([command.as_bytes(), go.as_bytes()].into_iter().chain(inputs));
        Self { name: component.name.clone(), key, directory: build.join(&component.name), kind }
    }

    fn userland(name: &str, packages: &'a [String], host: &'a Host, build: &Utf8Path) -> Self {
        let kind = Kind::Userland { packages, suite: &host.suite, sources: host.sources };
        let command = kind.command("/".into()).to_string();
        let key = Digest::of_all([command.as_str(), host.architecture]);
        Self { name: userland(name), key, directory: build.join(userland(name)), kind }
    }

    /// How long it probably takes, against others: the more modules it needs, the longer.
    fn weight(&self) -> usize {
        match self.kind {
            Kind::Go(component) => {
                let sources = component.sources();
                let go_mod = sources.iter().find(|(path, _)| path == "go.mod");
                go_mod.map_or(0, |(_, content)| content.len())
            }
            Kind::Userland { .. } => 0,
        }
    }

    /// Returns what the machine lacks to build it.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        match self.kind {
            Kind::Go(component) => host::missing_for(&component.go),
            Kind::Userland { .. } => host::missing_for_userland(),
        }
    }

    /// Says whether what its directory holds is what building it would give.
    pub(crate) fn is_built(&self) -> bool {
        self.output().is_dir()
    }

    /// Returns the archive of a userland.
    pub(crate) fn archive(&self) -> Utf8PathBuf {
        self.output().join(ARCHIVE)
    }

    /// Returns one of the programs of a component.
    pub(crate) fn program(&self, name: &str) -> Utf8PathBuf {
        self.output().join(name)
    }

    fn output(&self) -> Utf8PathBuf {
        self.directory.join(self.key.hex())
    }

    /// Builds it, and removes what was built from former inputs.
    pub(crate) fn build(&self) -> Result<(), UnitError> {
        let unfinished = self.directory.join(UNFINISHED);
        files::create_empty_directory(&unfinished)?;
        if let Kind::Go(component) = self.kind {
            write_sources(component, &self.directory.join(SOURCE))?;
        }
        self.kind.command(&self.directory).run(&self.directory.join("log"))?;
        files::commit_directory(&unfinished, &self.output())?;
        for name in files::list(&self.directory)? {
            if name.len() == self.key.hex().len() && name != self.key.hex() {
                files::remove(&self.directory.join(name))?;
            }
        }
        Ok(())
    }
}

/// Returns the name of the unit that is this userland.
pub(crate) fn userland(name: &str) -> String {
    format!("userland-{name}")
}

fn write_sources(component: &Component, directory: &Utf8Path) -> Result<(), FileError> {
    files::create_empty_directory(directory)?;
    for (path, content) in component.sources() {
        let path = directory.join(path);
        files::create_directory(files::parent(&path))?;
        files::replace(&path, content)?;
    }
    Ok(())
}

/// Nothing of the machine but Go's version is in the outputs: no paths, no state of a checkout, no
/// shared libraries.
fn go_build(component: &Component, source: Utf8PathBuf, output: &Utf8Path) -> Invocation {
    let go = &component.go;
    let version = component.version;
    let mut ldflags = vec!["-s -w".to_owned()];
    ldflags.extend(go.ldflags.iter().map(|flag| {
        flag.replace("{version}", &version.to_string())
            .replace("{major}", &version.major.to_string())
            .replace("{minor}", &version.minor.to_string())
    }));
    if go.cgo {
        ldflags.push("-linkmode external -extldflags -static".to_owned());
    }
    let fixed = ["go", "build", "-trimpath", "-buildvcs=false", "-o"];
    let mut arguments: Vec<_> = fixed.map(str::to_owned).into();
    arguments.push(format!("{output}/"));
    arguments.push(format!("-tags={}", go.tags.join(",")));
    arguments.push(format!("-ldflags={}", ldflags.join(" ")));
    arguments.extend(go.packages.iter().cloned());
    let environment = vec![
        ("CGO_ENABLED", if go.cgo { "1" } else { "0" }.to_owned()),
        ("GOFLAGS", "-mod=readonly".to_owned()),
        ("GOTOOLCHAIN", "local".to_owned()),
        ("GOWORK", "off".to_owned()),
    ];
    Invocation { directory: source, environment, arguments }
}

fn mmdebstrap(
    packages: &[String],
    suite: &str,
    sources: Option<&str>,
    directory: Utf8PathBuf,
    output: &Utf8Path,
) -> Invocation {
    let mut arguments = vec![
        "mmdebstrap".to_owned(),
        "--variant=extract".to_owned(),
        format!("--include={}", packages.join(",")),
        suite.to_owned(),
        output.join(ARCHIVE).into_string(),
    ];
    arguments.extend(sources.map(str::to_owned));
    Invocation { directory, environment: Vec::new(), arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(go: &str) -> Host {
        Host { go: Some(go.to_owned()), architecture: "amd64", suite: "bookworm".to_owned(), sources: None }
    }

    fn key(component: &Component, go: &str) -> Digest {
        Unit::component(component, &host(go), "/build".into()).key
    }

    #[test]
    fn a_unit_is_outdated_when_an_input_changes() {
        let catalog = Catalog::embedded().unwrap();
        let [one, other] = &catalog.components()[..2] else { panic!("too few components") };
        assert_eq!(key(one, "go1"), key(one, "go1"));
        assert_ne!(key(one, "go1"), key(one, "go2"));
        assert_ne!(key(one, "go1"), key(other, "go1"));

        let packages = ["a", "b"].map(str::to_owned);
        let host = host("go1");
        let key = |packages| Unit::userland("node", packages, &host, "/build".into()).key;
        assert_ne!(key(&packages[..1]), key(&packages));
    }

    #[test]
    fn the_most_modules_are_built_first() {
        let (catalog, host) = (Catalog::embedded().unwrap(), host("go1"));
        let units = units(&catalog, &host, "/build".into());
        assert!(units[0].name.starts_with("kubernetes-"), "{}", units[0].name);
        assert!(units.last().unwrap().name.starts_with("userland-"));
    }

    #[test]
    fn versions_are_put_into_the_programs() {
        let catalog = Catalog::embedded().unwrap();
        let kubernetes = catalog.components().iter().find(|found| found.name == "kubernetes-1.36").unwrap();
        let command = go_build(kubernetes, "/source".into(), "/output".into()).to_string();
        let version = format!("-X k8s.io/component-base/version.gitVersion={} ", kubernetes.version);
        assert!(command.contains(&version) && command.contains("gitMinor=36"), "{command}");
        assert!(command.starts_with("cd /source && CGO_ENABLED=0 "), "{command}");
    }
}
