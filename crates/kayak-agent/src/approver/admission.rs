//! Whether a machine that holds a token may have the node's certificate that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kayak_core::join::{ADDRESS_ANNOTATION, JOINING, JOINING_CONTROLLER, LEASE_SECONDS, Record, node_name};

use super::rule::{USER_PREFIX, check_subject, check_usages, with_request};

/// Who asks with a token, as the API server vouches for it.
const TOKEN_USER: &str = "system:bootstrap:";

/// What is asked for, once it is known to be well formed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The node's name.
    pub(super) node: String,
    /// What would be recorded of it.
    pub(super) record: Record,
}

/// Says whether a request is one of somebody with a token: those of kubelets that renew their certificates
/// are the controller manager's.
pub(super) fn is_by_token(request: &CertificateSigningRequest) -> bool {
    request.spec.username.as_deref().is_some_and(|user| user.starts_with(TOKEN_USER))
}

/// Reads a request, at a time in seconds since 1970: it must be that of a node's kubelet, and of nothing else.
pub(super) fn read(request: &CertificateSigningRequest, now: i64) -> Result<Asked, String> {
    let spec = &request.spec;
    let groups = spec.groups.as_deref().unwrap_or_default();
    let is_in = |wanted: &str| groups.iter().any(|group| group == wanted);
    if !is_by_token(request) || !is_in(JOINING) {
        return Err("it was not asked for with a token for machines that join".into());
    }
    check_usages(spec, "client auth")?;
    let node = with_request(&spec.request.0, |request| {
        let subject = &request.certification_request_info.subject;
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let node = name.and_then(|name| name.strip_prefix(USER_PREFIX)).unwrap_or_default();
        check_subject(subject, node)?;
        if request.requested_extensions().into_iter().flatten().next().is_some() {
            return Err("it asks for more than a name".into());
        }
        node_name(node).map_err(|error| error.to_string())
    })?;
    let annotations = request.metadata.annotations.as_ref();
    let address = annotations.and_then(|all| all.get(ADDRESS_ANNOTATION)).and_then(|text| text.parse().ok());
    let address: IpAddr = address.ok_or("it does not tell the machine's address")?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is no address by which a machine is reached"));
    }
    let name = request.metadata.name.clone().unwrap_or_default();
    let record = Record { address, may_control: is_in(JOINING_CONTROLLER), since: now, request: name };
    Ok(Asked { node, record })
}

/// Judges what was asked for by who there is: `nodes` of the configuration, with their names and addresses,
/// and those that have `joined`.
pub(super) fn judge(
    asked: &Asked,
    nodes: &BTreeMap<String, String>,
    joined: &BTreeMap<String, Record>,
) -> Result<(), String> {
    let Asked { node, record: Record { address, since, request, .. } } = asked;
    let of_others: BTreeSet<_> = nodes.values().flat_map(|known| known.split(',').map(str::trim)).collect();
    if nodes.contains_key(node) || of_others.contains(node.as_str()) {
        return Err(format!("`{node}` is the name of a node of the configuration"));
    }
    if of_others.iter().any(|known| known.parse() == Ok(*address)) {
        return Err(format!("{address} is the address of a node of the configuration"));
    }
    let before = joined.get(node).filter(|before| before.request != *request);
    if let Some(ago) = before.map(|before| since - before.since).filter(|ago| *ago <= LEASE_SECONDS) {
        return Err(format!(
            "`{node}` joined {ago} s ago, and may not have been heard yet: try again in a minute"
        ));
    }
    match joined.iter().find(|(name, other)| *name != node && other.address == *address) {
        Some((other, _)) => Err(format!("{address} is the address of `{other}`, which joined before")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use kube::api::ObjectMeta;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// A request as `kayak join` makes it, changed.
    fn request(
        change: impl FnOnce(&mut CertificateParams),
        ask: impl FnOnce(&mut CertificateSigningRequest),
    ) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:attic");
        change(&mut params);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let texts = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
        let mut request = CertificateSigningRequest {
            metadata: ObjectMeta {
                name: Some("asked".into()),
                annotations: Some([(ADDRESS_ANNOTATION.to_owned(), "192.0.2.7".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                username: Some("system:bootstrap:abcdef".into()),
                groups: texts(&["system:bootstrappers", JOINING]),
                usages: texts(&["digital signature", "client auth"]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        ask(&mut request);
        request
    }

    fn refused(request: &CertificateSigningRequest) -> String {
        read(request, 7).unwrap_err()
    }

    #[test]
    fn a_token_gets_the_certificate_of_a_node() {
        let asked = read(&request(|_| (), |_| ()), 7).unwrap();
        assert_eq!(asked.node, "attic");
        let address = [192, 0, 2, 7].into();
        assert_eq!(asked.record, Record { address, may_control: false, since: 7, request: "asked".into() });
        let controller =
            request(|_| (), |it| it.spec.groups.as_mut().unwrap().push(JOINING_CONTROLLER.into()));
        assert!(read(&controller, 7).unwrap().record.may_control);
    }

    #[test]
    fn and_no_other() {
        let named = |name: &'static str| {
            request(move |params| params.distinguished_name.push(DnType::CommonName, name), |_| ())
        };
        let in_group = |group: &'static str| {
            request(move |params| params.distinguished_name.push(DnType::OrganizationName, group), |_| ())
        };
        for (request, because) in [
            (named("kubernetes-admin"), "subject"),
            (named("system:node:"), "no name"),
            (named("system:node:a.b"), "no name"),
            (in_group("system:masters"), "subject"),
            (request(|p| p.distinguished_name.push(DnType::CountryName, "XX"), |_| ()), "subject"),
            (
                request(|p| p.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 1].into())], |_| ()),
                "more than a name",
            ),
            (request(|_| (), |it| it.spec.usages.as_mut().unwrap().push("server auth".into())), "usages"),
            (request(|_| (), |it| it.spec.groups = Some(vec!["system:bootstrappers".into()])), "token"),
            (request(|_| (), |it| it.spec.username = Some("system:node:attic".into())), "token"),
            (request(|_| (), |it| it.metadata.annotations = None), "address"),
            (
                request(
                    |_| (),
                    |it| {
                        it.metadata.annotations =
                            Some([(ADDRESS_ANNOTATION.into(), "127.0.0.1".into())].into());
                    },
                ),
                "127.0.0.1",
            ),
        ] {
            let said = refused(&request);
            assert!(said.contains(because), "`{because}`: {said}");
        }
    }

    #[test]
    fn names_and_addresses_of_others_are_not_given() {
        let nodes = [("cp".to_owned(), "cp,192.0.2.1,fd00::1".to_owned())].into();
        let record = |address, since, request: &str| Record {
            address,
            may_control: false,
            since,
            request: request.into(),
        };
        let joined = [("attic".to_owned(), record([192, 0, 2, 7].into(), 100, "first"))].into();
        let ask = |node: &str, address: IpAddr, since, request| {
            let record = record(address, since, request);
            judge(&Asked { node: node.into(), record }, &nodes, &joined)
        };
        let judge = |node: &str, address: IpAddr| ask(node, address, 1000, "second");
        let attic = [192, 0, 2, 7].into();
        assert_eq!(ask("attic", attic, 101, "first"), Ok(()), "what was granted, and not yet said");
        assert!(ask("attic", attic, 140, "second").unwrap_err().contains("joined 40 s ago"));
        assert_eq!(ask("attic", attic, 141, "second"), Ok(()));
        assert_eq!(judge("cellar", [192, 0, 2, 8].into()), Ok(()));
        assert_eq!(judge("attic", [192, 0, 2, 7].into()), Ok(()), "the same again");
        assert_eq!(judge("attic", [192, 0, 2, 9].into()), Ok(()), "at another address");
        assert!(judge("cp", [192, 0, 2, 8].into()).is_err());
        assert!(judge("cellar", [192, 0, 2, 1].into()).is_err());
        assert!(judge("cellar", "fd00::1".parse().unwrap()).is_err());
        assert!(judge("cellar", [192, 0, 2, 7].into()).is_err());
    }
}
