//! The smallest store that answers every operation. Time stands still in it.

use bytes::Bytes;
use kvorum_protocol::response::StoredEntry;
use kvorum_protocol::{
    Ack, Action, AtomicResult, Awaited, ClientId, Condition, Durability, Entry, ErrorCode, Explanation, HotKey,
    LogIndex, Mutation, NodeStatus, OnceId, Receipt, RequestBody, ResponseBody, ReturnPrevious, ScanCursor, ScanPage,
    ScanRequest, ServerError, ShardId, ShardRole, ShardStatus, Term, TimeToLive, Topology, Version, WriteId,
    WriteResult, WriteStatus, hash,
};
use std::collections::{BTreeMap, HashMap};

/// What the store's clock shows, in milliseconds of Unix time: far ahead, so that nothing looks expired.
pub const NOW_MS: u64 = 4_000_000_000_000;

/// The one leader that there ever was.
const TERM: Term = Term(1);

#[derive(Default)]
pub struct Store {
    entries: BTreeMap<Bytes, Entry>,
    version: u64,
    answered: HashMap<(ClientId, u64), Result<WriteResult, ServerError>>,
    /// What was asked for, and answered, under one-shot names.
    named: HashMap<OnceId, (u64, WriteResult)>,
}

impl Store {
    pub fn answer(&mut self, client: ClientId, body: &RequestBody, topology: &Topology) -> ResponseBody {
        match body {
            RequestBody::Ping(payload) => ResponseBody::Pong(payload.clone()),
            RequestBody::Get { key, .. } => ResponseBody::Value(self.entries.get(key).cloned()),
            RequestBody::MultiGet { keys, .. } => {
                ResponseBody::Values(keys.iter().map(|key| Ok(self.entries.get(key).cloned())).collect())
            }
            RequestBody::Scan(scan) => ResponseBody::Page(self.scan(scan, topology)),
            RequestBody::Write { id, ack, mutation } => match self.write_named(client, *id, *ack, mutation) {
                Ok(result) => ResponseBody::Written(result),
                Err(error) => ResponseBody::Error(error),
            },
            RequestBody::Batch { id, ack, mutations } => {
                let numbered = (id.sequence..).zip(mutations);
                ResponseBody::Batch(
                    numbered.map(|(number, write)| self.write_once((client, number), *ack, write)).collect(),
                )
            }
            RequestBody::Atomic(atomic) => self.atomic(atomic),
            RequestBody::Transaction(_) | RequestBody::Auth(_) => unreachable!("tests of real nodes send these"),
            RequestBody::Await { receipt, .. } if receipt.index.0 <= self.version => {
                ResponseBody::Awaited(if receipt.term == TERM { Awaited::Applied } else { Awaited::Lost })
            }
            RequestBody::Await { .. } => {
                ResponseBody::Error(ServerError::new(ErrorCode::DeadlineExceeded, "nobody knows yet"))
            }
            RequestBody::Explain(key) => ResponseBody::Explanation(self.explain(key, topology)),
            RequestBody::Status(_) => ResponseBody::Status(status(topology)),
            RequestBody::Admin(_) => ResponseBody::Done,
            RequestBody::Hello(_) | RequestBody::Topology => unreachable!("the node answers these itself"),
        }
    }

    /// Once under its number, and once under its one-shot name if it has one.
    fn write_named(
        &mut self,
        client: ClientId,
        id: WriteId,
        ack: Ack,
        mutation: &Mutation,
    ) -> Result<WriteResult, ServerError> {
        let number = (client, id.sequence);
        let Some(once) = id.once.filter(|_| !self.answered.contains_key(&number)) else {
            return self.write_once(number, ack, mutation);
        };
        match self.named.get(&once.id) {
            Some((digest, first)) if *digest == once.digest => Ok(WriteResult { replayed: true, ..first.clone() }),
            Some(_) => Err(ServerError::new(ErrorCode::OnceIdReused, "another write was sent under this name")),
            None => {
                let result = self.write_once(number, ack, mutation)?;
                if result.status == WriteStatus::Applied || once.keeps_refusal {
                    self.named.insert(once.id, (once.digest, result.clone()));
                }
                Ok(result)
            }
        }
    }

    fn write_once(&mut self, id: (ClientId, u64), ack: Ack, mutation: &Mutation) -> Result<WriteResult, ServerError> {
        if let Some(answer) = self.answered.get(&id) {
            return answer.clone();
        }
        let answer = self.write(ack, mutation);
        self.answered.insert(id, answer.clone());
        answer
    }

    fn write(&mut self, ack: Ack, mutation: &Mutation) -> Result<WriteResult, ServerError> {
        let old = self.entries.get(&mutation.key).cloned();
        let old_version = old.as_ref().map_or(Version(0), |entry| entry.version);
        let mut result = WriteResult {
            status: WriteStatus::Applied,
            version: old_version,
            ack,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: old.clone().filter(|_| mutation.return_previous == ReturnPrevious::Entry),
            receipt: None,
            existed: (mutation.return_previous == ReturnPrevious::Existence).then_some(old.is_some()),
            replayed: false,
        };
        if !holds(&mutation.condition, old_version) {
            result.status = WriteStatus::ConditionFailed;
            return Ok(result);
        }
        let (value, expiry) = old.clone().map_or((Bytes::new(), None), |entry| (entry.value, entry.expires_at_ms));
        let new = match &mutation.action {
            Action::Put { value, ttl } => {
                let expires_at_ms = match ttl {
                    TimeToLive::Forever => None,
                    TimeToLive::Ms(ms) => Some(NOW_MS + ms),
                    TimeToLive::Until(at_ms) => Some(*at_ms),
                    TimeToLive::Keep => expiry,
                };
                Some((value.clone(), expires_at_ms))
            }
            Action::Delete if old.is_some() => None,
            Action::Incr { by } => {
                let number = parse(&value)?.checked_add(*by);
                let number = number.ok_or_else(|| ServerError::new(ErrorCode::IntegerOverflow, "out of range"))?;
                result.number = Some(number);
                Some((number.to_string().into(), expiry))
            }
            Action::Append { value: more } => {
                let whole = [&value[..], more].concat();
                result.number = Some(whole.len() as i64);
                Some((whole.into(), expiry))
            }
            Action::Expire { ttl_ms } if old.is_some() => Some((value, Some(NOW_MS + ttl_ms))),
            Action::Persist if expiry.is_some() => Some((value, None)),
            Action::ExpireIf { .. }
            | Action::ExpireAt { .. }
            | Action::SetRange { .. }
            | Action::SetBit { .. }
            | Action::IncrDecimal { .. } => {
                unreachable!("the client has no such writes")
            }
            Action::Delete | Action::Expire { .. } | Action::Persist => {
                result.status = WriteStatus::Missing;
                return Ok(result);
            }
        };
        self.version += 1;
        result.version = Version(self.version);
        if ack == Ack::Accepted {
            result.receipt = Some(Receipt { shard: ShardId(0), term: TERM, index: LogIndex(self.version) });
        }
        match new {
            Some((value, expires_at_ms)) => {
                self.entries.insert(mutation.key.clone(), Entry { value, version: result.version, expires_at_ms });
            }
            None => {
                self.entries.remove(&mutation.key);
            }
        }
        Ok(result)
    }

    fn atomic(&mut self, atomic: &kvorum_protocol::AtomicRequest) -> ResponseBody {
        let conditions = atomic.checks.iter().map(|check| (&check.key, &check.condition));
        let conditions = conditions.chain(atomic.mutations.iter().map(|write| (&write.key, &write.condition)));
        for (position, (key, condition)) in (0..).zip(conditions) {
            let version = self.entries.get(key).map_or(Version(0), |entry| entry.version);
            if !holds(condition, version) {
                return ResponseBody::Atomic(AtomicResult::ConditionFailed { position, version, replayed: false });
            }
        }
        let results: Result<Vec<_>, _> = atomic.mutations.iter().map(|write| self.write(atomic.ack, write)).collect();
        match results {
            Ok(results) => ResponseBody::Atomic(AtomicResult::Applied(results)),
            Err(error) => ResponseBody::Error(error),
        }
    }

    /// The order in the cursor is the number of matching entries that came before.
    fn scan(&self, scan: &ScanRequest, topology: &Topology) -> ScanPage {
        let matching = self
            .entries
            .iter()
            .filter(|(key, _)| key.starts_with(&scan.prefix) && topology.shard_of(key) == scan.shard);
        let mut rest = matching.skip(scan.cursor.order as usize).peekable();
        let mut entries = Vec::new();
        while let Some((key, entry)) = rest.next_if(|_| entries.len() < scan.limit as usize) {
            let value = if scan.values { entry.value.clone() } else { Bytes::new() };
            entries.push((key.clone(), Entry { value, ..*entry }));
        }
        let next = rest.peek().map(|_| ScanCursor { order: scan.cursor.order + entries.len() as u64, ..scan.cursor });
        ScanPage { entries, next }
    }

    fn explain(&self, key: &Bytes, topology: &Topology) -> Explanation {
        let shard = topology.shard_of(key);
        Explanation {
            shard,
            ring_position: hash::ring_position(key),
            leader: topology.leader_of(shard).map(|node| node.id),
            replicas: topology.replicas_of(shard).map(|node| node.id).collect(),
            stored: self.entries.get(key).map(|entry| StoredEntry {
                version: entry.version,
                value_bytes: entry.value.len() as u32,
                expires_at_ms: entry.expires_at_ms,
                segment: 3,
                offset: 4096,
            }),
            reads_per_second: 0,
            writes_per_second: 0,
        }
    }
}

fn holds(condition: &Condition, version: Version) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => version == Version(0),
        Condition::IfPresent => version != Version(0),
        Condition::IfVersion(wanted) => version != Version(0) && version == *wanted,
        Condition::IfAbsentOrVersion(wanted) => version == Version(0) || version == *wanted,
        Condition::IfEquals(_) => unreachable!("no test compares values"),
    }
}

fn parse(value: &[u8]) -> Result<i64, ServerError> {
    if value.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| ServerError::new(ErrorCode::NotAnInteger, "the value is not a decimal 64-bit integer"))
}

fn hot_keys() -> Vec<HotKey> {
    let hot = |writes, key: &'static [u8], per_second, share_permille| HotKey {
        shard: super::shard(0),
        writes,
        key: Bytes::from_static(key),
        key_bytes: key.len() as u32,
        per_second,
        share_permille,
    };
    vec![hot(false, b"user:1", 1_200, 250), hot(true, b"\xffcounter", 30, 1_000)]
}

fn status(topology: &Topology) -> Vec<NodeStatus> {
    let node = |(index, node): (usize, &kvorum_protocol::NodeInfo)| NodeStatus {
        node: node.id,
        name: node.name.clone(),
        program_version: "0.1.0".into(),
        process: 1000 + index as u32,
        uptime_ms: 3_723_000,
        durability: topology.durability,
        http_port: 0,
        connections: 2,
        peers_up: topology.nodes.iter().map(|peer| peer.id).filter(|peer| *peer != node.id).collect(),
        epoch: topology.epoch,
        stranger: false,
        resident_bytes: 64 * 1024 * 1024,
        cpu_us: 1_500_000,
        journal_rounds: 42,
        overloaded: 0,
        disk_free_bytes: 1 << 40,
        disk_full: false,
        clock_ahead_ms: 0,
        clock_off: false,
        index_bytes: 27 * 5,
        hot_keys: hot_keys(),
        shards: (0..)
            .zip(&topology.shards)
            .filter(|(_, shard)| shard.replicas.contains(&(index as u16)))
            .map(|(number, shard)| ShardStatus {
                shard: super::shard(number),
                role: if shard.leader == Some(index as u16) { ShardRole::Leader } else { ShardRole::Follower },
                term: shard.term,
                leader: topology.leader_of(super::shard(number)).map(|node| node.id),
                last_index: LogIndex(12),
                committed: LogIndex(12),
                applied: LogIndex(12),
                version: Version(7),
                keys: 5,
                log_bytes: 2048,
                live_bytes: 1024,
                compactions: 0,
                compacted_bytes: 0,
                incarnation: 1,
                receiving: None,
            })
            .collect(),
    };
    topology.nodes.iter().enumerate().map(node).collect()
}
