//! How a cluster is, for people: what its nodes, their agents and runtimes and the API tell, each asked by
//! itself and in so much time, so that what is down hides nothing of the rest. What cannot be known is
//! `None`, with the reason beside it.
//!
//! ```text
//! ask ──Answers──▶ nodes, etcd, balancers, checks, certificates ──▶ Report      watch: again and again
//! ```

mod ask;
mod balancers;
mod certificates;
mod checks;
mod etcd;
mod nodes;
mod vip;
mod watch;

pub use balancers::{BalancerReport, ServerReport};
pub use certificates::CertificateReport;
pub use checks::CheckReport;
pub use etcd::{EtcdReport, MemberReport};
pub use nodes::{ComponentReport, NodeReport};
pub use vip::VipReport;
pub use watch::watch;

use std::time::Instant;

use kayak_core::assets::AssetsError;
use kayak_core::cluster::Cluster;
use kayak_core::object::Object;
use kayak_core::plan::ContainerState;
use serde::Serialize;
use time::OffsetDateTime;

use crate::check;
use crate::cluster::ClusterHandle;
use ask::Answers;

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub cluster: String,
    /// Whether everything is as it should be.
    pub well: bool,
    /// Its nodes.
    pub nodes: Vec<NodeReport>,
    /// etcd, as its members tell.
    pub etcd: EtcdReport,
    /// Which API servers each node gives connections to.
    pub balancers: Vec<BalancerReport>,
    /// The address for clients outside, where there is one.
    pub vip: Option<VipReport>,
    /// What runs of its own parts, as the runtimes tell.
    pub components: Vec<ComponentReport>,
    /// Every named condition.
    pub checks: Vec<CheckReport>,
    /// Every certificate, the one that ends first before the others.
    pub certificates: Vec<CertificateReport>,
    /// How long looking took.
    pub seconds: f64,
}

impl Report {
    /// The same without what moves all the time: two reports that differ in that alone tell no news.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { etcd: self.etcd.settled(), seconds: 0.0, ..self.clone() }
    }

    /// Makes sense of what was told.
    fn of(cluster: &Cluster, objects: &[Object], answers: &Answers, now: OffsetDateTime) -> Self {
        let agents = check::of_agents(cluster, objects).into_iter();
        let api = check::of_api(cluster, objects).into_iter();
        let checks: Vec<_> = agents.chain(api).map(|check| checks::report(check, cluster, answers)).collect();
        let mut nodes: Vec<_> =
            cluster.nodes.iter().map(|node| nodes::report(cluster, node, answers)).collect();
        let joined = nodes::joined(cluster, answers);
        let certificates = certificates::report(&answers.certificates, now);
        let runs =
            |node: &NodeReport| node.state == Some(ContainerState::Running) && node.troubles.is_empty();
        Self {
            cluster: cluster.name().into(),
            well: checks.iter().all(|check| check.holds == Some(true))
                && nodes.iter().all(runs)
                && joined.iter().all(|node| node.ready == Some(true))
                && certificates.iter().all(|certificate| certificate.days.is_some_and(|days| days >= 0)),
            etcd: etcd::report(cluster, answers),
            balancers: cluster.nodes.iter().map(|node| balancers::report(node, answers)).collect(),
            vip: vip::report(cluster, answers),
            components: cluster.nodes.iter().flat_map(|node| nodes::components(node, answers)).collect(),
            nodes: {
                nodes.extend(joined);
                nodes
            },
            checks,
            certificates,
            seconds: answers.seconds,
        }
    }
}

/// Asks everybody. Fails only if the cluster's own files cannot be read.
pub async fn report(cluster: &ClusterHandle) -> Result<Report, AssetsError> {
    let start = Instant::now();
    let objects = cluster.assets.objects()?;
    let mut answers = ask::all(cluster).await;
    answers.seconds = start.elapsed().as_secs_f64();
    Ok(Report::of(&cluster.assets.cluster, &objects, &answers, OffsetDateTime::now_utc()))
}

#[cfg(test)]
pub(crate) mod tests {
    use kayak_core::cluster::{Images, MachineFacts};
    use kayak_core::config::Config;
    use kayak_core::node::Status;
    use kayak_core::plan::Fact;

    use super::*;

    /// A cluster of so many controllers and workers.
    pub(crate) fn cluster(controllers: u32, workers: u32) -> Cluster {
        let config = Config { controllers, workers, ..Config::default() };
        let [kubernetes_version, node, kubernetes, etcd, coredns, flannel, pause] =
            ["v1.36.3", "node", "kubernetes", "etcd", "coredns", "flannel", "pause"].map(str::to_owned);
        let images = Images { kubernetes_version, node, kubernetes, etcd, coredns, flannel, pause };
        Cluster::resolve(config, "", images, &MachineFacts::default()).unwrap()
    }

    #[test]
    fn what_moves_all_the_time_is_no_news() {
        let cluster = cluster(1, 0);
        let report = |raft_index: u64, healthy: bool| {
            let id = "8e9e05c52164694d".to_owned();
            let member = kayak_core::node::MemberStatus { id, raft_index, healthy, ..Default::default() };
            let status = Status { etcd: Some(member), ..Status::default() };
            let answers = ask::tests::answers(&[("controller-0", status)]);
            Report::of(&cluster, &[], &answers, OffsetDateTime::UNIX_EPOCH)
        };
        assert_ne!(report(1, true), report(2, true));
        assert_eq!(report(1, true).settled(), report(2, true).settled());
        assert_ne!(report(1, true).settled(), report(1, false).settled());
    }

    #[test]
    fn a_report_is_complete_where_nothing_is_known() {
        let cluster = cluster(3, 3);
        let mut answers = ask::tests::answers(&[]);
        for node in &cluster.nodes {
            let because = "the driver said nothing within 1 s";
            let answer =
                ask::NodeAnswer { state: Fact::Unknown(because.into()), look: Fact::Unknown(because.into()) };
            answers.nodes.insert(node.name.clone(), answer);
        }
        let report = Report::of(&cluster, &[], &answers, OffsetDateTime::UNIX_EPOCH);
        assert!(!report.well);
        assert_eq!((report.nodes.len(), report.balancers.len(), report.etcd.members.len()), (6, 6, 3));
        assert!(report.checks.iter().all(|check| check.holds != Some(true) && check.because.is_some()));
        assert!(report.nodes.iter().all(|node| node.ready.is_none() && node.because.is_some()));
        assert!(report.balancers.iter().all(|it| it.servers.is_none() && it.because.is_some()));
    }
}
