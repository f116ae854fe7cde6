//! The commands of operators. They carry no sequence number, so they are repeated only if they certainly had no effect.

use crate::client::Client;
use crate::core::unexpected;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_client_core::routing::Need;
use kvorum_protocol::{AdminCommand, NewNode, NodeId, RequestBody, ResponseBody, ShardId};

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
        self.topology().await?;
        self.command(Need::Any, AdminCommand::AddNode(Box::new(node))).await
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
        self.topology().await?;
        self.command(Need::Any, AdminCommand::RemoveNode { node, accept_fewer_zones }).await
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
        self.topology().await?;
        self.command(Need::Any, AdminCommand::KeepNode(node)).await
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
        match self.client.call(need, Kind::Command, RequestBody::Admin(command), None).await? {
            ResponseBody::Done => Ok(()),
            other => Err(unexpected(&other, Kind::Command)),
        }
    }

    /// A node is found by its identity only once the topology is known.
    async fn topology(&self) -> Result<(), Error> {
        let core = &self.client.core;
        core.known_topology(self.client.deadline(None)).await.map(|_| ())
    }
}
