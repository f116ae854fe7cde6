//! The commands of operators. They carry no sequence number, so they are repeated only if they certainly had no effect.

use crate::client::Client;
use crate::core::unexpected;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_client_core::routing::Need;
use kvorum_protocol::limits::ABSENCE_MS_MAX;
use kvorum_protocol::{
    AdminCommand, Authority, ClusterPlan, ClusterVerb, LogLevelAsk, LogLevelView, MonitorView, NewNode, NodeId,
    RequestBody, ResponseBody, ShardId, SlowLogAsk, SlowLogView,
};
use std::time::Duration;

/// See [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    /// Hands the leadership of a shard to another node that holds it. Answered once the hand-over has begun or ended, as
    /// the node decides.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let mapping = client.mapping("greeting").await?;
    /// if let Some(node) = mapping.replicas.first() {
    ///     client.admin().transfer_leadership(mapping.shard, node.id).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transfer_leadership(&self, shard: ShardId, to: NodeId) -> Result<(), Error> {
        self.topology().await?;
        self.command(Need::Leader(shard), AdminCommand::TransferLeadership { shard, to }).await
    }

    /// Stops a node gracefully.
    ///
    /// # Errors
    /// `Unreachable` at once if it can't be reached; else as every operation, see [`Error`]. A connection that ends in place
    /// of an answer is what was asked for, and no error.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().shutdown(nodes[0].id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, node: NodeId) -> Result<(), Error> {
        match self.command_to(node, AdminCommand::Shutdown).await {
            Err(Error::ConnectionLost { .. }) => Ok(()),
            other => other,
        }
    }

    /// Has a node join the cluster. Answered once that is recorded: the nodes let it in then, and it takes its share of the replicas.
    /// May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason, if the cluster can't take it in; else as every operation, see [`Error`].
    pub async fn add_node(&self, node: NewNode) -> Result<(), Error> {
        self.ask(ClusterVerb::Join(Box::new(node))).await
    }

    /// Has a node, which may be dead, give all it holds to others and leave the cluster for good. Answered once that is recorded;
    /// the replicas move then, and the node's process ends once it holds nothing. May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason, if the cluster can't do without the node. With `accept_fewer_zones` it may be that the replicas
    /// of a shard stand in fewer zones than before. Else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().remove_node(nodes[3].id, false).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_node(&self, node: NodeId, accept_fewer_zones: bool) -> Result<(), Error> {
        self.ask(ClusterVerb::Remove { node, accept_fewer_zones }).await
    }

    /// Has a node stay that is being removed. What has moved stays where it is, and evens out again. May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason, if the node is gone; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().keep_node(nodes[3].id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn keep_node(&self, node: NodeId) -> Result<(), Error> {
        self.ask(ClusterVerb::Keep(node)).await
    }

    /// Announces that a node will be away for a while: it hands over what it leads, is given nothing, and what it holds is not made
    /// anew. That ends after `absence`, a week at most, or with [`Admin::undrain_node`]. May be repeated, also to wait for longer.
    ///
    /// # Errors
    /// `Refused`, with the reason, if a shard would have no majority without the node; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use std::time::Duration;
    ///
    /// let nodes = client.nodes().await?;
    /// client.admin().drain_node(nodes[1].id, Duration::from_secs(600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain_node(&self, node: NodeId, absence: Duration) -> Result<(), Error> {
        let for_ms = u64::try_from(absence.as_millis()).unwrap_or(u64::MAX).clamp(1, ABSENCE_MS_MAX);
        self.ask(ClusterVerb::Drain { node, for_ms }).await
    }

    /// A node that was drained is as any other again. May be repeated.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    pub async fn undrain_node(&self, node: NodeId) -> Result<(), Error> {
        self.ask(ClusterVerb::Undrain(node)).await
    }

    /// Has `new` take the place of `old`, which may be dead: all that `old` holds goes straight to `new`, and `old` leaves for good.
    /// Answered once that is recorded. May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason; else as every operation, see [`Error`].
    pub async fn replace_node(&self, old: NodeId, new: NodeId) -> Result<(), Error> {
        self.ask(ClusterVerb::Replace { old, new }).await
    }

    /// Asks the cluster for anything that an operator may ask of it. Answered once that is recorded. May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason, if it can't be done; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::ClusterVerb;
    ///
    /// client.admin().ask(ClusterVerb::Pause(true)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ask(&self, verb: ClusterVerb) -> Result<(), Error> {
        self.topology().await?;
        // The node that is asked may be the one that leaves, and end before it answers.
        self.done(Need::Any, Kind::Wish, AdminCommand::Ask(verb)).await
    }

    /// What the cluster does at the moment and what is to come, as the leader of the ring map's group says it; or what would come
    /// if `verb` were asked of the cluster. Costs that node up to 50 ms with 100 nodes and 512 shards.
    ///
    /// # Errors
    /// `Refused`, with the reason, if `verb` would be; `DeadlineExceeded` while no node speaks for the ring map; else as every operation,
    /// see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let plan = client.admin().plan(None).await?;
    /// println!("{} moves, {} of them under way", plan.moves.len(), plan.moves.iter().filter(|one| one.under_way).count());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn plan(&self, verb: Option<ClusterVerb>) -> Result<ClusterPlan, Error> {
        self.topology().await?;
        let body = RequestBody::Admin(AdminCommand::Plan(verb));
        match self.client.call(Need::Any, Kind::Read, body, None).await? {
            ResponseBody::Plan(plan) => Ok(*plan),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// Which cluster this is, and which authority it has.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    pub async fn authority(&self) -> Result<Authority, Error> {
        self.topology().await?;
        match self.client.call(Need::Any, Kind::Read, RequestBody::Admin(AdminCommand::Authority), None).await? {
            ResponseBody::Authority(authority) => Ok(authority),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// The newest operations that took long on a node, at most `count` of them and of what it keeps (1024), the newest first.
    ///
    /// # Errors
    /// As [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// for slow in client.admin().slow_log(nodes[0].id, 10).await?.operations {
    ///     println!("{} took {} us, {} of them for a quorum", slow.operation, slow.took_us, slow.stages.quorum_us);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn slow_log(&self, node: NodeId, count: u32) -> Result<SlowLogView, Error> {
        self.topology().await?;
        let body = RequestBody::Admin(AdminCommand::SlowLog(SlowLogAsk::Newest(count)));
        match self.client.call(Need::Exactly(node), Kind::Read, body, None).await? {
            ResponseBody::SlowLog(view) => Ok(*view),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// What has come in at a node since somebody watches, from a number on: without one, from now on. A node takes requests down for 3 s
    /// after it was asked, about 5,000 per second: of more, a share. Ask again with [`MonitorView::next`], some times a second.
    ///
    /// # Errors
    /// As [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// let begun = client.admin().monitor(nodes[0].id, None).await?;
    /// client.put("greeting", "hello").await?;
    /// for request in client.admin().monitor(nodes[0].id, Some(begun.next)).await?.requests {
    ///     println!("{} {:?}", request.operation, request.key);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn monitor(&self, node: NodeId, from: Option<u64>) -> Result<MonitorView, Error> {
        self.topology().await?;
        let body = RequestBody::Admin(AdminCommand::Monitor(from));
        match self.client.call(Need::Exactly(node), Kind::Read, body, None).await? {
            ResponseBody::Monitor(view) => Ok(*view),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// How much a node logs, after it was told to log more or less for a while. `LogLevelAsk::Show` changes nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for a time of more than a day; else as [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::{LogLevel, LogLevelAsk};
    ///
    /// let nodes = client.nodes().await?;
    /// let ask = LogLevelAsk::Set { level: LogLevel::Debug, for_ms: 600_000 };
    /// println!("it logs {}", client.admin().log_level(nodes[0].id, ask).await?.filter);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log_level(&self, node: NodeId, ask: LogLevelAsk) -> Result<LogLevelView, Error> {
        self.topology().await?;
        // Asked twice, it does the same.
        let kind = if ask == LogLevelAsk::Show { Kind::Read } else { Kind::Wish };
        let body = RequestBody::Admin(AdminCommand::LogLevel(ask));
        match self.client.call(Need::Exactly(node), kind, body, None).await? {
            ResponseBody::LogLevel(view) => Ok(view),
            other => Err(unexpected(&other, kind)),
        }
    }

    /// Has a node forget the operations that took long.
    ///
    /// # Errors
    /// As [`Admin::shutdown`].
    pub async fn forget_slow_log(&self, node: NodeId) -> Result<(), Error> {
        self.command_to(node, AdminCommand::SlowLog(SlowLogAsk::Forget)).await
    }

    /// Fault hook: makes one node's actor of a shard panic.
    ///
    /// # Errors
    /// `NotPermitted` unless the node runs with fault hooks on; else as [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::ShardId;
    ///
    /// let nodes = client.nodes().await?;
    /// client.admin().panic_shard(nodes[0].id, ShardId(0)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn panic_shard(&self, node: NodeId, shard: ShardId) -> Result<(), Error> {
        self.command_to(node, AdminCommand::PanicShard(shard)).await
    }

    /// Fault hook: cuts a node off from all its peers, or ends that.
    ///
    /// # Errors
    /// `NotPermitted` unless the node runs with fault hooks on; else as [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().cut_peers(nodes[0].id, true).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cut_peers(&self, node: NodeId, cut: bool) -> Result<(), Error> {
        self.command_to(node, AdminCommand::CutPeers(cut)).await
    }

    /// Fault hook: makes a node's wall clock show so many milliseconds more than its machine's, or less.
    ///
    /// # Errors
    /// `NotPermitted` unless the node runs with fault hooks on; else as [`Admin::shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let nodes = client.nodes().await?;
    /// client.admin().skew_clock(nodes[0].id, -60_000).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn skew_clock(&self, node: NodeId, ms: i64) -> Result<(), Error> {
        self.command_to(node, AdminCommand::SkewClock(ms)).await
    }

    async fn command_to(&self, node: NodeId, command: AdminCommand) -> Result<(), Error> {
        self.topology().await?;
        self.command(Need::Exactly(node), command).await
    }

    async fn command(&self, need: Need, command: AdminCommand) -> Result<(), Error> {
        self.done(need, Kind::Command, command).await
    }

    pub(crate) async fn done(&self, need: Need, kind: Kind, command: AdminCommand) -> Result<(), Error> {
        match self.call(need, kind, RequestBody::Admin(command)).await? {
            ResponseBody::Done => Ok(()),
            other => Err(unexpected(&other, kind)),
        }
    }

    pub(crate) async fn call(&self, need: Need, kind: Kind, body: RequestBody) -> Result<ResponseBody, Error> {
        self.client.call(need, kind, body, None).await
    }

    /// A node is found by its identity only once the topology is known.
    async fn topology(&self) -> Result<(), Error> {
        let core = &self.client.core;
        core.known_topology(self.client.deadline(None)).await.map(|_| ())
    }
}
