//! What is recorded of a node that joined.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a controller's agent wrote down when it let a node join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Where it is reached: its serving certificate is for this address.
    pub address: IpAddr,
    /// Whether it may become a controller, as the token said by which it joined.
    pub may_control: bool,
    /// When it was let in, in seconds since 1970: its kubelet takes some to be heard.
    pub since: i64,
    /// The certificate request that was granted.
    pub request: String,
}

/// Reads what was recorded; what is no record is not one.
pub fn records(data: &BTreeMap<String, String>) -> BTreeMap<String, Record> {
    let read = |(node, text): (&String, &String)| Some((node.clone(), serde_json::from_str(text).ok()?));
    data.iter().filter_map(read).collect()
}

/// Why a text cannot be a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name for a node: 1 to 63 lower-case letters, digits and inner dashes")]
pub struct NotAName(String);

/// Takes a text as a node's name. It is a host name too, and part of no other name's.
pub fn node_name(text: &str) -> Result<String, NotAName> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits { Ok(text.to_owned()) } else { Err(NotAName(text.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        let data = [
            ("attic", r#"{"address":"192.0.2.7","mayControl":false,"since":7,"request":"a"}"#),
            ("cellar", "192.0.2.8"),
            ("roof", r#"{"address":"192.0.2.9","mayControl":true,"since":7,"request":"b","more":1}"#),
        ];
        let data = data.map(|(node, text)| (node.to_owned(), text.to_owned())).into();
        let read = records(&data);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["attic"]);
        assert_eq!(serde_json::to_string(&read["attic"]).unwrap(), data["attic"]);
    }

    #[test]
    fn a_nodes_name_is_a_host_name() {
        assert!(node_name("attic-2").is_ok());
        for wrong in ["", "-a", "a-", "A", "a.b", "a/b", "a_b", &"a".repeat(64)] {
            assert!(node_name(wrong).is_err(), "{wrong}");
        }
    }
}
