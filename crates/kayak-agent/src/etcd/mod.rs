//! The node's etcd member: how it becomes one of a cluster, and what there is to know of it after that.

mod api;
mod client;
mod controllers;
mod growth;
pub(crate) mod join;
mod place;
mod remove;
mod watch;

#[cfg(test)]
mod real;

pub use client::ClientError;
pub(crate) use client::{Access, Client};
pub(crate) use controllers::Controllers;
pub use place::{Place, PlaceError};
pub use remove::{RemoveError, remove};
pub(crate) use watch::{Watch, run as watch};
