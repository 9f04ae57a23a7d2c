//! The pure part of kayak: what a cluster is made of and what has to be done, decided without I/O,
//! clock, randomness or an async runtime.

pub mod access;
pub mod applied;
pub mod assets;
pub mod audit;
pub mod boot;
pub mod chain;
pub mod checkpoint;
pub mod cluster;
pub mod component;
pub mod config;
pub mod drain;
pub mod fields;
pub mod form;
pub mod host;
pub mod instance;
pub mod join;
pub mod kubeconfig;
pub mod look;
pub mod node;
pub mod object;
pub mod person;
pub mod pki;
pub mod plan;
pub mod pods;
pub mod ports;
pub mod preflight;
pub mod profile;
pub mod registry;
pub mod sockets;
