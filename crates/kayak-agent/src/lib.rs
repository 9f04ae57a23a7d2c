//! What runs inside a node: PID 1, the agent that makes the container a node and keeps it one, and
//! the small tools that control-plane containers start with.

mod address;
pub mod agent;
mod api_address;
mod appearance;
mod approver;
mod checkpoint;
mod cluster;
mod content;
mod controllers;
mod descriptor;
pub mod etcd;
mod exec;
mod front;
mod https;
pub mod init;
pub mod instance;
mod kubelet_certificate;
mod leases;
pub mod look;
pub mod member;
mod netlink;
mod part;
mod pod_network;
pub mod pods;
mod prepare;
pub mod probe;
pub mod sockets;
pub mod status;
mod supervise;
mod tail;
mod tls;
mod vip;
mod write;

#[cfg(test)]
mod testing;
