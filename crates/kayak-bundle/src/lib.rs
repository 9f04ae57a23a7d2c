//! What a cluster is made of: every image, built from pinned upstream sources.
//!
//! A *bundle* is an OCI image layout with one uncompressed layer per image. [`Catalog`] says what
//! goes into one, without one being there; [`build()`] makes it; [`Bundle`] reads it, checks it,
//! unpacks it and moves it to other machines. The same inputs give the same bytes everywhere.
//!
//! Everything here blocks; callers in async code run it on a thread of its own.

mod archive;
pub mod build;
mod bundle;
mod catalog;
mod digest;
mod files;
#[cfg(test)]
mod fixture;
mod layout;
mod tree;
mod unpack;
mod userland;
mod version;

pub use self::archive::{ArchiveError, ImportError};
pub use self::build::{BuildError, BuildEvent, Options, build};
pub use self::bundle::{Bundle, Damage, DamageKind, Image, OpenError};
pub use self::catalog::{Catalog, CatalogError, Component, ImageSpec};
pub use self::digest::{Digest, NotADigest};
pub use self::files::FileError;
pub use self::unpack::UnpackError;
pub use self::version::{NotAVersion, Version};
