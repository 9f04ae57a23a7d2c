//! The home profile: a machine of 4 GiB, of which the owner keeps 1.5.

use crate::cluster::Cluster;
use crate::{pivot_is_seamless, workloads_run};

/// What a cluster may use of such a machine.
const SETTINGS: &str = "profile: home\nnodes:\n- { name: controller-0, memory: 2560Mi }\n";

pub fn workloads_run_in_what_a_home_server_has_left() {
    let cluster = Cluster::new("e2e-home", 9, SETTINGS);
    cluster.up(&[]);
    pivot_is_seamless::look_from_inside(&cluster);
    workloads_run::an_image_loaded_as_oci_layout_runs(&cluster);
    workloads_run::a_web_server_answers_by_name_and_node_port(&cluster);
    workloads_run::volumes_of_every_common_kind_are_mounted(&cluster);
    workloads_run::mounts_propagate_between_pods(&cluster);
    workloads_run::a_privileged_pod_and_a_job_run(&cluster);
    pivot_is_seamless::assert_unnoticed_inside(&cluster, 0);
    assert_eq!(memory(&cluster, "limit"), 2560 << 20);
    assert_eq!(memory(&cluster, "oom_kill"), 0, "processes were killed for want of memory");
    cluster.kayak(&["down", "--yes"]);
}

/// A number of the node's control group, which the node sees as the root of its own: of the memory
/// controller's first version, or of the second.
fn memory(cluster: &Cluster, what: &str) -> u64 {
    let script = match what {
        "limit" => "cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max",
        _ => "cat memory/memory.oom_control 2>/dev/null || cat memory.events",
    };
    let text = cluster.in_node(&["sh", "-c", &format!("cd /sys/fs/cgroup; {script}")]);
    let number = text.lines().find_map(|line| match line.split_once(' ') {
        Some((name, value)) => (name == what).then_some(value),
        None => Some(line),
    });
    number.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no `{what}`: {text}"))
}
