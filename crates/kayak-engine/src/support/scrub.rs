//! Takes secrets out of what leaves the machine. Nothing secret is collected on purpose; this is for
//! what somebody has logged or edited into a place where it should not be.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kayak_core::pki::KeyStore;

/// What stands where a secret was.
const REMOVED: &[u8] = b"(removed)";
/// So many characters of a secret in a row are taken for it.
const WINDOW: usize = 16;
/// How tokens of service accounts begin: `{"alg":` in base64; and so once more, as Secrets have them.
const TOKENS: [&[u8]; 2] = [b"eyJhbGciOi", b"ZXlKaGJHY2lPa"];

/// Knows the secrets of one cluster.
#[derive(Default)]
pub struct Scrubber {
    windows: HashSet<[u8; WINDOW]>,
}

impl Scrubber {
    /// Learns every key: as it is, in base64 as kubeconfigs and Secrets have it, and twice over, as
    /// Secrets have kubeconfigs.
    pub fn new(keys: &KeyStore) -> Self {
        let mut scrubber = Self::default();
        let account = keys.service_account.iter();
        for pair in keys.pairs.values().chain(account) {
            scrubber.learn_pem(pair.key.expose());
        }
        if let Some(key) = &keys.encryption_key {
            scrubber.learn(key.expose().as_bytes());
            scrubber.learn_encoded(key.expose().as_bytes());
        }
        for password in keys.registries.values().filter_map(|known| known.password.as_ref()) {
            scrubber.learn(password.expose().as_bytes());
            scrubber.learn_encoded(password.expose().as_bytes());
        }
        scrubber
    }

    /// Learns a private key, PEM.
    pub fn learn_pem(&mut self, pem: &str) {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        self.learn(body.as_bytes());
        self.learn_encoded(pem.as_bytes());
        self.learn_encoded(BASE64.encode(pem).as_bytes());
    }

    fn learn(&mut self, secret: &[u8]) {
        self.windows
            .extend(secret.windows(WINDOW).filter_map(|window| <[u8; WINDOW]>::try_from(window).ok()));
    }

    /// Base64 looks different by where in what is encoded the secret begins: there are three ways.
    fn learn_encoded(&mut self, secret: &[u8]) {
        for shift in 0..3 {
            let text = BASE64.encode([&b"  "[..shift], secret].concat());
            // The first and the last group depend on what stands around the secret.
            let inner = text.as_bytes().get(4..text.len().saturating_sub(4));
            self.learn(inner.unwrap_or_default());
        }
    }

    /// Returns a text without secrets, and without private keys that nobody knows of.
    pub fn clean(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut in_key = false;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let begins = has(line, b"-----BEGIN ") && has(line, b"PRIVATE KEY-----");
            if in_key || begins {
                in_key = !has(line, b"-----END ");
                if !in_key {
                    clean.extend_from_slice(REMOVED);
                    clean.push(b'\n');
                }
                continue;
            }
            self.clean_line(line, &mut clean);
        }
        clean
    }

    fn clean_line(&self, line: &[u8], clean: &mut Vec<u8>) {
        for word in line.chunk_by(|a, b| is_encoded(*a) == is_encoded(*b)) {
            if word.len() >= WINDOW && is_encoded(word[0]) && self.is_secret(word) {
                clean.extend_from_slice(REMOVED);
            } else {
                clean.extend_from_slice(word);
            }
        }
    }

    fn is_secret(&self, word: &[u8]) -> bool {
        TOKENS.iter().any(|token| has(word, token))
            || word.windows(WINDOW).any(|window| self.windows.contains(window))
    }
}

/// The characters of base64, also as tokens have it.
fn is_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'.')
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kayak_core::pki::{Pair, Secret};

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgq0Rx3QzCk5m1nE7u\n\
        Yw0aX9bVh2sT4oPl8dGfJi6eKcOhRANCAARb7WmZ2tQ5yUx0vN3rLk1sHpDgFjCa\n\
        TzE8iXoW4uMqB6nYdR9hGvKl2JfSe5wAVx3mPbOcQ7tI0yZgUk1rN8aL\n\
        -----END PRIVATE KEY-----\n";
    const ENCRYPTION: &str = "dGhpcyBpcyBub3QgYSByZWFsIGtleSwgYnV0IDMyIEI=";

    fn scrubber() -> Scrubber {
        let pair = Pair { certificate: "public".into(), key: Secret::new(KEY.into()) };
        let mut keys =
            KeyStore { encryption_key: Some(Secret::new(ENCRYPTION.into())), ..KeyStore::default() };
        keys.pairs.insert("ca".into(), pair);
        Scrubber::new(&keys)
    }

    fn clean(text: &str) -> String {
        String::from_utf8(scrubber().clean(text.as_bytes())).unwrap()
    }

    #[test]
    fn keys_are_found_however_they_are_written() {
        let once = BASE64.encode(format!("users: [{{ key: {} }}]", BASE64.encode(KEY)));
        for secret in [
            KEY.lines().nth(1).unwrap().to_owned(),
            KEY.lines().nth(3).unwrap().to_owned(),
            BASE64.encode(KEY),
            BASE64.encode(format!("x{KEY}")),
            BASE64.encode(format!("xy{KEY}")),
            ENCRYPTION.into(),
            BASE64.encode(format!("secret: {ENCRYPTION}")),
            once,
        ] {
            let text = clean(&format!("I1121 before key={secret}, after\n"));
            assert!(text.starts_with("I1121 before ") && text.ends_with(", after\n"), "{text}");
            assert!(text.contains("(removed)") && text.len() < 60, "{text}");
        }
    }

    #[test]
    fn private_keys_and_tokens_of_others_are_found_too() {
        let other = "a\n-----BEGIN EC PRIVATE KEY-----\nbm9ib2R5IGtub3dz\n-----END EC PRIVATE KEY-----\nb\n";
        assert_eq!(clean(other), "a\n(removed)\nb\n");
        assert_eq!(clean("Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln\n"), "Bearer (removed)\n");
        assert_eq!(clean("-----BEGIN PRIVATE KEY-----\nAAAA"), "", "cut off in the middle of a key");
    }

    #[test]
    fn all_else_stays() {
        let text = "uid=0b7e4a52-7a3e-4a53-9c39-4dc1b9a0cf0e sha256:9f86d081884c7d659a2feaa0c55ad015\n\
            -----BEGIN CERTIFICATE-----\nMIIBdzCCAR2gAwIBAgIBADAKBggqhkjOPQQDAjAjMSEw\n-----END CERTIFICATE-----\nä";
        assert_eq!(clean(text), text);
    }
}
