//! Checkpoints: what a node keeps of its control plane, so that it comes back without an API.
//!
//! A checkpoint is a pod that was seen healthy, made into a static pod that refers to no object of the API. What it
//! is made of, one *generation*, lies on the node's disk; its manifest is given to the kubelet only while the pod
//! itself is missed.

pub mod culprit;
pub mod pod;
pub mod state;

use sha2::{Digest, Sha256};

use crate::component::{apiserver, controller_manager, scheduler};

/// How checkpoints' pods and manifests are told from any other.
pub const CHECKPOINT: &str = "checkpoint-";
/// Where a node keeps generations: a directory a component.
pub const DIRECTORY: &str = "/var/lib/kayak/checkpoints";
/// The link, in a component's directory, to the generation that is in use or would be.
pub const CURRENT: &str = "current";
/// The file of a generation that says what it is and what all its other files hold.
pub const RECORD: &str = "record.json";
/// The directory of a generation with what its volumes hold.
pub const FILES: &str = "files";

/// What is kept on every controller, in the order in which a control plane needs it.
pub const COMPONENTS: [&str; 3] = [apiserver::NAME, controller_manager::NAME, scheduler::NAME];

/// Whether a pod, by its name, is a checkpoint's.
pub fn is_checkpoint(pod: &str) -> bool {
    pod.starts_with(CHECKPOINT)
}

/// The UID of the pod of a checkpoint: the same for ever, whatever generation it runs.
///
/// Without one the kubelet would derive it from the manifest's content, and one that has not heard from an API yet
/// starts no second pod of a name while it knows a first one by another UID (`allowStaticPodStart`), and removes
/// none either.
pub fn uid(component: &str, node: &str) -> String {
    let digest = Sha256::digest(format!("kayak checkpoint {component} on {node}"));
    let hex = |range: std::ops::Range<usize>| {
        digest[range].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    // Formed like one of version 8, "custom" (RFC 9562).
    format!("{}-{}-8{}-8{}-{}", hex(0..4), hex(4..6), &hex(6..8)[1..], &hex(8..10)[1..], hex(10..16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_known_by_a_uid_that_stays() {
        let one = uid("kube-apiserver", "cp-1");
        assert_eq!(one, uid("kube-apiserver", "cp-1"));
        assert_ne!(one, uid("kube-apiserver", "cp-2"));
        assert_ne!(one, uid("kube-scheduler", "cp-1"));
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
