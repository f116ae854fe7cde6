//! LOGLEVEL: how much nodes log, and more or less of it for a while.

use crate::cluster::{ask_each, find_node};
use crate::exit::Exit;
use crate::output::{Cell, Output};
use crate::run::{Emit, Failure};
use crate::text::duration;
use kvorum_client::{Client, LogLevelAsk, LogLevelView};
use std::time::Duration;

/// How long a node logs another amount where nothing is said: who forgets it finds no full disk.
pub(crate) const FOR_DEFAULT: Duration = Duration::from_secs(600);

/// Runs LOGLEVEL, of all nodes at once. Those that can't be reached are named, and the others shown.
///
/// # Errors
/// If no node answers, if this may not be asked, or if there is no node of that name.
pub(crate) async fn run(
    client: &Client,
    ask: LogLevelAsk,
    only: Option<&str>,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let topology = client.topology().await?;
    let only = only.map(|wanted| find_node(&topology, wanted).map_err(Failure::Usage)).transpose()?;
    let asked = topology.nodes.iter().filter(|node| only.is_none_or(|only| only == node.id));
    let (answered, silent) = ask_each(asked, |node| async move { client.admin().log_level(node, ask).await }).await?;
    let rows = answered.iter().map(|(name, view)| row(name, view)).collect();
    emit(Output::Table { columns: &["node", "filter", "left_ms"], rows });
    Ok(silent.tell(emit))
}

fn row(name: &str, view: &LogLevelView) -> Vec<Cell> {
    let left = match view.left_ms {
        Some(ms) => Cell::shown(ms, duration(Duration::from_millis(ms))),
        None => Cell::plain(None::<u64>),
    };
    vec![Cell::plain(name), Cell::plain(view.filter.clone()), left]
}
