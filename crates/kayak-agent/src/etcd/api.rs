//! etcd's words, as its JSON gateway writes them: numbers of 64 bits are texts, and what is zero is absent.

use serde::{Deserialize, Deserializer, de};

/// A member as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    #[serde(rename = "ID", deserialize_with = "number")]
    pub(crate) id: u64,
    /// Empty until the member has started.
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, rename = "peerURLs")]
    pub(crate) peer_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    pub(crate) learner: bool,
}

impl Member {
    /// Whether it is the one of this node: by its name, or by where it is to be when it has none yet.
    pub(crate) fn is_of(&self, node: &str) -> bool {
        if self.name.is_empty() {
            return self.peer_urls.contains(&kayak_core::component::etcd::peer_url(node));
        }
        self.name == node
    }
}

/// The answer to everything about members.
#[derive(Debug, Deserialize)]
pub(super) struct Members {
    #[serde(default)]
    pub(super) members: Vec<Member>,
}

/// What one member tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    pub(super) header: Header,
    #[serde(default, rename = "isLearner")]
    pub(super) learner: bool,
    /// Zero if it knows none.
    #[serde(default, deserialize_with = "number")]
    pub(super) leader: u64,
    #[serde(default, rename = "raftIndex", deserialize_with = "number")]
    pub(super) raft_index: u64,
    #[serde(default, rename = "raftAppliedIndex", deserialize_with = "number")]
    pub(super) raft_applied_index: u64,
    #[serde(default, rename = "dbSize", deserialize_with = "number")]
    pub(super) db_size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) member_id: u64,
}

#[derive(Deserialize)]
struct Refusal {
    message: Option<String>,
    error: Option<String>,
}

/// Returns why etcd refuses, in its own words.
pub(super) fn refusal(body: &str) -> String {
    let said =
        serde_json::from_str::<Refusal>(body).ok().and_then(|refusal| refusal.message.or(refusal.error));
    said.unwrap_or_else(|| body.trim().to_owned())
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_etcd_3_6_are_understood() {
        let list = r#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","raft_term":"2"},
            "members":[{"ID":"10276657743932975437","name":"controller-0","peerURLs":["https://controller-0:2380"],
            "clientURLs":["https://controller-0:2379"]},
            {"ID":"18446744073709551615","peerURLs":["https://controller-1:2380"],"isLearner":true}]}"#;
        let members = serde_json::from_str::<Members>(list).unwrap().members;
        assert!(members[0].is_of("controller-0") && !members[0].learner);
        assert!(members[1].is_of("controller-1") && members[1].learner && members[1].name.is_empty());
        assert_eq!(members[1].id, u64::MAX);

        let status = r#"{"header":{"cluster_id":"1","member_id":"2","revision":"7","raft_term":"2"},"version":"3.6.16",
            "dbSize":"20480","raftIndex":"12","raftTerm":"2","raftAppliedIndex":"11","errors":["etcdserver: no leader"],
            "dbSizeInUse":"16384","isLearner":true,"storageVersion":"3.6.0","dbSizeQuota":"2147483648","downgradeInfo":{}}"#;
        let expected = Status {
            header: Header { member_id: 2 },
            learner: true,
            leader: 0,
            raft_index: 12,
            raft_applied_index: 11,
            db_size: 20480,
        };
        assert_eq!(serde_json::from_str::<Status>(status).unwrap(), expected);
    }

    #[test]
    fn a_refusal_is_told_in_etcds_words() {
        let message = "etcdserver: unhealthy cluster";
        assert_eq!(refusal(&format!(r#"{{"code":14,"message":"{message}","details":[]}}"#)), message);
        assert_eq!(refusal(&format!(r#"{{"error":"{message}","code":14,"message":"{message}"}}"#)), message);
        assert_eq!(refusal("404 page not found\n"), "404 page not found");
    }
}
