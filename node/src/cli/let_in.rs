//! What a node that joins does at its first start: it asks the members that it knows to let it in.

use crate::config::Config;
use kvorum_client::{Client, ErrorCode, Tls};
use kvorum_protocol::{FolderId, NewNode};
use std::time::Duration;
use tracing::{info, warn};

/// How long one try may take.
const TRY_FOR: Duration = Duration::from_secs(10);
/// How long until the next one.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The cluster does not take the node in.
#[derive(Debug, thiserror::Error)]
#[error("the cluster does not let this node in: {0}")]
pub struct JoinRefused(String);

/// Asks to be let in until that is done. A cluster that does not answer is waited for.
///
/// # Errors
/// If it is refused.
pub async fn ask(config: &Config, folder: FolderId) -> Result<(), JoinRefused> {
    let node = NewNode {
        id: config.node_id,
        name: config.name.clone(),
        zone: config.zone.clone(),
        client: config.client_advertise.clone(),
        peer: config.peer_advertise.clone(),
        folder,
        levels: config.levels,
    };
    let members = config.members.iter().filter(|member| member.id != config.node_id);
    // All nodes' doors are alike.
    let (scheme, tls) = match config.tls.doors.client {
        true => ("kvs", Some(tls_of(config).map_err(|error| JoinRefused(error.to_string()))?)),
        false => ("kv", None),
    };
    let url = format!("{scheme}://{}", members.map(|member| &*member.client).collect::<Vec<_>>().join(","));
    let mut told = false;
    loop {
        match try_once(&url, tls.clone(), node.clone()).await {
            Ok(()) => {
                info!(name = %config.name, "the cluster lets this node in");
                return Ok(());
            }
            Err(failure) if failure.code() == ErrorCode::Refused => return Err(JoinRefused(failure.to_string())),
            // Once: a cluster may be away for long.
            Err(failure) if !std::mem::replace(&mut told, true) => {
                warn!(%url, %failure, "the cluster has not let this node in yet; asks again each second");
            }
            Err(_) => {}
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
}

/// As the administrator whose certificate the environment names, as for kvorum-cli, if it does. The node's own is no user's.
fn tls_of(config: &Config) -> Result<Tls, kvorum_client::Error> {
    let tls = Tls::from_file(&config.tls.ca)?;
    match (std::env::var_os("KVORUM_CERT"), std::env::var_os("KVORUM_KEY")) {
        (Some(certificate), Some(key)) => tls.certificate_files(certificate, key),
        _ => Ok(tls),
    }
}

async fn try_once(url: &str, tls: Option<Tls>, node: NewNode) -> Result<(), kvorum_client::Error> {
    let builder = Client::builder().url(url).name("joins").deadline(TRY_FOR);
    // Where clients must log in an administrator lets it in, who is named as for kvorum-cli.
    let builder = match kvorum_cli::credentials_from_environment() {
        Some(credentials) => builder.credentials(credentials),
        None => builder,
    };
    let builder = match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    };
    let client = builder.connect().await?;
    client.admin().add_node(node).await
}
