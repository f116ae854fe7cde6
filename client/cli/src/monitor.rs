//! MONITOR: the requests of all nodes, or of one, as they come in, until ctrl-c.

use crate::cluster::find_node;
use crate::console::complain;
use crate::exit::Exit;
use crate::live::thousands;
use crate::output::{Cell, Output, whole_characters};
use crate::records::bytes_field;
use crate::run::{Emit, Failure};
use crate::text::{one_line, printable, size, word};
use futures_util::future::join_all;
use kvorum_client::{Client, ErrorCode, MonitorView, NodeId, SeenRequest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often nodes are asked. A node tells of about 5,000 requests per second, and of at most 1,024 at a time.
const EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to answer, while the others wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// When it is asked again which nodes there are, and those that were silent are asked once more.
const NODES_EVERY: Duration = Duration::from_secs(5);

/// A node that is watched.
#[derive(Debug)]
struct Watched {
    name: String,
    /// What it is asked next; none before it has answered.
    next: Option<u64>,
    /// Requests that it has not told of, since those that it has.
    untold: u64,
    is_silent: bool,
}

/// Runs MONITOR. Nodes that can't be reached are named, and the others are watched.
///
/// # Errors
/// If no node answers, if this may not be watched, or if there is no node of that name.
pub(crate) async fn run(client: &Client, only: Option<&str>, emit: Emit<'_>) -> Result<Exit, Failure> {
    let mut nodes: BTreeMap<NodeId, Watched> = BTreeMap::new();
    let mut looked: Option<Instant> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if looked.is_none_or(|at| at.elapsed() >= NODES_EVERY) {
            look(client, only, &mut nodes).await?;
            looked = Some(Instant::now());
        }
        let asked = nodes.iter().filter(|(_, node)| !node.is_silent).map(|(id, node)| (*id, node.next));
        let views = join_all(
            asked.map(|(id, next)| async move { (id, client.within(ANSWERS_WITHIN).admin().monitor(id, next).await) }),
        );
        let mut seen = Vec::new();
        let mut failed = None;
        for (id, answered) in views.await {
            let Some(node) = nodes.get_mut(&id) else { continue };
            match answered {
                Ok(view) => seen.extend(node.take(view)),
                Err(error) if matches!(error.code(), ErrorCode::PermissionDenied | ErrorCode::Unauthenticated) => {
                    return Err(error.into());
                }
                Err(error) => {
                    node.is_silent = true;
                    let name = printable(node.name.as_bytes());
                    complain(&format!("{name} can't be watched: {}\n", one_line(&error.report())));
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed
            && nodes.values().all(|node| node.is_silent && node.next.is_none())
        {
            return Err(error.into());
        }
        seen.sort_by_key(|(_, _, request)| request.at_ms);
        for (name, untold, request) in seen {
            if !emit(line(&name, untold, &request)) {
                return Ok(Exit::Ok);
            }
        }
    }
}

/// Finds out which nodes there are.
async fn look(client: &Client, only: Option<&str>, nodes: &mut BTreeMap<NodeId, Watched>) -> Result<(), Failure> {
    let topology = match nodes.is_empty() {
        true => client.topology().await?,
        false => match client.within(ANSWERS_WITHIN).topology().await {
            Ok(topology) => topology,
            // Those that are known are watched on.
            Err(_) => return Ok(()),
        },
    };
    let only = only.map(|wanted| find_node(&topology, wanted).map_err(Failure::Usage)).transpose()?;
    let mut known = std::mem::take(nodes);
    for info in topology.nodes.iter().filter(|info| only.is_none_or(|only| only == info.id)) {
        let before = known.remove(&info.id);
        let (next, untold) = before.map_or((None, 0), |node| (node.next, node.untold));
        nodes.insert(info.id, Watched { name: info.name.clone(), next, untold, is_silent: false });
    }
    Ok(())
}

impl Watched {
    /// Takes what a node has told: each request, with the node's name and how many it has left out before this one.
    fn take(&mut self, view: MonitorView) -> Vec<(String, u64, SeenRequest)> {
        self.next = Some(view.next);
        self.untold += view.untold;
        let told = |request| (self.name.clone(), std::mem::take(&mut self.untold), request);
        view.requests.into_iter().map(told).collect()
    }
}

fn line(node: &str, untold: u64, request: &SeenRequest) -> Output {
    let SeenRequest { at_ms, door, user, operation, key, key_bytes, keys, bytes, .. } = request;
    let is_cut = key.as_ref().is_some_and(|key| key.len() < *key_bytes as usize);
    let key = key.as_ref().map(|key| whole_characters(key, is_cut));
    let shown = key.map_or_else(String::new, |key| {
        let rest = if is_cut { "…" } else { "" };
        let others = keys.checked_sub(2).map_or_else(String::new, |more| format!(" and {} more", more + 1));
        format!("{}{rest}{others}", word(key))
    });
    let whose = if user.is_empty() { "-" } else { user };
    let before = if untold > 0 { format!("  ({} not shown)\n", thousands(untold)) } else { String::new() };
    let [node, door, operation] = [node, door, operation].map(|text| printable(text.as_bytes()));
    let text = format!(
        "{before}{}  {node}  {door:<6}  {}  {operation:<11}  {shown}  {}",
        time_of_day(*at_ms),
        word(whose.as_bytes()),
        size(*bytes)
    );
    // Both columns are always there: CSV has one header.
    let mut keyed = [("key", Value::Null), ("key_base64", Value::Null)];
    if let Some((name, value)) = key.map(|key| bytes_field("key", "key_base64", key)) {
        keyed.iter_mut().filter(|(known, _)| *known == name).for_each(|field| field.1 = value.clone());
    }
    let mut facts = vec![
        ("at_ms", Cell::plain(*at_ms)),
        ("node", Cell::plain(node)),
        ("door", Cell::plain(door)),
        ("user", Cell::plain(user.clone())),
        ("operation", Cell::plain(operation)),
    ];
    facts.extend(keyed.map(|(name, value)| (name, Cell::plain(value))));
    facts.extend([
        ("key_bytes", Cell::plain(*key_bytes)),
        ("keys", Cell::plain(*keys)),
        ("bytes", Cell::plain(*bytes)),
        ("untold_before", Cell::plain(untold)),
    ]);
    Output::Line { text, facts }
}

/// The time of day of a Unix time, in UTC.
fn time_of_day(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000 % 86_400, at_ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::Bytes;

    fn put() -> SeenRequest {
        SeenRequest {
            number: 7,
            at_ms: 1_700_000_000_123,
            door: "http".to_owned(),
            user: "ada".to_owned(),
            operation: "put".to_owned(),
            key: Some(Bytes::from_static(b"app/1")),
            key_bytes: 5,
            keys: 1,
            bytes: 105,
        }
    }

    fn text(untold: u64, request: &SeenRequest) -> String {
        match line("node-1", untold, request) {
            Output::Line { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_a_line() {
        assert_eq!(text(0, &put()), "22:13:20.123  node-1  http    ada  put          app/1  105 B");
        let of_many = SeenRequest { keys: 10, key_bytes: 300, user: String::new(), ..put() };
        assert_eq!(
            text(12, &of_many),
            "  (12 not shown)\n22:13:20.123  node-1  http    -  put          app/1… and 9 more  105 B"
        );
        let bytes = Bytes::from_static(b"\x1b[2J\n");
        let hostile = SeenRequest { key: Some(bytes), door: "\x1b[2J".to_owned(), user: "\n".to_owned(), ..put() };
        assert!(!text(0, &hostile).contains(['\x1b', '\n']), "a terminal obeys nothing of it");
    }

    #[test]
    fn programs_get_the_key_as_it_is() {
        let keyed = |key: &'static [u8], key_bytes| -> Vec<(&'static str, Value)> {
            let request = SeenRequest { key: Some(Bytes::from_static(key)), key_bytes, ..put() };
            let Output::Line { facts, .. } = line("node-1", 0, &request) else { panic!("it is a line") };
            facts
                .into_iter()
                .filter(|(name, _)| name.starts_with("key") && *name != "keys")
                .map(|(name, cell)| (name, cell.value))
                .collect()
        };
        let fields = |key: Value, base64: Value, bytes: u32| {
            vec![("key", key), ("key_base64", base64), ("key_bytes", bytes.into())]
        };
        assert_eq!(keyed(b"a b", 3), fields("a b".into(), Value::Null, 3));
        assert_eq!(keyed(b"\xff", 1), fields(Value::Null, "/w==".into(), 1));
        assert_eq!(keyed("aé".as_bytes().split_last().expect("it has bytes").1, 9), fields("a".into(), Value::Null, 9));
    }

    #[test]
    fn what_is_left_out_is_told_before_the_next_request() {
        let mut node = Watched { name: "node-1".to_owned(), next: None, untold: 0, is_silent: false };
        assert!(node.take(MonitorView { next: 5, untold: 5, requests: Vec::new() }).is_empty());
        let told = node.take(MonitorView { next: 12, untold: 5, requests: vec![put(), put()] });
        assert_eq!(told.iter().map(|(_, untold, _)| *untold).collect::<Vec<_>>(), [10, 0]);
        assert_eq!(node.next, Some(12));
    }
}
