use super::{bytes, uuid};
use kvorum_protocol::request::PROTOCOL_VERSION;
use kvorum_protocol::response::StoredEntry;
use kvorum_protocol::{
    Ack, AtomicResult, AuthView, Authority, AuthorityHash, Awaited, ClusterClasses, ClusterId, ClusterPlan, Durability,
    Entry, Epoch, ErrorCode, Explanation, Grant, HelloReply, HotKey, KeyClasses, LogIndex, LogLevelView, MonitorView,
    MovePurpose, NodeId, NodeInfo, NodeOutlook, NodeStanding, NodeStatus, Outcome, PlanReason, PlannedMove, Receipt,
    Receiving, RequestId, Response, ResponseBody, Retry, RoleView, ScanCursor, ScanPage, SeenRequest, ServerError,
    ShardId, ShardInfo, ShardRole, ShardStatus, SlowLogView, SlowOperation, SlowStages, Term, TokenView, Topology,
    TraceId, TransactionReply, TransactionResult, UserLimits, UserTokenId, UserView, Version, WriteResult, WriteStatus,
};

/// Every response, every error.
pub(crate) fn responses() -> Vec<(String, Response)> {
    let mut all: Vec<(String, ResponseBody)> = answers().into_iter().map(|(name, body)| (name.into(), body)).collect();
    all.extend(ErrorCode::ALL.iter().map(|&code| {
        let error = ServerError::new(code, format!("an example of {code}"));
        (format!("error {code}"), ResponseBody::Error(error))
    }));
    all.push(("error with a leader".into(), ResponseBody::Error(not_leader())));
    let too_low = ServerError::sequence_too_low(41);
    all.push(("error with a sequence number".into(), ResponseBody::Error(too_low)));
    let authority = Authority { cluster: ClusterId(uuid(9)), hash: AuthorityHash([0xef; 32]) };
    all.push(("authority".into(), ResponseBody::Authority(authority)));
    all.extend(of_auth().into_iter().map(|(name, body)| (name.into(), body)));
    all.extend(of_resp().into_iter().map(|(name, body)| (name.into(), body)));
    all.push(("slow log".into(), slow_log()));
    all.push(("watched requests".into(), watched_requests()));
    let log = LogLevelView { filter: "warn,kvorum=debug".into(), left_ms: Some(599_000) };
    all.push(("log level".into(), ResponseBody::LogLevel(log)));
    // The worked session of docs/PROTOCOL.md has ids 1, 2 and 3.
    let numbered = |(number, (name, body)): (usize, (String, ResponseBody))| {
        (name, Response { id: RequestId(number as u32 + 1), epoch: Epoch(4), forwarded: false, body })
    };
    let mut all: Vec<_> = all.into_iter().enumerate().map(numbered).collect();
    let pushed = ResponseBody::Topology(topology());
    all.push((
        "pushed topology".into(),
        Response { id: RequestId(0), epoch: Epoch(4), forwarded: false, body: pushed },
    ));
    let value = ResponseBody::Value(Some(entry("Ada", None)));
    all.push(("forwarded value".into(), Response { id: RequestId(9), epoch: Epoch(5), forwarded: true, body: value }));
    all
}

fn slow_log() -> ResponseBody {
    let put = SlowOperation {
        number: 41,
        node: NodeId(uuid(1)),
        at_ms: 1_700_000_000_123,
        door: "binary".into(),
        operation: "put".into(),
        outcome: "ok".into(),
        error: None,
        shard: Some(ShardId(3)),
        key_hash: Some(0x0123_4567_89ab_cdef),
        took_us: 140_000,
        stages: SlowStages::of([20_000, 50, 90_000, 29_000, 150, 800, 0]),
        trace: Some(TraceId(*b"0123456789abcdef")),
    };
    let scan = SlowOperation {
        number: 40,
        door: "peer".into(),
        operation: "batch".into(),
        outcome: "unknown".into(),
        error: Some(ErrorCode::DeadlineExceeded),
        shard: None,
        key_hash: None,
        took_us: 5_000_000,
        stages: SlowStages { remote_us: 5_000_000, ..SlowStages::default() },
        trace: None,
        ..put.clone()
    };
    let view = SlowLogView { length: 2, slower_than_us: Some(100_000), operations: vec![put, scan] };
    ResponseBody::SlowLog(Box::new(view))
}

fn watched_requests() -> ResponseBody {
    let put = SeenRequest {
        number: 41,
        at_ms: 1_700_000_000_123,
        door: "http".into(),
        user: "ada".into(),
        operation: "put".into(),
        key: Some(bytes("app/1")),
        key_bytes: 5,
        keys: 1,
        bytes: 105,
    };
    let ping = SeenRequest {
        number: 43,
        user: String::new(),
        operation: "other".into(),
        key: None,
        key_bytes: 0,
        keys: 0,
        bytes: 0,
        ..put.clone()
    };
    ResponseBody::Monitor(Box::new(MonitorView { next: 50, untold: 7, requests: vec![put, ping] }))
}

fn answers() -> Vec<(&'static str, ResponseBody)> {
    let hello = HelloReply {
        version: PROTOCOL_VERSION,
        features: 1,
        cluster: ClusterId(uuid(0xaa)),
        node: NodeId(uuid(1)),
        durability: Durability::Fsync,
        program: "kvorum 0.1.0".into(),
    };
    let written = |status, version| ResponseBody::Written(write_result(status, version));
    let counted = WriteResult { number: Some(-3), ..write_result(WriteStatus::Applied, 18) };
    let replaced =
        WriteResult { previous: Some(entry("Ada", Some(1_700_000_000_000))), ..write_result(WriteStatus::Applied, 19) };
    let early =
        WriteResult { ack: Ack::Accepted, durability: Durability::Memory, ..write_result(WriteStatus::Applied, 20) };
    let receipt = Receipt { shard: ShardId(3), term: Term(7), index: LogIndex(1204) };
    let receipted = WriteResult { receipt: Some(receipt), ..early.clone() };
    let created = WriteResult { existed: Some(false), ..write_result(WriteStatus::Applied, 22) };
    let overwritten = WriteResult { existed: Some(true), ..write_result(WriteStatus::Applied, 23) };
    let replayed = WriteResult { replayed: true, ..created.clone() };
    let failed_before = AtomicResult::ConditionFailed { position: 1, version: Version(12), replayed: true };
    let receipts = AtomicResult::Applied(vec![receipted.clone(), receipted.clone()]);
    let failed = AtomicResult::ConditionFailed { position: 1, version: Version(12), replayed: false };
    let applied = AtomicResult::Applied(vec![write_result(WriteStatus::Applied, 31), counted.clone()]);
    let page = ScanPage {
        entries: vec![(bytes("user:1"), entry("Ada", None)), (bytes("user:2"), entry("", Some(1_700_000_000_000)))],
        next: Some(ScanCursor { order: 0x0123_4567_89ab_cdef, version: Version(7) }),
    };
    let results = vec![Ok(write_result(WriteStatus::Applied, 21)), Err(not_leader())];
    vec![
        ("hello", ResponseBody::Hello(hello)),
        ("written", written(WriteStatus::Applied, 17)),
        ("value", ResponseBody::Value(Some(Entry { version: Version(17), ..entry("Ada", None) }))),
        ("value of no key", ResponseBody::Value(None)),
        ("value that expires", ResponseBody::Value(Some(entry("soon gone", Some(1_700_000_060_000))))),
        ("pong", ResponseBody::Pong(bytes("are you there?"))),
        ("topology", ResponseBody::Topology(topology())),
        ("status", ResponseBody::Status(statuses().into_iter().map(|(_, status)| status).collect())),
        ("explanation", ResponseBody::Explanation(explanation())),
        (
            "explanation of no key",
            ResponseBody::Explanation(Explanation { leader: None, stored: None, ..explanation() }),
        ),
        ("done", ResponseBody::Done),
        ("plan", ResponseBody::Plan(Box::new(plan()))),
        ("values", ResponseBody::Values(vec![Ok(Some(entry("Ada", None))), Ok(None), Err(not_leader())])),
        ("page", ResponseBody::Page(page)),
        ("last page", ResponseBody::Page(ScanPage { entries: Vec::new(), next: None })),
        ("written, condition failed", written(WriteStatus::ConditionFailed, 12)),
        ("written, missing", written(WriteStatus::Missing, 0)),
        ("written with a number", ResponseBody::Written(counted)),
        ("written with the previous entry", ResponseBody::Written(replaced)),
        ("written early to memory", ResponseBody::Written(early)),
        ("batch", ResponseBody::Batch(results)),
        ("atomic applied", ResponseBody::Atomic(applied)),
        ("atomic, condition failed", ResponseBody::Atomic(failed)),
        ("written early with a receipt", ResponseBody::Written(receipted.clone())),
        ("batch with a receipt", ResponseBody::Batch(vec![Ok(receipted), Err(not_leader())])),
        ("atomic with receipts", ResponseBody::Atomic(receipts)),
        ("written where no key was", ResponseBody::Written(created)),
        ("written over a key", ResponseBody::Written(overwritten)),
        ("written under a name that was used", ResponseBody::Written(replayed)),
        ("atomic under a name that was used", ResponseBody::Atomic(failed_before)),
        ("awaited, applied", ResponseBody::Awaited(Awaited::Applied)),
        ("awaited, lost", ResponseBody::Awaited(Awaited::Lost)),
        ("awaited, forgotten", ResponseBody::Awaited(Awaited::Forgotten)),
    ]
}

/// What RESP has asked for.
fn of_auth() -> [(&'static str, ResponseBody); 3] {
    let roles = vec!["app".to_owned(), "monitor".to_owned()];
    let grants = vec![Grant { prefix: bytes("app/"), classes: KeyClasses::ALL }];
    let view = AuthView {
        epoch: 7,
        required: true,
        users: vec![UserView {
            name: "ada".to_owned(),
            has_password: true,
            disabled: false,
            roles: roles.clone(),
            limits: UserLimits { requests_per_s: 1_000, bytes_per_s: 0, connections: 50 },
        }],
        roles: vec![RoleView { name: "app".to_owned(), built_in: false, grants, cluster: ClusterClasses::NONE }],
        tokens: vec![TokenView {
            id: UserTokenId(0xa7),
            user: "ada".to_owned(),
            roles: Some(roles),
            expires_at_ms: Some(1_700_000_000_000),
        }],
        denied: vec![bytes("serial")],
    };
    [
        ("challenge", ResponseBody::Challenge(bytes("r=abcdef,s=c2FsdA==,i=100000"))),
        ("authenticated", ResponseBody::Authenticated { user: "ada".to_owned(), proof: bytes("v=xyz=") }),
        ("auth view", ResponseBody::AuthView(Box::new(view))),
    ]
}

fn of_resp() -> Vec<(&'static str, ResponseBody)> {
    let decimal = WriteResult { decimal: Some(bytes("10.6")), ..write_result(WriteStatus::Applied, 24) };
    let failed_alone = ServerError::new(ErrorCode::NotAnInteger, "the value is not a decimal 64-bit integer");
    let done = TransactionResult::Done(vec![
        TransactionReply::Value(Some(entry("Ada", None))),
        TransactionReply::Value(None),
        TransactionReply::Written(decimal.clone()),
        TransactionReply::Failed(failed_alone),
    ]);
    let aborted = TransactionResult::Aborted { position: 1, version: Version(12) };
    vec![
        ("written with a decimal number", ResponseBody::Written(decimal.clone())),
        ("transaction done", ResponseBody::Transaction(done)),
        ("transaction aborted", ResponseBody::Transaction(aborted)),
    ]
}

fn plan() -> ClusterPlan {
    let outlook = |number, standing| NodeOutlook {
        node: NodeId(uuid(number)),
        standing,
        down: false,
        silent_ms: None,
        ends_in_ms: None,
    };
    ClusterPlan {
        epoch: Epoch(12),
        level: 1,
        next_level: Some(2),
        replication_factor: 3,
        paused: true,
        rate_mb: Some(16),
        meta: vec![NodeId(uuid(1)), NodeId(uuid(2)), NodeId(uuid(3))],
        nodes: vec![
            outlook(1, NodeStanding::Up),
            NodeOutlook { ends_in_ms: Some(540_000), ..outlook(2, NodeStanding::Draining) },
            NodeOutlook { down: true, silent_ms: Some(12_000), ..outlook(3, NodeStanding::Removing) },
        ],
        moves: vec![
            PlannedMove {
                shard: ShardId(3),
                from: Some(NodeId(uuid(3))),
                to: Some(NodeId(uuid(4))),
                purpose: MovePurpose::Repair,
                under_way: true,
            },
            PlannedMove {
                shard: ShardId::META,
                from: None,
                to: Some(NodeId(uuid(4))),
                purpose: MovePurpose::Balance,
                under_way: false,
            },
        ],
        leads: 2,
        reasons: vec![PlanReason { text: "moves are paused".to_owned(), of_repair: false }],
        sealing: None,
    }
}

fn entry(value: &'static str, expires_at_ms: Option<u64>) -> Entry {
    Entry { value: bytes(value), version: Version(16), expires_at_ms }
}

fn write_result(status: WriteStatus, version: u64) -> WriteResult {
    WriteResult {
        status,
        version: Version(version),
        ack: Ack::Committed,
        durability: Durability::Fsync,
        number: None,
        decimal: None,
        previous: None,
        receipt: None,
        existed: None,
        replayed: false,
    }
}

fn not_leader() -> ServerError {
    ServerError::new(ErrorCode::NotLeader, "node-2 leads shard 3")
        .with_outcome(Outcome::NotApplied)
        .with_retry(Retry::AfterMs(0))
        .with_leader(Some(NodeId(uuid(2))))
}

fn topology() -> Topology {
    let node = |number: u8| NodeInfo {
        id: NodeId(uuid(number)),
        name: format!("node-{number}"),
        client_address: format!("127.0.0.1:740{number}"),
        zone: if number == 2 { "east".into() } else { String::new() },
    };
    Topology {
        epoch: Epoch(4),
        cluster: ClusterId(uuid(0xaa)),
        durability: Durability::Fsync,
        nodes: vec![node(1), node(2), node(3)],
        shards: vec![
            ShardInfo { leader: Some(0), term: Term(7), replicas: vec![0, 1, 2] },
            ShardInfo { leader: None, term: Term(8), replicas: vec![1, 2, 0] },
        ],
    }
}

fn explanation() -> Explanation {
    Explanation {
        shard: ShardId(5),
        ring_position: 0x5555_5555_5555_5555,
        leader: Some(NodeId(uuid(2))),
        replicas: vec![NodeId(uuid(1)), NodeId(uuid(2)), NodeId(uuid(3))],
        stored: Some(StoredEntry {
            version: Version(17),
            value_bytes: 3,
            expires_at_ms: Some(1_700_000_000_000),
            segment: 2,
            offset: 4096,
        }),
        reads_per_second: 1_200,
        writes_per_second: 30,
    }
}

fn hot_key(writes: bool, per_second: u64, share_permille: u16) -> HotKey {
    HotKey { shard: ShardId(3), writes, key: bytes("user:1"), key_bytes: 6, per_second, share_permille }
}

/// A node with a shard in every role, and one without any.
pub(crate) fn statuses() -> Vec<(String, NodeStatus)> {
    use ShardRole::{Amnesiac, Candidate, Faulty, Follower, Leader, Learner, Missing};
    let shard = |(number, role): (u16, ShardRole)| ShardStatus {
        shard: if role == Faulty { ShardId::META } else { ShardId(number) },
        role,
        term: Term(7),
        leader: (role != Candidate).then_some(NodeId(uuid(2))),
        last_index: LogIndex(105),
        committed: LogIndex(104),
        applied: LogIndex(103),
        version: Version(90),
        keys: 50,
        log_bytes: 65_536,
        live_bytes: 40_000,
        compactions: 3,
        compacted_bytes: 9_000,
        incarnation: 1,
        receiving: (role == Learner).then_some(Receiving {
            elapsed_ms: 800,
            bytes: 20_000,
            records: 25,
            records_total: 50,
        }),
    };
    let roles = [Missing, Follower, Candidate, Leader, Learner, Amnesiac, Faulty];
    let busy = NodeStatus {
        node: NodeId(uuid(1)),
        name: "node-1".into(),
        program_version: "0.1.0".into(),
        process: 4321,
        uptime_ms: 60_000,
        durability: Durability::Memory,
        http_port: 7420,
        connections: 51,
        peers_up: vec![NodeId(uuid(2)), NodeId(uuid(3))],
        epoch: Epoch(7),
        stranger: true,
        resident_bytes: 50_000_000,
        cpu_us: 1_234_567,
        journal_rounds: 890,
        overloaded: 2,
        disk_free_bytes: 12_345_678,
        disk_full: true,
        clock_ahead_ms: -3_600_000,
        clock_off: true,
        index_bytes: 1350,
        hot_keys: vec![hot_key(false, 1_200, 250), hot_key(true, 30, 1_000)],
        shards: (0..).zip(roles).map(shard).collect(),
    };
    let idle = NodeStatus {
        name: String::new(),
        peers_up: Vec::new(),
        hot_keys: Vec::new(),
        shards: Vec::new(),
        ..busy.clone()
    };
    vec![("with a shard in every role".into(), busy), ("without shards".into(), idle)]
}
