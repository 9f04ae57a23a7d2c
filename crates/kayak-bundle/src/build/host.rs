//! What of the building machine goes into a bundle, and what it lacks.

use std::fmt;
use std::process::{Command, Stdio};

use camino::Utf8Path;

use crate::catalog::GoBuild;

/// The release whose packages are used where the machine itself is not Debian.
const DEFAULT_SUITE: &str = "bookworm";

/// Where Debian keeps the list of its own sources: today's place, and the former one.
const SOURCES: [&str; 2] = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];

/// Facts that outputs depend on.
#[derive(Debug)]
pub(crate) struct Host {
    /// What `go version` says; nothing without Go.
    pub(crate) go: Option<String>,
    /// The processor, as Go and OCI call it.
    pub(crate) architecture: &'static str,
    /// The Debian release to take packages from.
    pub(crate) suite: String,
    /// The machine's own list of package sources, if it is one of Debian's.
    pub(crate) sources: Option<&'static str>,
}

impl Host {
    pub(crate) fn probe() -> Self {
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let suite = debian_suite(&os_release);
        let sources = SOURCES.into_iter().find(|path| Utf8Path::new(path).is_file());
        Self {
            go: output("go", &["version"]),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            sources: suite.as_ref().and(sources),
            suite: suite.unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
        }
    }
}

/// A program or library that a build needs and the machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// The Debian package that brings it.
    pub package: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (package {})", self.name, self.package)
    }
}

/// Returns what is missing to build userlands.
pub(crate) fn missing_for_userland() -> Vec<Missing> {
    missing_program("mmdebstrap", "mmdebstrap").into_iter().collect()
}

/// Returns what is missing to build a Go component.
pub(crate) fn missing_for(build: &GoBuild) -> Vec<Missing> {
    let mut missing: Vec<_> = missing_program("go", "golang-go").into_iter().collect();
    if build.cgo {
        missing.extend(missing_program("gcc", "gcc"));
        missing.extend(missing_static_libc());
    }
    if !build.libraries.is_empty() {
        missing.extend(missing_program("pkg-config", "pkg-config"));
        missing.extend(build.libraries.iter().filter_map(|library| missing_library(library)));
    }
    missing
}

fn missing_program(name: &str, package: &str) -> Option<Missing> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()));
    (!found).then(|| Missing { name: name.to_owned(), package: package.to_owned() })
}

fn missing_library(name: &str) -> Option<Missing> {
    let found = output("pkg-config", &["--modversion", name]).is_some();
    (!found).then(|| Missing { name: name.to_owned(), package: format!("{name}-dev") })
}

/// The compiler can be installed without what C programs are linked with.
fn missing_static_libc() -> Option<Missing> {
    const NAME: &str = "libc.a";
    // What gcc does not find, it gives back as it is.
    let found = output("gcc", &["-print-file-name=libc.a"]).is_some_and(|path| path != NAME);
    (!found).then(|| Missing { name: NAME.to_owned(), package: "libc6-dev".to_owned() })
}

/// Returns what a program says, if there is one and it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("GOTOOLCHAIN", "local")
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the name of the release, if `/etc/os-release` is Debian's.
fn debian_suite(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        os_release
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"')))
    };
    (value("ID") == Some("debian")).then(|| value("VERSION_CODENAME").map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_gives_its_own_release() {
        let debian = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n";
        assert_eq!(debian_suite(debian).as_deref(), Some("trixie"));
        assert_eq!(debian_suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let missing = missing_program("no-such-program", "some-package").unwrap();
        assert_eq!(missing.to_string(), "`no-such-program` (package some-package)");
        assert_eq!(missing_program("sh", "dash"), None);
    }
}
