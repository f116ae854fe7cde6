//! The nodes of the cluster as they come and go: who runs, who is being added, and what becomes of one that was removed.

use super::nodes::{Event, Nodes};
use super::ports::{self, Doors};
use super::{DevError, DevNode, READY_WITHIN, first_lacking, load_node, probe, refuse_common_variables};
use crate::cli::add_node::{self, NewFolder};
use crate::cli::init::{self, Purpose, Shape};
use kvorum_cli::{NodeAnswer, NodeRequest, NodeRequests, NodeWish};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::task::JoinSet;

/// See the module.
pub(super) struct Fleet {
    dir: PathBuf,
    shape: Shape,
    /// Those that are part of the cluster, or about to be.
    nodes: Vec<DevNode>,
    running: Nodes,
    requests: NodeRequests,
    /// Waits until a new node is part of the cluster; with its number, and what was lacking when time was up.
    joining: JoinSet<(u16, Option<String>)>,
    /// Who waits for a new node to be part of the cluster.
    added: BTreeMap<u16, NodeAnswer>,
    /// Who waits for the end of a node that the cluster has removed.
    ending: BTreeMap<u16, NodeAnswer>,
    /// Nodes that are not started again.
    given_up: BTreeSet<u16>,
}

impl Fleet {
    /// Starts a process of `program` per node. Must be called inside a tokio runtime.
    pub(super) fn start(
        dir: &Path,
        shape: &Shape,
        program: &Path,
        nodes: Vec<DevNode>,
        requests: NodeRequests,
    ) -> Self {
        let running = Nodes::start(program, &nodes);
        Self {
            dir: dir.to_owned(),
            shape: shape.clone(),
            nodes,
            running,
            requests,
            joining: JoinSet::new(),
            added: BTreeMap::new(),
            ending: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// The nodes that are part of the cluster, or about to be.
    pub(super) fn nodes(&self) -> &[DevNode] {
        &self.nodes
    }

    /// Waits until something happens to a node, or is asked for, and does what follows. Cancel safe.
    ///
    /// # Errors
    /// A node that is not started again.
    pub(super) async fn handle_next(&mut self, tell: &(impl Fn(String) + Sync)) -> Result<(), DevError> {
        tokio::select! {
            event = self.running.next_event() => self.handle_event(event, tell)?,
            Some(request) = self.requests.recv() => self.handle_request(request, tell),
            Some(Ok((number, lacking))) = self.joining.join_next() => self.handle_joined(number, lacking),
        }
        Ok(())
    }

    /// Stops every node gracefully, all at the same time, and returns when all have ended.
    pub(super) async fn stop(self) {
        self.running.stop().await;
    }

    fn handle_event(&mut self, event: Event, tell: &impl Fn(String)) -> Result<(), DevError> {
        match event {
            Event::StartsAgain { node, reason } => tell(format!("{} ended ({reason}); starts again", name(node))),
            Event::Removed { node } => self.set_aside(node, tell),
            Event::GaveUp { node, reason } => match self.added.remove(&node) {
                // It never was part of the cluster. Whoever asked for it is told, and the next start must not try again.
                Some(answer) => {
                    let left = self.forget(node).err().map(|error| format!("; its folder is left: {error}"));
                    let reason = reason + &left.unwrap_or_default();
                    answer.refuse(format!("{} can't be added: {reason}", name(node)));
                }
                None => {
                    self.given_up.insert(node);
                    return Err(DevError::GaveUp { node: name(node), reason });
                }
            },
        }
        Ok(())
    }

    fn handle_request(&mut self, NodeRequest { wish, answer }: NodeRequest, tell: &impl Fn(String)) {
        match wish {
            NodeWish::Add { zone } => match self.add(&zone) {
                Ok(number) => {
                    tell(format!("{} starts", name(number)));
                    self.added.insert(number, answer);
                }
                Err(error) => answer.refuse(error.to_string()),
            },
            NodeWish::AwaitEnd { node } => match self.nodes.iter().find(|known| known.name == node) {
                // Its end was told of before.
                None => answer.done(node),
                Some(known) => {
                    let number = known.number;
                    self.ending.insert(number, answer);
                    if self.given_up.contains(&number) {
                        self.set_aside(number, tell);
                    }
                }
            },
        }
    }

    fn handle_joined(&mut self, number: u16, lacking: Option<String>) {
        // One that was given up meanwhile was answered for.
        let Some(answer) = self.added.remove(&number) else { return };
        match lacking {
            None => answer.done(name(number)),
            Some(lacking) => {
                let (name, seconds) = (name(number), READY_WITHIN.as_secs());
                answer.refuse(format!("{name} runs, and is not part of the cluster after {seconds} s: {lacking}"));
            }
        }
    }

    /// Makes the folder of one more node and starts it. Returns its number.
    fn add(&mut self, zone: &str) -> Result<u16, DevError> {
        refuse_common_variables(self.nodes.len() as u16 + 1, super::variables())?;
        let wish = NewFolder { host: None, zone, purpose: Purpose::Development };
        let is_free =
            |doors: &[std::net::SocketAddr; init::DOORS]| ports::check([Doors::new(String::new(), *doors)]).is_ok();
        let number = add_node::lay_out(&self.dir, &self.shape, wish, is_free)?;
        let node = load_node(&self.dir, number)?;
        self.running.add(&node);
        self.nodes.push(node.clone());
        self.joining.spawn(async move { (number, wait_until_part(node).await) });
        Ok(number)
    }

    /// The cluster goes on without a node, and its process has ended.
    fn set_aside(&mut self, number: u16, tell: &impl Fn(String)) {
        let aside = init::removed_folder(&self.dir, number);
        match self.forget(number) {
            Ok(()) => tell(format!("{} was removed from the cluster; its log is in {}", name(number), aside.display())),
            Err(error) => tell(format!("{} was removed from the cluster; its folder is left: {error}", name(number))),
        }
        if let Some(answer) = self.ending.remove(&number) {
            answer.done(name(number));
        }
    }

    /// Drops a node that does not come back. Its folder goes aside, so that neither its number nor its id is used again, and
    /// its data goes for good: the others have it, or it had none.
    fn forget(&mut self, number: u16) -> io::Result<()> {
        self.nodes.retain(|node| node.number != number);
        self.given_up.remove(&number);
        let aside = init::removed_folder(&self.dir, number);
        fs::rename(init::node_folder(&self.dir, number), &aside)?;
        match fs::remove_dir_all(aside.join("data")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn name(number: u16) -> String {
    init::node_name(number)
}

/// Waits until a new node answers as a part of the cluster. Returns what is lacking when time is up.
async fn wait_until_part(node: DevNode) -> Option<String> {
    let deadline = Instant::now() + READY_WITHIN;
    let nodes = [node];
    // It opens its doors only once the ring map names it.
    while let Some(lacking) = first_lacking(&nodes).await {
        if Instant::now() >= deadline {
            return Some(lacking);
        }
        tokio::time::sleep(probe::PAUSE).await;
    }
    None
}
