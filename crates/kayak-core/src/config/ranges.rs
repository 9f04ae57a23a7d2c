//! Ranges of addresses: one, or one of each family.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::check::Problem;
use super::path::Path;
use super::{Network, NetworkMode};

/// How a range of addresses is written, as a regular expression.
pub(super) const RANGE: &str = r"^((\d{1,3}\.){3}\d{1,3}/\d{1,2}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/\d{1,3})$";

/// One range, or one of each family. The first is of the primary family: what has one address only has one
/// of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// The only one, or that of the primary family.
    pub first: IpNet,
    /// The one of the other family.
    pub second: Option<IpNet>,
}

impl Ranges {
    /// A range of one family.
    pub const fn one(range: Ipv4Net) -> Self {
        Self { first: IpNet::V4(range), second: None }
    }

    /// All of them, the primary family's first.
    pub fn all(self) -> impl Iterator<Item = IpNet> {
        [self.first].into_iter().chain(self.second)
    }

    /// Whether an address is in one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.all().any(|range| range.contains(&address))
    }

    /// As flags of Kubernetes have them.
    pub fn joined(self) -> String {
        self.all().map(|range| range.to_string()).collect::<Vec<_>>().join(",")
    }

    /// The one of IPv4.
    pub fn four(self) -> Option<IpNet> {
        self.all().find(|range| range.addr().is_ipv4())
    }

    /// The one of IPv6.
    pub fn six(self) -> Option<IpNet> {
        self.all().find(|range| range.addr().is_ipv6())
    }

    fn families(self) -> Vec<&'static str> {
        self.all().map(|range| family(&range)).collect()
    }
}

impl From<IpNet> for Ranges {
    fn from(first: IpNet) -> Self {
        Self { first, second: None }
    }
}

fn family(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// As it is written in a configuration.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.second {
            Some(second) => write!(f, "[{}, {second}]", self.first),
            None => write!(f, "{}", self.first),
        }
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.second {
            Some(second) => [self.first, second].serialize(serializer),
            None => self.first.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrTwo)
    }
}

struct OneOrTwo;

impl<'de> Visitor<'de> for OneOrTwo {
    type Value = Ranges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a range of addresses, or a list with one of each family")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ranges, E> {
        let first = text.parse().map_err(E::custom)?;
        Ok(Ranges { first, second: None })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ranges, A::Error> {
        let Some(first) = items.next_element()? else {
            return Err(de::Error::invalid_length(0, &self));
        };
        let second = items.next_element()?;
        match items.next_element::<IpNet>()? {
            Some(_) => Err(de::Error::invalid_length(3, &self)),
            None => Ok(Ranges { first, second }),
        }
    }
}

impl JsonSchema for Ranges {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ranges".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "pattern": RANGE,
            "items": { "type": "string", "pattern": RANGE },
            "minItems": 1,
            "maxItems": 2,
        })
    }
}

/// What ranges are for.
struct Kind {
    field: &'static str,
    ranges: Ranges,
    /// The widest and the narrowest that works, of IPv4 and of IPv6.
    four: (u8, u8),
    six: (u8, u8),
}

/// Finds what is wrong with the ranges.
pub(super) fn problems(network: &Network, problems: &mut Vec<Problem>) {
    let nodes = Kind { field: "nodes", ranges: network.nodes, four: (0, 28), six: (0, 124) };
    // On the machine's own network no node has an address of that range.
    let nodes = (network.mode == NetworkMode::Bridge).then_some(nodes);
    let kinds: Vec<_> = nodes
        .into_iter()
        .chain([
            // Each node gets a /64, and the controller manager counts no more than 65536 of them.
            Kind { field: "pods", ranges: network.pods, four: (0, 23), six: (48, 63) },
            // The API server counts them in 64 bits.
            Kind { field: "services", ranges: network.services, four: (0, 28), six: (64, 124) },
        ])
        .collect();
    families(network, &kinds, problems);
    overlaps(&kinds, problems);
    for kind in &kinds {
        for (index, range) in kind.ranges.all().enumerate() {
            let path = Path::to("network").field(kind.field);
            let path = if kind.ranges.second.is_some() { path.item(index) } else { path };
            one(kind, range, &path, problems);
        }
    }
}

fn families(network: &Network, kinds: &[Kind], problems: &mut Vec<Problem>) {
    let path = |kind: &Kind| Path::to("network").field(kind.field);
    for kind in kinds {
        let families = kind.ranges.families();
        if families.len() == 2 && families[0] == families[1] {
            let message = format!("`network.{}: {}` are both {}", kind.field, kind.ranges, families[0]);
            problems.push(Problem::new(path(kind), message, "one range, or one of each family"));
            return;
        }
        if network.mode == NetworkMode::Host && families != ["IPv4"] {
            let message =
                format!("`network.{}: {}` does not go with `network.mode: host`", kind.field, kind.ranges);
            let hint = "take a range of IPv4, or `network.mode: bridge`: on a machine's own network there is IPv4 only so far";
            problems.push(Problem::new(path(kind), message, hint));
        }
    }
    let Some((first, others)) = kinds.split_first() else { return };
    for other in others.iter().filter(|other| other.ranges.families() != first.ranges.families()) {
        let said = |kind: &Kind| {
            format!("`network.{}: {}` is {}", kind.field, kind.ranges, kind.ranges.families().join(" and "))
        };
        problems.push(Problem {
            paths: vec![path(other), path(first)],
            is_name: false,
            message: format!("{}, and {}", said(other), said(first)),
            hint: "give `nodes`, `pods` and `services` the same families in the same order, the primary one first"
                .into(),
        });
    }
}

fn overlaps(kinds: &[Kind], problems: &mut Vec<Problem>) {
    for (index, left) in kinds.iter().enumerate() {
        for right in &kinds[index + 1..] {
            for (a, b) in left.ranges.all().flat_map(|a| right.ranges.all().map(move |b| (a, b))) {
                if !a.contains(&b) && !b.contains(&a) {
                    continue;
                }
                let hint = match a {
                    IpNet::V4(_) => "10.254.0.0/24, 10.244.0.0/16 and 10.96.0.0/16",
                    IpNet::V6(_) => "fd00:254::/64, fd00:244::/56 and fd00:96::/112",
                };
                problems.push(Problem {
                    paths: [left, right].map(|kind| Path::to("network").field(kind.field)).into(),
                    is_name: false,
                    message: format!(
                        "`network.{}: {a}` and `network.{}: {b}` overlap",
                        left.field, right.field
                    ),
                    hint: format!("take ranges apart from each other, such as {hint}"),
                });
            }
        }
    }
}

fn one(kind: &Kind, range: IpNet, path: &Path, problems: &mut Vec<Problem>) {
    let named = format!("`network.{}: {range}`", kind.field);
    let (widest, narrowest) = if range.addr().is_ipv4() { kind.four } else { kind.six };
    let mut refuse = |message: String, hint: String| problems.push(Problem::new(path.clone(), message, hint));
    if range.prefix_len() > narrowest {
        refuse(format!("{named} is too small"), format!("at most /{narrowest}"));
    }
    if range.prefix_len() < widest {
        refuse(format!("{named} is too large"), format!("at least /{widest}"));
    }
    if range.trunc() != range {
        refuse(format!("{named} has host bits set"), format!("write {}", range.trunc()));
    }
    if let IpAddr::V6(address) = range.addr()
        && (address.is_unicast_link_local() || address.is_multicast() || address.segments()[..5] == [0; 5])
    {
        let hint = "take a range of unique local addresses, such as fd00:254::/64";
        refuse(format!("{named} holds no addresses of machines"), hint.into());
    }
}
