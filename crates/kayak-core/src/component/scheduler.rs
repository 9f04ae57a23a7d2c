//! The scheduler.

use std::collections::BTreeMap;

use super::{Component, Entry, Env, Workload, controller_manager::replicas, elected, instance_probes};
use crate::cluster::Cluster;
use crate::kubeconfig;
use crate::pki::{Authority, KeyStore, MissingKey, Secret};

/// Its name.
pub const NAME: &str = "kube-scheduler";
/// The port of each instance, and of the agent's front.
pub const PORT: u16 = 10259;

/// States the scheduler.
pub fn component(cluster: &Cluster, keys: &KeyStore) -> Result<Component, MissingKey> {
    let dir = Component::secret_dir(NAME);
    let file = |name: &str| format!("{dir}/{name}");
    let command = elected(NAME, PORT, &[]);
    let tls = keys.pair("kube-scheduler-serving")?;
    Ok(Component {
        entry: Some(Entry::after_api(&file("ca.crt"))),
        secrets: BTreeMap::from([
            ("kubeconfig", kubeconfig::embedded(cluster.name(), &Cluster::local_api_url(), keys, NAME)?),
            ("tls.crt", Secret::new(tls.certificate.clone())),
            ("tls.key", tls.key.clone()),
            ("ca.crt", Secret::new(keys.ca(Authority::Kubernetes)?.to_owned())),
            ("front-proxy-ca.crt", Secret::new(keys.ca(Authority::FrontProxy)?.to_owned())),
        ]),
        env: vec![Env::Field("POD_UID", "metadata.uid")],
        probes: instance_probes(NAME, PORT, NAME, "/healthz", "/healthz"),
        ..Component::new(
            NAME,
            &cluster.images.kubernetes,
            Workload::ControllerDeployment(replicas(cluster)),
            command,
        )
    })
}
