//! The client as its users see it.

use crate::admin::Admin;
use crate::atomic::Atomic;
use crate::batch::Batch;
use crate::builder::ClientBuilder;
use crate::core::{Call, Core, unexpected};
use crate::get::{Get, GetMany};
use crate::key::checked_key;
use crate::scan::Scan;
use crate::status::NodeStatus;
use crate::transaction::Transaction;
use crate::write::{Append, ConditionalWrite, Incr, Write};
use crate::write_op::WriteOp;
use bytes::Bytes;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_client_core::routing::Need;
use kvorum_protocol::{
    Awaited, ClientId, ClusterId, ErrorCode, Explanation, NodeId, NodeInfo, ReadMode, Receipt, RequestBody,
    ResponseBody, ShardId, StatusScope, Topology,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node is asked for so long at most what became of a write, see [`await_ms`].
const AWAIT_ATTEMPT: Duration = Duration::from_millis(500);

/// A client of one cluster. Cheap to clone; all clones share one connection per node, one session, and the same limits.
///
/// Operations are builders that run when they are awaited. Dropping one half-way gives it up: a write may then have taken
/// effect or not.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), kvorum_client::Error> {
/// let client = kvorum_client::Client::connect("kv://127.0.0.1:7401").await?;
/// let other = client.clone();
/// tokio::spawn(async move { other.put("greeting", "hello").await });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    /// When whatever this handle begins must have ended, see [`Client::within`].
    until: Option<Duration>,
}

const _: () = {
    const fn is_shared_between_threads<T: Send + Sync + 'static>() {}
    is_shared_between_threads::<Client>();
};

impl Client {
    /// Connects to the cluster at `kv://host:port,host:port`. One address that answers is enough; the others are learned from it.
    /// Must be called within a tokio runtime, which must outlive the client: a task on it keeps the topology fresh.
    /// A connection lives on the runtime whose operation opened it, and ends with it.
    ///
    /// # Errors
    /// `InvalidArgument` if the URL can't be understood, `Unreachable` if no seed answers within the connect timeout of one
    /// second, `Server` if one refuses.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::connect("kv://127.0.0.1:7401,127.0.0.1:7402").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().url(url).connect().await
    }

    /// Begins to set up a client.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let client = kvorum_client::Client::builder().url("kv://127.0.0.1:7401").name("billing").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Reads a key: `Some(entry)`, or `None` if there is no such key. Linearizable unless [`Get::stale`] is asked for.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// if let Some(entry) = client.get("greeting").await? {
    ///     println!("{:?}, version {}", entry.value, entry.version);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        Get::new(self, key.as_ref())
    }

    /// Stores a value, of at most 16 MiB, under a key, of 1 byte to 64 KiB, whatever is there.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let version = client.put("greeting", "hello").await?.version;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Write {
        Write::new(self, WriteOp::put(key, value))
    }

    /// Removes a key. The result says whether there was one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let was_there = client.delete("greeting").await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Write {
        Write::new(self, WriteOp::delete(key))
    }

    /// Adds to a decimal 64-bit integer and answers the new number; a missing key counts as 0. For the version too, write
    /// [`WriteOp::incr`] with [`Client::write`].
    ///
    /// The error `NotAnInteger` says that the value is something else, `IntegerOverflow` that the sum has no room.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let visits: i64 = client.incr("visits", 1).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn incr(&self, key: impl AsRef<[u8]>, by: i64) -> Incr {
        Incr::new(self, key.as_ref(), by)
    }

    /// Appends bytes and answers the new length in bytes, 16 MiB at most; a missing key counts as empty.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let length: u64 = client.append("log", "one line\n").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn append(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Append {
        Append::new(self, key.as_ref(), value.into())
    }

    /// Sets the time to live of an existing key, from one millisecond to 100 years. The result says whether there was one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let was_there = client.expire("session", Duration::from_secs(60)).await?.is_applied();
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Write {
        Write::new(self, WriteOp::expire(key, ttl))
    }

    /// Takes the time to live off an existing key. The result says whether there was one to take off.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// client.persist("session").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Write {
        Write::new(self, WriteOp::persist(key))
    }

    /// Runs any single write, which may have a condition.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{ConditionalResult, WriteOp};
    ///
    /// let op = WriteOp::incr("stock", -1).if_present();
    /// match client.write(op).await? {
    ///     ConditionalResult::Applied(result) => println!("{:?} are left", result.number),
    ///     ConditionalResult::NotApplied(_) => println!("not for sale"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, op: WriteOp) -> ConditionalWrite {
        ConditionalWrite::new(self, op)
    }

    /// Waits until it is known what became of a write that was answered with [`Ack::Accepted`](crate::Ack::Accepted), for as long
    /// as `wait`, and ten minutes at most. The receipt is that of its result.
    ///
    /// # Errors
    /// `DeadlineExceeded` if it is not known by then; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{Ack, Awaited};
    /// use std::time::Duration;
    ///
    /// let written = client.put("log", "line").ack(Ack::Accepted).await?;
    /// if let Some(receipt) = written.receipt {
    ///     match client.await_write(receipt, Duration::from_secs(1)).await? {
    ///         Awaited::Applied => println!("it is there to stay"),
    ///         Awaited::Lost => println!("its leader lost it"),
    ///         Awaited::Forgotten => println!("asked too late"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn await_write(&self, receipt: Receipt, wait: Duration) -> Result<Awaited, Error> {
        let until = self.deadline(Some(wait));
        loop {
            let left = until.saturating_sub(self.core.directory.now());
            let wait_ms = await_ms(left, self.core.options.retry.attempt_timeout);
            let topology = self.core.directory.topology();
            let exists = topology.is_some_and(|topology| usize::from(receipt.shard.0) < topology.shards.len());
            let need = if exists { Need::Leader(receipt.shard) } else { Need::Any };
            let body = RequestBody::Await { receipt, wait_ms };
            let call = Call { need, kind: Kind::Read, body, bytes: 0, deadline: until, sequence: None };
            match self.core.execute(call).await {
                Ok(ResponseBody::Awaited(awaited)) => return Ok(awaited),
                Ok(other) => return Err(unexpected(&other, Kind::Read)),
                // It is not known yet. Whoever leads by now is asked again.
                Err(Error::Server(error))
                    if error.code == ErrorCode::DeadlineExceeded && self.core.directory.now() < until => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads many keys at once: a result per key, in the order asked. Keys of different shards are read concurrently and
    /// not at one moment. Costs one request per leader and 4096 keys.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// for result in client.get_many(["a", "b"]).await {
    ///     println!("{:?}", result?.map(|entry| entry.value));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> GetMany {
        GetMany::new(self, keys.into_iter().map(|key| Bytes::copy_from_slice(key.as_ref())).collect())
    }

    /// Begins a batch of independent writes, sent to all shard leaders concurrently: a result per write. Any number of them;
    /// each takes effect or fails by itself.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// for result in client.batch().put("a", "1").put("b", "2").await {
    ///     result?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self) -> Batch {
        Batch::new(self)
    }

    /// Begins checks and writes that take effect together or not at all. All keys must be in the shard of `tag`, which is
    /// what `{tag}` in a key does; else the error is `CrossShard`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::AtomicResult;
    ///
    /// let transfer = client.atomic("bank").incr("{bank}.ann", -5).incr("{bank}.bob", 5);
    /// match transfer.await? {
    ///     AtomicResult::Applied(results) => println!("{} writes", results.len()),
    ///     AtomicResult::ConditionFailed { position, .. } => println!("check {position} does not hold"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn atomic(&self, tag: impl AsRef<[u8]>) -> Atomic {
        Atomic::new(self, tag.as_ref())
    }

    /// Begins operations that are done in turn, with nothing between them: reads, writes, renames, copies. Each has a reply of its own.
    /// All keys must be in the shard of `tag`, as for [`Client::atomic`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{TransactionReply, TransactionResult};
    ///
    /// let work = client.transaction("job").rename("{job}.new", "{job}.taken").get("{job}.taken");
    /// if let TransactionResult::Done(replies) = work.await?
    ///     && let TransactionReply::Value(Some(job)) = &replies[1]
    /// {
    ///     println!("{:?}", job.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction(&self, tag: impl AsRef<[u8]>) -> Transaction {
        Transaction::new(self, tag.as_ref())
    }

    /// Walks all keys that begin with `prefix`, shard by shard, in no order that means anything. A prefix with a whole
    /// `{tag}` is looked for in one shard only.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let mut scan = client.scan("user:").values(true);
    /// while let Some(entry) = scan.try_next().await? {
    ///     println!("{:?} = {:?}", entry.key, entry.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::new(self, prefix.as_ref())
    }

    /// Where a key lives, as this client knows it. Costs nothing once the topology is known.
    ///
    /// # Errors
    /// Those of [`Client::topology`], if the topology is not known yet.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let mapping = client.mapping("greeting").await?;
    /// println!("{}: {:?}", mapping.shard, mapping.leader.map(|node| node.name));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn mapping(&self, key: impl AsRef<[u8]>) -> Result<Mapping, Error> {
        let topology = self.core.known_topology(self.deadline(None)).await?;
        let shard = topology.shard_of(key.as_ref());
        let leader = self.core.directory.leader(shard);
        Ok(Mapping {
            shard,
            leader: topology.nodes.iter().find(|node| Some(node.id) == leader).cloned(),
            replicas: topology.replicas_of(shard).cloned().collect(),
        })
    }

    /// Where a key lives and how it is stored, as the leader of its shard answers.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let explanation = client.explain("greeting").await?;
    /// println!("{:?}", explanation.stored);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation, Error> {
        let key = checked_key(key.as_ref())?;
        let need = self.need_leader(&key);
        match self.call(need, Kind::Read, RequestBody::Explain(key), None).await? {
            ResponseBody::Explanation(explanation) => Ok(explanation),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// The ring map with the leaders, asked of a node now.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// println!("{} shards", client.topology().await?.shards.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn topology(&self) -> Result<Arc<Topology>, Error> {
        self.core.fetch_topology(self.deadline(None)).await
    }

    /// The ring map that this client uses; nodes push their changes to it. `None` before the first one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let epoch = client.cached_topology().map(|topology| topology.epoch);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cached_topology(&self) -> Option<Arc<Topology>> {
        self.core.directory.topology()
    }

    /// The nodes of the cluster, asked of one of them now.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// for node in client.nodes().await? {
    ///     println!("{} at {}", node.name, node.client_address);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, Error> {
        Ok(self.topology().await?.nodes.clone())
    }

    /// How every node is doing that can be reached by the one that is asked.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let topology = client.topology().await?;
    /// for problem in kvorum_client::health::problems(&topology, &client.status().await?) {
    ///     println!("{problem}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status(&self) -> Result<Vec<NodeStatus>, Error> {
        self.status_at(Need::Any, StatusScope::Cluster).await
    }

    /// How one node is doing, asked of that node itself.
    ///
    /// # Errors
    /// `Unreachable` at once if it can't be reached; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// for node in client.nodes().await? {
    ///     println!("{:?}", client.node_status(node.id).await?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn node_status(&self, node: NodeId) -> Result<Vec<NodeStatus>, Error> {
        self.core.known_topology(self.deadline(None)).await?;
        self.status_at(Need::Exactly(node), StatusScope::Node).await
    }

    /// The time that a round trip to some node takes.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// println!("{:?}", client.ping().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ping(&self) -> Result<Duration, Error> {
        self.ping_at(Need::Any).await
    }

    /// The time that a round trip to this node takes.
    ///
    /// # Errors
    /// `Unreachable` at once if it can't be reached; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// for node in client.nodes().await? {
    ///     println!("{}: {:?}", node.name, client.ping_node(node.id).await?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ping_node(&self, node: NodeId) -> Result<Duration, Error> {
        self.core.known_topology(self.deadline(None)).await?;
        self.ping_at(Need::Exactly(node)).await
    }

    /// The commands of operators.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().shutdown(nodes[0].id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin(&self) -> Admin {
        Admin::new(self)
    }

    /// A node that this client is connected to now, and its address.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// if let Some((node, address)) = client.connected_to() {
    ///     println!("{node} at {address}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn connected_to(&self) -> Option<(NodeId, String)> {
        self.core.connected_to()
    }

    /// The cluster, once a node has answered.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let cluster = client.cluster();
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster(&self) -> Option<ClusterId> {
        self.core.cluster()
    }

    /// The identity under which this client's writes take effect once.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// println!("{}", client.id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> ClientId {
        self.core.options.client
    }

    /// The same client, all of whose operations together may take this long from now. What they do one after the other is
    /// then bounded as a whole; each keeps its own deadline too. Past that time operations fail with `DeadlineExceeded`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let client = client.within(Duration::from_millis(500));
    /// let cart = client.get("cart").await?;
    /// client.put("seen", "now").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { core: self.core.clone(), until: Some(self.core.directory.now().saturating_add(limit)) }
    }

    /// Ends this client and all its clones: new operations fail with `Closed`, those under way may end within `grace`, what
    /// is left after it is cut off. Returns whether all had ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let all_ended = client.close(Duration::from_secs(1)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self, grace: Duration) -> bool {
        self.core.close(grace).await
    }

    pub(crate) fn over(core: Arc<Core>) -> Self {
        Self { core, until: None }
    }

    /// When an operation that begins now must have ended.
    pub(crate) fn deadline(&self, own: Option<Duration>) -> Duration {
        let deadline = self.core.deadline(own);
        self.until.map_or(deadline, |until| until.min(deadline))
    }

    /// What a linearizable operation on this key needs. Before the topology is known, any node forwards.
    pub(crate) fn need_leader(&self, key: &[u8]) -> Need {
        self.core.directory.topology().map_or(Need::Any, |topology| Need::Leader(topology.shard_of(key)))
    }

    /// What a read of this key needs.
    pub(crate) fn need_read(&self, key: &[u8], mode: ReadMode) -> Need {
        match (self.need_leader(key), mode) {
            (Need::Leader(shard), ReadMode::Stale) => Need::Replica(shard),
            (need, _) => need,
        }
    }

    /// Runs an operation that is small.
    pub(crate) async fn call(
        &self,
        need: Need,
        kind: Kind,
        body: RequestBody,
        deadline: Option<Duration>,
    ) -> Result<ResponseBody, Error> {
        let deadline = self.deadline(deadline);
        self.core.execute(Call { need, kind, body, bytes: 0, deadline, sequence: None }).await
    }

    async fn ping_at(&self, need: Need) -> Result<Duration, Error> {
        let began = Instant::now();
        match self.call(need, Kind::Read, RequestBody::Ping(Bytes::from_static(b"ping")), None).await? {
            ResponseBody::Pong(_) => Ok(began.elapsed()),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    async fn status_at(&self, need: Need, scope: StatusScope) -> Result<Vec<NodeStatus>, Error> {
        match self.call(need, Kind::Read, RequestBody::Status(scope), None).await? {
            ResponseBody::Status(nodes) => Ok(nodes.into_iter().map(NodeStatus::from).collect()),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }
}

/// For how long a node is asked what became of a write, in milliseconds. It answers well before another one would be tried.
fn await_ms(left: Duration, attempt_timeout: Duration) -> u32 {
    left.min(AWAIT_ATTEMPT).min(attempt_timeout / 2).as_millis().max(1) as u32
}

/// Where a key lives. New fields may come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Mapping {
    /// The key's shard.
    pub shard: ShardId,
    /// The node that leads the shard, if known.
    pub leader: Option<NodeInfo>,
    /// The nodes that hold the shard.
    pub replicas: Vec<NodeInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_asked_about_a_write_answers_before_the_attempt_is_given_up() {
        let ms = Duration::from_millis;
        assert_eq!(await_ms(ms(5000), ms(1000)), 500);
        assert_eq!(await_ms(ms(5000), ms(500)), 250);
        assert_eq!(await_ms(ms(5000), Duration::MAX), 500);
        assert_eq!(await_ms(ms(7), ms(1000)), 7);
        assert_eq!(await_ms(Duration::ZERO, ms(1)), 1);
    }
}
