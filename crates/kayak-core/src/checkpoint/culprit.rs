//! Why a checkpoint has to stand in, and which command mends it: told of what the API shows of the node's pods.

use serde_json::Value;

use crate::component::apiserver;

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// A part of a sentence.
    pub because: String,
    /// A command.
    pub mend: String,
}

/// How much of what a container said is shown.
const SAID: usize = 240;

/// Finds out why the pod of `component` does not serve; `pods` are those of one node, as the API shows them.
pub fn find(component: &str, pods: &[Value]) -> Culprit {
    let workload = if component == apiserver::NAME { "daemonset" } else { "deployment" };
    let is_own = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/name"] == component;
    let newest = pods.iter().filter(is_own).max_by_key(|pod| text(pod, "/metadata/creationTimestamp"));
    let Some(pod) = newest else {
        return Culprit {
            because: "no pod of it is to run here".into(),
            mend: format!("kayak up --revert {workload}/{component}"),
        };
    };
    let name = text(pod, "/metadata/name");
    let container = &pod["status"]["containerStatuses"][0];
    let ended = [&container["state"]["terminated"], &container["lastState"]["terminated"]];
    let ended = ended.into_iter().find(|ended| ended.is_object());
    let waiting = &container["state"]["waiting"];
    // What it said itself tells more than that the kubelet waits before the next attempt.
    let because = match ended {
        Some(ended) => {
            let said = last_line(text(ended, "/message"));
            let said = if said.is_empty() { text(ended, "/reason").to_owned() } else { said };
            format!("its pod `{name}` ends with code {}: {said}", ended["exitCode"])
        }
        None if waiting.is_object() => {
            let words = [text(waiting, "/reason"), &last_line(text(waiting, "/message"))].map(str::to_owned);
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            format!("its pod `{name}` waits: {}", words.join(": "))
        }
        None => format!("its pod `{name}` does not serve"),
    };
    Culprit { because, mend: format!("kubectl -n kube-system rollout undo {workload}/{component}") }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, created: &str, status: &Value) -> Value {
        json!({
            "metadata": {
                "name": name, "creationTimestamp": created,
                "labels": { "app.kubernetes.io/name": "kube-apiserver" },
            },
            "status": { "containerStatuses": [status] },
        })
    }

    #[test]
    fn the_newest_pod_says_why_and_the_command_goes_back_to_the_one_before() {
        let well = pod("old", "2026-01-01", &json!({ "state": { "running": {} } }));
        let message = "usage\nError: unknown flag: --no-such-flag\n\n";
        let crashes = json!({
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 5s" } },
            "lastState": { "terminated": { "exitCode": 1, "message": message } },
        });
        let found = find("kube-apiserver", &[pod("new", "2026-01-02", &crashes), well]);
        assert_eq!(found.because, "its pod `new` ends with code 1: Error: unknown flag: --no-such-flag");
        assert_eq!(found.mend, "kubectl -n kube-system rollout undo daemonset/kube-apiserver");
        let waits = json!({ "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } } });
        let found = find("kube-apiserver", &[pod("new", "2026-01-02", &waits)]);
        assert_eq!(found.because, "its pod `new` waits: ErrImagePull: not found");
        let silent = json!({ "state": { "running": {} } });
        let found = find("kube-apiserver", &[pod("new", "2026-01-02", &silent)]);
        assert_eq!(found.because, "its pod `new` does not serve");
    }

    #[test]
    fn where_there_is_no_pod_there_is_none_to_go_back_to() {
        let found = find("kube-scheduler", &[pod("api", "2026-01-01", &json!({}))]);
        assert_eq!(found.because, "no pod of it is to run here");
        assert_eq!(found.mend, "kayak up --revert deployment/kube-scheduler");
    }
}
