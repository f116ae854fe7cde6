//! A replica whose group will never meet again: how far it has come, and how it goes on alone.
//!
//! All of its log counts then. What was not known to be committed may have been acknowledged, and nobody is left who could say
//! otherwise. So its entries are applied to the last one, and the state at that entry becomes the base of a group in which one
//! fresh replica votes. The log before the base stays as it is.
//!
//! Nothing here is done by a node that runs: `kvorum recover` does it, when an operator says so.

use super::{ORDER_BITS, Shard, ShardConfig, ShardError, Target};
use crate::clock::{Nanos, Now};
use crate::consensus::ConsensusConfig;
use crate::disk::Disk;
use crate::limits::{ELECTION_TICKS, HEARTBEAT_TICKS};
use crate::log::inspect::Layout;
use crate::log::{Base, HardState, InlineSource, LogError, LogOptions, Membership, Position, SegmentSource, ShardLog};
use crate::ring::{FIRST_REPLICAS_MAX, RingMap};
use crate::sealing::Keyring;
use crate::store::{CaptureSlice, SessionLimits, Store};
use bytes::Bytes;
use kvorum_protocol::peer::RaftEntryKind;
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, Term};
use std::sync::Arc;

/// A group that goes on alone leaves so many versions out: those that writes may have been given that are lost.
pub const VERSIONS_SKIPPED: u64 = 1 << 32;
/// A group that goes on alone leaves so many terms out: those that the replicas that are lost may have been in.
pub const TERMS_SKIPPED: u64 = 1 << 20;
/// Only differences of clocks mean anything, and none passes here.
const NOW: Now = Now { monotonic: Nanos(1), wall_ms: 0, agreed_ms: None };
const TICK_MS: u64 = 50;

/// How far a replica has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The newest term that it has seen.
    pub term: Term,
    /// The term of its last entry.
    pub last_term: Term,
    /// Its last entry; 0 if it has none.
    pub last_index: LogIndex,
    /// The last entry that it knows to be committed.
    pub committed: LogIndex,
    /// Who replicates the shard as of its last entry.
    pub membership: Membership,
    /// The same as of the last entry that it knows to be committed, if that is another one.
    pub membership_committed: Option<Membership>,
    /// Keys as of its last entry, expired ones included that were not dropped yet.
    pub keys: u64,
}

/// A replica's log, and the state at its last entry.
pub struct Remains {
    shard: Shard,
    reach: Reach,
}

/// Whose files they are, and in which files new ones go.
#[derive(Clone)]
pub struct RemainsOptions<'a> {
    /// The node's disk.
    pub disk: &'a Arc<dyn Disk>,
    /// A map of the cluster: the number of its shards, and with how many replicas each was born.
    pub ring: &'a RingMap,
    /// The shard.
    pub shard: ShardId,
    /// What its records are sealed with, if they are.
    pub keys: &'a Arc<Keyring>,
}

impl RemainsOptions<'_> {
    fn log(&self) -> LogOptions {
        let source: Arc<dyn SegmentSource> = Arc::new(InlineSource::new(Arc::clone(self.disk)));
        LogOptions { keys: Arc::clone(self.keys), ..LogOptions::new(source) }
    }

    fn config(&self, replica: ReplicaId) -> ShardConfig {
        let founders = self.ring.group(self.shard).map_or(1, |group| group.founders);
        ShardConfig {
            shard: self.shard,
            consensus: ConsensusConfig {
                replica,
                tick_ms: TICK_MS,
                election_ticks: ELECTION_TICKS,
                heartbeat_ticks: HEARTBEAT_TICKS,
                seed: 0,
            },
            initial_voters: (1..=u64::from(founders)).map(ReplicaId).collect(),
            target: Target::default(),
            joins: replica.0 > FIRST_REPLICAS_MAX,
            durability: self.ring.durability,
            sessions: SessionLimits::of_shards(self.ring.shards.len() + 1),
            order_bits: ORDER_BITS,
        }
    }

    /// Opens a replica's files and applies all of its log, as [`ShardLog::open`] does; `None` if there are no files. Reads all of
    /// the log, and all records of the base if there is no index of it. Takes the memory that the replica takes in a node.
    ///
    /// # Errors
    /// If the files are damaged, or can't be read.
    pub fn open(&self, replica: ReplicaId, durable: Option<Position>) -> Result<Option<Remains>, ShardError> {
        if self.disk.list_segments(self.shard).map_err(LogError::from)?.is_empty() {
            return Ok(None);
        }
        let (log, _) = ShardLog::open(self.disk, self.shard, durable, self.log())?;
        let (known, last_index) = (log.hard_state(), log.last_index());
        let last_term = log.term_of(last_index).unwrap_or_default();
        let tail = known.commit.0 + 1..=last_index.0;
        let mut changes = false;
        for index in tail.filter(|index| LogIndex(*index) >= log.first_index()) {
            changes |= log.entry(LogIndex(index))?.kind == RaftEntryKind::Membership;
        }
        let membership_committed = match changes {
            true => Some(applied(Shard::new(self.config(replica), log, NOW.monotonic)?)?.membership().clone()),
            false => {
                drop(log);
                None
            }
        };
        let (mut log, _) = ShardLog::open(self.disk, self.shard, durable, self.log())?;
        if last_index > known.commit {
            log.append_hard_state(HardState { commit: last_index, ..known })?;
        }
        let shard = applied(Shard::new(self.config(replica), log, NOW.monotonic)?)?;
        let reach = Reach {
            term: known.term,
            last_term,
            last_index,
            committed: known.commit,
            membership: shard.membership().clone(),
            membership_committed,
            keys: shard.reader().keys(),
        };
        Ok(Some(Remains { shard, reach }))
    }

    /// Where a replica's log ends, without applying it: its last entry. `None` if there are no files.
    ///
    /// # Errors
    /// As [`RemainsOptions::open`].
    pub fn last_index(&self, durable: Option<Position>) -> Result<Option<LogIndex>, LogError> {
        if self.disk.list_segments(self.shard)?.is_empty() {
            return Ok(None);
        }
        let summary = Layout::read(&**self.disk, self.shard)?.recover(&**self.disk, durable)?;
        Ok(summary.map(|summary| summary.last_index))
    }

    /// Whether the files are those of a group in which this replica alone votes: [`Remains::go_on_alone`] or
    /// [`RemainsOptions::begin_empty`] was done.
    ///
    /// # Errors
    /// If the manifest is damaged, or can't be read.
    pub fn is_alone(&self, replica: ReplicaId) -> Result<bool, LogError> {
        let layout = Layout::read(&**self.disk, self.shard)?;
        Ok(layout.base().is_some_and(|base| base.membership.is_exactly(&[replica])))
    }

    /// Begins a group that holds nothing, and in which this replica alone votes. Nothing may lie in the shard's folder.
    ///
    /// # Errors
    /// If the disk fails or is full.
    pub fn begin_empty(&self, replica: ReplicaId, term: Term) -> Result<(), ShardError> {
        let (mut log, _) = ShardLog::open(self.disk, self.shard, None, self.log())?;
        let index = LogIndex(1);
        let mut store = Store::emptied(index);
        store.skip_versions(VERSIONS_SKIPPED, log.fresh_secret());
        let mut state = Vec::new();
        store.encode_base(&mut state);
        let base = Base { index, term, membership: alone(replica), state: Bytes::from(state), sealed: false };
        Ok(log.install(base, &[])?)
    }
}

impl Remains {
    /// How far the replica has come.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Writes down that the group goes on from its last entry, with this replica as the only one that votes, and in this term.
    /// Until that is durable nothing has changed that counts; afterwards the files are the replica's.
    ///
    /// Versions that writes may have been given that are lost are left out. What is remembered of clients' writes stays.
    ///
    /// # Errors
    /// If the disk fails or is full.
    ///
    /// # Panics
    /// If the log has no entry, or the term is not above all that it has seen.
    pub fn go_on_alone(mut self, disk: &dyn Disk, replica: ReplicaId, term: Term) -> Result<(), ShardError> {
        // What a manifest lists was synced before. The commit position was appended since the log was opened.
        for segment in self.shard.log().view().segments() {
            segment.sync().map_err(LogError::from)?;
        }
        let secret = self.shard.log().fresh_secret();
        self.shard.store.skip_versions(VERSIONS_SKIPPED, secret);
        let capture = self.shard.begin_capture().expect("there is an entry to go on from");
        let captured = self.shard.go_on_capture(&capture, CaptureSlice::WHOLE);
        let (base, index) = captured.expect("all of it is captured at once");
        let keep_from = LogIndex(base.index.0 + 1);
        let base = Base { membership: alone(replica), ..base };
        let checkpoint = self.shard.log().prepare_checkpoint(base, keep_from, None, index.bytes().clone());
        Ok(checkpoint.of_term(term).write(disk)?)
    }
}

fn alone(replica: ReplicaId) -> Membership {
    Membership { voters: vec![replica], ..Membership::default() }
}

/// Applies all that is known to be committed.
fn applied(mut shard: Shard) -> Result<Shard, ShardError> {
    let committed = shard.status().committed;
    while shard.store().applied() < committed {
        let before = shard.store().applied();
        let effects = shard.poll(NOW)?;
        if let Some((token, _)) = effects.append {
            shard.handle_persisted(token);
        }
        assert!(shard.store().applied() > before, "entries of the log that are committed are applied");
    }
    Ok(shard)
}
