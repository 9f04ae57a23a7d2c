//! Why a measurement ended without a result.

use std::io;

use camino::Utf8PathBuf;
use kayak_bundle::OpenError;
use kayak_engine::api::ApiError;
use kayak_engine::driver::DriverError;
use kayak_engine::store::StoreError;

/// Why a measurement ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("failed to start the asynchronous runtime")]
    Runtime(#[source] io::Error),
    #[error("failed to find the program that this process runs")]
    Own(#[source] io::Error),
    #[error("the path `{}` is not text", .0.display())]
    NotText(std::path::PathBuf),
    #[error("failed to read `{path}`")]
    Read { path: Utf8PathBuf, source: io::Error },
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: io::Error },
    #[error("failed to lock `{path}`")]
    Lock { path: Utf8PathBuf, source: io::Error },
    #[error("failed to run `{line}`")]
    Start { line: String, source: io::Error },
    #[error("`{line}` failed with {code}:\n{said}")]
    Failed { line: String, code: i32, said: String },
    #[error("the bundle cannot be used; `make bundle` builds it")]
    Bundle(#[source] OpenError),
    #[error("the bundle has no image `{0}`; `make bundle` builds it")]
    NoImage(String),
    #[error("failed to prepare the images")]
    Store(#[source] StoreError),
    #[error(transparent)]
    Node(#[from] DriverError),
    #[error("no hierarchy of control groups has `{0}`")]
    NoHierarchy(&'static str),
    #[error("`{0}` is not there")]
    NotThere(Utf8PathBuf),
    #[error("failed to reach the API")]
    Client(#[source] ApiError),
    #[error("failed to {what}")]
    Api { what: &'static str, source: Box<kube::Error> },
    #[error("failed to ask the name server {server}")]
    Ask { server: std::net::IpAddr, source: io::Error },
    #[error("gave up after {seconds} s waiting for {what}; see `{logs}`")]
    Never { what: &'static str, seconds: u64, logs: Utf8PathBuf },
    #[error("failed to read an event of kayak: {line}")]
    Event { line: String, source: serde_json::Error },
    #[error("failed to write the results")]
    Results(#[source] serde_json::Error),
    #[error("{when}, this is left or grown:\n  {}", .what.join("\n  "))]
    Left { when: String, what: Vec<String> },
}

impl BenchError {
    /// Says which file could not be read.
    pub fn read(path: impl Into<Utf8PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    /// Says which file could not be written.
    pub fn write(path: impl Into<Utf8PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
