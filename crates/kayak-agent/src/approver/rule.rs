//! Whether a kubelet may have the serving certificate it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

pub(super) const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Approve,
    /// Never to be granted, and why.
    Deny(String),
    /// Not to be decided yet, and why, as a sentence.
    Wait(String),
}

/// Decides on a request, by what `nodes` says of each node: its names and addresses, separated by
/// commas.
pub(super) fn decide(request: &CertificateSigningRequestSpec, nodes: &BTreeMap<String, String>) -> Decision {
    let node = match requestor(request) {
        Ok(node) => node,
        Err(because) => return Decision::Deny(because),
    };
    let Some(known) = nodes.get(node) else {
        return Decision::Wait(format!(
            "The node `{node}`, which asks for a serving certificate, is unknown."
        ));
    };
    let verdict =
        check_usages(request, "server auth").and_then(|()| check_content(&request.request.0, node, known));
    match verdict {
        Ok(()) => Decision::Approve,
        Err(because) => Decision::Deny(because),
    }
}

/// Returns the name of the node that asks; the API server vouches for user and groups.
fn requestor(request: &CertificateSigningRequestSpec) -> Result<&str, String> {
    let user = request.username.as_deref().unwrap_or_default();
    let groups = request.groups.as_deref().unwrap_or_default();
    match user.strip_prefix(USER_PREFIX) {
        Some(node) if !node.is_empty() && groups.iter().any(|group| group == GROUP) => Ok(node),
        _ => Err(format!("`{user}` is no node")),
    }
}

pub(super) fn check_usages(request: &CertificateSigningRequestSpec, usage: &str) -> Result<(), String> {
    let usages = request.usages.as_deref().unwrap_or_default();
    let mut usages: BTreeSet<_> = usages.iter().map(String::as_str).collect();
    // Only RSA keys can be used for it, and only with them kubelets ask for it.
    usages.remove("key encipherment");
    if usages != BTreeSet::from(["digital signature", usage]) {
        return Err(format!("the usages are others than `{usage}`"));
    }
    Ok(())
}

fn check_content(pem: &[u8], node: &str, known: &str) -> Result<(), String> {
    with_request(pem, |request| {
        check_subject(&request.certification_request_info.subject, node)?;
        let mut names = 0;
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(alternative) = extension {
                for name in &alternative.general_names {
                    check_name(name, known)?;
                    names += 1;
                }
            }
        }
        if names == 0 {
            return Err("it has neither names nor addresses".into());
        }
        Ok(())
    })
}

/// Reads the request itself.
pub(super) fn with_request<T>(
    pem: &[u8],
    look: impl FnOnce(&X509CertificationRequest<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let (_, pem) = parse_x509_pem(pem).map_err(|error| format!("it is no PEM: {error}"))?;
    let (rest, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| format!("it is no certificate request: {error}"))?;
    if !rest.is_empty() {
        return Err("something follows the certificate request".into());
    }
    look(&request)
}

pub(super) fn check_subject(subject: &X509Name<'_>, node: &str) -> Result<(), String> {
    let common: Vec<_> = subject.iter_common_name().map(AttributeTypeAndValue::as_str).collect();
    let groups: Vec<_> = subject.iter_organization().map(AttributeTypeAndValue::as_str).collect();
    let user = format!("{USER_PREFIX}{node}");
    let exact = matches!(common[..], [Ok(name)] if name == user)
        && matches!(groups[..], [Ok(group)] if group == GROUP)
        && subject.iter_attributes().count() == 2;
    if !exact {
        return Err(format!("its subject `{subject}` is not that of the node `{node}`"));
    }
    Ok(())
}

fn check_name(name: &GeneralName<'_>, known: &str) -> Result<(), String> {
    let mut known = known.split(',').map(str::trim);
    let (is_known, shown) = match name {
        GeneralName::DNSName(name) => (known.any(|known| known == *name), (*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = address(bytes).ok_or("an address has a strange length")?;
            let same = |known: &str| known.parse() == Ok(address);
            (known.any(same), address.to_string())
        }
        other => (false, format!("{other:?}")),
    };
    if !is_known {
        return Err(format!("`{shown}` is not a name or an address of the node"));
    }
    Ok(())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// A request as a kubelet of `cp-1` makes it.
    struct Asked {
        user: &'static str,
        groups: Vec<&'static str>,
        common_name: &'static str,
        organization: &'static str,
        country: Option<&'static str>,
        names: Vec<SanType>,
        usages: Vec<&'static str>,
    }

    fn usual() -> Asked {
        Asked {
            user: "system:node:cp-1",
            groups: vec!["system:nodes", "system:authenticated"],
            common_name: "system:node:cp-1",
            organization: "system:nodes",
            country: None,
            names: vec![dns("cp-1"), ip("10.0.0.2")],
            usages: vec!["digital signature", "server auth"],
        }
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn ip(address: &str) -> SanType {
        SanType::IpAddress(address.parse().unwrap())
    }

    fn decide_on(asked: Asked) -> Decision {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, asked.organization);
        params.distinguished_name.push(DnType::CommonName, asked.common_name);
        if let Some(country) = asked.country {
            params.distinguished_name.push(DnType::CountryName, country);
        }
        params.subject_alt_names = asked.names;
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let own = |texts: Vec<&str>| Some(texts.into_iter().map(str::to_owned).collect());
        let spec = CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            username: Some(asked.user.into()),
            groups: own(asked.groups),
            usages: own(asked.usages),
            ..CertificateSigningRequestSpec::default()
        };
        let nodes = [("cp-1", "cp-1,10.0.0.2, fd00::2"), ("cp-2", "cp-2,10.0.0.3")];
        decide(&spec, &nodes.map(|(k, v)| (k.into(), v.into())).into())
    }

    #[test]
    fn a_node_may_have_its_own_names_and_addresses() {
        assert_eq!(decide_on(usual()), Decision::Approve);
        let all = vec![dns("cp-1"), ip("10.0.0.2"), ip("fd00::2")];
        assert_eq!(decide_on(Asked { names: all, ..usual() }), Decision::Approve);
        let rsa = vec!["key encipherment", "digital signature", "server auth"];
        assert_eq!(decide_on(Asked { usages: rsa, ..usual() }), Decision::Approve);
    }

    #[test]
    fn anything_else_is_denied() {
        let cases = [
            ("a person", Asked { user: "admin", ..usual() }),
            ("nobody", Asked { user: "system:node:", ..usual() }),
            ("no member", Asked { groups: vec!["system:authenticated"], ..usual() }),
            ("another's subject", Asked { common_name: "system:node:cp-2", ..usual() }),
            ("a subject beyond nodes", Asked { organization: "system:masters", ..usual() }),
            ("more in the subject", Asked { country: Some("XX"), ..usual() }),
            ("another's name", Asked { names: vec![dns("cp-2")], ..usual() }),
            ("a name of the cluster", Asked { names: vec![dns("cp-1"), dns("kubernetes")], ..usual() }),
            ("another's address", Asked { names: vec![ip("10.0.0.3")], ..usual() }),
            (
                "an address as a name",
                Asked { names: vec![SanType::URI("https://cp-1".try_into().unwrap())], ..usual() },
            ),
            ("an e-mail", Asked { names: vec![SanType::Rfc822Name("cp-1".try_into().unwrap())], ..usual() }),
            ("no names", Asked { names: vec![], ..usual() }),
            ("a client", Asked { usages: vec!["digital signature", "client auth"], ..usual() }),
            (
                "also a client",
                Asked { usages: vec!["digital signature", "server auth", "client auth"], ..usual() },
            ),
            ("no usages", Asked { usages: vec![], ..usual() }),
        ];
        for (case, asked) in cases {
            assert!(matches!(decide_on(asked), Decision::Deny(_)), "{case}");
        }
    }

    #[test]
    fn a_node_that_kayak_has_not_named_yet_waits() {
        let user = "system:node:cp-3";
        let asked = Asked { user, common_name: user, names: vec![dns("cp-3")], ..usual() };
        assert!(matches!(decide_on(asked), Decision::Wait(_)));
    }

    #[test]
    fn rubbish_is_denied() {
        let spec = CertificateSigningRequestSpec {
            request: ByteString(b"rubbish".to_vec()),
            username: Some("system:node:cp-1".into()),
            groups: Some(vec![GROUP.into()]),
            usages: Some(vec!["digital signature".into(), "server auth".into()]),
            ..CertificateSigningRequestSpec::default()
        };
        let nodes = [("cp-1".to_owned(), "cp-1".to_owned())].into();
        assert!(matches!(decide(&spec, &nodes), Decision::Deny(_)));
    }
}
