use super::*;
use kayak_core::cluster::{Images, MachineFacts};
use kayak_core::config::Config;
use kayak_core::person::Person;

fn cluster(yaml: &str) -> Cluster {
    let images = Images::of("v1.36.3", |name| Ok::<_, ()>(name.into())).unwrap();
    Cluster::resolve(Config::parse(yaml).unwrap(), yaml, images, &MachineFacts::default()).unwrap()
}

fn reasons(id: &str, why: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(id.to_owned(), why.to_owned())])
}

#[test]
fn a_complete_store_is_left_alone() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    let first = ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    assert_eq!(first.len(), certificates(&cluster("")).len() + 5);
    assert!(ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap().is_empty());
}

#[test]
fn only_what_changed_or_expires_is_issued_anew() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    let named = cluster("api:\n  extraNames: [k.example]\n  extraAddresses: [192.0.2.9]\n");
    let issued = ensure(&mut store, &named, &BTreeMap::new(), now).unwrap();
    assert_eq!(issued, reasons("kube-apiserver", "its names or addresses changed"));
    let later = now + Duration::days(320);
    let renewed = ensure(&mut store, &named, &BTreeMap::new(), later).unwrap();
    assert!(renewed.values().all(|why| why == "it expires"));
    assert_eq!(renewed.len(), certificates(&named).len(), "leaves, not CAs");
}

#[test]
fn a_pair_cut_off_between_certificate_and_key_is_issued_anew() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    let other = store.pairs["kube-proxy"].key.clone();
    store.pairs.get_mut("flannel").unwrap().key = other;
    let issued = ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    assert_eq!(issued, reasons("flannel", "its key is another's"));
}

#[test]
fn the_owners_ca_signs_everything_below_it() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    let own = new_ca(Authority::Kubernetes, now).unwrap();
    let given = BTreeMap::from([(Authority::Kubernetes, own.clone())]);
    let issued = ensure(&mut store, &cluster(""), &given, now).unwrap();
    let below = certificates(&cluster("")).iter().filter(|c| c.authority == Authority::Kubernetes).count();
    assert_eq!(issued.len(), below);
    assert_eq!(store.ca(Authority::Kubernetes).unwrap(), own.certificate);
}

#[test]
fn the_owners_ca_may_be_of_rsa() {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own =
        Pair { certificate: params.self_signed(&key).unwrap().pem(), key: Secret::new(key.serialize_pem()) };
    let given = BTreeMap::from([(Authority::Kubernetes, own)]);
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    ensure(&mut store, &cluster(""), &given, now).unwrap();
    assert!(ensure(&mut store, &cluster(""), &given, now).unwrap().is_empty(), "its leaves fit");
}

#[test]
fn a_persons_certificate_has_all_groups_and_ends_with_the_ca() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    ensure(&mut store, &cluster(""), &BTreeMap::new(), now).unwrap();
    let groups = ["developers", "on call", "web"].map(str::to_owned);
    let anna = Person { name: "anna".into(), groups: groups.into(), role: None, namespace: None };
    let spec = anna.certificate();
    let (pair, end) = issue(&spec, &store, now, Duration::days(90)).unwrap();
    assert_eq!(
        misfit(&pair, &spec, store.pair("ca").unwrap(), now),
        None,
        "signed, named and grouped as asked"
    );
    assert!((now + Duration::days(90) - end) < Duration::seconds(1));
    let (_, end) = issue(&spec, &store, now, Duration::days(100 * 365)).unwrap();
    assert!((now + Duration::days(CA_DAYS.into()) - end) < Duration::seconds(1), "{end}");
    let late = issue(&spec, &store, now + Duration::days(5000), Duration::days(1));
    assert!(matches!(late, Err(KeyError::Expired(_))));
}

#[test]
fn a_server_is_called_by_the_names_in_its_certificate() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    let cluster = cluster("api:\n  extraNames: [k.example]\n  extraAddresses: [192.0.2.9]\n");
    ensure(&mut store, &cluster, &BTreeMap::new(), now).unwrap();
    let names = server_names(&store.pair("kube-apiserver").unwrap().certificate);
    for name in ["k.example", "192.0.2.9", "localhost", "controller-0"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    assert!(server_names("no certificate").is_empty());
}

#[test]
fn a_given_ca_that_cannot_sign_is_refused() {
    let (mut store, now) = (KeyStore::default(), OffsetDateTime::now_utc());
    let (a, b) = (new_ca(Authority::Etcd, now).unwrap(), new_ca(Authority::Etcd, now).unwrap());
    let mixed = Pair { certificate: a.certificate, key: b.key };
    let given = BTreeMap::from([(Authority::Etcd, mixed)]);
    assert!(matches!(ensure(&mut store, &cluster(""), &given, now), Err(KeyError::NotACa(_))));
}
