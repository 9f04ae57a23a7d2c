//! One file a command: its arguments, whose comments are the help, and the function that runs it.

pub mod audit;
pub mod bundle;
pub mod completions;
pub mod config;
pub mod disable;
pub mod down;
pub mod enable;
pub mod image;
pub mod inside;
pub mod join;
pub mod kubeconfig;
pub mod kubectl;
pub mod man;
pub mod node;
pub mod phases;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod resume;
pub mod start;
pub mod status;
pub mod stop;
pub mod support;
pub mod token;
pub mod up;
