//! The largest legal inputs.

use super::group::{Group, session_of, step};
use super::{Taker, WalkStep, Walked};
use crate::limits::LARGE_WORK_BYTES;
use bytes::Bytes;
use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, FRAME_BYTES_MAX, KEY_BYTES_MAX, PING_BYTES_MAX, SCAN_ENTRIES_MAX, SHARDS_MAX, VALUE_BYTES_MAX,
};
use kvorum_protocol::{
    Ack, Action, AdminCommand, AtomicCheck, AtomicRequest, ClientId, Condition, Hello, LogIndex, Mutation, Once,
    OnceId, ReadMode, Receipt, Request, RequestBody, RequestId, ResponseBody, ReturnPrevious, ScanCursor, ScanRequest,
    ShardId, StatusScope, Term, TimeToLive, TransactionOperation, TransactionRequest, Version, WriteId,
};
use uuid::Uuid;

/// Records that are written at once to fill the shard.
const FILL: usize = 2_048;
/// Keys that expire together, or that compaction moves.
const MANY_KEYS: usize = 8 * FILL;
/// A value that is just read at once.
const SHORT_OF_LARGE: usize = LARGE_WORK_BYTES - KEY_OVERHEAD;
/// A record's front and a short key.
const KEY_OVERHEAD: usize = 64;
/// As many keys of the largest size as a request holds.
const LARGEST_KEYS: usize = FRAME_BYTES_MAX / (KEY_BYTES_MAX + 64) - 1;

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "they are those of `RequestBody`")]
pub enum Kind {
    Hello,
    Ping,
    Topology,
    Status,
    Explain,
    Get,
    MultiGet,
    Scan,
    Write,
    Batch,
    Atomic,
    Transaction,
    Await,
    Admin,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Hello,
        Self::Ping,
        Self::Topology,
        Self::Status,
        Self::Explain,
        Self::Get,
        Self::MultiGet,
        Self::Scan,
        Self::Write,
        Self::Batch,
        Self::Atomic,
        Self::Transaction,
        Self::Await,
        Self::Admin,
    ];

    /// The kind of a request. Whoever adds one is led here, and to its place in the walk.
    fn of(body: &RequestBody) -> Self {
        match body {
            // The door answers both.
            RequestBody::Hello(_) | RequestBody::Auth(_) => Self::Hello,
            RequestBody::Ping(_) => Self::Ping,
            RequestBody::Topology => Self::Topology,
            RequestBody::Status(_) => Self::Status,
            RequestBody::Explain(_) => Self::Explain,
            RequestBody::Get { .. } => Self::Get,
            RequestBody::MultiGet { .. } => Self::MultiGet,
            RequestBody::Scan(_) => Self::Scan,
            RequestBody::Write { .. } => Self::Write,
            RequestBody::Batch { .. } => Self::Batch,
            RequestBody::Atomic(_) => Self::Atomic,
            RequestBody::Transaction(_) => Self::Transaction,
            RequestBody::Await { .. } => Self::Await,
            RequestBody::Admin(_) => Self::Admin,
        }
    }

    fn inputs(self) -> Vec<(&'static str, What)> {
        use Condition::{Always, IfAbsent, IfVersion};
        let wrong = || IfVersion(Version(1 << 40));
        let linearizable = ReadMode::Linearizable;
        match self {
            Self::Hello => vec![("HELLO", What::Body(hello()))],
            Self::Ping => vec![("PING", What::Body(RequestBody::Ping(zeros(PING_BYTES_MAX))))],
            Self::Topology => vec![("TOPOLOGY of 4,096 shards", What::Topology)],
            Self::Status => vec![("STATUS", What::Body(RequestBody::Status(StatusScope::Cluster)))],
            Self::Explain => vec![
                ("EXPLAIN of 16 MiB", What::Body(RequestBody::Explain(key("largest")))),
                ("EXPLAIN of a key of 64 KiB", What::Body(RequestBody::Explain(large_key(0)))),
            ],
            Self::Get => vec![
                ("GET of 16 MiB", What::Body(get("largest"))),
                ("GET of a little less than 256 KiB", What::Body(get("short"))),
                ("GET of a key of 64 KiB", What::Body(RequestBody::Get { key: large_key(0), mode: linearizable })),
            ],
            Self::MultiGet => vec![
                ("MULTI-GET of 4,096 × 16 MiB", What::Body(multi_get(|_| key("largest"), BATCH_OPERATIONS_MAX))),
                ("MULTI-GET of 4,096 × 256 KiB", What::Body(multi_get(|_| key("short"), BATCH_OPERATIONS_MAX))),
                ("MULTI-GET of 4,096 small values", What::Body(multi_get(small_key, BATCH_OPERATIONS_MAX))),
                (
                    "MULTI-GET of 4,096 keys that are not there",
                    What::Body(multi_get(|at| key(&format!("no {at}")), BATCH_OPERATIONS_MAX)),
                ),
                ("MULTI-GET of keys of 64 KiB, 17 MiB in all", What::Body(multi_get(large_key, LARGEST_KEYS))),
            ],
            Self::Scan => vec![
                ("SCAN of 4,096 keys", What::Body(scan("small", false))),
                ("SCAN of 4,096 keys with values", What::Body(scan("", true))),
                ("SCAN for a prefix that nobody has", What::Body(scan("nobody", true))),
            ],
            Self::Write => vec![
                ("PUT of 16 MiB", What::Write(vec![mutation(key("fresh"), Always, put(VALUE_BYTES_MAX))])),
                ("PUT over 16 MiB", What::Write(vec![mutation(key("fresh"), Always, put(VALUE_BYTES_MAX))])),
                ("PUT, wrong version, over 16 MiB", What::Write(vec![mutation(key("largest"), wrong(), put(1))])),
                (
                    "PUT that keeps the time to live, over 16 MiB",
                    What::Write(vec![mutation(key("fresh"), Always, keeping())]),
                ),
                ("PUT that returns 64 KiB", What::Write(vec![returning("previous", put(1))])),
                ("APPEND to 16 MiB", What::Write(vec![mutation(key("nearly"), Always, append(1))])),
                ("APPEND to a little less than 256 KiB", What::Write(vec![mutation(key("short"), Always, append(1))])),
                ("INCR of 16 MiB", What::Write(vec![mutation(key("largest"), Always, Action::Incr { by: 1 })])),
                ("EXPIRE of 16 MiB", What::Write(vec![mutation(key("largest"), Always, expire())])),
                ("PERSIST of 16 MiB", What::Write(vec![mutation(key("largest"), Always, Action::Persist)])),
                ("DELETE of 16 MiB", What::Write(vec![mutation(key("fresh"), Always, Action::Delete)])),
                ("SET-RANGE in 16 MiB", What::Write(vec![mutation(key("largest"), Always, range(0))])),
                (
                    "SET-RANGE at the end of 16 MiB",
                    What::Write(vec![mutation(key("far"), Always, range(VALUE_BYTES_MAX - 1))]),
                ),
                ("SET-BIT in 16 MiB", What::Write(vec![mutation(key("largest"), Always, bit())])),
                ("PUT of a key of 64 KiB", What::Write(vec![mutation(large_key(0), Always, put(1))])),
            ],
            Self::Batch => vec![
                ("BATCH of 4,096 PUTs", batch(|at| mutation(small_key(at), Always, put(100)))),
                ("BATCH of 4,096 PUTs of new keys", batch(|at| mutation(key(&format!("new {at}")), IfAbsent, put(1)))),
                ("BATCH of 4,096 PUTs, wrong version, on 16 MiB", batch(|_| mutation(key("largest"), wrong(), put(1)))),
                ("BATCH of 4,096 INCRs of one key", batch(|_| mutation(key("number"), Always, Action::Incr { by: 1 }))),
                ("BATCH of 4,096 INCRs of 16 MiB", batch(|_| mutation(key("largest"), Always, Action::Incr { by: 1 }))),
                (
                    "BATCH of 128 APPENDs to nearly 256 KiB",
                    What::Write((0..128).map(|_| mutation(key("short"), Always, append(1))).collect()),
                ),
                (
                    "BATCH of 128 EXPIREs of nearly 256 KiB",
                    What::Write((0..128).map(|_| mutation(key("short"), Always, expire())).collect()),
                ),
                ("BATCH of 4,096 DELETEs", batch(|at| mutation(small_key(at), Always, Action::Delete))),
                (
                    "BATCH of PUTs of keys of 64 KiB, 17 MiB in all",
                    What::Write((0..LARGEST_KEYS).map(|at| mutation(large_key(at), Always, put(1))).collect()),
                ),
            ],
            Self::Atomic => vec![
                ("ATOMIC of 4,096 checks of 16 MiB that hold", What::Atomic(checks(key("largest"), 4_096), Vec::new())),
                (
                    "ATOMIC of 2,048 checks and 2,048 PUTs",
                    What::Atomic(
                        checks(key("largest"), 2_048),
                        (0..2_048).map(|at| mutation(small_key(at), Always, put(1))).collect(),
                    ),
                ),
                (
                    "ATOMIC of 4,096 PUTs",
                    What::Atomic(Vec::new(), (0..4_096).map(|at| mutation(small_key(at), Always, put(1))).collect()),
                ),
                (
                    "ATOMIC that returns 64 KiB a hundred times",
                    What::Atomic(Vec::new(), (0..100).map(|_| returning("previous", expire())).collect()),
                ),
                (
                    "ATOMIC on keys of 64 KiB, 17 MiB in all",
                    What::Atomic(
                        Vec::new(),
                        (0..LARGEST_KEYS).map(|at| mutation(large_key(at), Always, put(1))).collect(),
                    ),
                ),
            ],
            Self::Transaction => vec![
                (
                    "TRANSACTION of 2,048 checks and 2,048 PUTs",
                    What::Transaction(
                        checks(key("largest"), 2_048),
                        (0..2_048)
                            .map(|at| TransactionOperation::Write(mutation(small_key(at), Always, put(1))))
                            .collect(),
                    ),
                ),
                (
                    "TRANSACTION of 4,096 GETs",
                    What::Transaction(
                        Vec::new(),
                        (0..4_096).map(|at| TransactionOperation::Read(small_key(at))).collect(),
                    ),
                ),
                (
                    "TRANSACTION that reads 16 MiB and compares nearly as much",
                    What::Transaction(
                        vec![AtomicCheck {
                            key: key("nearly"),
                            condition: Condition::IfEquals(zeros(VALUE_BYTES_MAX - 63)),
                        }],
                        vec![TransactionOperation::Read(key("largest"))],
                    ),
                ),
                (
                    "TRANSACTION that renames 16 MiB",
                    What::Transaction(
                        Vec::new(),
                        vec![
                            TransactionOperation::Rename { from: key("largest"), to: key("renamed"), if_absent: true },
                            TransactionOperation::Read(key("renamed")),
                        ],
                    ),
                ),
                (
                    "TRANSACTION of 4,096 COPYs",
                    What::Transaction(
                        Vec::new(),
                        (0..4_096)
                            .map(|at| TransactionOperation::Copy {
                                from: small_key(at),
                                to: small_key((at + 1) % 4_096),
                                if_absent: false,
                            })
                            .collect(),
                    ),
                ),
            ],
            Self::Await => vec![("AWAIT of what is applied", What::Body(await_first()))],
            Self::Admin => {
                let shard = ShardId(0);
                vec![(
                    "PANIC of a shard, which is not permitted",
                    What::Body(RequestBody::Admin(AdminCommand::PanicShard(shard))),
                )]
            }
        }
    }
}

/// An input.
enum What {
    Body(RequestBody),
    /// A write, or a BATCH of them, with fresh numbers.
    Write(Vec<Mutation>),
    Atomic(Vec<AtomicCheck>, Vec<Mutation>),
    Transaction(Vec<AtomicCheck>, Vec<TransactionOperation>),
    /// In a cluster of as many shards as may be.
    Topology,
}

/// All kinds of requests.
pub(super) fn requests(group: &mut Group) -> Vec<Walked> {
    for at in 0..MANY_KEYS / FILL {
        write(group, (0..FILL).map(|key| mutation(small_key(at * FILL + key), Condition::Always, put(100))).collect());
    }
    for (name, bytes) in [
        ("largest", VALUE_BYTES_MAX),
        ("nearly", VALUE_BYTES_MAX - 64),
        ("short", SHORT_OF_LARGE),
        ("previous", 64 * 1024),
    ] {
        write(group, vec![mutation(key(name), Condition::Always, put(bytes))]);
    }
    write(group, (0..LARGEST_KEYS).map(|at| mutation(large_key(at), Condition::Always, put(1))).collect());
    let mut walked = Vec::new();
    for kind in Kind::ALL {
        for (name, what) in kind.inputs() {
            // The turns after a large one are long, too.
            rest(group, 30);
            let steps = match what {
                What::Topology => topology(),
                What::Body(body) => {
                    assert_eq!(Kind::of(&body), kind);
                    group.request(body).1
                }
                What::Write(mutations) => write(group, mutations),
                What::Atomic(checks, mutations) => {
                    let id =
                        WriteId { sequence: group.next_sequence(1), first_unanswered: 1, retry: false, once: None };
                    let atomic = AtomicRequest { id, ack: Ack::Committed, checks, mutations };
                    group.request(RequestBody::Atomic(atomic)).1
                }
                What::Transaction(checks, operations) => {
                    let id =
                        WriteId { sequence: group.next_sequence(1), first_unanswered: 1, retry: false, once: None };
                    group.request(RequestBody::Transaction(TransactionRequest { id, checks, operations })).1
                }
            };
            walked.push(Walked { kind: Some(kind), name, steps });
        }
    }
    walked
}

/// What replicas do by themselves.
pub(super) fn background(group: &mut Group) -> Vec<Walked> {
    let mut walked = Vec::new();
    let ttl = |at: usize| {
        let action = Action::Put { value: zeros(10), ttl: TimeToLive::Ms(60_000) };
        mutation(key(&format!("ttl {at}")), Condition::Always, action)
    };
    for at in 0..MANY_KEYS / FILL {
        write(group, (0..FILL).map(|key| ttl(at * FILL + key)).collect());
    }
    rest(group, 30);
    let steps = rest(group, 60_000 / 50 + 40);
    walked.push(Walked { kind: None, name: "many keys expire at once", steps });

    // Half of what has come goes, so that the other half is moved.
    let mut steps = Vec::new();
    let before = group.upkeep();
    for round in 0..40 {
        let value = |at: usize| mutation(small_key(at * 2), Condition::Always, put(2_000 + round));
        // Few at a time, so that no turn is long.
        for at in 0..MANY_KEYS / 2 / 64 {
            steps.extend(write(group, (0..64).map(|key| value(at * 64 + key)).collect()));
        }
        steps.extend(rest(group, 60));
        if group.upkeep().compactions > before.compactions {
            break;
        }
    }
    steps.extend(rest(group, 200));
    let after = group.upkeep();
    assert!(after.compactions > before.compactions && after.checkpoints > before.checkpoints, "{before:?}, {after:?}");
    walked.push(Walked { kind: None, name: "compaction is taken over, and the state captured", steps });
    walked
}

/// So many ticks pass.
fn rest(group: &mut Group, ticks: usize) -> Vec<WalkStep> {
    (0..ticks).flat_map(|_| group.tick()).collect()
}

fn write(group: &mut Group, mutations: Vec<Mutation>) -> Vec<WalkStep> {
    let id = WriteId {
        sequence: group.next_sequence(mutations.len() as u64),
        first_unanswered: 1,
        retry: false,
        once: None,
    };
    let first_unanswered = id.sequence;
    // A one-shot name costs the most where it may be had.
    let returns = mutations.iter().any(|mutation| mutation.return_previous == ReturnPrevious::Entry);
    let id_of_name = OnceId(Uuid::from_u128(u128::from(id.sequence) << 64));
    let once = (!returns).then_some(Once { id: id_of_name, digest: id.sequence, keeps_refusal: true });
    let (id, ack) = (WriteId { first_unanswered, once, ..id }, Ack::Committed);
    let body = match <[Mutation; 1]>::try_from(mutations) {
        Ok([mutation]) => RequestBody::Write { id, ack, mutation },
        Err(mutations) => RequestBody::Batch { id, ack, mutations },
    };
    let (answer, steps) = group.request(body);
    if let ResponseBody::Batch(results) = &answer {
        let refused = results.iter().filter_map(|result| result.as_ref().err()).find(|error| !error.code.is_verdict());
        assert!(refused.is_none(), "{refused:?}");
    }
    steps
}

fn await_first() -> RequestBody {
    RequestBody::Await { receipt: Receipt { shard: ShardId(0), term: Term(1), index: LogIndex(1) }, wait_ms: 1_000 }
}

fn topology() -> Vec<WalkStep> {
    let mut session = session_of(SHARDS_MAX as u16);
    let (mut steps, mut answered) = (Vec::new(), 0);
    let request = Request { id: RequestId(1), deadline_ms: 1_000, body: RequestBody::Topology };
    let client = ClientId(Uuid::from_u128(7));
    step(&mut steps, Taker::Session, || {
        session.handle(client, 1, crate::clock::Nanos(1), request, &mut |_| answered += 1);
    });
    assert_eq!(answered, 1);
    steps
}

fn zeros(bytes: usize) -> Bytes {
    Bytes::from(vec![0; bytes])
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn small_key(at: usize) -> Bytes {
    key(&format!("small {at:08}"))
}

fn large_key(at: usize) -> Bytes {
    let mut key = vec![b'k'; KEY_BYTES_MAX];
    key[..8].copy_from_slice(&(at as u64).to_be_bytes());
    Bytes::from(key)
}

fn put(bytes: usize) -> Action {
    Action::Put { value: zeros(bytes), ttl: TimeToLive::Forever }
}

fn keeping() -> Action {
    Action::Put { value: zeros(VALUE_BYTES_MAX), ttl: TimeToLive::Keep }
}

fn append(bytes: usize) -> Action {
    Action::Append { value: zeros(bytes) }
}

fn range(offset: usize) -> Action {
    Action::SetRange { offset: offset as u64, value: zeros(1) }
}

fn bit() -> Action {
    Action::SetBit { offset: 8 * VALUE_BYTES_MAX as u64 - 1, bit: false }
}

fn expire() -> Action {
    Action::Expire { ttl_ms: 1 << 40 }
}

fn mutation(key: Bytes, condition: Condition, action: Action) -> Mutation {
    Mutation { key, condition, return_previous: ReturnPrevious::Nothing, action }
}

fn returning(name: &str, action: Action) -> Mutation {
    Mutation { return_previous: ReturnPrevious::Entry, ..mutation(key(name), Condition::Always, action) }
}

fn batch(one: impl Fn(usize) -> Mutation) -> What {
    What::Write((0..BATCH_OPERATIONS_MAX).map(one).collect())
}

fn checks(key: Bytes, count: usize) -> Vec<AtomicCheck> {
    (0..count).map(|_| AtomicCheck { key: key.clone(), condition: Condition::IfPresent }).collect()
}

fn get(name: &str) -> RequestBody {
    RequestBody::Get { key: key(name), mode: ReadMode::Linearizable }
}

fn multi_get(one: impl Fn(usize) -> Bytes, keys: usize) -> RequestBody {
    RequestBody::MultiGet { keys: (0..keys).map(one).collect(), mode: ReadMode::Linearizable }
}

fn scan(prefix: &str, values: bool) -> RequestBody {
    RequestBody::Scan(ScanRequest {
        shard: ShardId(0),
        cursor: ScanCursor::default(),
        prefix: key(prefix),
        limit: SCAN_ENTRIES_MAX,
        values,
        mode: ReadMode::Linearizable,
    })
}

fn hello() -> RequestBody {
    RequestBody::Hello(Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        cluster: None,
        client: ClientId(Uuid::from_u128(7)),
        name: "walk".into(),
    })
}
