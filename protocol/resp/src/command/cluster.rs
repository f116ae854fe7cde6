//! CLUSTER.

use super::args::Args;
use super::{Command, CommandError};
use kvorum_protocol::hash::SLOTS;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// A subcommand of CLUSTER. The standalone door answers all of them with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCommand<'a> {
    /// Ranges of slots and their nodes.
    Slots,
    /// Nodes and their slots, as maps.
    Shards,
    /// Nodes and their slots, as text.
    Nodes,
    /// The cluster's state, as text.
    Info,
    /// The node's id.
    MyId,
    /// The id of what the node serves.
    MyShardId,
    /// The slot of this key, see [`kvorum_protocol::hash::slot`]. It may be empty or long, for it is not looked up.
    KeySlot(&'a [u8]),
    /// How many keys a slot has here.
    CountKeysInSlot(u16),
    /// Some of a slot's keys.
    GetKeysInSlot {
        /// The slot.
        slot: u16,
        /// At most so many.
        count: u64,
    },
    /// Connections between nodes.
    Links,
    /// Replicas of this node: none.
    Replicas(&'a [u8]),
}

pub(crate) fn slots(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Slots))
}

pub(crate) fn shards(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Shards))
}

pub(crate) fn nodes(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Nodes))
}

pub(crate) fn info(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Info))
}

pub(crate) fn myid(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::MyId))
}

pub(crate) fn myshardid(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::MyShardId))
}

pub(crate) fn links(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Links))
}

pub(crate) fn replicas(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::Replicas(args.at(2))))
}

pub(crate) fn keyslot(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Cluster(ClusterCommand::KeySlot(args.at(2))))
}

fn slot(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS)
}

pub(crate) fn countkeysinslot(args: Args<'_>) -> Parsed<'_> {
    let slot = slot(args.integer(2)?).ok_or(CommandError::InvalidSlot)?;
    Ok(Command::Cluster(ClusterCommand::CountKeysInSlot(slot)))
}

pub(crate) fn getkeysinslot(args: Args<'_>) -> Parsed<'_> {
    let (number, count) = (args.integer(2)?, args.integer(3)?);
    let slot = slot(number).ok_or(CommandError::InvalidSlotOrCount)?;
    let count = u64::try_from(count).map_err(|_| CommandError::InvalidSlotOrCount)?;
    Ok(Command::Cluster(ClusterCommand::GetKeysInSlot { slot, count }))
}
