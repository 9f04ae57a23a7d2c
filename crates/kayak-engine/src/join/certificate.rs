//! A node's first certificate: asked for with a token, approved by a controller's agent, signed by the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kayak_core::join::ADDRESS_ANNOTATION;
use kayak_core::pki::{Pair, Secret};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::timeout;

use super::{Door, JoinError, ask};

/// How long agent and controller manager may take together.
const PATIENCE: Duration = Duration::from_mins(1);

impl Door {
    /// Asks for the certificate of a node at an address, and waits for it. The key stays here.
    pub async fn certificate(&self, node: &str, address: IpAddr) -> Result<Pair, JoinError> {
        let failed = |source| JoinError::Request(node.into(), source);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
        let certificate = self.signed(node, address, request).await?;
        Ok(Pair { certificate, key: Secret::new(key.serialize_pem()) })
    }

    async fn signed(&self, node: &str, address: IpAddr, request: String) -> Result<String, JoinError> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client().await?);
        let asked = CertificateSigningRequest {
            metadata: ObjectMeta {
                generate_name: Some(format!("kayak-join-{node}-")),
                annotations: Some(BTreeMap::from([(ADDRESS_ANNOTATION.into(), address.to_string())])),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: "kubernetes.io/kube-apiserver-client-kubelet".into(),
                usages: Some(["digital signature", "client auth"].map(str::to_owned).into()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let asked = requests.create(&PostParams::default(), &asked).await;
        let name = asked.map_err(ask("ask for the node's certificate"))?.metadata.name.unwrap_or_default();
        let undecided = || JoinError::Undecided { node: node.into(), seconds: PATIENCE.as_secs() };
        let settled = timeout(PATIENCE, await_condition(requests, &name, IsSettled)).await;
        let settled = settled.map_err(|_| undecided())?.map_err(|source| JoinError::Ask {
            what: "wait for the node's certificate",
            source: Box::new(kube::Error::Service(source.into())),
        })?;
        match settled.and_then(outcome) {
            Some(Ok(certificate)) => Ok(certificate),
            Some(Err(because)) => Err(JoinError::Denied { node: node.into(), because }),
            None => Err(undecided()),
        }
    }
}

struct IsSettled;

impl Condition<CertificateSigningRequest> for IsSettled {
    fn matches_object(&self, request: Option<&CertificateSigningRequest>) -> bool {
        request.is_some_and(|request| outcome(request.clone()).is_some())
    }
}

/// The certificate, or why there is none; `None` while that is open.
fn outcome(request: CertificateSigningRequest) -> Option<Result<String, String>> {
    let status = request.status?;
    if let Some(certificate) = status.certificate {
        return Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()));
    }
    let conditions = status.conditions.unwrap_or_default();
    let refused = conditions.into_iter().find(|it| matches!(it.type_.as_str(), "Denied" | "Failed"))?;
    Some(Err(refused.message.or(refused.reason).unwrap_or_else(|| "it does not say why".into())))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::{
        CertificateSigningRequestCondition, CertificateSigningRequestStatus,
    };

    use super::*;

    #[test]
    fn a_request_is_open_until_it_is_refused_or_signed() {
        let request = |kind: &str, certificate: Option<&str>| CertificateSigningRequest {
            status: Some(CertificateSigningRequestStatus {
                conditions: Some(vec![CertificateSigningRequestCondition {
                    type_: kind.into(),
                    message: Some("no".into()),
                    ..CertificateSigningRequestCondition::default()
                }]),
                certificate: certificate.map(|text| ByteString(text.as_bytes().to_vec())),
            }),
            ..CertificateSigningRequest::default()
        };
        assert_eq!(outcome(CertificateSigningRequest::default()), None);
        assert_eq!(outcome(request("Approved", None)), None);
        assert_eq!(outcome(request("Approved", Some("pem"))), Some(Ok("pem".into())));
        assert_eq!(outcome(request("Denied", None)), Some(Err("no".into())));
        assert_eq!(outcome(request("Failed", None)), Some(Err("no".into())));
    }
}
