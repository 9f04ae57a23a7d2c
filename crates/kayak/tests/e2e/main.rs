//! kayak on real clusters: one file a scenario, named by behaviour. Most share one of two clusters, of one
//! node and of six, which the first brings up and the last removes; see CONTRIBUTING.md for running one alone.
//!
//! Needs: root, the bundle (`make bundle`), busybox-static, iproute2, nftables, openvpn and /dev/net/tun.

#![expect(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, reason = "tests")]

mod access;
mod assets_by_hand;
mod boot;
mod both_families;
mod bundle_travels;
mod client;
mod cluster;
mod cold_start;
mod control_plane_is_ordinary;
mod cut_off;
mod fleet;
mod home_profile;
mod image;
mod inventory;
mod joining;
mod machine;
mod node_files_take_effect;
mod nodes_can_be_looked_into;
mod own_network;
mod owners_word;
mod pivot_is_seamless;
mod preflight;
mod refusals;
mod registries;
mod scan;
mod settings;
mod space;
mod virtual_address;
mod vpn;
mod when_unwell;
mod workloads_run;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use cluster::{Cluster, Shared};
use fleet::{
    Fleet, api_rolls_unnoticed, api_server_stands_still, cold_start as fleet_cold_start, comes_up_and_grows,
    failures_are_survived, nodes_by_command, own_pod_network, packets_reach_every_pod,
};
use inventory::Inventory;

/// A scenario by its name.
type Named<T> = (&'static str, T);
/// A scenario on the shared cluster of one node.
type Scenario = fn(&Cluster);
/// A scenario on the shared cluster of several.
type FleetScenario = fn(&Fleet);

const SHARED: &[Named<Scenario>] = &[
    ("pivot_loses_no_request", pivot_is_seamless::pivot_loses_no_request),
    ("a_second_up_does_nothing", pivot_is_seamless::a_second_up_does_nothing),
    ("every_part_is_an_ordinary_object", control_plane_is_ordinary::every_part_is_an_ordinary_object),
    ("manifests_do_not_differ_from_the_cluster", control_plane_is_ordinary::manifests_do_not_differ),
    (
        "logs_exec_and_port_forward_reach_the_control_plane",
        control_plane_is_ordinary::logs_exec_and_port_forward,
    ),
    ("kubeconfig_of_the_caller_gets_the_cluster", access::kubeconfig_of_the_caller_gets_the_cluster),
    (
        "kubeconfig_of_another_does_what_their_role_says",
        access::kubeconfig_of_another_does_what_their_role_says,
    ),
    ("kubeconfig_that_has_ended_is_refused", access::kubeconfig_that_has_ended_is_refused),
    ("an_image_loaded_as_oci_layout_runs", workloads_run::an_image_loaded_as_oci_layout_runs),
    ("a_web_server_answers_by_name_and_node_port", workloads_run::a_web_server_answers_by_name_and_node_port),
    ("volumes_of_every_common_kind_are_mounted", workloads_run::volumes_of_every_common_kind_are_mounted),
    ("mounts_propagate_between_pods", workloads_run::mounts_propagate_between_pods),
    ("a_privileged_pod_and_a_job_run", workloads_run::a_privileged_pod_and_a_job_run),
    ("secrets_are_encrypted_in_etcd", control_plane_is_ordinary::secrets_are_encrypted_in_etcd),
    ("status_tells_what_is_wrong", when_unwell::status_tells_what_is_wrong),
    ("status_answers_although_the_node_is_frozen", when_unwell::status_answers_although_the_node_is_frozen),
    ("status_tells_what_changes", when_unwell::status_tells_what_changes),
    ("support_holds_everything_but_secrets", when_unwell::support_holds_everything_but_secrets),
    ("nodes_tell_logs_and_pods_without_an_api", nodes_can_be_looked_into::logs_and_pods_without_an_api),
    ("serving_certificates_are_approved_by_the_rule", nodes_can_be_looked_into::serving_certificates),
    (
        "api_server_rolls_forward_and_back_without_a_lost_request",
        control_plane_is_ordinary::rolls_forward_and_back,
    ),
    ("edits_stay_until_they_are_named", owners_word::edits_stay_until_they_are_named),
    ("the_plan_names_exactly_what_changed", owners_word::the_plan_names_exactly_what_changed),
    ("a_plan_in_a_file_is_for_what_was_found", owners_word::a_plan_in_a_file_is_for_what_was_found),
    ("the_configuration_lives_in_the_cluster", owners_word::the_configuration_lives_in_the_cluster),
    ("images_of_the_bundle_are_pinned", nodes_can_be_looked_into::images_of_the_bundle_are_pinned),
    (
        "a_changed_kubelet_configuration_takes_effect",
        node_files_take_effect::a_changed_kubelet_configuration_takes_effect,
    ),
    ("a_stopped_kubelet_is_noticed", node_files_take_effect::a_stopped_kubelet_is_noticed),
    ("listeners_have_owners", node_files_take_effect::listeners_have_owners),
    ("supervised_units_come_back", nodes_can_be_looked_into::supervised_units_come_back),
    ("a_node_that_lost_power_comes_back", nodes_can_be_looked_into::a_node_that_lost_power_comes_back),
];

/// Scenarios on three controllers and three workers, when the single node is gone.
const FLEET: &[Named<FleetScenario>] = &[
    ("up_ends_with_all_that_was_wished", comes_up_and_grows::up_ends_with_all_that_was_wished),
    ("nodes_are_added_and_removed_by_number", comes_up_and_grows::nodes_are_added_and_removed_by_number),
    ("nodes_come_and_go_by_command", nodes_by_command::nodes_come_and_go_by_command),
    ("nodes_restart_one_after_another", nodes_by_command::nodes_restart_one_after_another),
    ("packets_reach_every_pod", packets_reach_every_pod::packets_reach_every_pod),
    ("api_server_rolls_and_nobody_notices", api_rolls_unnoticed::api_server_rolls_and_nobody_notices),
    (
        "an_api_server_that_does_not_become_ready_is_given_nobody",
        api_rolls_unnoticed::an_api_server_that_does_not_become_ready_is_given_nobody,
    ),
    (
        "units_of_a_worker_come_back_and_its_pods_run_on",
        failures_are_survived::units_of_a_worker_come_back_and_its_pods_run_on,
    ),
    ("the_next_leader_takes_over", failures_are_survived::the_next_leader_takes_over),
    ("a_member_that_stands_still_catches_up", failures_are_survived::a_member_that_stands_still_catches_up),
    (
        "an_api_server_that_stands_still_is_left_within_seconds",
        api_server_stands_still::an_api_server_that_stands_still_is_left_within_seconds,
    ),
    (
        "a_controller_that_is_cut_off_writes_nothing_and_heals",
        failures_are_survived::a_controller_that_is_cut_off_writes_nothing_and_heals,
    ),
    (
        "a_controller_that_lost_power_is_missed_for_seconds",
        failures_are_survived::a_controller_that_lost_power_is_missed_for_seconds,
    ),
    ("all_nodes_lose_power_and_come_back", fleet_cold_start::all_nodes_lose_power_and_come_back),
    (
        "a_controller_that_is_left_alone_says_so_and_goes_on_later",
        fleet_cold_start::a_controller_that_is_left_alone_says_so_and_goes_on_later,
    ),
    ("pods_of_two_lost_workers_run_elsewhere", failures_are_survived::pods_of_two_lost_workers_run_elsewhere),
];

/// Scenarios that bring up clusters of their own, after the shared ones are gone.
const ALONE: &[Named<fn()>] = &[
    ("refusals_touch_nothing", refusals::refusals_touch_nothing),
    (
        "preflight_lists_everything_and_touches_nothing",
        preflight::preflight_lists_everything_and_touches_nothing,
    ),
    ("root_of_a_user_namespace_is_not_the_machines", preflight::root_of_a_user_namespace),
    ("an_edited_rendering_starts_as_edited", assets_by_hand::an_edited_rendering_starts_as_edited),
    ("packets_go_by_routes_with_host_gw", packets_reach_every_pod::packets_go_by_routes_with_host_gw),
    (
        "a_network_of_the_owners_own_makes_nodes_ready",
        own_pod_network::a_network_of_the_owners_own_makes_nodes_ready,
    ),
    ("settings_take_effect", settings::settings_take_effect),
    ("a_gate_that_does_not_open_says_why", assets_by_hand::a_gate_that_does_not_open_says_why),
    ("the_bundle_travels_in_one_file", bundle_travels::the_bundle_travels_in_one_file),
    (
        "workloads_run_in_what_a_home_server_has_left",
        home_profile::workloads_run_in_what_a_home_server_has_left,
    ),
    ("a_cluster_of_one_node_comes_back_by_itself", cold_start::a_cluster_of_one_node_comes_back_by_itself),
    (
        "a_bad_rollout_of_the_api_server_does_not_brick",
        cold_start::a_bad_rollout_of_the_api_server_does_not_brick,
    ),
    ("an_enabled_cluster_starts_at_boot", boot::an_enabled_cluster_starts_at_boot),
    ("down_names_what_is_left", inventory::down_names_what_is_left),
    ("a_second_run_is_refused_and_told_who_is_first", cut_off::a_second_run_is_refused_and_told_who_is_first),
    (
        "an_up_cut_off_anywhere_ends_as_if_it_had_not_been",
        cut_off::an_up_cut_off_anywhere_ends_as_if_it_had_not_been,
    ),
    ("only_the_named_interface_leads_to_the_cluster", own_network::only_the_named_interface_leads_to_it),
    (
        "the_virtual_address_moves_to_a_living_controller",
        virtual_address::the_virtual_address_moves_to_a_living_controller,
    ),
    ("a_cluster_of_ipv6_works", both_families::a_cluster_of_ipv6_works),
    ("a_cluster_of_both_families_works", both_families::a_cluster_of_both_families_works),
    ("ipv6_may_be_the_primary_family", both_families::ipv6_may_be_the_primary_family),
    ("images_come_from_a_registry_with_a_password", registries::images_come_from_a_registry_with_a_password),
    ("another_machine_joins_and_leaves", joining::another_machine_joins_and_leaves),
    ("up_and_down_cut_off_leave_nothing", cut_off::up_and_down_cut_off_leave_nothing),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One cluster, and two cores: scenarios take turns.
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&Inventory::default())).exit_code();
    }
    Cluster::remove_leftovers();
    let before = Inventory::take();
    let conclusion = libtest_mimic::run(&arguments, trials(&before));
    Cluster::remove_leftovers();
    conclusion.exit_code()
}

fn trials(before: &Inventory) -> Vec<Trial> {
    let on_one = on(SHARED, pivot_is_seamless::bring_up_watched, "down_leaves_nothing_behind", before);
    let on_several = on(FLEET, fleet::bring_up, "down_of_several_nodes_leaves_nothing_behind", before);
    // `[fleet]` filters them.
    let on_several = on_several.into_iter().map(|trial| trial.with_kind("fleet"));
    let alone = ALONE.iter().map(|&(name, scenario)| Trial::test(name, move || reporting(scenario)));
    on_one.into_iter().chain(on_several).chain(alone).collect()
}

/// Scenarios that share a cluster, and the one that removes it.
fn on<T: AsRef<Cluster> + Send + 'static>(
    scenarios: &[Named<fn(&T)>],
    make: fn() -> T,
    down: &'static str,
    before: &Inventory,
) -> Vec<Trial> {
    let shared = Arc::new(Shared::new(make));
    let trial = |&(name, scenario)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || reporting(|| shared.with(scenario)))
    };
    let mut trials: Vec<_> = scenarios.iter().map(trial).collect();
    let before = before.clone();
    trials.push(Trial::test(down, move || {
        reporting(|| {
            shared.remove();
            before.assert_unchanged();
        })
    }));
    trials
}

/// Turns a panic into a failure with its message, so that the scenarios after it still run.
fn reporting(scenario: impl FnOnce()) -> Result<(), Failed> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(scenario)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_default().into()
    })
}
