//! When certificates end: those that were issued with the cluster, and those that kubelets renew.

use camino::Utf8PathBuf;
use kayak_core::assets::{Assets, Content};
use kayak_core::chain::chain;
use kayak_core::cluster::Node;
use kayak_core::host::KUBELET_PKI;
use kayak_core::plan::Fact;
use serde::Serialize;
use time::OffsetDateTime;

use crate::cluster::ClusterHandle;
use crate::keystore;

/// A certificate, and when it ends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CertificateReport {
    /// Which one.
    pub name: String,
    /// When it ends, as `2027-11-21`.
    pub expires: Option<String>,
    /// Whole days until then, negative once it has ended.
    pub days: Option<i64>,
    /// Why that is not known.
    pub because: Option<String>,
}

/// A certificate as it was found.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    name: String,
    expires: Fact<OffsetDateTime>,
}

/// What a kubelet has: the certificate's row in the table, by which its first one was issued, and the file.
const OF_KUBELETS: [(&str, &str); 2] =
    [("kubelet", "kubelet-client-current.pem"), ("kubelet-serving", "kubelet-server-current.pem")];

/// Reads all of them; those of kubelets from the nodes' disks, whether the nodes run or not.
pub(super) async fn look(cluster: &ClusterHandle) -> Vec<Certificate> {
    let mut found = kept(&cluster.assets);
    for node in &cluster.assets.cluster.nodes {
        for (id, file) in OF_KUBELETS {
            let path = Utf8PathBuf::from(format!("{KUBELET_PKI}/{file}"));
            let read = cluster.driver.get(&cluster.node_id(&node.name), &path).await;
            let expires = match read {
                Ok(Some(pem)) => end(&pem),
                // It was not made yet, and so it has the first one before it.
                Ok(None) => continue,
                Err(error) => Fact::Unknown(chain(&error)),
            };
            take_over(&mut found, node, id, expires);
        }
    }
    found
}

fn kept(assets: &Assets) -> Vec<Certificate> {
    let all = assets.files.iter().filter_map(|(path, content)| {
        let name = path.strip_prefix("tls/")?.strip_suffix(".crt")?;
        match content {
            Content::File(pem) => Some(Certificate { name: name.to_owned(), expires: end(pem) }),
            Content::Link(_) => None,
        }
    });
    all.collect()
}

/// A kubelet's current certificate counts, and no more the one with which it began.
fn take_over(found: &mut Vec<Certificate>, node: &Node, id: &str, expires: Fact<OffsetDateTime>) {
    let name = format!("{}-{id}", node.name);
    found.retain(|certificate| certificate.name != name);
    found.push(Certificate { name, expires });
}

fn end(pem: &[u8]) -> Fact<OffsetDateTime> {
    let end = keystore::end(&String::from_utf8_lossy(pem));
    end.map_or_else(|| Fact::Unknown("it is no certificate".into()), Fact::Known)
}

/// Lists them: what is not known first, then by when they end.
pub(super) fn report(found: &[Certificate], now: OffsetDateTime) -> Vec<CertificateReport> {
    let mut reports: Vec<_> = found
        .iter()
        .map(|certificate| {
            let end = certificate.expires.known();
            CertificateReport {
                name: certificate.name.clone(),
                expires: end.as_ref().ok().map(|end| end.date().to_string()),
                // A part of a day counts as ended once it is over.
                days: end.as_ref().ok().map(|&&end| (end - now).whole_seconds().div_euclid(86_400)),
                because: end.err(),
            }
        })
        .collect();
    reports.sort_by(|a, b| (a.days, &a.name).cmp(&(b.days, &b.name)));
    reports
}

#[cfg(test)]
mod tests {
    use kayak_core::cluster::Role;
    use time::Duration;

    use super::*;

    #[test]
    fn the_one_that_ends_first_is_first_and_the_unknown_before_it() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(365);
        let certificate = |name: &str, expires| Certificate { name: name.into(), expires };
        let ends = |left| Fact::Known(now + left);
        let found = [
            certificate("ca", ends(Duration::days(3650))),
            certificate("admin", ends(Duration::hours(47))),
            certificate("ended", ends(Duration::hours(-1))),
            certificate("torn", Fact::Unknown("it is no certificate".into())),
        ];
        let reports = report(&found, now);
        let rows: Vec<_> = reports.iter().map(|it| (it.name.as_str(), it.days)).collect();
        assert_eq!(rows, [("torn", None), ("ended", Some(-1)), ("admin", Some(1)), ("ca", Some(3650))]);
        assert_eq!(reports[2].expires.as_deref(), Some("1971-01-02"));
        assert_eq!(reports[0].because.as_deref(), Some("it is no certificate"));
    }

    #[test]
    fn a_renewed_certificate_takes_the_place_of_the_first() {
        let node = Node {
            name: "worker-0".into(),
            role: Role::Worker,
            address: [10, 0, 0, 9].into(),
            second_address: None,
        };
        let first = Fact::Known(OffsetDateTime::UNIX_EPOCH);
        let mut found = vec![Certificate { name: "worker-0-kubelet".into(), expires: first }];
        take_over(&mut found, &node, "kubelet", Fact::Known(OffsetDateTime::UNIX_EPOCH + Duration::DAY));
        let days: Vec<_> = report(&found, OffsetDateTime::UNIX_EPOCH).iter().map(|it| it.days).collect();
        assert_eq!(days, [Some(1)]);
    }
}
