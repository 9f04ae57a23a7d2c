//! A cluster with stand-in keys: rendering and planning look at none of them.

use kayak_core::assets::Assets;
use kayak_core::cluster::{Cluster, Images, MachineFacts};
use kayak_core::config::Config;
use kayak_core::pki::{Authority, KeyStore, Pair, Secret, certificates};

pub(crate) fn cluster(yaml: &str) -> Cluster {
    let images = Images::of("v1.36.3", |name| Ok::<_, ()>(format!("kayak.local/{name}:v1"))).unwrap();
    let machine = MachineFacts {
        nameservers: ["192.0.2.53", "127.0.0.53"].map(|address| address.parse().unwrap()).into(),
        interfaces: [("tun0".into(), vec!["10.8.0.1".parse().unwrap()])].into(),
        ca_bundle: None,
    };
    Cluster::resolve(Config::parse(yaml).unwrap(), yaml, images, &machine).unwrap()
}

pub(crate) fn keys(cluster: &Cluster) -> KeyStore {
    let pair = |id: &str| Pair {
        certificate: format!("CERTIFICATE {id}\n"),
        key: Secret::new(format!("PRIVATE KEY {id}\n")),
    };
    let leaves = certificates(cluster).into_iter().map(|spec| spec.id);
    let ids = Authority::ALL.map(|a| a.id().to_owned()).into_iter().chain(leaves);
    KeyStore {
        pairs: ids.map(|id| (id.clone(), pair(&id))).collect(),
        service_account: Some(pair("service-account")),
        encryption_key: Some(Secret::new("ENCRYPTION KEY".into())),
        ..KeyStore::default()
    }
}

pub(crate) fn assets(yaml: &str) -> Assets {
    let cluster = cluster(yaml);
    Assets::render(&cluster, &keys(&cluster)).unwrap()
}
