//! A report as lines for people: first the verdict and what is wrong, then section by section.

use kayak_engine::status::{
    BalancerReport, CertificateReport, CheckReport, EtcdReport, MemberReport, NodeReport, Report, VipReport,
};

use super::{role_name, state_name};
use crate::report::{table_lines, verdict};

/// A certificate with fewer days left is worth a line. `kayak up` renews at 60.
const SOON: i64 = 30;

pub fn lines(report: &Report) -> Vec<String> {
    let is_well = if report.well { "is well" } else { "is not well" };
    // A settled report was asked for in no time.
    let asked =
        if report.seconds > 0.0 { format!(" (asked for {:.1} s)", report.seconds) } else { String::new() };
    let heading = vec![format!("cluster `{}` {is_well}{asked}", report.cluster)];
    let (holding, failing): (Vec<_>, Vec<_>) =
        report.checks.iter().partition(|check| check.holds == Some(true));
    let wrong = failing.into_iter().map(check).chain(report.nodes.iter().flat_map(troubles));
    let sections = [
        heading,
        wrong.chain(endings(&report.certificates)).collect(),
        nodes(&report.nodes),
        etcd(&report.etcd),
        balancers(&report.balancers),
        report.vip.iter().flat_map(vip).collect(),
        components(report),
        holding.into_iter().map(check).chain(nearest(&report.certificates)).collect(),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join(&String::new())
}

fn check(check: &CheckReport) -> String {
    verdict(&check.text, check.holds, check.because.as_deref())
}

fn troubles(node: &NodeReport) -> impl Iterator<Item = String> {
    let line = |trouble: &String| verdict(&format!("node `{}`", node.name), Some(false), Some(trouble));
    node.troubles.iter().map(line)
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "?".into())
}

fn yes_or_no(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

fn nodes(nodes: &[NodeReport]) -> Vec<String> {
    let mut table = vec![row(&["NODE", "STATE", "READY", "ROLE", "ADDRESS", "KUBELET", "CONTAINERD"])];
    table.extend(nodes.iter().map(|node| {
        row(&[
            &node.name,
            if node.joined { "elsewhere" } else { node.state.map_or("?", state_name) },
            yes_or_no(node.ready),
            role_name(node.role),
            &node.address,
            &or_unknown(node.kubelet.clone()),
            &or_unknown(node.containerd.clone()),
        ])
    }));
    table_lines(&table)
}

pub fn etcd(etcd: &EtcdReport) -> Vec<String> {
    let mut table = vec![row(&["ETCD", "ID", "ROLE", "HEALTHY", "RAFT INDEX", "BEHIND", "SIZE", ""])];
    table.extend(etcd.members.iter().map(|member| {
        row(&[
            &member.name,
            &or_unknown(member.id.clone()),
            member_role(member),
            yes_or_no(member.healthy),
            &or_unknown(member.raft_index.map(|index| index.to_string())),
            &or_unknown(member.lag.map(|lag| lag.to_string())),
            &or_unknown(member.db_size.map(megabytes)),
            member.because.as_deref().unwrap_or_default(),
        ])
    }));
    table_lines(&table)
}

fn member_role(member: &MemberReport) -> &'static str {
    match (member.leader, member.learner) {
        (true, _) => "leader",
        (false, Some(true)) => "learner",
        (false, Some(false)) => "follower",
        (false, None) => "?",
    }
}

fn megabytes(bytes: u64) -> String {
    // Tenths, without the inaccuracy of floating point.
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn balancers(balancers: &[BalancerReport]) -> Vec<String> {
    let mut table = vec![row(&["BALANCER", "GIVES CONNECTIONS TO", "AND NOT TO"])];
    table.extend(balancers.iter().map(|balancer| {
        let unknown = |because: &str| row(&[&balancer.node, "?", because]);
        let Some(servers) = &balancer.servers else {
            return unknown(balancer.because.as_deref().unwrap_or_default());
        };
        let given: Vec<_> = servers.iter().filter(|it| it.ready).map(|it| it.node.as_str()).collect();
        let not: Vec<_> = servers
            .iter()
            .filter(|it| !it.ready)
            .map(|it| format!("{} ({})", it.node, it.because.as_deref().unwrap_or("it does not say why")))
            .collect();
        let given = if given.is_empty() { "none".into() } else { given.join(", ") };
        row(&[&balancer.node, &given, &not.join(", ")])
    }));
    table_lines(&table)
}

fn vip(vip: &VipReport) -> Vec<String> {
    let mut table = vec![row(&["VIRTUAL ADDRESS", "IS AT", ""])];
    let because = vip.because.as_deref().unwrap_or_default();
    table.push(row(&[&vip.address, vip.holder.as_deref().unwrap_or("?"), because]));
    table_lines(&table)
}

fn components(report: &Report) -> Vec<String> {
    if report.components.is_empty() {
        return Vec::new();
    }
    let mut table = vec![row(&["COMPONENT", "NODE", "POD", "STATE", "RESTARTS", "VERSION"])];
    table.extend(
        report
            .components
            .iter()
            .map(|it| row(&[&it.name, &it.node, &it.pod, &it.state, &it.restarts.to_string(), &it.version])),
    );
    table_lines(&table)
}

/// The certificates that have ended, will soon, or cannot be read.
fn endings(certificates: &[CertificateReport]) -> Vec<String> {
    let soon = certificates.iter().filter(|certificate| certificate.days.is_none_or(|days| days < SOON));
    let line = |certificate: &CertificateReport| {
        let name = format!("certificate `{}`", certificate.name);
        match (certificate.days, &certificate.expires) {
            (Some(days), Some(date)) if days < 0 => {
                verdict(&name, Some(false), Some(&format!("it has ended on {date}")))
            }
            (Some(days), Some(date)) => {
                verdict(&name, Some(false), Some(&format!("it ends in {days} days, on {date}")))
            }
            _ => verdict(&name, None, certificate.because.as_deref()),
        }
    };
    soon.map(line).collect()
}

/// The certificate that ends first, where that is no reason to worry.
fn nearest(certificates: &[CertificateReport]) -> Option<String> {
    let nearest = certificates.first()?;
    let (days, date) = (nearest.days.filter(|days| *days >= SOON)?, nearest.expires.as_ref()?);
    let what =
        format!("certificates are valid, the first ends in {days} days, on {date}: `{}`", nearest.name);
    Some(verdict(&what, Some(true), None))
}

#[cfg(test)]
mod tests {
    use kayak_core::cluster::Role;
    use kayak_core::plan::{Check, ContainerState};
    use kayak_engine::status::ServerReport;

    use super::*;

    fn report() -> Report {
        let node = |name: &str, ready| NodeReport {
            name: name.into(),
            role: Role::Controller,
            address: "10.0.0.2".into(),
            joined: false,
            state: Some(ContainerState::Running),
            ready,
            because: None,
            kubelet: Some("v1.36.3".into()),
            containerd: None,
            troubles: Vec::new(),
        };
        let member = |name: &str, leader| MemberReport {
            name: name.into(),
            id: Some("8e9e05c52164694d".into()),
            leader,
            learner: Some(false),
            healthy: Some(true),
            raft_index: Some(1234),
            lag: Some(0),
            db_size: Some(4_361_000),
            because: None,
        };
        let server = |node: &str, because: Option<&str>| ServerReport {
            node: node.into(),
            pod: "kube-apiserver".into(),
            ready: because.is_none(),
            because: because.map(str::to_owned),
        };
        let check = |check: Check, holds, because: Option<&str>| CheckReport {
            text: check.to_string(),
            check,
            holds,
            because: because.map(str::to_owned),
        };
        Report {
            cluster: "lab".into(),
            well: false,
            nodes: vec![node("controller-0", Some(true)), node("controller-1", None)],
            etcd: EtcdReport {
                leader: Some("controller-0".into()),
                members: vec![member("controller-0", true), member("controller-1", false)],
            },
            balancers: vec![
                BalancerReport {
                    node: "controller-0".into(),
                    servers: Some(vec![
                        server("controller-0", None),
                        server("controller-1", Some("it died")),
                    ]),
                    because: None,
                },
                BalancerReport {
                    node: "controller-1".into(),
                    servers: None,
                    because: Some("it is silent".into()),
                },
            ],
            vip: Some(VipReport {
                address: "10.0.0.250".into(),
                holder: Some("controller-0".into()),
                because: None,
            }),
            components: Vec::new(),
            checks: vec![
                check(Check::ApiServes, Some(true), None),
                check(Check::NodeReady("controller-1".into()), None, Some("the API is silent")),
                check(Check::UnitsReady("controller-1".into()), Some(false), Some("containerd ended")),
            ],
            certificates: vec![CertificateReport {
                name: "admin".into(),
                expires: Some("2027-11-21".into()),
                days: Some(364),
                because: None,
            }],
            seconds: 0.25,
        }
    }

    fn plain(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn what_is_wrong_comes_first_and_what_is_unknown_is_told_from_it() {
        let expected = "\
cluster `lab` is not well (asked for 0.2 s)

? node `controller-1` is Ready: the API is silent
✗ containerd and kubelet run on `controller-1`: containerd ended

NODE          STATE    READY  ROLE        ADDRESS   KUBELET  CONTAINERD
controller-0  running  yes    controller  10.0.0.2  v1.36.3  ?
controller-1  running  ?      controller  10.0.0.2  v1.36.3  ?

ETCD          ID                ROLE      HEALTHY  RAFT INDEX  BEHIND  SIZE
controller-0  8e9e05c52164694d  leader    yes      1234        0       4.3 MB
controller-1  8e9e05c52164694d  follower  yes      1234        0       4.3 MB

BALANCER      GIVES CONNECTIONS TO  AND NOT TO
controller-0  controller-0          controller-1 (it died)
controller-1  ?                     it is silent

VIRTUAL ADDRESS  IS AT
10.0.0.250       controller-0

✓ the API answers
✓ certificates are valid, the first ends in 364 days, on 2027-11-21: `admin`";
        assert_eq!(plain(&lines(&report())), expected);
    }

    #[test]
    fn certificates_that_end_soon_are_wrong() {
        let mut report = report();
        let ends = |days| CertificateReport { days: Some(days), ..report.certificates[0].clone() };
        report.certificates = vec![ends(-1), ends(29), ends(30)];
        let text = plain(&lines(&report));
        assert!(text.contains("✗ certificate `admin`: it has ended on 2027-11-21"), "{text}");
        assert!(text.contains("✗ certificate `admin`: it ends in 29 days, on 2027-11-21"), "{text}");
        assert!(!text.contains("certificates are valid"), "{text}");
    }
}
