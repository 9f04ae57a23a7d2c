//! When a machine is as wished: nothing is left to do, and everything is as one rendering with the kept
//! keys has it, with nothing beside it.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use kayak_core::assets::{Assets, Content, is_seed};
use kayak_core::component::etcd::JOINED_FILE;
use kayak_core::host::KUBELET_PKI;
use kayak_core::pki::KeyStore;
use kayak_engine::api::FIELD_MANAGER;
use kayak_engine::asset_dir;
use kayak_engine::driver::FileContent;
use serde_json::Value;

use crate::machine::{Machine, Wish};
use crate::objects::{Key, Path, fields_of};
use crate::world::Node;

/// The only node.
const NODE: &str = "controller-0";

/// Fields that the owner has set, and what they hold; `None` if they were taken away.
pub(crate) type OwnersFields = BTreeMap<(Key, Path), Option<Value>>;

impl Machine {
    /// Asserts that everything is as wished, but for what the owner has set.
    pub(crate) async fn assert_converged(&self, wish: &Wish, owners: &OwnersFields) {
        let context = format!("cut off {:#?}", self.cuts);
        let (handle, plan) = self.decide(wish).await.unwrap();
        assert!(plan.is_empty(), "{context}\nthe plan afterwards:\n{plan}");
        let assets = &handle.assets;
        let names = differing(&assets.files, &self.assets());
        assert!(names.is_empty(), "{context}\nassets that are not as rendered: {names:?}");
        let edited = asset_dir::edited(&self.kept()).unwrap();
        assert!(edited.is_empty(), "{context}\ntaken for edits: {:?}", edited.keys());
        let world = self.sim.world();
        assert_eq!(world.violations, [""; 0], "{context}");
        let node = world.node.as_ref().unwrap();
        assert_eq!(node.temporary(), [""; 0], "{context}");
        assert!(node.api_answers(), "{context}");
        let running = node.running.as_ref().unwrap();
        assert_eq!(running.spec, handle.node_spec(&assets.cluster.nodes[0]), "{context}");
        assert_files(node, assets, &context);
        assert_objects(node, assets, owners, &context);
    }

    /// Asserts that no key that was kept whole, with its CA, was issued again.
    pub(crate) fn assert_kept(&self, before: &KeyStore, except: &[&str]) {
        let (after, context) = (self.keys(), format!("cut off {:#?}", self.cuts));
        for (id, pair) in before.pairs.iter().filter(|(id, _)| !except.contains(&id.as_str())) {
            assert!(after.pairs[id] == *pair, "{context}\n`{id}` was issued again");
        }
        for (one, other) in [
            (
                &before.service_account.as_ref().map(|pair| &pair.key),
                &after.service_account.as_ref().map(|pair| &pair.key),
            ),
            (&before.encryption_key.as_ref(), &after.encryption_key.as_ref()),
        ] {
            assert!(one.is_none() || one == other, "{context}\na key was made again");
        }
    }
}

fn differing(one: &BTreeMap<String, Content>, other: &BTreeMap<String, Content>) -> BTreeSet<String> {
    let paths = one.keys().chain(other.keys());
    paths.filter(|path| one.get(*path) != other.get(*path)).cloned().collect()
}

/// The kubelet's own certificates are its affair, as long as they are there, and so are etcd's data.
fn assert_files(node: &Node, assets: &Assets, context: &str) {
    let wished = assets.node_files(NODE);
    for (path, content) in &wished {
        let found = node.files.get(Utf8Path::new(path));
        let is_same = match (content, found) {
            (_, Some(_)) if is_seed(path) => true,
            (Content::File(wished), Some(FileContent::Regular { bytes, .. })) => wished == bytes,
            (Content::Link(wished), Some(FileContent::Link(target))) => wished == target,
            (_, None | Some(_)) => false,
        };
        assert!(is_same, "{context}\n`{path}` of the node is not as rendered");
    }
    let of_node = |path: &Utf8Path| path.starts_with(KUBELET_PKI) || path == JOINED_FILE;
    let surplus = |path: &&camino::Utf8PathBuf| !wished.contains_key(path.as_str()) && !of_node(path);
    let surplus: Vec<_> = node.files.keys().filter(surplus).collect();
    assert!(surplus.is_empty(), "{context}\nfiles that nobody wished: {surplus:?}");
}

fn assert_objects(node: &Node, assets: &Assets, owners: &OwnersFields, context: &str) {
    let wished = assets.objects().unwrap();
    let mut own = node.etcd.objects.clone();
    own.retain(|_, stored| !stored.owned_by(FIELD_MANAGER).is_empty());
    for object in &wished {
        let key = Key::of(&object.id());
        let stored = node.etcd.objects.get(&key).unwrap_or_else(|| panic!("{context}\n{key:?} is not there"));
        own.remove(&key);
        for (path, value) in fields_of(object.value()) {
            let expected = match owners.get(&(key.clone(), path.clone())) {
                Some(set) => set.as_ref(),
                None => Some(&value),
            };
            assert!(stored.field(&path) == expected, "{context}\n{key:?}{path} is not as rendered");
        }
        let wished = fields_of(object.value());
        let more: Vec<_> =
            stored.owned_by(FIELD_MANAGER).into_keys().filter(|path| !wished.contains_key(path)).collect();
        assert!(more.is_empty(), "{context}\n{key:?} has fields that are rendered no more: {more:?}");
    }
    assert!(own.is_empty(), "{context}\nobjects that are rendered no more: {:?}", own.keys());
}
