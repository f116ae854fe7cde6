//! Commands become operations of the client, and their results outputs.

use crate::cluster;
use crate::exit::Exit;
use crate::log_level;
use crate::monitor;
use crate::nodes;
use crate::operate;
use crate::output::{Cell, Output};
use crate::parse::{Action, ClusterView};
use crate::slow_log;
use crate::standing;
use crate::text::duration;
use crate::users;
use futures_util::stream::StreamExt;
use kvorum_client::{Ack, Awaited, Bytes, Client, Entry, Error, NodeId, ShardId, WriteResult};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the operations of a session are done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) ack: Ack,
    pub(crate) stale: bool,
    /// Keys that a SCAN without LIMIT shows; `None` is all of them.
    pub(crate) scan_limit: Option<u64>,
    /// Keys of a SCAN that are printed together.
    pub(crate) scan_chunk: usize,
}

/// Why a command failed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Failure {
    /// The operation failed.
    Operation(Error),
    /// The user said something that makes no sense in this cluster.
    Usage(String),
    /// The person at the terminal has interrupted it; in words.
    Interrupted(&'static str),
    /// What it says can't be written.
    Output(String),
    /// The host of the REPL has not done what it was asked; in words.
    Host(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Operation(error)
    }
}

/// Milliseconds of Unix time, by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Whether making the same call once more leaves the same state as making it once.
pub(crate) fn is_safe_to_repeat(action: &Action) -> bool {
    match action {
        Action::Write(op) => op.is_idempotent(),
        _ => true,
    }
}

/// Whether what a command says may be as long as values are.
pub(crate) fn may_say_much(action: &Action) -> bool {
    match action {
        Action::Get(_) | Action::MultiGet(_) | Action::Scan { .. } => true,
        Action::Write(op) => op.returns_previous(),
        _ => false,
    }
}

/// Takes what a command says, piece by piece, and answers whether more is wanted.
pub(crate) type Emit<'a> = &'a mut (dyn FnMut(Output) -> bool + Send);

/// Runs a command. What it says goes to `emit`, piece by piece; it ends early once no more is wanted.
///
/// # Errors
/// Why it failed.
pub(crate) async fn run(client: &Client, action: &Action, settings: Settings, emit: Emit<'_>) -> Result<Exit, Failure> {
    match action {
        Action::Get(key) => {
            let entry = get(client, key, settings).await?;
            let exit = Exit::found(entry.is_some());
            emit(Output::Entry { key: key.clone(), entry });
            Ok(exit)
        }
        Action::Ttl(key) => Ok(ttl(key, get(client, key, settings).await?, emit)),
        Action::Write(op) => {
            let result = client.write(op.clone()).ack(settings.ack).await?.into_result();
            let exit = Exit::found(result.is_applied());
            emit(Output::Written { key: op.key().clone(), result, returns: op.returns_previous() });
            Ok(exit)
        }
        Action::Exists(keys) => exists(client, keys, settings, emit).await,
        Action::MultiGet(keys) => multi_get(client, keys, settings, emit).await,
        Action::MultiPut(pairs) => multi_put(client, pairs, settings, emit).await,
        Action::Scan { prefix, limit, values } => scan(client, prefix, *limit, *values, settings, emit).await,
        Action::Await { write, wait } => {
            let awaited = client.await_write(*write, *wait).await?;
            let (name, note) = match awaited {
                Awaited::Applied => ("applied", "a quorum has it"),
                Awaited::Lost => ("lost", "its leader lost it: write again"),
                Awaited::Forgotten => ("forgotten", "the log no longer tells: read the key"),
            };
            emit(Output::Scalar { name: "awaited", cell: Cell::plain(name), note: note.to_owned() });
            Ok(if awaited == Awaited::Applied { Exit::Ok } else { Exit::Failed })
        }
        Action::Explain(key) => {
            let explanation = client.explain(key).await?;
            emit(cluster::explain(&*client.topology().await?, &explanation, now_ms()));
            Ok(Exit::found(explanation.stored.is_some()))
        }
        Action::Ping(node) => ping(client, node.as_deref(), emit).await,
        Action::Cluster(view) => view_cluster(client, *view, emit).await,
        Action::Status(node) => status(client, node.as_deref(), emit).await,
        Action::SlowLog(action) => slow_log::run(client, *action, emit).await,
        Action::Monitor(node) => monitor::run(client, node.as_deref(), emit).await,
        Action::LogLevel(ask, node) => log_level::run(client, *ask, node.as_deref(), emit).await,
        Action::Transfer { shard, node } => transfer(client, ShardId(*shard), node, emit).await,
        Action::Ask(asked, manner) => operate::ask(client, asked, *manner, emit).await,
        Action::Users(action) => users::run(client, action, emit).await,
        Action::Token { name, zone, life } => operate::token(client, name, zone, *life, emit).await,
        Action::AddNode(_) | Action::Scale(_) => {
            Err(Failure::Usage(nodes::only_with_host(action).unwrap_or_default().to_owned()))
        }
        Action::Shutdown(wanted) => {
            let topology = client.topology().await?;
            let node = cluster::find_node(&topology, wanted).map_err(Failure::Usage)?;
            client.admin().shutdown(node).await?;
            emit(Output::Note(format!("{} is stopping", cluster::name(&topology, node))));
            Ok(Exit::Ok)
        }
        // The shell itself does these.
        Action::Help(_) | Action::Clear | Action::Quit => Ok(Exit::Ok),
    }
}

async fn get(client: &Client, key: &Bytes, settings: Settings) -> Result<Option<Entry>, Error> {
    if settings.stale { client.get(key).stale().await } else { client.get(key).await }
}

async fn get_many(client: &Client, keys: &[Bytes], settings: Settings) -> Vec<Result<Option<Entry>, Error>> {
    if settings.stale { client.get_many(keys).stale().await } else { client.get_many(keys).await }
}

fn ttl(key: &Bytes, entry: Option<Entry>, emit: Emit<'_>) -> Exit {
    let exit = Exit::found(entry.is_some());
    let left = |at: u64| at.saturating_sub(now_ms());
    let entry = entry.map(|entry| (entry.expires_at_ms.map(left), entry.version));
    emit(Output::Ttl { key: key.clone(), entry });
    exit
}

async fn exists(client: &Client, keys: &[Bytes], settings: Settings, emit: Emit<'_>) -> Result<Exit, Failure> {
    let mut count: u64 = 0;
    for result in get_many(client, keys, settings).await {
        count += u64::from(result?.is_some());
    }
    let note = format!("of {}", keys.len());
    emit(Output::Scalar { name: "exists", cell: Cell::plain(count), note });
    Ok(Exit::found(count > 0))
}

async fn multi_get(client: &Client, keys: &[Bytes], settings: Settings, emit: Emit<'_>) -> Result<Exit, Failure> {
    let results = get_many(client, keys, settings).await;
    let exit = Exit::of_many(&results, Option::is_some);
    emit(Output::Entries(keys.iter().cloned().zip(results).collect()));
    Ok(exit)
}

async fn multi_put(
    client: &Client,
    pairs: &[(Bytes, Bytes)],
    settings: Settings,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let batch = pairs.iter().fold(client.batch(), |batch, (key, value)| batch.put(key, value.clone()));
    let results = batch.ack(settings.ack).await;
    let exit = Exit::of_many(&results, WriteResult::is_applied);
    emit(Output::Writes(pairs.iter().map(|(key, _)| key.clone()).zip(results).collect()));
    Ok(exit)
}

async fn scan(
    client: &Client,
    prefix: &Bytes,
    limit: Option<u64>,
    values: bool,
    settings: Settings,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let limit = limit.or(settings.scan_limit);
    let mut walk = client.scan(prefix).values(values);
    if settings.stale {
        walk = walk.stale();
    }
    // One more than is shown, to know whether there is more.
    if let Some(limit) = limit {
        walk = walk.limit(limit.saturating_add(1));
    }
    // A table for people has one head, so its rows come together; else what has come is said at once.
    let mut chunks = match (values, settings.scan_limit) {
        (true, Some(_)) => walk.chunks(settings.scan_chunk).boxed(),
        _ => walk.ready_chunks(settings.scan_chunk).boxed(),
    };
    let (mut count, mut is_cut) = (0, false);
    while let Some(chunk) = chunks.next().await {
        let mut entries = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
        let left = limit.map_or(u64::MAX, |limit| limit - count);
        is_cut |= entries.len() as u64 > left;
        entries.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        count += entries.len() as u64;
        if !entries.is_empty() && !emit(Output::Page { entries, values }) {
            return Ok(Exit::Ok);
        }
    }
    emit(Output::Note(match (count, is_cut) {
        (0, false) if prefix.contains(&b'*') => "no keys; a * in a prefix means itself, so leave it out".to_owned(),
        (0, false) => "no keys".to_owned(),
        (1, false) => "1 key".to_owned(),
        (_, false) => format!("{count} keys"),
        (_, true) => format!("the first {count} keys; LIMIT n shows more"),
    }));
    Ok(Exit::Ok)
}

async fn ping(client: &Client, node: Option<&str>, emit: Emit<'_>) -> Result<Exit, Failure> {
    let span = match node {
        Some(wanted) => client.ping_node(find_node(client, wanted).await?).await?,
        None => client.ping().await?,
    };
    let cell = Cell::shown(span.as_micros() as u64, "PONG");
    emit(Output::Scalar { name: "round_trip_us", cell, note: duration(span) });
    Ok(Exit::Ok)
}

async fn view_cluster(client: &Client, view: ClusterView, emit: Emit<'_>) -> Result<Exit, Failure> {
    let topology = client.topology().await?;
    let statuses = client.status().await?;
    let mut exit = Exit::Ok;
    emit(match view {
        // Whoever speaks for the ring map may be gone: that is worth being told, and no reason to say nothing.
        ClusterView::Status => {
            let plan = client.admin().plan(None).await.ok();
            standing::overview(&topology, &statuses, plan.as_ref())
        }
        ClusterView::Nodes => {
            let plan = client.admin().plan(None).await.ok();
            cluster::nodes(&topology, &statuses, plan.as_ref())
        }
        ClusterView::Shards => cluster::shards(&topology, &statuses),
        ClusterView::HotKeys => cluster::hot_keys(&topology, &statuses),
        ClusterView::Check => {
            let (output, problems) = cluster::check(&topology, &statuses);
            if problems > 0 {
                exit = Exit::Failed;
            }
            output
        }
        ClusterView::Plan => {
            let plan = client.admin().plan(None).await?;
            for output in standing::plan(&topology, &statuses, &plan) {
                emit(output);
            }
            return Ok(Exit::Ok);
        }
        ClusterView::Encryption => standing::encryption(&topology, &client.admin().plan(None).await?),
        ClusterView::Version => standing::version(&topology, &statuses, &client.admin().plan(None).await?),
    });
    Ok(exit)
}

async fn status(client: &Client, node: Option<&str>, emit: Emit<'_>) -> Result<Exit, Failure> {
    let node = match (node, client.connected_to()) {
        (Some(wanted), _) => find_node(client, wanted).await?,
        (None, Some((node, _))) => node,
        (None, None) => client.topology().await?.nodes.first().map(|info| info.id).ok_or_else(no_nodes)?,
    };
    let topology = client.topology().await?;
    for status in client.node_status(node).await? {
        emit(cluster::status(&topology, &status));
    }
    Ok(Exit::Ok)
}

fn no_nodes() -> Failure {
    Failure::Usage("the cluster has no nodes".to_owned())
}

async fn transfer(client: &Client, shard: ShardId, wanted: &str, emit: Emit<'_>) -> Result<Exit, Failure> {
    let node = find_node(client, wanted).await?;
    let topology = client.topology().await?;
    if usize::from(shard.0) >= topology.shards.len() {
        return Err(Failure::Usage(format!(
            "there is no shard {shard}; the last one is {}",
            topology.shards.len() - 1
        )));
    }
    if !topology.replicas_of(shard).any(|info| info.id == node) {
        return Err(Failure::Usage(format!("{wanted} holds no replica of shard {shard}")));
    }
    client.admin().transfer_leadership(shard, node).await?;
    emit(Output::Note(format!("shard {shard} goes to {}", cluster::name(&topology, node))));
    Ok(Exit::Ok)
}

pub(crate) async fn find_node(client: &Client, wanted: &str) -> Result<NodeId, Failure> {
    cluster::find_node(&*client.topology().await?, wanted).map_err(Failure::Usage)
}

impl Exit {
    fn found(is_found: bool) -> Self {
        if is_found { Self::Ok } else { Self::NotFound }
    }

    /// The exit of an operation on many keys: of its first error, or "not found" if nothing at all was.
    fn of_many<T>(results: &[Result<T, Error>], is_found: impl Fn(&T) -> bool) -> Self {
        match results.iter().find_map(|result| result.as_ref().err()) {
            Some(error) => Self::of(error),
            None => Self::found(results.iter().flatten().any(is_found)),
        }
    }
}
