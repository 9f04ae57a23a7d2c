//! What each node's agent gives connections to.

use kayak_core::cluster::Node;
use kayak_core::component::apiserver;
use serde::Serialize;

use super::ask::Answers;

/// How a node comes to the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BalancerReport {
    /// Which node.
    pub node: String,
    /// The API servers that its agent knows.
    pub servers: Option<Vec<ServerReport>>,
    /// Why they are not known.
    pub because: Option<String>,
}

/// One API server, as a node's agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerReport {
    /// The node it runs on, whose own agent stands before it.
    pub node: String,
    /// What it is called: the pod, or what stands for it on another node.
    pub pod: String,
    /// Whether it is given new connections.
    pub ready: bool,
    /// Why it is not.
    pub because: Option<String>,
}

pub(super) fn report(node: &Node, answers: &Answers) -> BalancerReport {
    let servers = answers.agent(&node.name).and_then(|status| {
        let instances = status.fronts.get(apiserver::NAME);
        instances.ok_or_else(|| "the agent has not looked for API servers yet".to_owned())
    });
    let node = node.name.clone();
    match servers {
        Ok(instances) => {
            let servers = instances.iter().map(|instance| ServerReport {
                node: instance.node.clone().unwrap_or_else(|| node.clone()),
                pod: instance.pod.clone(),
                ready: instance.ready,
                because: instance.because.clone(),
            });
            BalancerReport { servers: Some(servers.collect()), node: node.clone(), because: None }
        }
        Err(because) => BalancerReport { node, servers: None, because: Some(because) },
    }
}

#[cfg(test)]
mod tests {
    use kayak_core::node::{InstanceStatus, Status};

    use super::super::ask::tests::answers;
    use super::super::tests::cluster;
    use super::*;

    #[test]
    fn an_instance_is_on_its_own_node_unless_another_is_named() {
        let instance = |node: Option<&str>, because: Option<&str>| InstanceStatus {
            uid: "1".into(),
            pod: "kube-apiserver-x".into(),
            address: [127, 64, 0, 1].into(),
            node: node.map(str::to_owned),
            ready: because.is_none(),
            because: because.map(str::to_owned),
        };
        let instances = vec![instance(None, None), instance(Some("controller-1"), Some("refused"))];
        let status = Status { fronts: [(apiserver::NAME.to_owned(), instances)].into(), ..Status::default() };
        let answers = answers(&[("controller-0", status), ("controller-1", Status::default())]);
        let cluster = cluster(2, 1);
        let told: Vec<_> = cluster.nodes.iter().map(|node| report(node, &answers)).collect();
        let servers = told[0].servers.as_ref().unwrap();
        assert_eq!((servers[0].node.as_str(), servers[0].ready), ("controller-0", true));
        assert_eq!(
            (servers[1].node.as_str(), servers[1].because.as_deref()),
            ("controller-1", Some("refused"))
        );
        assert_eq!(told[1].because.as_deref(), Some("the agent has not looked for API servers yet"));
        assert_eq!((told[2].servers.as_ref(), told[2].because.as_deref()), (None, Some("it was not asked")));
    }
}
