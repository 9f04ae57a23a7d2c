//! The tokens of a cluster: made, listed, revoked.

use k8s_openapi::api::core::v1::Secret;
use kayak_core::join::{JOINING, JOINING_CONTROLLER, Token, TokenTerms};
use kayak_core::object::ObjectId;
use kube::api::{Api, ListParams};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::api::{self, ApiError};
use crate::keystore::{KeyError, random};

pub use super::authority::pin;

const KIND: &str = "bootstrap.kubernetes.io/token";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The API would not.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] KeyError),
    /// The time cannot be written.
    #[error("failed to write down when the token ends")]
    Time(#[source] time::error::Format),
}

/// A token as it is listed: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id, by which it is revoked.
    pub id: String,
    /// When it ends; never if absent.
    pub until: Option<String>,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether a machine can join by it at all: others make tokens too.
    pub joins: bool,
    /// Whether a machine that joins by it may become a controller.
    pub controller: bool,
}

/// Makes a token; returns when it ends.
pub async fn create(
    client: &kube::Client,
    ttl: Duration,
    controller: bool,
) -> Result<(Token, String), TokenError> {
    let token = Token::of_random(&random()?);
    // Whole seconds, as upstream's own tools write it.
    let until = (OffsetDateTime::now_utc() + ttl).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let until = until.format(&Rfc3339).map_err(TokenError::Time)?;
    api::give(client, &token.secret(&TokenTerms { until: &until, controller })).await?;
    Ok((token, until))
}

/// Lists all tokens.
pub async fn list(client: &kube::Client, now: OffsetDateTime) -> Result<Vec<Listed>, TokenError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let tokens = secrets.list(&ListParams::default().fields(&format!("type={KIND}"))).await;
    let tokens =
        tokens.map_err(|source| ApiError::List { kind: "Secret".into(), source: Box::new(source) })?;
    Ok(tokens.items.into_iter().map(|secret| listed(secret, now)).collect())
}

fn listed(secret: Secret, now: OffsetDateTime) -> Listed {
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let groups = text("auth-extra-groups").unwrap_or_default();
    let is_in = |wanted: &str| groups.split(',').any(|group| group.trim() == wanted);
    let until = text("expiration");
    let end = until.as_ref().and_then(|until| OffsetDateTime::parse(until, &Rfc3339).ok());
    Listed {
        id: text("token-id").unwrap_or_default(),
        until,
        ended: end.is_some_and(|end| end <= now),
        joins: is_in(JOINING),
        controller: is_in(JOINING_CONTROLLER),
    }
}

/// Takes a token away; says whether it was there. Nodes that joined by it stay.
pub async fn revoke(client: &kube::Client, id: &ObjectId) -> Result<bool, TokenError> {
    let there = api::handle(client, id).get_opt(&id.name).await;
    let there = there.map_err(|source| ApiError::Look { id: id.clone(), source: Box::new(source) })?;
    if there.is_some() {
        api::delete(client, std::slice::from_ref(id)).await?;
    }
    Ok(there.is_some())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_token_is_listed_without_its_secret() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let list = |until: &str, controller| {
            let object = token.secret(&TokenTerms { until, controller });
            let data = object.value()["stringData"].as_object().unwrap().iter();
            let data = data.map(|(k, v)| (k.clone(), ByteString(v.as_str().unwrap().into()))).collect();
            listed(Secret { data: Some(data), ..Secret::default() }, OffsetDateTime::UNIX_EPOCH)
        };
        let good = list("1970-01-01T00:00:01Z", true);
        assert_eq!(
            (good.id.as_str(), good.ended, good.joins, good.controller),
            ("abcdef", false, true, true)
        );
        assert!(list("1970-01-01T00:00:00Z", false).ended && !list("1970-01-01T00:00:00Z", false).controller);
        assert!(!serde_json::to_string(&good).unwrap().contains("0123456789abcdef"));
    }
}
