use std::process::ExitCode;

use kayak_core::assets::KUBECONFIG;
use kayak_core::cluster::Cluster;
use kayak_core::join::{Pin, join_line, secret_id};
use kayak_engine::join::tokens;
use kayak_engine::{api, asset_dir};
use serde_json::json;
use time::OffsetDateTime;

use super::kubeconfig::lifetime;
use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::read;

/// Tokens by which other machines join.
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    Create(CreateArgs),
    /// List tokens, without their secrets
    List,
    Revoke(RevokeArgs),
}

/// Make a token, and print once what is to be typed on the other machine
#[derive(clap::Args)]
pub struct CreateArgs {
    /// How long machines may join by it, as `24h`, `90m` or `45s`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime)]
    ttl: time::Duration,

    /// Let a machine that joins by it be made a controller
    #[arg(long)]
    controller: bool,
}

/// Take a token away; machines that have joined by it stay
#[derive(clap::Args)]
pub struct RevokeArgs {
    /// The token, or its first six characters, as `kayak token list` shows them
    #[arg(value_name = "TOKEN")]
    token: String,
}

pub fn run(cx: &Context, command: &TokenCommand) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name()?;
    cx.require_running(&name)?;
    let directory = cx.dirs.assets(&name);
    let cluster = asset_dir::read(&directory)?.cluster;
    if cluster.joined.is_some() {
        return Err(CommandError::usage(format!(
            "cluster `{name}` is another machine's, which this one has joined"
        ))
        .hint("tokens are made there; nothing was changed"));
    }
    let admin = read(&directory.join(KUBECONFIG))?;
    match command {
        TokenCommand::Create(args) => create(cx, &cluster, &admin, args),
        TokenCommand::List => list(cx, &admin),
        TokenCommand::Revoke(args) => revoke(cx, &admin, args),
    }
}

fn create(cx: &Context, cluster: &Cluster, admin: &str, args: &CreateArgs) -> Result<ExitCode, CommandError> {
    if !cluster.config.join {
        return Err(CommandError::usage(format!(
            "the configuration of `{}` lets no machine join",
            cluster.name()
        ))
        .hint("write `join: true` into it, and `kayak up` brings that in; no token was made"));
    }
    let ca = read(&cx.dirs.assets(cluster.name()).join("tls/ca.crt"))?;
    let pin: Pin = tokens::pin(&ca).ok_or_else(|| CommandError::failed("the cluster's CA cannot be read"))?;
    let (token, until) = block_on(async {
        let client = api::client(admin).await?;
        Ok(tokens::create(&client, args.ttl, args.controller).await?)
    })?;
    let url = cluster.api_url();
    let address = url.trim_start_matches("https://");
    let line = join_line(address, &token, &pin, args.controller);
    if cx.output == Output::Json {
        report::json(&json!({
            "id": token.id(), "token": token.expose().expose(), "until": until, "controller": args.controller,
            "caHash": pin.to_string(), "address": address, "join": line.expose(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    report::data(line.expose());
    report::note(&format!(
        "until {until}, on any machine that reaches {address}; the token is shown this once"
    ));
    report::hint(&format!("`kayak token revoke {}` ends it before", token.id()));
    Ok(ExitCode::SUCCESS)
}

fn list(cx: &Context, admin: &str) -> Result<ExitCode, CommandError> {
    let listed = block_on(async {
        let client = api::client(admin).await?;
        Ok(tokens::list(&client, OffsetDateTime::now_utc()).await?)
    })?;
    if cx.output == Output::Json {
        report::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        report::note("there is no token");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["TOKEN", "FOR", "UNTIL"].map(str::to_owned).to_vec()];
    for token in listed {
        let purpose = match (token.joins, token.controller) {
            (false, _) => "nothing of kayak's",
            (true, false) => "workers",
            (true, true) => "controllers and workers",
        };
        let until = token.until.unwrap_or_else(|| "without end".into());
        let until = if token.ended { format!("{until} (ended)") } else { until };
        rows.push(vec![token.id, purpose.into(), until]);
    }
    report::table(&rows);
    Ok(ExitCode::SUCCESS)
}

fn revoke(cx: &Context, admin: &str, args: &RevokeArgs) -> Result<ExitCode, CommandError> {
    let secret = secret_id(&args.token).map_err(|error| CommandError::from(error).of_usage())?;
    let id = secret.name.trim_start_matches("bootstrap-token-").to_owned();
    let was_there = block_on(async {
        let client = api::client(admin).await?;
        Ok(tokens::revoke(&client, &secret).await?)
    })?;
    if !was_there {
        return Err(
            CommandError::usage(format!("there is no token `{id}`")).hint("`kayak token list` shows them")
        );
    }
    match cx.output {
        Output::Json => report::json(&json!({ "revoked": id }))?,
        Output::Text => report::note(&format!("nobody joins by token `{id}` any more; who has joined stays")),
    }
    Ok(ExitCode::SUCCESS)
}
