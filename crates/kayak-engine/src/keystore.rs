//! Keys and certificates: issued once, kept, and issued anew only when they no longer fit the table.

mod subject;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kayak_core::cluster::Cluster;
use kayak_core::pki::{
    Authority, CA_DAYS, CertificateSpec, KeyStore, MissingKey, Pair, Secret, Usage, certificates,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the key pair is called that signs service-account tokens.
pub const SERVICE_ACCOUNT: &str = "service-account";
/// What the key is called that encrypts Secrets in etcd.
pub const ENCRYPTION: &str = "encryption";
/// A certificate with less than this left is issued anew.
const RENEW_BEFORE: Duration = Duration::days(60);
/// How far certificates reach back, for machines whose clocks are behind.
const CLOCK_SLACK: Duration = Duration::minutes(10);

/// What can go wrong with keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key pair or certificate could not be made.
    #[error("failed to issue the certificate `{id}`")]
    Issue {
        /// Which one.
        id: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A CA's certificate and key cannot sign.
    #[error("the CA `{id}` cannot sign: certificate and key must be PEM and belong together")]
    Ca {
        /// Which one.
        id: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A CA given by the owner is none.
    #[error("the certificate given for the CA `{0}` is not a valid CA certificate")]
    NotACa(String),
    /// There is no CA to sign with.
    #[error("there is no CA to sign with")]
    NoCa(#[source] MissingKey),
    /// A CA has ended.
    #[error("the CA `{0}` has expired")]
    Expired(String),
    /// The kernel gave no randomness.
    #[error("failed to draw random bytes")]
    Random(#[source] rustix::io::Errno),
}

/// Completes a store: CAs that are given or missing, service-account keys, the encryption key, and
/// every row of the table that is missing, about to expire, or no longer as the table says.
/// Returns the ids of what was issued, and why.
pub fn ensure(
    store: &mut KeyStore,
    cluster: &Cluster,
    given: &BTreeMap<Authority, Pair>,
    now: OffsetDateTime,
) -> Result<BTreeMap<String, String>, KeyError> {
    let missing = || String::from("it is not there");
    let mut issued = BTreeMap::new();
    for authority in Authority::ALL {
        let id = authority.id().to_owned();
        if let Some(pair) = given.get(&authority) {
            check_ca(&id, pair)?;
            store.pairs.insert(id, pair.clone());
        } else if !store.pairs.contains_key(&id) {
            store.pairs.insert(id.clone(), new_ca(authority, now)?);
            issued.insert(id, missing());
        }
    }
    if store.service_account.is_none() {
        store.service_account = Some(new_service_account()?);
        issued.insert(SERVICE_ACCOUNT.into(), missing());
    }
    if store.encryption_key.is_none() {
        store.encryption_key = Some(new_encryption_key()?);
        issued.insert(ENCRYPTION.into(), missing());
    }
    for spec in certificates(cluster) {
        let ca = store.pairs[spec.authority.id()].clone();
        let why =
            store.pairs.get(&spec.id).map_or_else(|| Some(missing()), |pair| misfit(pair, &spec, &ca, now));
        if let Some(why) = why {
            store.pairs.insert(spec.id.clone(), new_leaf(&spec, &ca, now)?);
            issued.insert(spec.id, why);
        }
    }
    Ok(issued)
}

fn new_key(id: &str) -> Result<KeyPair, KeyError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| KeyError::Issue { id: id.into(), source })
}

fn new_ca(authority: Authority, now: OffsetDateTime) -> Result<Pair, KeyError> {
    let id = authority.id();
    let key = new_key(id)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(authority.common_name(), &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (now - CLOCK_SLACK, now + Duration::days(CA_DAYS.into()));
    let certificate = params.self_signed(&key).map_err(|source| KeyError::Issue { id: id.into(), source })?;
    Ok(Pair { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
}

fn new_leaf(spec: &CertificateSpec, ca: &Pair, now: OffsetDateTime) -> Result<Pair, KeyError> {
    sign(spec, ca, now, now + Duration::days(spec.days.into()))
}

/// Issues a certificate outside of the table, which is not kept. It ends with its CA at the latest;
/// returns when.
pub fn issue(
    spec: &CertificateSpec,
    store: &KeyStore,
    now: OffsetDateTime,
    lifetime: Duration,
) -> Result<(Pair, OffsetDateTime), KeyError> {
    let id = spec.authority.id();
    let ca = store.pair(id).map_err(KeyError::NoCa)?;
    let end_of_ca = with_certificate(&ca.certificate, |ca| ca.validity().not_after.to_datetime());
    let end_of_ca = end_of_ca.ok_or_else(|| KeyError::NotACa(id.into()))?;
    let wished = now.checked_add(lifetime).unwrap_or(end_of_ca);
    // A certificate counts in whole seconds.
    let end = wished.min(end_of_ca).replace_nanosecond(0).unwrap_or(wished);
    if end_of_ca <= now {
        return Err(KeyError::Expired(id.into()));
    }
    Ok((sign(spec, ca, now, end)?, end))
}

/// Returns the names and addresses by which a server with this certificate may be called, sorted;
/// none if it cannot be read.
pub fn server_names(certificate: &str) -> Vec<String> {
    with_certificate(certificate, alternative_names).unwrap_or_default()
}

fn sign(
    spec: &CertificateSpec,
    ca: &Pair,
    now: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<Pair, KeyError> {
    let fail = |source| KeyError::Issue { id: spec.id.clone(), source };
    let key = new_key(&spec.id)?;
    let mut params = CertificateParams::new(spec.names.clone()).map_err(fail)?;
    params.subject_alt_names.extend(spec.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    params.distinguished_name = subject(&spec.common_name, &spec.organizations);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes(spec.usage);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (now - CLOCK_SLACK, end);
    let issuer = issuer(spec.authority.id(), ca)?;
    let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
    let certificate = match spec.organizations.len() {
        0 | 1 => certificate.pem(),
        _ => {
            let der = subject::replace(certificate.der(), spec, issuer.key()).map_err(fail)?;
            pem("CERTIFICATE", &der)
        }
    };
    Ok(Pair { certificate, key: Secret::new(key.serialize_pem()) })
}

fn issuer(id: &str, ca: &Pair) -> Result<Issuer<'static, KeyPair>, KeyError> {
    let fail = |source| KeyError::Ca { id: id.to_owned(), source };
    let key = KeyPair::from_pem(ca.key.expose()).map_err(fail)?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(fail)
}

/// Refuses a given CA that is no CA, or whose key is another's.
fn check_ca(id: &str, pair: &Pair) -> Result<(), KeyError> {
    let issuer = issuer(id, pair)?;
    let matches = with_certificate(&pair.certificate, |certificate| {
        certificate.is_ca() && certificate.public_key().raw == issuer.key().subject_public_key_info()
    });
    if matches == Some(true) { Ok(()) } else { Err(KeyError::NotACa(id.into())) }
}

fn subject(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name
}

fn purposes(usage: Usage) -> Vec<ExtendedKeyUsagePurpose> {
    match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    }
}

/// The public key stands where a certificate would: see [`KeyStore::service_account`].
fn new_service_account() -> Result<Pair, KeyError> {
    let key = new_key("service-account")?;
    let public = pem("PUBLIC KEY", &key.subject_public_key_info());
    Ok(Pair { certificate: public, key: Secret::new(key.serialize_pem()) })
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn new_encryption_key() -> Result<Secret, KeyError> {
    Ok(Secret::new(BASE64.encode(random::<32>()?)))
}

/// Draws so many random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0u8; N];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(KeyError::Random)?;
    }
    Ok(bytes)
}

/// Says whether a certificate has expired, or is none.
pub fn is_expired(pem: &str, now: OffsetDateTime) -> bool {
    end(pem).is_none_or(|end| end <= now)
}

/// Says when a certificate ends, if it is one.
pub fn end(pem: &str) -> Option<OffsetDateTime> {
    with_certificate(pem, |certificate| certificate.validity().not_after.to_datetime())
}

fn with_certificate<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(look(&certificate))
}

/// Says why an issued certificate is no longer what the table asks for.
fn misfit(pair: &Pair, spec: &CertificateSpec, ca: &Pair, now: OffsetDateTime) -> Option<String> {
    let Ok(key) = KeyPair::from_pem(pair.key.expose()) else { return Some("its key cannot be read".into()) };
    with_certificate(&pair.certificate, |certificate| {
        let name = certificate.subject();
        let text = |attributes: Vec<&str>| attributes.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let user = text(name.iter_common_name().filter_map(|a| a.as_str().ok()).collect());
        let groups = text(name.iter_organization().filter_map(|a| a.as_str().ok()).collect());
        let usage = certificate.extended_key_usage().ok().flatten();
        let wanted = purposes(spec.usage);
        let fits_usage = usage.is_some_and(|usage| {
            usage.value.server_auth == wanted.contains(&ExtendedKeyUsagePurpose::ServerAuth)
                && usage.value.client_auth == wanted.contains(&ExtendedKeyUsagePurpose::ClientAuth)
        });
        let signed = with_certificate(&ca.certificate, |ca| {
            certificate.verify_signature(Some(ca.public_key())).is_ok()
        });
        let faults = [
            (certificate.validity().not_after.to_datetime() <= now + RENEW_BEFORE, "it expires"),
            (certificate.public_key().raw != key.subject_public_key_info(), "its key is another's"),
            (user != [spec.common_name.clone()] || groups != spec.organizations, "its subject changed"),
            (alternative_names(certificate) != wanted_names(spec), "its names or addresses changed"),
            (!fits_usage, "its usage changed"),
            (signed != Some(true), "another CA signed it"),
        ];
        faults.into_iter().find(|(fault, _)| *fault).map(|(_, why)| why.to_owned())
    })
    .unwrap_or_else(|| Some("it cannot be read".into()))
}

fn wanted_names(spec: &CertificateSpec) -> Vec<String> {
    let mut names: Vec<_> =
        spec.names.iter().cloned().chain(spec.addresses.iter().map(ToString::to_string)).collect();
    names.sort();
    names
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let mut names: Vec<_> = extension.value.general_names.iter().map(text_of).collect();
    names.sort();
    names
}

fn text_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => std::net::Ipv4Addr::from(v4).to_string(),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| format!("{bytes:?}"), |v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
