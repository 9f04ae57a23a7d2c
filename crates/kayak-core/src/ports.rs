//! The TCP ports that a controller listens at, each with whose it is: on the machine's own network they
//! must be free. Instances of the control plane have addresses of their own, and the same ports.

use crate::cluster::{API_PORT, KUBELET_PORT, LOCAL_API_PORT};
use crate::component::{apiserver, controller_manager, etcd, flannel, proxy, scheduler};
use crate::host::KUBELET_HEALTH_PORT;

const KUBELET: &str = "kubelet";

/// Those at the node's address.
pub const AT_ADDRESS: [(u16, &str); 4] = [
    (etcd::CLIENT_PORT, etcd::NAME),
    (etcd::PEER_PORT, etcd::NAME),
    (API_PORT, apiserver::NAME),
    (KUBELET_PORT, KUBELET),
];

/// Those on loopback.
pub const ON_LOOPBACK: [(u16, &str); 9] = [
    (etcd::CLIENT_PORT, etcd::NAME),
    (API_PORT, apiserver::NAME),
    (LOCAL_API_PORT, apiserver::NAME),
    (KUBELET_HEALTH_PORT, KUBELET),
    (proxy::METRICS_PORT, proxy::NAME),
    (proxy::HEALTH_PORT, proxy::NAME),
    (flannel::HEALTH_PORT, flannel::NAME),
    (controller_manager::PORT, controller_manager::NAME),
    (scheduler::PORT, scheduler::NAME),
];
