//! SLOWLOG: the operations that took long, of all nodes together.

use crate::cluster;
use crate::exit::Exit;
use crate::output::{Cell, Output};
use crate::run::{Emit, Failure};
use crate::text::duration;
use kvorum_client::{Client, SlowLogView, SlowOperation, SlowStages, Topology};
use std::time::Duration;

/// What is asked of the nodes' slow logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlowLogAction {
    /// The newest so many, of all nodes together.
    Newest(u32),
    /// How many each node keeps.
    Length,
    /// Forget all.
    Reset,
}

/// How many are shown where nothing is said.
pub(crate) const COUNT_DEFAULT: u32 = 10;

/// Runs SLOWLOG. Nodes that can't be reached are named, and the others shown.
///
/// # Errors
/// If no node answers.
pub(crate) async fn run(client: &Client, action: SlowLogAction, emit: Emit<'_>) -> Result<Exit, Failure> {
    let topology = client.topology().await?;
    let ask = |node| async move {
        match action {
            SlowLogAction::Newest(count) => client.admin().slow_log(node, count).await.map(Some),
            SlowLogAction::Length => client.admin().slow_log(node, 0).await.map(Some),
            SlowLogAction::Reset => client.admin().forget_slow_log(node).await.map(|()| None),
        }
    };
    let (views, silent) = cluster::ask_each(topology.nodes.iter(), ask).await?;
    emit(match action {
        SlowLogAction::Newest(count) => newest(&topology, views, count),
        SlowLogAction::Length => lengths(views),
        SlowLogAction::Reset => Output::Note("forgotten".to_owned()),
    });
    Ok(silent.tell(emit))
}

fn lengths(views: Vec<(String, Option<SlowLogView>)>) -> Output {
    let row = |(name, view): (String, Option<SlowLogView>)| {
        let (length, slower_than_us) = view.map_or((0, None), |view| (view.length, view.slower_than_us));
        let threshold = match slower_than_us {
            Some(us) => Cell::shown(us, duration(Duration::from_micros(us))),
            None => Cell::plain("off"),
        };
        vec![Cell::plain(name), Cell::plain(length), threshold]
    };
    Output::Table { columns: &["node", "kept", "slower_than_us"], rows: views.into_iter().map(row).collect() }
}

fn newest(topology: &Topology, views: Vec<(String, Option<SlowLogView>)>, count: u32) -> Output {
    let views = views.into_iter().filter_map(|(_, view)| view);
    let mut all: Vec<SlowOperation> = views.flat_map(|view| view.operations).collect();
    all.sort_by_key(|operation| std::cmp::Reverse((operation.at_ms, operation.number)));
    all.truncate(count as usize);
    if all.is_empty() {
        return Output::Note("no operation took long".to_owned());
    }
    let span = |us: u64| Cell::shown(us, duration(Duration::from_micros(us)));
    let row = |one: SlowOperation| {
        let mut row = vec![
            Cell::plain(one.at_ms),
            Cell::plain(cluster::name(topology, one.node)),
            Cell::plain(one.door),
            Cell::plain(one.operation),
            Cell::plain(one.error.map_or(one.outcome, |error| error.to_string())),
            Cell::plain(one.shard.map(|shard| shard.0)),
            Cell::plain(one.key_hash.map(|hash| format!("{hash:016x}"))),
            span(one.took_us),
        ];
        row.extend(one.stages.all_us().map(|us| span(us.into())));
        row.push(Cell::plain(one.trace.map(|trace| trace.to_string())));
        row
    };
    Output::Table { columns: &COLUMNS, rows: all.into_iter().map(row).collect() }
}

const COLUMNS: [&str; 16] = {
    let [queue, propose, sync, quorum, apply, answer, remote] = SlowStages::NAMES;
    [
        "at_ms",
        "node",
        "door",
        "operation",
        "outcome",
        "shard",
        "key_hash",
        "took_us",
        queue,
        propose,
        sync,
        quorum,
        apply,
        answer,
        remote,
        "trace",
    ]
};
