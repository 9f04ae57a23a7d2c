//! kayak is killed in the middle, and whoever comes next cleans up.

use std::time::Duration;

use crate::cluster::{Cluster, Running};
use crate::inventory::Inventory;

pub fn up_and_down_cut_off_leave_nothing() {
    let before = Inventory::take();
    let cluster = Cluster::new("e2e-cut", 3, "");
    for milliseconds in [300, 900, 2500, 6000] {
        let mut up = cluster.command(&["up", "--config", cluster.config()]);
        let up = Running(up.spawn().unwrap());
        std::thread::sleep(Duration::from_millis(milliseconds));
        drop(up); // SIGKILL
        let down = Running(cluster.command(&["down", "--yes"]).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(300));
        drop(down);
        cluster.kayak(&["down", "--yes"]);
        before.assert_unchanged();
    }
}
