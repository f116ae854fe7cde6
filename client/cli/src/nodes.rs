//! Nodes that the REPL's host starts: `kvorum dev`, whose children they are. NODE ADD and SCALE work there only.

use crate::commands::{CommandSpec, Group, Verb};
use crate::exit::Exit;
use crate::operate::wait_until_gone;
use crate::output::Output;
use crate::parse::Action;
use crate::run::{Emit, Failure};
use kvorum_client::{Client, NodeInfo, Topology};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the host; a person sends one at a time.
const REQUESTS_MAX: usize = 4;
/// It is looked again so often whether a node has heard of the newest ring map.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to hear of the newest ring map.
const NEWEST_WITHIN: Duration = Duration::from_secs(5);
/// How long the process of a node that was removed may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// The commands that need a host.
pub(crate) const HOST_COMMANDS: &[CommandSpec] = &[ADD, SCALE];

/// NODE ADD is parsed as a form of NODE.
pub(crate) const ADD: CommandSpec = CommandSpec {
    verb: Verb::AddNode,
    name: "NODE ADD",
    aliases: &[],
    arguments: &["[zone]"],
    options: &[],
    group: Group::Cluster,
    help: "Start one more node.",
    example: "NODE ADD zone-b",
};

const SCALE: CommandSpec = CommandSpec {
    verb: Verb::Scale,
    name: "SCALE",
    aliases: &[],
    arguments: &["nodes"],
    options: &[],
    group: Group::Cluster,
    help: "Add nodes or remove the last, until there are so many.",
    example: "SCALE 5",
};

/// What is said of a command that needs a host where there is none.
pub(crate) fn only_with_host(action: &Action) -> Option<&'static str> {
    let verb = match action {
        Action::AddNode(_) => Verb::AddNode,
        Action::Scale(_) => Verb::Scale,
        Action::Help(Some(spec)) => spec.verb,
        _ => return None,
    };
    match verb {
        Verb::AddNode => Some("NODE ADD works in `kvorum dev`; elsewhere use `kvorum add-node`"),
        Verb::Scale => Some("SCALE works in `kvorum dev`; elsewhere use `kvorum add-node` and NODE REMOVE"),
        _ => None,
    }
}

/// What the REPL asks its host for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeWish {
    /// One more node, in this failure zone (empty for none). Done once it is part of the cluster.
    Add {
        /// The zone.
        zone: String,
    },
    /// The end of the process of a node that the cluster has removed. Done once it has ended.
    AwaitEnd {
        /// The node's name.
        node: String,
    },
}

/// A wish, and where the answer goes.
#[derive(Debug)]
pub struct NodeRequest {
    /// What is asked for.
    pub wish: NodeWish,
    /// Where the answer goes.
    pub answer: NodeAnswer,
}

/// Where the answer goes. Whoever asked may be gone by then.
#[derive(Debug)]
pub struct NodeAnswer(oneshot::Sender<Result<String, String>>);

impl NodeAnswer {
    /// It is done, with the node of this name.
    pub fn done(self, node: String) {
        let _ = self.0.send(Ok(node));
    }

    /// It is not done, for a reason in words.
    pub fn refuse(self, why: String) {
        let _ = self.0.send(Err(why));
    }
}

/// The host's end.
pub type NodeRequests = mpsc::Receiver<NodeRequest>;

/// The REPL's end.
#[derive(Clone, Debug)]
pub struct NodeRequester {
    requests: mpsc::Sender<NodeRequest>,
    nodes_max: u16,
}

/// Both ends, for a host that runs so many nodes at most.
pub fn node_requests(nodes_max: u16) -> (NodeRequester, NodeRequests) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (NodeRequester { requests: sender, nodes_max }, receiver)
}

impl NodeRequester {
    async fn ask(&self, wish: NodeWish) -> Result<String, Failure> {
        let (sender, answer) = oneshot::channel();
        let stopping = || Failure::Host("the cluster is being stopped".to_owned());
        let request = NodeRequest { wish, answer: NodeAnswer(sender) };
        self.requests.send(request).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map_err(Failure::Host)
    }
}

/// NODE ADD.
pub(crate) async fn add(nodes: &NodeRequester, zone: &str, emit: Emit<'_>) -> Result<Exit, Failure> {
    let name = nodes.ask(NodeWish::Add { zone: zone.to_owned() }).await?;
    emit(Output::Note(format!("{name} is part of the cluster, and takes its share from the others")));
    Ok(Exit::Ok)
}

/// SCALE. Nodes are added one after the other; those that go are asked to go together, so that none gives to another.
pub(crate) async fn scale(
    client: &Client,
    nodes: &NodeRequester,
    wanted: u16,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let topology = newest_topology(client).await?;
    let replicas = topology.shards.iter().map(|shard| shard.replicas.len()).min().unwrap_or(1).max(1);
    if usize::from(wanted) < replicas {
        return Err(Failure::Usage(format!(
            "there must be {replicas} nodes at least: each shard has {replicas} replicas"
        )));
    }
    if wanted > nodes.nodes_max {
        return Err(Failure::Usage(format!("there can be {} nodes at most on one machine", nodes.nodes_max)));
    }
    for _ in topology.nodes.len()..usize::from(wanted) {
        add(nodes, "", emit).await?;
    }
    // Whoever asks next, of the same node, is told of all of them.
    newest_topology(client).await?;
    let going = last_nodes(&topology.nodes, topology.nodes.len().saturating_sub(wanted.into()));
    for node in &going {
        client.admin().remove_node(node.id, false).await?;
    }
    for node in going {
        let gone = wait_until_gone(client, node.id, &node.name, emit).await?;
        if gone != Exit::Ok {
            return Ok(gone);
        }
        let ended = nodes.ask(NodeWish::AwaitEnd { node: node.name.clone() });
        match tokio::time::timeout(END_WITHIN, ended).await {
            Ok(ended) => drop(ended?),
            Err(_) => {
                emit(Output::Note(format!("the process of {} still runs", node.name)));
            }
        }
    }
    emit(Output::Note(format!("there are {wanted} nodes")));
    Ok(Exit::Ok)
}

/// The ring map that is in force: the node that was asked may not have heard of the last change.
async fn newest_topology(client: &Client) -> Result<Arc<Topology>, Failure> {
    let newest = client.admin().plan(None).await?.epoch;
    let until = tokio::time::Instant::now() + NEWEST_WITHIN;
    loop {
        let topology = client.topology().await?;
        // It hears of it within a second. One that does not is asked for no longer: another one may know more the next time.
        if topology.epoch >= newest || tokio::time::Instant::now() >= until {
            return Ok(topology);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The nodes with the highest numbers in their names, the highest first.
fn last_nodes(nodes: &[NodeInfo], count: usize) -> Vec<NodeInfo> {
    let number = |node: &NodeInfo| node.name.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|node| Reverse((number(node), node.name.clone())));
    nodes.truncate(count);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::NodeId;
    use uuid::Uuid;

    #[test]
    fn those_with_the_highest_numbers_go_first() {
        let node = |name: &str| NodeInfo {
            id: NodeId(Uuid::nil()),
            name: name.to_owned(),
            client_address: String::new(),
            zone: String::new(),
        };
        let nodes = ["node-2", "node-10", "node-9", "other"].map(node);
        let names = |count| last_nodes(&nodes, count).into_iter().map(|node| node.name).collect::<Vec<_>>();
        assert_eq!(names(3), ["node-10", "node-9", "node-2"]);
        assert!(names(0).is_empty());
    }

    #[test]
    fn their_examples_parse() {
        for command in HOST_COMMANDS {
            let action = crate::parse::parse(&crate::words::split(command.example).unwrap()).unwrap();
            assert!(only_with_host(&action).unwrap().starts_with(command.name), "{action:?}");
        }
    }
}
