//! What several modules' tests need.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use kayak_core::node::NodeConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// A certificate authority with its key.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// Makes a certificate authority.
pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Makes the TLS side of a server with a certificate for `name`.
pub(crate) fn acceptor(authority: &Authority, name: &str) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Returns the configuration of a node that has nothing to do.
pub(crate) fn node_config() -> NodeConfig {
    NodeConfig {
        cluster: "test".into(),
        name: "cp-1".into(),
        address: IpAddr::from([10, 0, 0, 2]),
        interface: None,
        hosts: [].into(),
        nameservers: vec![],
        sysctls: [].into(),
        units: vec![],
        fronts: vec![],
        pod_network: None,
        api_address: IpAddr::from([10, 244, 255, 255]),
        kubeconfig: "/nonexistent".into(),
        controller: None,
    }
}

/// Whether the test with the full name `test` runs in a network of its own, where it may do what it likes. When
/// it does not, as at first, it is run there, and must pass.
pub(crate) fn has_network_of_its_own(test: &str) -> bool {
    const MARK: &str = "KAYAK_TEST_HAS_NETWORK";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let again = Command::new("unshare")
        .args(["--net", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Runs `ip`, and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
