//! What a node does by itself: one tick of agent, kubelet and control plane. It knows nothing of kayak
//! but the files and objects that it was given.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::component::etcd::{BOOTSTRAP_FILE, JOINED_FILE};
use kayak_core::form::{CONTROLLER_LABEL, STATIC_SECRETS, TEMPORARY, TEMPORARY_SECRETS};
use kayak_core::host::{KUBELET_PKI, MANIFEST_DIR};
use kayak_core::node::{CONFIG_PATH, NodeConfig};
use kayak_core::object::{Object, ObjectId};
use kayak_engine::driver::FileContent;
use serde_json::{Value, json};

use crate::objects::{Key, Path};
use crate::world::{Node, Pod, Process, World};

/// How many ticks a pod takes to end.
const GRACE: u32 = 3;

/// Lets a moment pass.
pub(crate) fn tick(world: &mut World) {
    if let Some(node) = &mut world.node
        && node.running.is_some()
    {
        node.age();
        if node.running.as_ref().unwrap().units_ready {
            node.begin_etcd();
            node.run_static_pods();
            if node.api_answers() {
                node.make_namespaces();
                node.report();
                node.run_bound_pods();
                if node.serves("kube-controller-manager") {
                    node.control();
                }
            }
        }
    }
    world.watch_over_api();
}

impl Node {
    /// Whether the agent can bring up containerd and the kubelet: it needs its settings, and the kubelet
    /// a certificate, or it would have to ask for one where nobody signs.
    fn units_can_run(&self) -> bool {
        let config = self.read(CONFIG_PATH.into()).map(serde_json::from_slice::<NodeConfig>);
        let certificates =
            ["client", "server"].map(|kind| format!("{KUBELET_PKI}/kubelet-{kind}-current.pem"));
        let Some(Ok(config)) = config else { return false };
        let settings = config.units.iter().flat_map(|unit| &unit.command);
        let settings = settings.map(|word| word.rsplit('=').next().unwrap_or(word));
        let mut needed =
            settings.filter(|word| word.starts_with("/etc/")).map(str::to_owned).chain(certificates);
        needed.all(|path| self.read(path.as_str().into()).is_some())
    }

    /// Processes get older, become ready, and end.
    fn age(&mut self) {
        let (etcd, api) = (self.serves("etcd"), self.api_answers());
        let joined = self.files.contains_key(Utf8Path::new(JOINED_FILE));
        let units_can_run = self.units_can_run();
        let running = self.running.as_mut().unwrap();
        running.age += 1;
        running.units_ready |= running.age >= 2 && units_can_run;
        running.processes.retain(|_, process| process.ending.is_none_or(|ticks| ticks < GRACE));
        for process in running.processes.values_mut() {
            process.age += 1;
            process.ending = process.ending.map(|ticks| ticks + 1);
            process.ready |= match process.component.as_str() {
                "etcd" => process.age >= 2 && joined,
                "kube-apiserver" => process.age >= 5 && etcd,
                _ => process.age >= 3 && api,
            };
        }
    }

    /// etcd begins a cluster where that was allowed, and says that it has data from then on.
    fn begin_etcd(&mut self) {
        let allowed = self.files.remove(Utf8Path::new(BOOTSTRAP_FILE)).is_some();
        if allowed {
            let joined = FileContent::Regular { bytes: Vec::new(), mode: 0o644 };
            self.files.insert(JOINED_FILE.into(), joined);
        }
    }

    /// The kubelet runs what is in its directory, as far as the directories that pods mount are there.
    fn run_static_pods(&mut self) {
        let mut wished = BTreeMap::new();
        for (path, content) in &self.files {
            let (true, FileContent::Regular { bytes, .. }) = (path.starts_with(MANIFEST_DIR), content) else {
                continue;
            };
            // Manifests are called like their pods.
            let (pod, manifest) = (path.file_stem().unwrap(), String::from_utf8_lossy(bytes));
            let component = pod.trim_start_matches(TEMPORARY).to_owned();
            let mounts = [TEMPORARY_SECRETS, STATIC_SECRETS].map(|dir| format!("{dir}/{component}"));
            if mounts.iter().all(|dir| !manifest.contains(dir) || self.has_below(dir)) {
                wished.insert(format!("{pod}-{}", self.spec.id.name), component);
            }
        }
        self.run(&wished, true);
    }

    fn has_below(&self, dir: &str) -> bool {
        self.files.keys().any(|path| path.starts_with(dir))
    }

    /// Starts pods that are wished, and ends others of the same origin.
    fn run(&mut self, wished: &BTreeMap<String, String>, is_static: bool) {
        let processes = &mut self.running.as_mut().unwrap().processes;
        for (name, process) in processes.iter_mut().filter(|(_, process)| process.is_static == is_static) {
            if !wished.contains_key(name) {
                process.ending.get_or_insert(0);
            }
        }
        for (name, component) in wished {
            // One that was ending is started anew when it has ended.
            processes.entry(name.clone()).or_insert_with(|| Process {
                component: component.clone(),
                is_static,
                age: 0,
                ready: false,
                ending: None,
            });
        }
    }

    /// What an API server makes for itself.
    fn make_namespaces(&mut self) {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let id = id("v1", "Namespace", None, name);
            let label = Path::keys(&["metadata", "labels", "kubernetes.io/metadata.name"]);
            self.etcd.change(&id, |stored| stored.update("kube-apiserver", label, Some(json!(name))));
        }
    }

    /// The kubelet shows its node and its static pods, and renews its serving certificate.
    fn report(&mut self) {
        let has_range = Path::keys(&["spec", "podCIDR"]);
        let node = id("v1", "Node", None, &self.spec.id.name);
        let mut is_ready = false;
        self.etcd.change(&node, |stored| {
            is_ready = stored.field(&has_range).is_some();
            let ready = json!({ "type": "Ready", "status": if is_ready { "True" } else { "False" } });
            stored.set_status(json!({ "conditions": [ready] }));
        });
        let processes = &self.running.as_ref().unwrap().processes;
        let mirrors: BTreeSet<_> =
            processes.iter().filter(|(_, process)| process.is_static).map(|(name, _)| name.clone()).collect();
        for name in &mirrors {
            self.etcd.change(&id("v1", "Pod", Some("kube-system"), name), |_| {});
        }
        let shown: Vec<_> = self.etcd.objects.keys().filter(|key| key.plural == "pods").cloned().collect();
        for key in shown.iter().filter(|key| !mirrors.contains(&key.name)) {
            self.etcd.delete(key);
        }
        let pki = |name: &str| Utf8PathBuf::from(format!("{KUBELET_PKI}/kubelet-server-{name}.pem"));
        if is_ready && !self.files.contains_key(&pki("renewed")) {
            let renewed = FileContent::Regular { bytes: b"renewed".to_vec(), mode: 0o600 };
            self.files.insert(pki("renewed"), renewed);
            self.files.insert(pki("current"), FileContent::Link("kubelet-server-renewed.pem".into()));
        }
    }

    /// The kubelet runs the pods it was given, as far as what they mount is there.
    fn run_bound_pods(&mut self) {
        let mountable = |pod: &&Pod| {
            let Some(workload) = self.etcd.objects.get(&pod.workload) else { return true };
            let volumes = workload.whole().pointer("/spec/template/spec/volumes").and_then(Value::as_array);
            volumes.into_iter().flatten().all(|volume| {
                let there = |plural: &str, name: &Value| {
                    let mut keys = self.etcd.objects.keys();
                    name.is_null() || keys.any(|key| key.plural == plural && *name == key.name)
                };
                there("secrets", &volume["secret"]["secretName"])
                    && there("configmaps", &volume["configMap"]["name"])
            })
        };
        let starts =
            self.bound.iter().filter(mountable).map(|pod| (pod.name.clone(), pod.workload.name.clone()));
        let mut wished: BTreeMap<_, _> = starts.collect();
        // What runs already is not ended because something it mounts went away.
        let processes = &self.running.as_ref().unwrap().processes;
        let runs = self.bound.iter().filter(|pod| processes.contains_key(&pod.name));
        wished.extend(runs.map(|pod| (pod.name.clone(), pod.workload.name.clone())));
        self.run(&wished, false);
    }

    /// The controller manager makes pods of workloads, which a scheduler gives to the node.
    fn control(&mut self) {
        let node = id("v1", "Node", None, &self.spec.id.name);
        let range = Path::keys(&["spec", "podCIDR"]);
        self.etcd.change(&node, |s| s.update("kube-controller-manager", range, Some(json!("10.244.0.0/24"))));
        self.bound.retain(|pod| self.etcd.objects.contains_key(&pod.workload));
        let keys: Vec<_> =
            self.etcd.objects.keys().filter(|key| key.api_version == "apps/v1").cloned().collect();
        for key in keys {
            let object = Object::new(self.etcd.objects[&key].whole().clone()).unwrap().id();
            let status = self.roll_out(&key);
            self.etcd.change(&object, |stored| stored.set_status(status));
        }
    }

    /// One step of a rollout: a new pod first, older ones go when enough new ones are ready. Returns the
    /// workload's status.
    fn roll_out(&mut self, key: &Key) -> Value {
        let stored = &self.etcd.objects[key];
        let (form, value, generation) = (stored.form().to_owned(), stored.whole(), stored.generation());
        let is_daemon_set = key.plural == "daemonsets";
        let wished = if is_daemon_set {
            usize::from(self.is_chosen_by(value))
        } else {
            value["spec"]["replicas"].as_u64().map_or(1, |n| usize::try_from(n).unwrap())
        };
        let ready = |node: &Self, pod: &Pod| {
            let processes = &node.running.as_ref().unwrap().processes;
            processes.get(&pod.name).is_some_and(Process::serves)
        };
        let is_new = |pod: &&Pod| pod.workload == *key && pod.form == form;
        let new: Vec<_> = self.bound.iter().filter(is_new).cloned().collect();
        if new.len() < wished && self.serves("kube-scheduler") {
            let name = format!("{}-{form}-{}", key.name, self.etcd.version);
            self.bound.push(Pod { workload: key.clone(), name, form: form.clone() });
        }
        if new.iter().filter(|pod| ready(self, pod)).count() >= wished {
            let keep: Vec<_> = new.iter().take(wished).map(|pod| pod.name.clone()).collect();
            self.bound.retain(|pod| pod.workload != *key || keep.contains(&pod.name));
        }
        let mine: Vec<_> = self.bound.iter().filter(|pod| pod.workload == *key).cloned().collect();
        let updated = mine.iter().filter(|pod| pod.form == form).count();
        let available = mine.iter().filter(|pod| ready(self, pod)).count();
        let names = if is_daemon_set {
            ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"]
        } else {
            ["replicas", "updatedReplicas", "availableReplicas"]
        };
        let mut status = json!({ "observedGeneration": generation });
        if is_daemon_set {
            status["desiredNumberScheduled"] = json!(wished);
        }
        for (name, count) in names.into_iter().zip([mine.len(), updated, available]) {
            status[name] = json!(count);
        }
        status
    }

    /// Whether the node has the labels that a DaemonSet asks for.
    fn is_chosen_by(&self, workload: &Value) -> bool {
        let node = self.etcd.objects.get(&Key::of(&id("v1", "Node", None, &self.spec.id.name)));
        let controller = Path::keys(&["metadata", "labels", CONTROLLER_LABEL]);
        let is_controller = node.is_some_and(|node| node.field(&controller).is_some());
        workload.pointer("/spec/template/spec/nodeSelector").is_none() || is_controller
    }
}

fn id(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
    ObjectId {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.map(str::to_owned),
        name: name.into(),
    }
}
