//! The controller manager.

use std::collections::BTreeMap;

use super::{Component, Env, Instance, Workload, elected, instance_probes};
use crate::cluster::Cluster;
use crate::kubeconfig;
use crate::pki::{Authority, KeyStore, MissingKey, Secret};

/// Its name.
pub const NAME: &str = "kube-controller-manager";
/// The port of each instance, and of the agent's front.
pub const PORT: u16 = 10257;

/// States the controller manager.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let dir = Component::secret_dir(NAME);
    let file = |name: &str| format!("{dir}/{name}");
    let network = &cluster.config.network;
    let (pods, services) = (network.pods.to_string(), network.services.to_string());
    let command = elected(
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
            // Each of its forty controllers first asks for an account and a token of its own: with the
            // default limit of 20 requests a second that alone takes more than four seconds.
            ("kube-api-qps", "100"),
            ("kube-api-burst", "200"),
            // The one that leaves gives its lease back.
            ("feature-gates", "ControllerManagerReleaseLeaderElectionLockOnExit=true"),
        ],
    );
    let tls = keys.pair("kube-controller-manager-serving")?;
    let ca = keys.pair(Authority::Kubernetes.id())?;
    Ok(Component {
        instance: Some(Instance::after_api(&file("ca.crt"))),
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
