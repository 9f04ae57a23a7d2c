//! The loopback address of one running control-plane instance.

use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

/// What a component's flags say where the instance's address belongs; `kayak instance` fills it in.
pub const PLACEHOLDER: &str = "$(INSTANCE_IP)";

/// Returns the address inside 127.64.0.0/10 that the instance with this pod UID binds.
///
/// Temporary, old and new instances of a component share the node's network and the port, so each
/// gets an address nobody has to hand out: the wrapper in the pod and the agent outside both derive
/// it from the UID that the kubelet gives to the pod and to the runtime alike. 22 bits are enough:
/// a node runs at most a handful of instances at a time.
pub fn address(pod_uid: &str) -> Ipv4Addr {
    let digest = Sha256::digest(pod_uid.as_bytes());
    // Neither the first nor the last address of the block, which read like a network's or a
    // broadcast address to people and to some tools.
    let span = (1u32 << 22) - 2;
    let host = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % span + 1;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 0)) + host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_distinct_and_inside_the_block() {
        let a = address("5d1a8a0e-9c1c-4f43-9d0f-0f7f3a0e6a11");
        assert_eq!(a, address("5d1a8a0e-9c1c-4f43-9d0f-0f7f3a0e6a11"));
        assert_ne!(a, address("5d1a8a0e-9c1c-4f43-9d0f-0f7f3a0e6a12"));
        for uid in 0..10_000 {
            let [first, second, ..] = address(&uid.to_string()).octets();
            assert!(first == 127 && (64..128).contains(&second));
        }
    }
}
