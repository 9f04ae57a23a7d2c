//! The Lease by which controllers agree on who has the address.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kayak_core::access::VIP_LEASE;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::timeout;

use super::claim::LEASE;
use crate::cluster::{self, ApiError, ClusterError};

/// How long the API may take for one question.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why the lease is not known, or not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("failed to get the lease `{VIP_LEASE}`")]
    Get(#[source] ApiError),
    #[error("failed to write the lease `{VIP_LEASE}`")]
    Write(#[source] ApiError),
    #[error("the API said nothing of the lease `{VIP_LEASE}` within {} s", PATIENCE.as_secs())]
    Silent,
}

/// The lease as the API has it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Whose it is; empty where it was given back.
    pub(super) holder: String,
    /// Another one after each change.
    pub(super) version: String,
    object: Object,
}

impl Record {
    fn of(object: Object) -> Self {
        let holder = object.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let version = object.metadata.resource_version.clone();
        Self { holder: holder.unwrap_or_default(), version: version.unwrap_or_default(), object }
    }
}

/// The lease, for one node.
pub(super) struct Lease {
    kubeconfig: String,
    me: String,
    /// Made anew after each failure: a connection to an API server that stands still looks well.
    api: Option<Api<Object>>,
}

impl Lease {
    pub(super) fn new(kubeconfig: String, me: String) -> Self {
        Self { kubeconfig, me, api: None }
    }

    /// What this node calls itself.
    pub(super) fn me(&self) -> &str {
        &self.me
    }

    pub(super) fn is_mine(&self, record: &Record) -> bool {
        record.holder == self.me
    }

    /// Asks for it, past all caches.
    pub(super) async fn get(&mut self) -> Result<Option<Record>, LeaseError> {
        let object = self.ask(async |api| api.get_opt(VIP_LEASE).await, LeaseError::Get).await?;
        Ok(object.map(Record::of))
    }

    /// Takes or renews it, if it still is what was seen.
    pub(super) async fn write(&mut self, seen: Option<&Record>) -> Result<Record, LeaseError> {
        let me = self.me.clone();
        self.put(seen, &me).await
    }

    /// Gives it back, if it is this node's.
    pub(super) async fn release(&mut self) -> Result<(), LeaseError> {
        match self.get().await? {
            Some(record) if self.is_mine(&record) => self.put(Some(&record), "").await.map(drop),
            Some(_) | None => Ok(()),
        }
    }

    async fn put(&mut self, seen: Option<&Record>, holder: &str) -> Result<Record, LeaseError> {
        let object = wished(seen.map(|record| &record.object), holder, Timestamp::now());
        let ask = async |api: &Api<Object>| match seen {
            Some(_) => api.replace(VIP_LEASE, &PostParams::default(), &object).await,
            None => api.create(&PostParams::default(), &object).await,
        };
        self.ask(ask, LeaseError::Write).await.map(Record::of)
    }

    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&Api<Object>) -> Result<T, kube::Error>,
        failed: impl FnOnce(ApiError) -> LeaseError,
    ) -> Result<T, LeaseError> {
        let kept = self.api.take();
        let ask = async {
            let api = if let Some(api) = kept {
                api
            } else {
                let client = cluster::client(&self.kubeconfig).await.map_err(LeaseError::Cluster)?;
                Api::namespaced(client, "kube-system")
            };
            let answer = question(&api).await.map_err(|error| failed(error.into()))?;
            Ok((api, answer))
        };
        let (api, answer) = timeout(PATIENCE, ask).await.map_err(|_| LeaseError::Silent)??;
        self.api = Some(api);
        Ok(answer)
    }
}

/// The lease as `holder` writes it over what was seen.
fn wished(seen: Option<&Object>, holder: &str, now: Timestamp) -> Object {
    let mut object = seen.cloned().unwrap_or_else(|| Object {
        metadata: ObjectMeta { name: Some(VIP_LEASE.into()), ..ObjectMeta::default() },
        spec: None,
    });
    let before = object.spec.take().unwrap_or_default();
    let changes_hands = !holder.is_empty() && before.holder_identity.as_deref() != Some(holder);
    object.spec = Some(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        acquire_time: if changes_hands { Some(MicroTime(now)) } else { before.acquire_time },
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(changes_hands)),
        ..before
    });
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_how_often_it_changed_hands() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let spec = |object: &Object| object.spec.clone().unwrap();
        let taken = wished(None, "a", at(1));
        assert_eq!(spec(&taken).lease_transitions, Some(1));
        let renewed = wished(Some(&taken), "a", at(2));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(at(1))));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(at(2))));
        let released = wished(Some(&renewed), "", at(3));
        assert_eq!(spec(&released).lease_transitions, Some(1));
        let other = wished(Some(&released), "b", at(4));
        let spec = spec(&other);
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(2), Some(MicroTime(at(4)))));
        assert_eq!(spec.holder_identity.as_deref(), Some("b"));
    }
}
