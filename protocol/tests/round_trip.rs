//! Any message whatever comes back from its bytes as it went in.
//!
//! Long because every part of every message has a strategy, and they are made of each other.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::limits::{
    ABSENCE_MS_MAX, DEADLINE_MS_MAX, EXPIRY_MS_MAX, FRAME_BYTES_MAX, MOVE_RATE_MB_MAX, NODE_WEIGHT_MAX,
    SCAN_ENTRIES_MAX, SEQUENCE_MAX, SNAPSHOT_HEADER_BYTES_MAX, TOKEN_MS_MAX, TTL_MS_MAX,
};
use kvorum_protocol::part::{Assembler, PART_KIND, Parts};
use kvorum_protocol::peer::{
    Levels, PeerHello, PeerMessage, RaftEntry, RaftEntryKind, RaftMessage, RaftMessageKind, RespAddresses,
};
use kvorum_protocol::report::{DiskRoom, NodeReport, ShardLoad};
use kvorum_protocol::response::StoredEntry;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{
    Ack, Action, AdminCommand, Admitted, AtomicCheck, AtomicRequest, AtomicResult, Authority, AuthorityHash, Awaited,
    ClientId, ClusterId, ClusterPlan, ClusterVerb, Condition, Durability, EncryptVerb, Entry, Epoch, ErrorCode,
    ExpireWhen, Explanation, FolderId, Hello, HelloReply, HotKey, JoinReply, JoinRequest, LogIndex, MovePurpose,
    Mutation, NewNode, NewToken, NodeId, NodeInfo, NodeKey, NodeOutlook, NodeStanding, NodeStatus, Once, OnceId,
    Outcome, PlanReason, PlannedMove, ReadMode, Receipt, Receiving, ReplicaId, Request, RequestBody, RequestId,
    Response, ResponseBody, Retry, ReturnPrevious, ScanCursor, ScanPage, ScanRequest, SealingOutlook, ServerError,
    ShardId, ShardInfo, ShardRole, ShardStatus, StatusScope, Term, TimeToLive, TokenId, TokenKey, Topology,
    TransactionOperation, TransactionReply, TransactionRequest, TransactionResult, Version, WriteId, WriteResult,
    WriteStatus, frame,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn node_id() -> impl Strategy<Value = NodeId> {
    uuid().prop_map(NodeId)
}

fn cluster_id() -> impl Strategy<Value = ClusterId> {
    uuid().prop_map(ClusterId)
}

fn client_id() -> impl Strategy<Value = ClientId> {
    uuid().prop_map(ClientId)
}

fn shard_id() -> impl Strategy<Value = ShardId> {
    any::<u16>().prop_map(ShardId)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

/// At most 60 characters, so at most 240 bytes.
fn name() -> impl Strategy<Value = String> {
    ".{0,60}"
}

fn ack() -> impl Strategy<Value = Ack> {
    select(vec![Ack::Committed, Ack::Accepted])
}

fn durability() -> impl Strategy<Value = Durability> {
    select(vec![Durability::Fsync, Durability::Memory])
}

fn read_mode() -> impl Strategy<Value = ReadMode> {
    select(vec![ReadMode::Linearizable, ReadMode::Stale])
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Always),
        Just(Condition::IfAbsent),
        Just(Condition::IfPresent),
        any::<u64>().prop_map(|version| Condition::IfVersion(Version(version))),
        any::<u64>().prop_map(|version| Condition::IfAbsentOrVersion(Version(version))),
    ]
}

fn write_id() -> impl Strategy<Value = WriteId> {
    (1..=SEQUENCE_MAX, any::<u64>(), any::<bool>(), option::of(once())).prop_map(|(sequence, other, retry, once)| {
        WriteId { sequence, first_unanswered: other % (sequence + 1), retry, once }
    })
}

fn once() -> impl Strategy<Value = Once> {
    (any::<u128>(), any::<u64>(), any::<bool>()).prop_map(|(id, digest, keeps_refusal)| Once {
        id: OnceId(Uuid::from_u128(id)),
        digest,
        keeps_refusal,
    })
}

fn ttl() -> impl Strategy<Value = TimeToLive> {
    prop_oneof![
        Just(TimeToLive::Forever),
        (1..=TTL_MS_MAX).prop_map(TimeToLive::Ms),
        (0..=EXPIRY_MS_MAX).prop_map(TimeToLive::Until),
        Just(TimeToLive::Keep)
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (bytes(), ttl()).prop_map(|(value, ttl)| Action::Put { value, ttl }),
        Just(Action::Delete),
        any::<i64>().prop_map(|by| Action::Incr { by }),
        bytes().prop_map(|value| Action::Append { value }),
        (1..=TTL_MS_MAX).prop_map(|ttl_ms| Action::Expire { ttl_ms }),
        Just(Action::Persist),
        (0..=TTL_MS_MAX, expire_when()).prop_map(|(ttl_ms, when)| Action::ExpireIf { ttl_ms, when }),
        (0..=EXPIRY_MS_MAX, option::of(expire_when())).prop_map(|(at_ms, when)| Action::ExpireAt { at_ms, when }),
        (any::<u64>(), vec(any::<u8>(), 1..60))
            .prop_map(|(offset, value)| Action::SetRange { offset, value: value.into() }),
        (any::<u64>(), any::<bool>()).prop_map(|(offset, bit)| Action::SetBit { offset: offset >> 1, bit }),
        bytes().prop_map(|by| Action::IncrDecimal { by }),
    ]
}

fn expire_when() -> impl Strategy<Value = ExpireWhen> {
    use ExpireWhen::{Longer, None, Shorter, Some, SomeAndShorter};
    select(vec![None, Some, Longer, Shorter, SomeAndShorter])
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let previous = select(vec![ReturnPrevious::Nothing, ReturnPrevious::Existence, ReturnPrevious::Entry]);
    (key(), condition(), previous, action()).prop_map(|(key, condition, return_previous, action)| Mutation {
        key,
        condition,
        return_previous,
        action,
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<(u16, u16, u64)>(), option::of(cluster_id()), client_id(), name()).prop_map(
        |((version_min, version_max, features), cluster, client, name)| Hello {
            version_min,
            version_max,
            features,
            cluster,
            client,
            name,
        },
    )
}

fn scan() -> impl Strategy<Value = ScanRequest> {
    (shard_id(), cursor(), bytes(), 1..=SCAN_ENTRIES_MAX, any::<bool>(), read_mode()).prop_map(
        |(shard, cursor, prefix, limit, values, mode)| ScanRequest { shard, cursor, prefix, limit, values, mode },
    )
}

fn cursor() -> impl Strategy<Value = ScanCursor> {
    any::<(u64, u64)>().prop_map(|(order, version)| ScanCursor { order, version: Version(version) })
}

fn transaction() -> impl Strategy<Value = TransactionRequest> {
    let check = (key(), condition()).prop_map(|(key, condition)| AtomicCheck { key, condition });
    let operation = prop_oneof![
        key().prop_map(TransactionOperation::Read),
        mutation().prop_map(TransactionOperation::Write),
        (key(), key(), any::<bool>()).prop_map(|(from, to, if_absent)| TransactionOperation::Rename {
            from,
            to,
            if_absent
        }),
        (key(), key(), any::<bool>()).prop_map(|(from, to, if_absent)| TransactionOperation::Copy {
            from,
            to,
            if_absent
        }),
    ];
    (write_id(), vec(check, 0..4), vec(operation, 0..5)).prop_map(|(id, checks, operations)| TransactionRequest {
        id: WriteId { once: None, ..id },
        checks,
        operations,
    })
}

fn atomic() -> impl Strategy<Value = AtomicRequest> {
    let check = (key(), condition()).prop_map(|(key, condition)| AtomicCheck { key, condition });
    (write_id(), ack(), vec(check, 0..4), vec(mutation(), 0..4))
        .prop_map(|(id, ack, checks, mutations)| AtomicRequest { id, ack, checks, mutations })
}

fn new_node() -> impl Strategy<Value = NewNode> {
    (node_id(), ".*", ".*", ".*", ".*", any::<u128>(), any::<[u16; 2]>()).prop_map(
        |(id, name, zone, client, peer, folder, [min, max])| NewNode {
            id,
            name,
            zone,
            client,
            peer,
            folder: FolderId(Uuid::from_u128(folder)),
            levels: Levels { min, max },
        },
    )
}

fn new_token() -> impl Strategy<Value = NewToken> {
    let texts = (option::of(name()), option::of(name()));
    (any::<u128>(), any::<[u8; 32]>(), texts, 1..=TOKEN_MS_MAX).prop_map(|(id, key, (name, zone), for_ms)| NewToken {
        id: TokenId(Uuid::from_u128(id)),
        key: TokenKey(key),
        name,
        zone,
        for_ms,
    })
}

fn join_request() -> impl Strategy<Value = JoinRequest> {
    (any::<u128>(), new_node(), bytes(), any::<[[u8; 32]; 2]>()).prop_map(|(token, node, signing_request, halves)| {
        let proof = std::array::from_fn(|at| halves[at / 32][at % 32]);
        JoinRequest { token: TokenId(Uuid::from_u128(token)), node, signing_request, proof }
    })
}

fn join_reply() -> impl Strategy<Value = JoinReply> {
    prop_oneof![
        (name(), name(), bytes()).prop_map(|(certificate, authorities, map)| {
            JoinReply::Admitted(Box::new(Admitted { certificate, authorities, map }))
        }),
        name().prop_map(JoinReply::Refused),
        name().prop_map(JoinReply::Later),
    ]
}

fn verb() -> impl Strategy<Value = ClusterVerb> {
    prop_oneof![
        new_node().prop_map(|node| ClusterVerb::Join(Box::new(node))),
        (node_id(), any::<bool>())
            .prop_map(|(node, accept_fewer_zones)| ClusterVerb::Remove { node, accept_fewer_zones }),
        node_id().prop_map(ClusterVerb::Keep),
        (node_id(), 1..=ABSENCE_MS_MAX).prop_map(|(node, for_ms)| ClusterVerb::Drain { node, for_ms }),
        node_id().prop_map(ClusterVerb::Undrain),
        (node_id(), node_id()).prop_map(|(old, new)| ClusterVerb::Replace { old, new }),
        (node_id(), option::of(name()), option::of(1..=NODE_WEIGHT_MAX))
            .prop_map(|(node, zone, weight)| ClusterVerb::Set { node, zone, weight }),
        any::<bool>().prop_map(ClusterVerb::Pause),
        option::of(1..=MOVE_RATE_MB_MAX).prop_map(ClusterVerb::Rate),
        Just(ClusterVerb::AllowRepair),
        Just(ClusterVerb::Finalize),
        prop_oneof![Just(EncryptVerb::On), Just(EncryptVerb::Rotate), Just(EncryptVerb::Rewrap)]
            .prop_map(ClusterVerb::Encrypt),
        new_token().prop_map(|token| ClusterVerb::Token(Box::new(token))),
        (any::<u128>(), any::<[u8; 32]>(), new_node()).prop_map(|(token, key, node)| ClusterVerb::JoinByToken {
            token: TokenId(Uuid::from_u128(token)),
            key: NodeKey(key),
            node: Box::new(node),
        }),
    ]
}

fn plan() -> impl Strategy<Value = ClusterPlan> {
    let standing = select(vec![NodeStanding::Up, NodeStanding::Draining, NodeStanding::Removing]);
    let node = (node_id(), standing, any::<bool>(), any::<[Option<u64>; 2]>()).prop_map(
        |(node, standing, down, [silent_ms, ends_in_ms])| NodeOutlook { node, standing, down, silent_ms, ends_in_ms },
    );
    let purpose = select(vec![MovePurpose::Repair, MovePurpose::Removal, MovePurpose::Balance]);
    let planned = (shard_id(), option::of(node_id()), option::of(node_id()), purpose, any::<bool>())
        .prop_map(|(shard, from, to, purpose, under_way)| PlannedMove { shard, from, to, purpose, under_way });
    let reason = (name(), any::<bool>()).prop_map(|(text, of_repair)| PlanReason { text, of_repair });
    let numbers = (any::<(u64, u16, u8, u16, bool)>(), any::<(Option<u16>, Option<u32>)>());
    let sealing = (any::<(u16, u16, u16, bool)>(), vec(node_id(), 0..3)).prop_map(
        |((active, newest, keys, wrapped), waits_for)| SealingOutlook { active, newest, keys, wrapped, waits_for },
    );
    let lists = (vec(node_id(), 0..4), vec(node, 0..4), vec(planned, 0..4), vec(reason, 0..3), option::of(sealing));
    (numbers, lists).prop_map(
        |(
            ((epoch, level, replication_factor, leads, paused), (next_level, rate_mb)),
            (meta, nodes, moves, reasons, sealing),
        )| {
            ClusterPlan {
                epoch: Epoch(epoch),
                level,
                next_level,
                replication_factor,
                paused,
                rate_mb,
                meta,
                nodes,
                moves,
                leads,
                reasons,
                sealing,
            }
        },
    )
}

fn admin() -> impl Strategy<Value = AdminCommand> {
    prop_oneof![
        (shard_id(), node_id()).prop_map(|(shard, to)| AdminCommand::TransferLeadership { shard, to }),
        Just(AdminCommand::Shutdown),
        verb().prop_map(AdminCommand::Ask),
        option::of(verb()).prop_map(AdminCommand::Plan),
        Just(AdminCommand::Authority),
        shard_id().prop_map(AdminCommand::PanicShard),
        any::<bool>().prop_map(AdminCommand::CutPeers),
        any::<i64>().prop_map(AdminCommand::SkewClock),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let body = prop_oneof![
        hello().prop_map(RequestBody::Hello),
        bytes().prop_map(RequestBody::Ping),
        Just(RequestBody::Topology),
        select(vec![StatusScope::Node, StatusScope::Cluster]).prop_map(RequestBody::Status),
        key().prop_map(RequestBody::Explain),
        (key(), read_mode()).prop_map(|(key, mode)| RequestBody::Get { key, mode }),
        (vec(key(), 0..5), read_mode()).prop_map(|(keys, mode)| RequestBody::MultiGet { keys, mode }),
        scan().prop_map(RequestBody::Scan),
        (write_id(), ack(), mutation()).prop_map(|(id, ack, mutation)| RequestBody::Write { id, ack, mutation }),
        (write_id(), ack(), vec(mutation(), 0..5)).prop_map(|(id, ack, mutations)| {
            let id = WriteId { sequence: id.sequence.min(SEQUENCE_MAX - 4), first_unanswered: 0, ..id };
            RequestBody::Batch { id, ack, mutations }
        }),
        atomic().prop_map(RequestBody::Atomic),
        transaction().prop_map(RequestBody::Transaction),
        (receipt(), 0..=DEADLINE_MS_MAX).prop_map(|(receipt, wait_ms)| RequestBody::Await { receipt, wait_ms }),
        admin().prop_map(RequestBody::Admin),
    ];
    (1..=u32::MAX, 0..=DEADLINE_MS_MAX, body).prop_map(|(id, deadline_ms, body)| Request {
        id: RequestId(id),
        deadline_ms,
        body,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (bytes(), any::<u64>(), option::of(any::<u64>())).prop_map(|(value, version, expires_at_ms)| Entry {
        value,
        version: Version(version),
        expires_at_ms,
    })
}

fn error() -> impl Strategy<Value = ServerError> {
    let outcome = select(vec![Outcome::NotApplied, Outcome::Applied, Outcome::Unknown]);
    let retry = prop_oneof![Just(Retry::No), (0..u32::MAX).prop_map(Retry::AfterMs)];
    let what = (select(ErrorCode::ALL), outcome, retry);
    (what, option::of(node_id()), option::of(any::<u64>()), ".{0,250}").prop_map(
        |(what, leader, sequence_min, detail)| {
            let (code, outcome, retry) = what;
            let mut error = ServerError::new(code, detail).with_outcome(outcome).with_retry(retry).with_leader(leader);
            error.sequence_min = sequence_min;
            error
        },
    )
}

fn receipt() -> impl Strategy<Value = Receipt> {
    (shard_id(), 1..=u64::MAX, 1..=u64::MAX).prop_map(|(shard, term, index)| Receipt {
        shard,
        term: Term(term),
        index: LogIndex(index),
    })
}

fn write_result() -> impl Strategy<Value = WriteResult> {
    let status = select(vec![WriteStatus::Applied, WriteStatus::ConditionFailed, WriteStatus::Missing]);
    let (receipt, existed) = (option::of(receipt()), (option::of(any::<bool>()), any::<bool>()));
    let numbers = prop_oneof![
        option::of(any::<i64>()).prop_map(|number| (number, None)),
        bytes().prop_map(|decimal| (None, Some(decimal))),
    ];
    (status, any::<u64>(), ack(), durability(), numbers, option::of(entry()), receipt, existed).prop_map(
        |(status, version, ack, durability, (number, decimal), previous, receipt, (existed, replayed))| WriteResult {
            status,
            version: Version(version),
            ack,
            durability,
            number,
            decimal,
            previous,
            receipt,
            existed,
            replayed,
        },
    )
}

fn result_of<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Result<T, ServerError>> {
    prop_oneof![value.prop_map(Ok), error().prop_map(Err)]
}

fn topology() -> impl Strategy<Value = Topology> {
    let node = (node_id(), name(), name(), name()).prop_map(|(id, name, client_address, zone)| NodeInfo {
        id,
        name,
        client_address,
        zone,
    });
    (any::<u64>(), cluster_id(), durability(), vec(node, 1..5), 0u32..5).prop_flat_map(
        |(epoch, cluster, durability, nodes, shards_log2)| {
            let position = 0..nodes.len() as u16;
            let shard = (option::of(position.clone()), any::<u64>(), vec(position, 0..4))
                .prop_map(|(leader, term, replicas)| ShardInfo { leader, term: Term(term), replicas });
            vec(shard, 1 << shards_log2).prop_map(move |shards| Topology {
                epoch: Epoch(epoch),
                cluster,
                durability,
                nodes: nodes.clone(),
                shards,
            })
        },
    )
}

fn shard_status() -> impl Strategy<Value = ShardStatus> {
    use ShardRole::{Amnesiac, Candidate, Faulty, Follower, Leader, Learner, Missing};
    let role = select(vec![Missing, Follower, Candidate, Leader, Learner, Amnesiac, Faulty]);
    (shard_id(), role, option::of(node_id()), any::<[u64; 7]>(), any::<u32>()).prop_map(
        |(shard, role, leader, [term, last_index, committed, applied, version, keys, log_bytes], incarnation)| {
            ShardStatus {
                shard,
                role,
                term: Term(term),
                leader,
                last_index: LogIndex(last_index),
                committed: LogIndex(committed),
                applied: LogIndex(applied),
                version: Version(version),
                keys,
                log_bytes,
                live_bytes: log_bytes / 2,
                compactions: incarnation ^ 1,
                compacted_bytes: keys ^ 1,
                incarnation,
                receiving: (keys % 2 == 0).then_some(Receiving {
                    elapsed_ms: applied,
                    bytes: committed,
                    records: keys,
                    records_total: log_bytes,
                }),
            }
        },
    )
}

fn node_status() -> impl Strategy<Value = NodeStatus> {
    let numbers = (any::<[u64; 7]>(), any::<[u32; 2]>(), any::<[bool; 2]>(), any::<i64>());
    let hot_keys = vec(hot_key(), 0..3);
    (node_id(), name(), name(), durability(), vec(node_id(), 0..4), numbers, vec(shard_status(), 0..4), hot_keys)
        .prop_map(|(node, name, program_version, durability, peers_up, numbers, shards, hot_keys)| {
            let (wide, narrow, flags, clock_ahead_ms) = numbers;
            NodeStatus {
                node,
                name,
                program_version,
                process: narrow[0],
                uptime_ms: wide[0],
                durability,
                http_port: narrow[0] as u16,
                connections: narrow[1],
                peers_up,
                epoch: Epoch(wide[0] ^ 1),
                stranger: !flags[0],
                resident_bytes: wide[1],
                cpu_us: wide[2],
                journal_rounds: wide[3],
                overloaded: wide[4],
                disk_free_bytes: wide[5],
                disk_full: flags[0],
                clock_ahead_ms,
                clock_off: flags[1],
                index_bytes: wide[6],
                hot_keys,
                shards,
            }
        })
}

fn hot_key() -> impl Strategy<Value = HotKey> {
    (shard_id(), any::<bool>(), vec(any::<u8>(), 0..9), any::<u32>(), any::<u64>(), 0..=1_000_u16).prop_map(
        |(shard, writes, key, key_bytes, per_second, share_permille)| HotKey {
            shard,
            writes,
            key: key.into(),
            key_bytes,
            per_second,
            share_permille,
        },
    )
}

fn explanation() -> impl Strategy<Value = Explanation> {
    let stored = (any::<u64>(), any::<[u32; 3]>(), option::of(any::<u64>())).prop_map(
        |(version, [value_bytes, segment, offset], expires_at_ms)| StoredEntry {
            version: Version(version),
            value_bytes,
            expires_at_ms,
            segment,
            offset,
        },
    );
    (shard_id(), any::<[u64; 3]>(), option::of(node_id()), vec(node_id(), 0..4), option::of(stored)).prop_map(
        |(shard, [ring_position, reads_per_second, writes_per_second], leader, replicas, stored)| Explanation {
            shard,
            ring_position,
            leader,
            replicas,
            stored,
            reads_per_second,
            writes_per_second,
        },
    )
}

fn hello_reply() -> impl Strategy<Value = HelloReply> {
    (any::<(u16, u64)>(), cluster_id(), node_id(), durability(), name()).prop_map(
        |((version, features), cluster, node, durability, program)| HelloReply {
            version,
            features,
            cluster,
            node,
            durability,
            program,
        },
    )
}

fn response() -> impl Strategy<Value = Response> {
    let page =
        (vec((bytes(), entry()), 0..4), option::of(cursor())).prop_map(|(entries, next)| ScanPage { entries, next });
    let atomic = prop_oneof![
        vec(write_result(), 0..4).prop_map(AtomicResult::Applied),
        any::<(u32, u64, bool)>().prop_map(|(position, version, replayed)| {
            AtomicResult::ConditionFailed { position, version: Version(version), replayed }
        }),
    ];
    let reply = prop_oneof![
        option::of(entry()).prop_map(TransactionReply::Value),
        write_result().prop_map(TransactionReply::Written),
        error().prop_map(TransactionReply::Failed),
    ];
    let transaction = prop_oneof![
        vec(reply, 0..5).prop_map(TransactionResult::Done),
        any::<(u32, u64)>()
            .prop_map(|(position, version)| TransactionResult::Aborted { position, version: Version(version) }),
    ];
    let body = prop_oneof![
        hello_reply().prop_map(ResponseBody::Hello),
        bytes().prop_map(ResponseBody::Pong),
        topology().prop_map(ResponseBody::Topology),
        vec(node_status(), 0..3).prop_map(ResponseBody::Status),
        explanation().prop_map(ResponseBody::Explanation),
        Just(ResponseBody::Done),
        plan().prop_map(|plan| ResponseBody::Plan(Box::new(plan))),
        (cluster_id(), any::<[u8; 32]>())
            .prop_map(|(cluster, hash)| ResponseBody::Authority(Authority { cluster, hash: AuthorityHash(hash) })),
        option::of(entry()).prop_map(ResponseBody::Value),
        vec(result_of(option::of(entry())), 0..4).prop_map(ResponseBody::Values),
        page.prop_map(ResponseBody::Page),
        write_result().prop_map(ResponseBody::Written),
        vec(result_of(write_result()), 0..4).prop_map(ResponseBody::Batch),
        atomic.prop_map(ResponseBody::Atomic),
        transaction.prop_map(ResponseBody::Transaction),
        select(vec![Awaited::Applied, Awaited::Lost, Awaited::Forgotten]).prop_map(ResponseBody::Awaited),
        error().prop_map(ResponseBody::Error),
    ];
    (any::<(u32, u64, bool)>(), body).prop_map(|((id, epoch, forwarded), body)| Response {
        id: RequestId(id),
        epoch: Epoch(epoch),
        forwarded,
        body,
    })
}

fn raft_message() -> impl Strategy<Value = RaftMessage> {
    use RaftMessageKind::{Append, AppendResponse, Heartbeat, RequestPreVote, RequestVote, TimeoutNow};
    let kind = select(vec![Append, AppendResponse, Heartbeat, RequestPreVote, RequestVote, TimeoutNow]);
    let entry_kind = select(vec![RaftEntryKind::Operations, RaftEntryKind::Membership]);
    let entry = (any::<(u64, u64)>(), entry_kind, bytes()).prop_map(|((term, index), kind, payload)| RaftEntry {
        term: Term(term),
        index: LogIndex(index),
        kind,
        payload,
    });
    let replica = (1..=u64::MAX).prop_map(ReplicaId);
    (kind, replica.clone(), replica, any::<[u64; 8]>(), any::<(bool, i64)>(), bytes(), vec(entry, 0..4)).prop_map(
        |(kind, from, to, numbers, (reject, priority), context, entries)| {
            let [term, log_term, index, commit, commit_term, reject_hint, lease_stamp, log_time_ms] = numbers;
            RaftMessage {
                kind,
                from,
                to,
                term: Term(term),
                log_term: Term(log_term),
                index: LogIndex(index),
                commit: LogIndex(commit),
                commit_term: Term(commit_term),
                reject,
                reject_hint: LogIndex(reject_hint),
                priority,
                lease_stamp,
                log_time_ms,
                context,
                entries,
            }
        },
    )
}

fn snapshot_message() -> impl Strategy<Value = SnapshotMessage> {
    let part = || select(vec![SnapshotPart::Header, SnapshotPart::Records]);
    let body = prop_oneof![
        (0..=SNAPSHOT_HEADER_BYTES_MAX, any::<u64>())
            .prop_map(|(header_bytes, records)| SnapshotBody::Offer { header_bytes, records }),
        (part(), any::<u64>(), any::<u32>(), any::<u32>())
            .prop_map(|(part, at, count_max, bytes_max)| SnapshotBody::Pull { part, at, count_max, bytes_max }),
        (part(), any::<u64>(), any::<u32>(), bytes()).prop_map(|(part, at, count, bytes)| SnapshotBody::Chunk {
            part,
            at,
            count,
            bytes
        }),
        (any::<bool>(), name()).prop_map(|(installed, reason)| SnapshotBody::End { installed, reason }),
    ];
    let replica = (1..=u64::MAX).prop_map(ReplicaId);
    (replica.clone(), replica, any::<[u64; 3]>(), body).prop_map(|(from, to, [term, index, nonce], body)| {
        SnapshotMessage { from, to, id: SnapshotId { term: Term(term), index: LogIndex(index), nonce }, body }
    })
}

fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let of_process = (any::<(u16, u16)>(), any::<u128>(), any::<Option<u128>>(), any::<bool>());
    let hello = (of_process, cluster_id(), node_id(), [name(), name(), name()], name(), bytes()).prop_map(
        |(((min, max), disk, knows, replaced), cluster, node, [client, standalone, resp_cluster], program, more)| {
            PeerHello {
                levels: Levels { min, max },
                cluster,
                node,
                disk: FolderId(Uuid::from_u128(disk)),
                starts: disk as u64 ^ 1,
                process: (disk >> 64) as u64,
                knows: knows.map(|folder| FolderId(Uuid::from_u128(folder))),
                replaced,
                client,
                resp: RespAddresses { standalone, cluster: resp_cluster },
                program,
                more,
            }
        },
    );
    let leading = (shard_id(), any::<u64>()).prop_map(|(shard, term)| (shard, Term(term)));
    let settled = (shard_id(), any::<u64>());
    let faulty = (shard_id(), 1..=u64::MAX).prop_map(|(shard, replica)| (shard, ReplicaId(replica)));
    prop_oneof![
        hello.prop_map(PeerMessage::Hello),
        (shard_id(), raft_message()).prop_map(|(shard, message)| PeerMessage::Raft(shard, message)),
        (any::<u64>(), client_id(), any::<u64>(), any::<bool>(), bytes()).prop_map(
            |(id, client, term, in_order, request)| PeerMessage::Forward {
                id,
                client,
                term: Term(term),
                in_order,
                request
            }
        ),
        (any::<u64>(), bytes()).prop_map(|(id, response)| PeerMessage::ForwardReply { id, response }),
        (any::<u64>(), bytes()).prop_map(|(id, request)| PeerMessage::Returned { id, request }),
        vec(leading, 0..5).prop_map(PeerMessage::Leading),
        bytes().prop_map(PeerMessage::Ring),
        (any::<u64>(), vec(faulty, 0..5), vec(settled, 0..5), vec(node_id(), 0..5), bytes()).prop_map(
            |(epoch, faulty, settled, hears, more)| {
                let disk = (epoch % 3 > 0).then_some(DiskRoom { free_bytes: epoch / 2, total_bytes: epoch });
                let (held_bytes, peer_address) = (epoch ^ 7, format!("host:{epoch}"));
                let loads = settled.iter().map(|&(shard, number)| ShardLoad {
                    shard,
                    micros_per_second: number as u32,
                    led_ms: (number >> 32) as u32,
                });
                let loads = loads.collect();
                // Whoever tells more tells of what comes, too.
                let coming = (epoch % 2 > 0).then(|| settled.clone());
                let more = if coming.is_some() { more } else { Bytes::new() };
                PeerMessage::Report(NodeReport {
                    epoch,
                    faulty,
                    settled,
                    hears,
                    disk,
                    held_bytes,
                    peer_address,
                    loads,
                    coming,
                    more,
                })
            }
        ),
        any::<u32>().prop_map(PeerMessage::Unfit),
        (shard_id(), snapshot_message()).prop_map(|(shard, message)| PeerMessage::Snapshot(shard, message)),
    ]
}

/// The bodies of the frames that `encoded` consists of.
fn bodies(mut encoded: BytesMut) -> Vec<Bytes> {
    std::iter::from_fn(|| frame::decode(&mut encoded, FRAME_BYTES_MAX).expect("frames are sound")).collect()
}

proptest! {
    #[test]
    fn requests(requests in vec(request(), 1..4)) {
        let mut out = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        let decoded: Result<Vec<_>, _> = bodies(out).into_iter().map(Request::decode).collect();
        prop_assert_eq!(decoded, Ok(requests));
    }

    /// Whatever has come, looking ahead sees the bodies that decoding finds, and of each whether it is a GET, and of which key.
    #[test]
    fn looking_ahead(requests in vec(request(), 1..4), missing in 0usize..64) {
        let mut out = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        out.truncate(out.len().saturating_sub(missing));
        let ahead: Vec<Bytes> = frame::peek_bodies(&out).map(Bytes::copy_from_slice).collect();
        prop_assert_eq!(&ahead, &bodies(out));
        for (body, request) in ahead.iter().zip(&requests) {
            let key = match &request.body {
                RequestBody::Get { key, .. } => Some(&key[..]),
                _ => None,
            };
            prop_assert_eq!(Request::peek_get(body), key);
        }
    }

    #[test]
    fn responses(responses in vec(response(), 1..3)) {
        let mut out = BytesMut::new();
        responses.iter().for_each(|response| response.encode(&mut out));
        let decoded: Result<Vec<_>, _> = bodies(out).into_iter().map(Response::decode).collect();
        prop_assert_eq!(decoded, Ok(responses));
    }

    #[test]
    fn messages_between_nodes(messages in vec(peer_message(), 1..4)) {
        let mut out = BytesMut::new();
        for message in &messages {
            frame::encode(&mut out, |out| message.encode(out));
        }
        let decoded: Result<Vec<_>, _> = bodies(out).into_iter().map(PeerMessage::decode).collect();
        prop_assert_eq!(decoded, Ok(messages));
    }

    #[test]
    fn joins(request in join_request(), reply in join_reply()) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        prop_assert_eq!(JoinRequest::from_bytes(out.split().freeze()), Ok(request));
        reply.encode(&mut out);
        prop_assert_eq!(JoinReply::from_bytes(out.split().freeze()), Ok(reply));
    }

    #[test]
    fn node_statuses(status in node_status()) {
        let mut out = BytesMut::new();
        status.encode(&mut out);
        prop_assert_eq!(NodeStatus::from_bytes(out.freeze()), Ok(status));
    }

    /// A text that is too long is cut, at a character, rather than sent and refused.
    #[test]
    fn long_error_texts_are_cut(detail in ".{900,1200}") {
        let error = ServerError::new(ErrorCode::Internal, detail.clone());
        let response = Response {
            id: RequestId(1),
            epoch: Epoch(0),
            forwarded: false,
            body: ResponseBody::Error(error),
        };
        let mut out = BytesMut::new();
        response.encode_body(&mut out);
        let decoded = Response::decode(out.freeze());
        let Ok(Response { body: ResponseBody::Error(error), .. }) = decoded else { panic!("{decoded:?}") };
        prop_assert!(error.detail.len() <= 1024 && detail.starts_with(&error.detail));
        prop_assert!(error.detail.len() + 4 > detail.len().min(1024));
    }
}

proptest! {
    /// What is encoded without copying what it carries has the same bytes.
    #[test]
    fn pieces_are_the_message(request in request(), response in response(), message in peer_message()) {
        let mut out = BytesMut::new();
        request.encode_body(&mut out);
        prop_assert_eq!(request.encode_pieces().concat(), out.split().to_vec());
        response.encode_body(&mut out);
        prop_assert_eq!(response.encode_pieces().concat(), out.split().to_vec());
        message.encode(&mut out);
        prop_assert_eq!(message.encode_pieces().concat(), out.split().to_vec());
    }

    /// However a message is cut into pieces, and whatever passes it, it comes back whole.
    #[test]
    fn messages_in_parts(length in 1..200_000_usize, cuts in vec(0..200_000_usize, 0..4), passing in vec(bytes(), 4)) {
        let message: Bytes = (0..length).map(|byte| (byte % 253) as u8).collect();
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(length)).chain([length]).collect();
        ends.sort_unstable();
        let mut begin = 0;
        let pieces = ends.into_iter().map(|end| message.slice(std::mem::replace(&mut begin, end)..end));
        let mut parts = Parts::new(pieces.collect::<Vec<_>>());
        let mut assembler = Assembler::new(length);
        let (mut stream, mut arrived, mut passing) = (BytesMut::new(), Vec::new(), passing.into_iter());
        while parts.left() > 0 {
            parts.encode_next(&mut stream);
            let between = passing.next().filter(|body| body.first() != Some(&PART_KIND));
            for body in bodies(stream.split()).into_iter().chain(between.clone()) {
                arrived.extend(assembler.handle(body).unwrap());
            }
            if parts.left() > 0 && let Some(body) = between {
                prop_assert_eq!(arrived.pop(), Some(body), "what comes between two parts is whole");
            }
        }
        prop_assert!(arrived.contains(&message));
        prop_assert!(!assembler.is_under_way());
    }
}
