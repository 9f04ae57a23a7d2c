//! Bootstrap tokens, as Kubernetes has them: who holds one may ask for a node's certificate.

use std::fmt;
use std::str::FromStr;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{JOINING, JOINING_CONTROLLER};
use crate::access::object;
use crate::object::{Object, ObjectId};
use crate::pki::Secret;

const ID: usize = 6;
const REST: usize = 16;

/// A token: an id, which is no secret, and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    rest: Secret,
}

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is no token: one is `abcdef.0123456789abcdef`, 6 and 16 lower-case letters and digits")]
pub struct NotAToken;

impl Token {
    /// Makes a token of random bytes.
    pub fn of_random(bytes: &[u8; ID + REST]) -> Self {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let text: String = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
        let (id, rest) = text.split_at(ID);
        Self { id: id.into(), rest: Secret::new(rest.into()) }
    }

    /// Its id, by which it is listed and revoked.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All of it.
    pub fn expose(&self) -> Secret {
        Secret::new(format!("{}.{}", self.id, self.rest.expose()))
    }

    /// The Secret that makes the API server know it.
    pub fn secret(&self, terms: &TokenTerms<'_>) -> Object {
        let groups =
            if terms.controller { format!("{JOINING},{JOINING_CONTROLLER}") } else { JOINING.into() };
        let purpose = if terms.controller { "a controller or a worker" } else { "a worker" };
        object(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{}", self.id), "namespace": "kube-system" },
            "stringData": {
                "token-id": self.id,
                "token-secret": self.rest.expose(),
                "expiration": terms.until,
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": groups,
                "description": format!("kayak: for {purpose}"),
            },
        }))
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (id, rest) = text.split_once('.').ok_or(NotAToken)?;
        let fits = |text: &str, length| text.len() == length && is_plain(text);
        if !fits(id, ID) || !fits(rest, REST) {
            return Err(NotAToken);
        }
        Ok(Self { id: id.into(), rest: Secret::new(rest.into()) })
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// For how long and for what a token is good.
#[derive(Debug, Clone, Copy)]
pub struct TokenTerms<'a> {
    /// When it ends, as RFC 3339 has it.
    pub until: &'a str,
    /// Whether a machine that joins with it may become a controller.
    pub controller: bool,
}

/// Names the Secret of a token by its id, or by all of it.
pub fn secret_id(token: &str) -> Result<ObjectId, NotAToken> {
    let id = token.split_once('.').map_or(token, |(id, _)| id);
    if id.len() != ID || !is_plain(id) {
        return Err(NotAToken);
    }
    Ok(ObjectId {
        api_version: "v1".into(),
        kind: "Secret".into(),
        namespace: Some("kube-system".into()),
        name: format!("bootstrap-token-{id}"),
    })
}

/// The hash of a CA's public key, by which it is told from any other before anything of it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a public key: SHA-256 of its `SubjectPublicKeyInfo`, as kubeadm has it.
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || "that is no hash: one is `sha256:` and 64 hexadecimal digits".to_owned();
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or_else(refused)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

/// What is typed on the machine that is to join.
pub fn join_line(address: &str, token: &Token, pin: &Pin, controller: bool) -> Secret {
    let flag = if controller { " --controller" } else { "" };
    Secret::new(format!("kayak join {address} --token {} --ca-hash {pin}{flag}", token.expose().expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = Token::of_random(&std::array::from_fn(|i| u8::try_from(i * 11).unwrap()));
        let text = token.expose();
        assert!(text.expose().parse::<Token>().ok() == Some(token.clone()));
        assert_eq!(secret_id(token.id()), secret_id(text.expose()));
        for wrong in
            ["", "abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef"]
        {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pin_is_read_as_it_is_written_and_fits_one_key_alone() {
        let pin = Pin::of(b"key");
        assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
        assert_ne!(pin, Pin::of(b"other"));
        for wrong in [
            "",
            "sha256:",
            "sha256:zz",
            &format!("sha1:{}", "0".repeat(64)),
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_token_for_controllers_is_in_their_group() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let groups = |controller| {
            let secret = token.secret(&TokenTerms { until: "2030-01-01T00:00:00Z", controller });
            secret.value()["stringData"]["auth-extra-groups"].as_str().unwrap().to_owned()
        };
        assert_eq!(groups(false), JOINING);
        assert_eq!(groups(true), format!("{JOINING},{JOINING_CONTROLLER}"));
    }
}
