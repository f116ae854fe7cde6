//! The connections of a client: one per node, opened when first needed, and opened once however many operations wait.

use crate::connection::{Connection, Introduction};
use crate::directory::Directory;
use crate::limits::SEED_STAGGER;
use crate::race::first_of;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use kvorum_client_core::limits::PAUSE_MAX;
use kvorum_client_core::{CloseReason, ConnectionError};
use kvorum_protocol::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use rand::seq::SliceRandom;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
    dials: Mutex<Dials>,
}

/// What becomes of connections that are opened, per node. `None` is "any of the seeds".
#[derive(Debug, Default)]
struct Dials {
    under_way: HashMap<Option<NodeId>, Dial>,
    /// Refusals that asked for a pause, and until when it lasts. At most one per node.
    pauses: HashMap<Option<NodeId>, (Duration, ConnectionError)>,
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
            // Many operations may want a node that is full. They are told what it said, and it is not asked each time.
            let now = self.directory.now();
            if let Some((_, refusal)) = dials.pauses.get(&key).filter(|(until, _)| *until > now) {
                return Err(refusal.clone());
            }
            // One whose task ended before its time has not removed itself. It is listed until somebody has heard of that.
            match dials.under_way.get(&key).filter(|dial| dial.peek().is_none()) {
                Some(dial) => dial.clone(),
                None => {
                    let pool = self.clone();
                    let task = tokio::spawn(async move {
                        let opened = open.await;
                        pool.handle_dialled(key, &opened);
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
                    dials.under_way.insert(key, dial.clone());
                    dial
                }
            }
        };
        dial.await
    }

    fn handle_dialled(&self, key: Option<NodeId>, opened: &Opened) {
        let now = self.directory.now();
        let mut dials = self.dials.lock();
        dials.under_way.remove(&key);
        dials.pauses.retain(|_, (until, _)| *until > now);
        if let Err(error) = opened
            && let Some(pause) = error.pause()
        {
            dials.pauses.insert(key, (now + pause.min(PAUSE_MAX), error.clone()));
        }
    }

    /// Tries the seeds in random order. The next one joins in when the ones before it have failed or take long; the
    /// first that answers wins.
    async fn open_seed(self: Arc<Self>) -> Opened {
        let introduction = self.introduction.lock().clone();
        let mut seeds = self.seeds.clone();
        self.directory.with_rng(|rng| seeds.shuffle(rng));
        let (introduction, directory) = (&introduction, &self.directory);
        let open = |seed: String| async move { Connection::open(&seed, introduction, directory.clone()).await };
        first_of(seeds, SEED_STAGGER, open).await.map_err(|mut failures| {
            match failures.iter().rposition(|failure| failure.refusal().is_some()) {
                Some(refusal) => failures.swap_remove(refusal),
                None => ConnectionError::Seeds(failures),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClientId, Durability, Epoch, NodeInfo, Topology};
    use tokio::net::TcpListener;
    use uuid::Uuid;

    const NODE: NodeId = NodeId(Uuid::from_u128(1));

    /// A pool whose dials take so long at most, and a node that lets them take that long.
    async fn pool(timeout: Duration) -> (Arc<Pool>, TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let directory = Arc::new(Directory::new(1));
        crate::connection::Observer::handle_topology(&*directory, topology(&address));
        let introduction = Introduction {
            client: ClientId(Uuid::nil()),
            name: String::new(),
            cluster: None,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: None,
            timeout,
        };
        (Pool::new(vec![address.clone()], introduction, directory), listener, address)
    }

    fn topology(address: &str) -> Topology {
        let node =
            NodeInfo { id: NODE, name: "node-1".to_owned(), client_address: address.to_owned(), zone: String::new() };
        let cluster = ClusterId(Uuid::nil());
        Topology { epoch: Epoch(1), cluster, durability: Durability::Fsync, nodes: vec![node], shards: Vec::new() }
    }

    #[tokio::test]
    async fn a_dial_that_fails_is_held_against_the_node_although_nobody_waits_for_it() {
        let (pool, _listener, address) = pool(Duration::from_millis(20)).await;
        assert!(pool.node(NODE, address).now_or_never().is_none());
        pool.directory.refresh_wanted.notified().await;
        assert!(pool.directory.is_nobody_trusted());
    }

    #[test]
    fn a_dial_whose_runtime_ends_is_not_waited_for_for_ever() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime();
        let (pool, listener, address) = ended.block_on(async {
            let (pool, listener, address) = pool(Duration::from_secs(60)).await;
            assert!(pool.node(NODE, address.clone()).now_or_never().is_none());
            (pool, listener.into_std().unwrap(), address)
        });
        drop(ended);
        runtime().block_on(async {
            let opened = pool.node(NODE, address.clone()).await;
            let reason = CloseReason::TaskEnded;
            let expected = ConnectionError::Closed { address: format!("node {NODE}"), reason };
            assert_eq!(opened.map(|_| ()), Err(expected));
            drop(listener);
            let opened = pool.node(NODE, address).await;
            assert!(matches!(opened, Err(ConnectionError::Io { .. })), "it was dialled again: {opened:?}");
        });
    }
}
