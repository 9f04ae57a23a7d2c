//! The configuration of the CNI plugins.

use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

/// What the configuration depends on.
pub(super) struct Conflist<'a> {
    /// The ranges to give addresses from.
    pub(super) ranges: &'a [IpNet],
    /// The MTU of the pods' links.
    pub(super) mtu: u32,
}

impl Conflist<'_> {
    pub(super) fn render(&self) -> String {
        let ranges: Vec<_> = self.ranges.iter().map(|r| json!([{ "subnet": r }])).collect();
        let routes: Vec<_> = self.ranges.iter().map(default_route).collect();
        let list = json!({
            "cniVersion": "1.0.0",
            "name": "kayak",
            "plugins": [
                {
                    // Not `bridge`: Service traffic between two pods of a node would pass by the
                    // kernel's packet filter unless br_netfilter is loaded, which a container
                    // cannot do.
                    "type": "ptp",
                    "mtu": self.mtu,
                    // It would hide pods from each other across nodes; flannel hides them only
                    // from the outside.
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        // Gone at a restart, like the pods the addresses were given to.
                        "dataDir": "/run/kayak/cni",
                        "ranges": ranges,
                        "routes": routes,
                    },
                },
                {
                    "type": "portmap",
                    "capabilities": { "portMappings": true },
                    "backend": "nftables",
                    "snat": true,
                },
            ],
        });
        format!("{list:#}\n")
    }
}

fn default_route(range: &IpNet) -> Value {
    match range {
        IpNet::V4(_) => json!({ "dst": "0.0.0.0/0" }),
        IpNet::V6(_) => json!({ "dst": "::/0" }),
    }
}

/// Returns the ranges of the configuration that an earlier run wrote, if there is one.
pub(super) fn ranges_on_disk(path: &Path) -> Option<Vec<IpNet>> {
    let text = std::fs::read(path).ok()?;
    let list: Value = serde_json::from_slice(&text).ok()?;
    let ranges = list["plugins"][0]["ipam"]["ranges"].as_array()?;
    let subnet = |range: &Value| range[0]["subnet"].as_str()?.parse().ok();
    ranges.iter().map(subnet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_get_ranges_and_default_routes() {
        let ranges = ["10.244.1.0/24", "fd00:1::/64"].map(|range| range.parse().unwrap());
        let text = Conflist { ranges: &ranges, mtu: 1450 }.render();
        let list: Value = serde_json::from_str(&text).unwrap();
        let pods = &list["plugins"][0];
        assert_eq!(pods["mtu"], 1450);
        assert_eq!(
            pods["ipam"]["ranges"],
            json!([[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:1::/64" }]])
        );
        assert_eq!(pods["ipam"]["routes"], json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("list");
        let ranges = ["10.244.1.0/24"].map(|range| range.parse().unwrap());
        assert_eq!(ranges_on_disk(&path), None);
        std::fs::write(&path, Conflist { ranges: &ranges, mtu: 1500 }.render()).unwrap();
        assert_eq!(ranges_on_disk(&path), Some(ranges.to_vec()));
    }
}
