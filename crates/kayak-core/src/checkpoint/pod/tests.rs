use super::*;

const DIRECTORY: &str = "/kept/current";

fn sources() -> Sources {
    let mut sources = Sources::default();
    let secret = json!({ "data": { "key": BASE64.encode("k$(X)"), "other": BASE64.encode("o") } });
    sources.add(Kind::Secret, "keys", &secret).unwrap();
    let map = json!({ "data": { "a": "1", "b": "2" }, "binaryData": { "c": BASE64.encode([0xff]) } });
    sources.add(Kind::ConfigMap, "settings", &map).unwrap();
    sources
}

/// A pod as the API shows one that a DaemonSet has made.
fn pod(spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "kube-apiserver-x", "namespace": "kube-system", "uid": "5d1a",
            "labels": { "app.kubernetes.io/name": "kube-apiserver" },
            "ownerReferences": [{ "kind": "DaemonSet" }],
        },
        "spec": {
            "nodeName": "cp-1", "nodeSelector": { "a": "b" }, "affinity": {}, "hostNetwork": true,
            "serviceAccountName": "default", "serviceAccount": "default", "schedulerName": "default-scheduler",
            "automountServiceAccountToken": false, "priority": 2_000_001_000, "preemptionPolicy": "Never",
            "priorityClassName": "system-cluster-critical", "imagePullSecrets": [{ "name": "pull" }],
            "tolerations": [], "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "main", "image": "i:1", "imagePullPolicy": "Always", "args": ["--flag"],
                "resources": { "requests": { "cpu": "1" } },
                "startupProbe": {}, "readinessProbe": {}, "livenessProbe": { "periodSeconds": 20 },
            }],
        },
        "status": { "phase": "Running" },
    });
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn made(spec: &Value) -> Result<Resolved, Refusal> {
    resolve(&pod(spec), "kube-apiserver", "cp-1", DIRECTORY, &sources())
}

fn refused(spec: &Value) -> String {
    made(spec).err().expect("it is refused").to_string()
}

fn volumes(volume: &Value) -> Value {
    json!({ "volumes": [volume] })
}

#[test]
fn what_says_where_and_for_whom_goes_and_what_says_how_stays() {
    let made = made(&json!({})).unwrap();
    assert_eq!(
        made.pod,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "checkpoint-kube-apiserver", "namespace": "kube-system",
                "uid": uid("kube-apiserver", "cp-1"),
                "labels": {
                    "app.kubernetes.io/name": "checkpoint-kube-apiserver",
                    "app.kubernetes.io/managed-by": "kayak",
                },
                "annotations": { "kayak/checkpoint-of": "kube-apiserver-x" },
            },
            "spec": {
                "hostNetwork": true,
                "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
                "priorityClassName": "system-node-critical",
                "tolerations": [{ "operator": "Exists" }],
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": GRACE,
                "volumes": [],
                "containers": [{
                    "name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent", "args": ["--flag"],
                    "env": [],
                    "livenessProbe": { "periodSeconds": 20, "initialDelaySeconds": FIRST_QUESTION },
                }],
            },
        })
    );
}

#[test]
fn volumes_of_objects_become_files_with_their_permissions() {
    let spec = json!({
        "containers": [{ "name": "main", "volumeMounts": [
            { "name": "secrets", "mountPath": "/s" }, { "name": "own", "mountPath": "/o" },
        ] }],
        "volumes": [
            { "name": "secrets", "secret": { "secretName": "keys", "defaultMode": 0o400 } },
            { "name": "some", "configMap": { "name": "settings", "items": [{ "key": "a", "path": "d/x", "mode": 0o600 }] } },
            { "name": "both", "projected": { "defaultMode": 0o444, "sources": [
                { "secret": { "name": "keys", "items": [{ "key": "key", "path": "k" }] } },
                { "configMap": { "name": "settings" } },
            ] } },
            { "name": "absent", "configMap": { "name": "nobody", "optional": true } },
            { "name": "own", "emptyDir": {} },
            { "name": "fields", "projected": { "sources": [{ "downwardAPI": { "items": [] } }] } },
        ],
    });
    let made = made(&spec).unwrap();
    let files: Vec<_> =
        made.files.iter().map(|(path, file)| (path.as_str(), file.mode, file.content.len())).collect();
    assert_eq!(
        files,
        [
            ("files/both/a", 0o444, 1),
            ("files/both/b", 0o444, 1),
            ("files/both/c", 0o444, 1),
            ("files/both/k", 0o444, 5),
            ("files/secrets/key", 0o400, 5),
            ("files/secrets/other", 0o400, 1),
            ("files/some/d/x", 0o600, 1),
        ]
    );
    let volumes = made.pod["spec"]["volumes"].as_array().unwrap();
    assert_eq!(volumes[0]["hostPath"], json!({ "path": "/kept/current/files/secrets", "type": "Directory" }));
    assert_eq!(volumes[3], json!({ "name": "absent", "emptyDir": {} }));
    assert_eq!(volumes[4], json!({ "name": "own", "emptyDir": {} }));
    assert!(volumes[5].get("projected").is_some());
    let mounts = &made.pod["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts[0]["readOnly"], true);
    assert!(mounts[1].get("readOnly").is_none());
}

#[test]
fn variables_of_objects_become_texts() {
    let spec = json!({ "containers": [{
        "name": "main",
        "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "settings", "optional": true } },
                    { "secretRef": { "name": "nobody", "optional": true } }],
        "env": [
            { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "key" } } },
            { "name": "P_a", "value": "own" },
            { "name": "UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
            { "name": "NONE", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "z", "optional": true } } },
        ],
    }] });
    // `c` is no text.
    let strange = made(&spec).err();
    assert!(matches!(strange, Some(Refusal::Broken { .. })), "{strange:?}");
    let mut sources = sources();
    sources.add(Kind::ConfigMap, "settings", &json!({ "data": { "a": "1", "b": "2" } })).unwrap();
    let made = resolve(&pod(&spec), "kube-apiserver", "cp-1", DIRECTORY, &sources).unwrap();
    assert_eq!(
        made.pod["spec"]["containers"][0]["env"],
        json!([
            { "name": "P_b", "value": "2" },
            { "name": "KEY", "value": "k$$(X)" },
            { "name": "P_a", "value": "own" },
            { "name": "UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
        ])
    );
}

#[test]
fn all_objects_of_a_pod_are_named() {
    let spec = json!({
        "initContainers": [{ "envFrom": [{ "secretRef": { "name": "s1" } }] }],
        "containers": [{ "env": [{ "valueFrom": { "configMapKeyRef": { "name": "c1", "key": "k" } } }] }],
        "volumes": [
            { "secret": { "secretName": "s2" } },
            { "projected": { "sources": [{ "configMap": { "name": "c2" } }, { "secret": { "name": "s1" } }] } },
        ],
    });
    let found: Vec<_> = references(&pod(&spec)).into_iter().map(|(kind, name)| (kind.name(), name)).collect();
    let of = |kind, name: &str| (kind, name.to_owned());
    assert_eq!(found, [of("Secret", "s1"), of("Secret", "s2"), of("ConfigMap", "c1"), of("ConfigMap", "c2")]);
}

#[test]
fn what_cannot_be_had_without_an_api_is_refused_by_name() {
    let token =
        json!({ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } });
    assert!(refused(&volumes(&token)).contains("`token` is a projected serviceAccountToken"));
    for kind in ["persistentVolumeClaim", "csi", "ephemeral", "glusterfs", "cephfs", "aNewOne"] {
        let text = refused(&volumes(&json!({ "name": "data", kind: {} })));
        assert!(text.contains("`data`") && text.contains(kind), "{text}");
    }
    assert!(refused(&json!({ "resourceClaims": [{ "name": "gpu" }] })).contains("resourceClaims"));
    assert!(refused(&json!({ "runtimeClassName": "kata" })).contains("runtimeClassName"));
    let absent = json!({ "name": "v", "secret": { "secretName": "nobody" } });
    assert_eq!(refused(&volumes(&absent)), "the Secret `nobody`, to which it refers, is not there");
    let key =
        json!({ "name": "v", "secret": { "secretName": "keys", "items": [{ "key": "z", "path": "z" }] } });
    assert!(refused(&volumes(&key)).contains("has no `z`"));
    let path = json!({ "name": "v", "secret": { "secretName": "keys", "items": [{ "key": "key", "path": "../z" }] } });
    assert!(refused(&volumes(&path)).contains("leads out"));
}
