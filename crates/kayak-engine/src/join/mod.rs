//! Joining a cluster of another machine: from its address, a token and its CA's hash to a node's certificate.

mod authority;
mod certificate;
mod door;
pub mod tokens;

use std::net::SocketAddr;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kayak_core::join::{
    INVITATION_CONFIG_MAP, INVITATION_KEY, Invitation, JOINING, JOINING_CONTROLLER, LEASE_SECONDS, Pin, Skew,
    Token, clocks_differ, skew,
};
use kayak_core::kubeconfig::with_token;
use kayak_core::pki::Secret;
use kube::api::{Api, PostParams};
use time::OffsetDateTime;

pub use self::authority::AuthorityError;
use crate::api::{self, ApiError};

/// Why a machine cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The address leads to no API that can be trusted.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No client could be made.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The API did not answer.
    #[error("failed to {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The token is not known.
    #[error("the cluster does not take this token: it has ended, was revoked, or is another cluster's")]
    Token,
    /// The token is for something else.
    #[error("this token is for no machine that joins: it was not made by `kayak token create`")]
    Foreign,
    /// The token makes no controllers.
    #[error("this token is for workers only, and a node that may become a controller was asked for")]
    WorkersOnly,
    /// The API's clock and this machine's do not agree.
    #[error(
        "this machine's clock is {seconds} s {direction} the cluster's; more than 60 s make certificates fail"
    )]
    Clock {
        /// By how much.
        seconds: i64,
        /// `ahead of` or `behind`.
        direction: &'static str,
    },
    /// The API does not say what time it is.
    #[error("the cluster does not tell its time: {0}")]
    NoTime(String),
    /// The versions do not go together.
    #[error(transparent)]
    Skew(#[from] Skew),
    /// Nobody is invited.
    #[error("the cluster lets nobody join: it has no ConfigMap `{INVITATION_CONFIG_MAP}`")]
    NotInvited,
    /// The cluster tells what this kayak does not understand.
    #[error("what the cluster tells of itself is not understood: it was made by another version of kayak")]
    Invitation(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody else has the name.
    #[error("a node called `{name}` is alive: it was heard {seconds} s ago")]
    Taken {
        /// The name.
        name: String,
        /// How long ago its kubelet renewed its lease.
        seconds: i64,
    },
    /// No key or request could be made.
    #[error("failed to make the certificate request of `{0}`")]
    Request(String, #[source] rcgen::Error),
    /// The cluster refused the node.
    #[error("the cluster refuses the node `{node}`: {because}")]
    Denied {
        /// Which node.
        node: String,
        /// What the agent that decided says.
        because: String,
    },
    /// Nobody decided.
    #[error("no certificate was issued for `{node}` within {seconds} s")]
    Undecided {
        /// Which node.
        node: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// A cluster that is spoken to with a token.
pub struct Door {
    /// By what it is spoken to: a client lives as long as the runtime that it was made on.
    kubeconfig: Secret,
    /// The cluster's CA, PEM: the pin's.
    pub ca: String,
    /// What every node must know.
    pub invitation: Invitation,
    /// The address by which this machine reaches the cluster.
    pub own_address: std::net::IpAddr,
    /// By how much the cluster's clock is ahead of this machine's.
    ahead: time::Duration,
}

impl Door {
    /// Knocks: judges the cluster by the pin, and what the cluster says by whether this machine can join it.
    /// Changes nothing.
    pub async fn open(
        address: SocketAddr,
        token: &Token,
        pin: &Pin,
        kubelet: &str,
        controller: bool,
    ) -> Result<Self, JoinError> {
        let authority::Found { ca, own_address } = authority::find(address, pin).await?;
        let kubeconfig = with_token(&format!("https://{address}"), &ca, token);
        let client = api::client(kubeconfig.expose()).await?;
        let now = OffsetDateTime::now_utc();
        let theirs = door::time(&client).await?;
        if let Some(ahead) = clocks_differ(now.unix_timestamp(), theirs.unix_timestamp()) {
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            return Err(JoinError::Clock { seconds: ahead.abs(), direction });
        }
        let version = client.apiserver_version().await.map_err(ask("ask for the cluster's version"))?;
        skew(kubelet, &version.git_version)?;
        may_join(&client, controller).await?;
        let invitation = invitation(&client).await?;
        Ok(Self { kubeconfig, ca, invitation, own_address, ahead: theirs - now })
    }

    async fn client(&self) -> Result<kube::Client, ApiError> {
        api::client(self.kubeconfig.expose()).await
    }

    /// Refuses a name that a living node has.
    pub async fn is_free(&self, name: &str) -> Result<(), JoinError> {
        let leases: Api<Lease> = Api::namespaced(self.client().await?, "kube-node-lease");
        let lease = leases.get_opt(name).await.map_err(ask("ask whether the node's name is taken"))?;
        let renewed = lease.and_then(|lease| lease.spec?.renew_time);
        let now = OffsetDateTime::now_utc() + self.ahead;
        match renewed.map(|at| now.unix_timestamp() - at.0.as_second()) {
            Some(seconds) if seconds <= LEASE_SECONDS => Err(JoinError::Taken { name: name.into(), seconds }),
            Some(_) | None => Ok(()),
        }
    }
}

fn ask(what: &'static str) -> impl Fn(kube::Error) -> JoinError {
    move |source| JoinError::Ask { what, source: Box::new(source) }
}

/// Asks the API server who it takes the token's holder for.
async fn may_join(client: &kube::Client, controller: bool) -> Result<(), JoinError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(ask("ask what the token is for"))?;
    let groups = review.status.and_then(|status| status.user_info?.groups).unwrap_or_default();
    let is_in = |wanted: &str| groups.iter().any(|group| group == wanted);
    match (is_in(JOINING), is_in(JOINING_CONTROLLER)) {
        (false, _) => Err(JoinError::Foreign),
        (true, false) if controller => Err(JoinError::WorkersOnly),
        (true, _) => Ok(()),
    }
}

async fn invitation(client: &kube::Client) -> Result<Invitation, JoinError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get_opt(INVITATION_CONFIG_MAP).await.map_err(ask("ask what a node must know"))?;
    let text = map.and_then(|map| map.data?.remove(INVITATION_KEY)).ok_or(JoinError::NotInvited)?;
    serde_json::from_str(&text).map_err(|source| JoinError::Invitation(source.into()))
}
