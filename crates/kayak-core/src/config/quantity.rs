//! Amounts as Kubernetes writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::components::Scalar;

/// How an amount is written, as a regular expression.
const PATTERN: &str = r"^(\d+(\.\d*)?|\.\d+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE]\d{1,2})?$";

/// The suffixes: the power of 10 or, for those with an `i`, of 2.
const SUFFIXES: [(&str, u32, i32); 16] = [
    ("Ki", 2, 10),
    ("Mi", 2, 20),
    ("Gi", 2, 30),
    ("Ti", 2, 40),
    ("Pi", 2, 50),
    ("Ei", 2, 60),
    ("n", 10, -9),
    ("u", 10, -6),
    ("m", 10, -3),
    ("k", 10, 3),
    ("M", 10, 6),
    ("G", 10, 9),
    ("T", 10, 12),
    ("P", 10, 15),
    ("E", 10, 18),
    ("", 10, 0),
];

/// An amount of CPU or memory, which keeps the text that the owner wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Scalar", into = "String")]
pub struct Quantity {
    text: String,
    thousandths: u128,
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount: write a number with a unit, such as 500m (half a CPU), 512Mi or 2Gi")]
pub struct NoQuantity(String);

impl Quantity {
    /// The amount in whole units, rounded up: bytes for memory.
    pub fn units(&self) -> u128 {
        self.thousandths.div_ceil(1000)
    }

    /// The amount in thousandths, rounded up: millicores for CPU.
    pub fn thousandths(&self) -> u128 {
        self.thousandths
    }
}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let thousandths = parse(text).ok_or_else(|| NoQuantity(text.into()))?;
        Ok(Self { text: text.into(), thousandths })
    }
}

/// Reads an amount in thousandths.
fn parse(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (base, power) = match suffix.strip_prefix(['e', 'E']) {
        // `E` alone is a suffix, and `Ei` too.
        Some(power) if power.len() <= 2 && power.parse::<u8>().is_ok() => (10, power.parse().ok()?),
        _ => SUFFIXES.iter().find(|(name, ..)| *name == suffix).map(|(_, base, power)| (*base, *power))?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let value: u128 = digits.parse().ok()?;
    // value × base^power × 1000 ÷ 10^(digits after the point)
    let factor = |base: u32, power: i32| u128::from(base).checked_pow(power.unsigned_abs());
    let down = factor(10, i32::try_from(fraction.len()).ok()?)?;
    let (up, down) = match power {
        0.. => (factor(base, power)?, down),
        _ => (1, down.checked_mul(factor(base, power)?)?),
    };
    Some(value.checked_mul(up)?.checked_mul(1000)?.div_ceil(down))
}

impl TryFrom<Scalar> for Quantity {
    type Error = NoQuantity;

    fn try_from(scalar: Scalar) -> Result<Self, NoQuantity> {
        scalar.to_string().parse()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount as Kubernetes writes it: `500m`, `2`, `512Mi`, `1.5G`.",
            "type": ["string", "number"],
            "pattern": PATTERN,
            "minimum": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        let thousandths = |text: &str| text.parse::<Quantity>().unwrap().thousandths();
        for (text, wanted) in [
            ("2", 2_000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1u", 1),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1Ei", 1_152_921_504_606_846_976_000),
        ] {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_amount() {
        for text in ["", "much", "1 Gi", "1GB", "1gi", "-1", "1.2.3", "Mi", ".", "1e", "1e400", "0x10"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
