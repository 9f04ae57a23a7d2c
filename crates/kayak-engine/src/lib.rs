//! The effectful part of kayak: observes, executes what was planned, and reports events; decides nothing.

mod agents;
pub mod api;
pub mod asset_dir;
pub mod audit;
pub mod check;
pub mod cluster;
pub mod dirs;
pub mod drain;
pub mod driver;
pub mod event;
pub mod execute;
pub mod images;
pub mod inventory;
pub mod join;
pub mod keystore;
pub mod machine;
mod netlink;
pub mod observe;
pub mod preflight;
pub mod rollout;
pub mod status;
pub mod store;
pub mod stored;
pub mod support;
