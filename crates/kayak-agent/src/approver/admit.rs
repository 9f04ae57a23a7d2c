//! Lets machines join: looks who there is, writes down who comes, and only then approves.

use std::collections::BTreeMap;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kayak_core::join::{JOINED_CONFIG_MAP, LEASE_SECONDS, records};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::admission::{Asked, judge, read};
use super::rule::Decision;

/// Decides on the request of somebody with a token. `Wait` is said where what there is changed meanwhile:
/// another controller's agent may have decided on another request.
pub(super) async fn decide(
    client: &Client,
    request: &CertificateSigningRequest,
    nodes: &BTreeMap<String, String>,
) -> Result<Decision, kube::Error> {
    let asked = match read(request, Timestamp::now().as_second()) {
        Ok(asked) => asked,
        Err(because) => return Ok(Decision::Deny(because)),
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let Some(map) = maps.get_opt(JOINED_CONFIG_MAP).await? else {
        return Ok(Decision::Deny("the configuration lets no machine join".into()));
    };
    let joined = records(map.data.as_ref().unwrap_or(&BTreeMap::new()));
    if let Err(because) = judge(&asked, nodes, &joined) {
        return Ok(Decision::Deny(because));
    }
    if let Some(seconds) = heard(client, &asked.node).await?.filter(|seconds| *seconds <= LEASE_SECONDS) {
        let node = &asked.node;
        return Ok(Decision::Deny(format!("a node called `{node}` is alive: it was heard {seconds} s ago")));
    }
    // The serving certificate that the kubelet asks for next is granted by this.
    let is_recorded = joined.get(&asked.node).is_some_and(|it| it.request == asked.record.request);
    if is_recorded || record(&maps, &map, &asked).await? {
        return Ok(Decision::Approve);
    }
    Ok(Decision::Wait(format!("Another machine joined while `{}` asked.", asked.node)))
}

/// How many seconds ago a node's kubelet was heard, if ever.
async fn heard(client: &Client, node: &str) -> Result<Option<i64>, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let renewed = leases.get_opt(node).await?.and_then(|lease| lease.spec?.renew_time);
    Ok(renewed.map(|at| Timestamp::now().as_second() - at.0.as_second()))
}

/// Writes down who joins; says whether the list was still the one that was judged by.
async fn record(maps: &Api<ConfigMap>, seen: &ConfigMap, asked: &Asked) -> Result<bool, kube::Error> {
    // A struct of an address and a flag can always be written.
    let record = serde_json::to_string(&asked.record).unwrap_or_default();
    let patch = json!({
        "metadata": { "resourceVersion": seen.metadata.resource_version },
        "data": { asked.node.as_str(): record },
    });
    match maps.patch(JOINED_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
