//! The connections of a client: one per node, opened when first needed, and opened once however many operations wait.

use crate::connection::{Connection, Introduction};
use crate::directory::Directory;
use crate::limits::SEED_STAGGER;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt};
use kvorum_client_core::{CloseReason, ConnectionError};
use kvorum_protocol::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use rand::seq::SliceRandom;
use std::collections::HashMap;
use std::sync::Arc;

type Opened = Result<Arc<Connection>, ConnectionError>;
type Dial = Shared<BoxFuture<'static, Opened>>;

#[derive(Debug)]
pub(crate) struct Pool {
    seeds: Vec<String>,
    directory: Arc<Directory>,
    introduction: Mutex<Introduction>,
    /// At most one per node of the topology, see [`Pool::admit`]. `None` once the client is closed.
    live: RwLock<Option<HashMap<NodeId, Arc<Connection>>>>,
    /// The node that is asked when any will do, while its connection lasts.
    home: Mutex<Option<NodeId>>,
    /// Connections being opened. `None` is "any of the seeds".
    dials: Mutex<HashMap<Option<NodeId>, Dial>>,
}

impl Pool {
    pub(crate) fn new(seeds: Vec<String>, introduction: Introduction, directory: Arc<Directory>) -> Arc<Self> {
        Arc::new(Self {
            seeds,
            directory,
            introduction: Mutex::new(introduction),
            live: RwLock::new(Some(HashMap::new())),
            home: Mutex::default(),
            dials: Mutex::default(),
        })
    }

    /// The cluster, once any of its nodes has answered.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.introduction.lock().cluster
    }

    /// The connection to one node, opened at `address` if there is none. The directory hears of it if that fails, also when
    /// nobody waits any longer.
    pub(crate) async fn node(self: &Arc<Self>, node: NodeId, address: String) -> Opened {
        if let Some(connection) = self.existing(node) {
            return Ok(connection);
        }
        if address.is_empty() {
            return Err(ConnectionError::UnknownNode(node));
        }
        let pool = self.clone();
        self.dial(Some(node), async move {
            let opened = pool.open_node(node, address).await;
            opened.inspect_err(|error| pool.directory.handle_unreachable(node, error))
        })
        .await
    }

    /// Any connection there is, or else one to the seed that answers first.
    pub(crate) async fn any(self: &Arc<Self>) -> Opened {
        if let Some(connection) = self.existing_any() {
            return Ok(connection);
        }
        let pool = self.clone();
        self.dial(None, async move { pool.admit(pool.clone().open_seed().await?) }).await
    }

    /// Any connection there is.
    pub(crate) fn existing_any(&self) -> Option<Arc<Connection>> {
        let mut home = self.home.lock();
        if let Some(connection) = home.and_then(|home| self.existing(home)) {
            return Some(connection);
        }
        let found = self.live.read().iter().flat_map(HashMap::values).find(|live| !live.is_closed()).cloned();
        *home = found.as_ref().map(|connection| connection.node());
        found
    }

    /// Closes every connection, also those that are still being opened.
    pub(crate) fn close(&self) {
        let live = self.live.write().take();
        live.iter().flat_map(HashMap::values).for_each(|connection| connection.close());
    }

    fn existing(&self, node: NodeId) -> Option<Arc<Connection>> {
        self.live.read().as_ref()?.get(&node).filter(|connection| !connection.is_closed()).cloned()
    }

    /// Lists a new connection, and drops what has ended or leads to a node that has left the cluster. If the node is
    /// listed already, that connection stays and the new one closes.
    ///
    /// # Errors
    /// `Closed` if the client was closed meanwhile.
    fn admit(&self, connection: Arc<Connection>) -> Opened {
        let hello = connection.hello();
        // From here on no other cluster is taken for this one, whatever becomes of the addresses.
        self.introduction.lock().cluster.get_or_insert(hello.cluster);
        let topology = self.directory.topology();
        let is_member = |node: NodeId| match &topology {
            Some(topology) => topology.nodes.iter().any(|info| info.id == node),
            None => true,
        };
        let mut live = self.live.write();
        let Some(live) = live.as_mut() else {
            let address = connection.address().to_owned();
            return Err(ConnectionError::Closed { address, reason: CloseReason::ByClient });
        };
        live.retain(|node, connection| !connection.is_closed() && is_member(*node));
        Ok(live.entry(connection.node()).or_insert(connection).clone())
    }

    async fn open_node(&self, node: NodeId, address: String) -> Opened {
        let introduction = self.introduction.lock().clone();
        let connection = Connection::open(&address, &introduction, self.directory.clone()).await?;
        let found = connection.node();
        let connection = self.admit(connection)?;
        if found == node { Ok(connection) } else { Err(ConnectionError::OtherNode { address }) }
    }

    /// Joins the dial that is under way, or starts it. It runs in a task of its own, so that it does not stand still when
    /// the operation that began it is cancelled.
    async fn dial(
        self: &Arc<Self>,
        key: Option<NodeId>,
        open: impl Future<Output = Opened> + Send + 'static,
    ) -> Opened {
        let dial = {
            let mut dials = self.dials.lock();
            // One whose task ended before its time has not removed itself. It is listed until somebody has heard of that.
            match dials.get(&key).filter(|dial| dial.peek().is_none()) {
                Some(dial) => dial.clone(),
                None => {
                    let pool = self.clone();
                    let task = tokio::spawn(async move {
                        let opened = open.await;
                        pool.dials.lock().remove(&key);
                        opened
                    });
                    let ended = move || ConnectionError::Closed {
                        address: key.map_or_else(|| "seeds".to_owned(), |node| format!("node {node}")),
                        reason: CloseReason::TaskEnded,
                    };
                    let joined = task.map(move |joined| {
                        // The task ends early with its runtime, or if it panics.
                        joined.unwrap_or_else(|_| Err(ended()))
                    });
                    let dial = joined.boxed().shared();
                    dials.insert(key, dial.clone());
                    dial
                }
            }
        };
        dial.await
    }

    /// Tries the seeds in random order. The next one joins in when the ones before it have failed or take long; the
    /// first that answers wins.
    async fn open_seed(self: Arc<Self>) -> Opened {
        let introduction = self.introduction.lock().clone();
        let mut seeds: Vec<_> = self.seeds.iter().collect();
        self.directory.with_rng(|rng| seeds.shuffle(rng));
        let mut waiting = seeds.into_iter();
        let mut trying = FuturesUnordered::new();
        let (mut failures, mut refusal) = (Vec::new(), None);
        loop {
            if let Some(seed) = waiting.next() {
                trying.push(Connection::open(seed, &introduction, self.directory.clone()));
            } else if trying.is_empty() {
                return Err(refusal.unwrap_or(ConnectionError::Seeds(failures)));
            }
            let opened = match waiting.len() {
                0 => trying.next().await,
                // One that takes long does not hold up the next one.
                _ => tokio::time::timeout(SEED_STAGGER, trying.next()).await.unwrap_or_default(),
            };
            match opened {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) if error.refusal().is_some() => refusal = Some(error),
                Some(Err(error)) => failures.push(error),
                None => {}
            }
        }
    }
}
