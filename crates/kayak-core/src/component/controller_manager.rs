//! The controller manager.

use std::collections::BTreeMap;

use super::{Component, Entry, Env, Workload, elected, instance_probes};
use crate::cluster::Cluster;
use crate::kubeconfig;
use crate::pki::{Authority, KeyStore, MissingKey, Secret};

/// Its name.
pub const NAME: &str = "kube-controller-manager";
/// The port of each instance, and of the agent's front.
pub const PORT: u16 = 10257;

/// What the self-hosted control plane needs to start: pods of its workloads, ranges for them, nodes that are
/// known to be ready, and what pods with an account mount. Each of the other thirty controllers would list
/// and watch objects of its own at the time that is most precious, and leave again some seconds later.
pub(super) const TEMPORARY_FLAGS: [&str; 1] = ["--controllers=daemonset-controller,deployment-controller,\
    endpointslice-controller,node-ipam-controller,node-lifecycle-controller,replicaset-controller,\
    root-ca-certificate-publisher-controller,serviceaccount-controller"];

/// States the controller manager.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let dir = Component::secret_dir(NAME);
    let file = |name: &str| format!("{dir}/{name}");
    let network = &cluster.config.network;
    let (pods, services) = (network.pods.joined(), network.services.joined());
    let mut command = elected(
        NAME,
        PORT,
        &[
            ("cluster-name", cluster.name()),
            ("allocate-node-cidrs", "true"),
            ("cluster-cidr", &pods),
            ("service-cluster-ip-range", &services),
            ("cluster-signing-cert-file", &file("ca.crt")),
            ("cluster-signing-key-file", &file("ca.key")),
            ("root-ca-file", &file("ca.crt")),
            ("service-account-private-key-file", &file("service-account.key")),
            ("use-service-account-credentials", "true"),
            // Pods of a machine that is gone run elsewhere within the minute: upstream waits 50 s before it
            // believes it. A kubelet renews its lease every 10 s.
            ("node-monitor-grace-period", "24s"),
            // Each of its forty controllers first asks for an account and a token of its own: with the
            // default limit of 20 requests a second that alone takes more than four seconds.
            ("kube-api-qps", "100"),
            ("kube-api-burst", "200"),
            // The one that leaves gives its lease back.
            ("feature-gates", "ControllerManagerReleaseLeaderElectionLockOnExit=true"),
        ],
    );
    if cluster.config.join {
        // Tokens that have ended are refused either way; this one takes them away.
        command.push("--controllers=*,token-cleaner-controller".into());
    }
    let tls = keys.pair("kube-controller-manager-serving")?;
    let ca = keys.pair(Authority::Kubernetes.id())?;
    Ok(Component {
        entry: Some(Entry::after_api(&file("ca.crt"))),
        secrets: BTreeMap::from([
            ("kubeconfig", kubeconfig::embedded(cluster.name(), &Cluster::local_api_url(), keys, NAME)?),
            ("tls.crt", Secret::new(tls.certificate.clone())),
            ("tls.key", tls.key.clone()),
            ("ca.crt", Secret::new(ca.certificate.clone())),
            ("ca.key", ca.key.clone()),
            ("front-proxy-ca.crt", Secret::new(keys.ca(Authority::FrontProxy)?.to_owned())),
            ("service-account.key", keys.service_account()?.key.clone()),
        ]),
        env: vec![Env::Field("POD_UID", "metadata.uid")],
        probes: instance_probes(NAME, PORT, NAME, "/healthz", "/healthz"),
        cpu: 100,
        memory: 64,
        ..Component::new(
            NAME,
            &cluster.images.kubernetes,
            Workload::ControllerDeployment(replicas(cluster)),
            command,
        )
    })
}

/// One instance a controller.
pub(super) fn replicas(cluster: &Cluster) -> u32 {
    u32::try_from(cluster.controllers().count()).unwrap_or(u32::MAX)
}
