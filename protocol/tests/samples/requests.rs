use super::join::new_node;
use super::{bytes, uuid};
use kvorum_protocol::request::{PROTOCOL_VERSION, feature};
use kvorum_protocol::{
    Ack, Action, AdminCommand, AtomicCheck, AtomicRequest, AuthRequest, AuthVerb, ClientId, ClusterClasses, ClusterId,
    ClusterVerb, Condition, EncryptVerb, ExpireWhen, Grant, Hello, KeyClasses, LogIndex, LogLevel, LogLevelAsk,
    Mutation, NewToken, NodeId, NodeKey, Once, OnceId, ReadMode, Receipt, Request, RequestBody, RequestId,
    ReturnPrevious, ScanCursor, ScanRequest, ShardId, SlowLogAsk, StatusScope, Term, TimeToLive, TokenId, TokenKey,
    TransactionOperation, TransactionRequest, UserLimits, UserTokenId, Version, WriteId,
};

/// Every request, every mutation, every condition.
pub(crate) fn requests() -> Vec<(String, Request)> {
    let mut all = questions();
    all.extend(writes());
    all.extend(admin());
    all.extend(of_resp());
    all.extend(of_auth());
    // The worked session of docs/PROTOCOL.md has ids 1, 2 and 3.
    let numbered = |(number, (name, body)): (usize, (&str, RequestBody))| {
        (name.to_owned(), Request { id: RequestId(number as u32 + 1), deadline_ms: 5000, body })
    };
    all.into_iter().enumerate().map(numbered).collect()
}

fn questions() -> Vec<(&'static str, RequestBody)> {
    let hello = |cluster| {
        RequestBody::Hello(Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: feature::TOPOLOGY_PUSH,
            cluster,
            client: ClientId(uuid(0xc1)),
            name: "example".into(),
        })
    };
    let scan = |cursor, prefix, values, mode| {
        RequestBody::Scan(ScanRequest { shard: ShardId(5), cursor, prefix: bytes(prefix), limit: 100, values, mode })
    };
    let (linearizable, stale) = (ReadMode::Linearizable, ReadMode::Stale);
    let keys = vec![bytes("user:1"), bytes("user:2")];
    vec![
        ("hello", hello(None)),
        ("write put", write(id(1), Ack::Committed, put("user:1", "Ada"))),
        ("get", RequestBody::Get { key: bytes("user:1"), mode: linearizable }),
        ("get stale", RequestBody::Get { key: bytes("user:1"), mode: stale }),
        ("hello to a cluster", hello(Some(ClusterId(uuid(0xaa))))),
        ("ping", RequestBody::Ping(bytes("are you there?"))),
        ("ping empty", RequestBody::Ping(bytes(""))),
        ("topology", RequestBody::Topology),
        ("status of the node", RequestBody::Status(StatusScope::Node)),
        ("status of the cluster", RequestBody::Status(StatusScope::Cluster)),
        ("explain", RequestBody::Explain(bytes("user:1"))),
        ("multi-get", RequestBody::MultiGet { keys, mode: linearizable }),
        ("multi-get of nothing", RequestBody::MultiGet { keys: Vec::new(), mode: stale }),
        ("scan from the start", scan(ScanCursor::default(), "", false, linearizable)),
        ("scan on", scan(ScanCursor { order: 0x0123_4567_89ab_cdef, version: Version(7) }, "user:", true, stale)),
    ]
}

fn id(sequence: u64) -> WriteId {
    WriteId { sequence, first_unanswered: 1, retry: false, once: None }
}

/// With a one-shot name.
fn named(sequence: u64) -> WriteId {
    let once = Once { id: OnceId(uuid(0xcc)), digest: 0x0123_4567_89ab_cdef, keeps_refusal: true };
    WriteId { once: Some(once), ..id(sequence) }
}

fn write(id: WriteId, ack: Ack, mutation: Mutation) -> RequestBody {
    RequestBody::Write { id, ack, mutation }
}

fn mutation(key: &'static str, action: Action) -> Mutation {
    Mutation { key: bytes(key), condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action }
}

fn put(key: &'static str, value: &'static str) -> Mutation {
    mutation(key, Action::Put { value: bytes(value), ttl: TimeToLive::Forever })
}

/// What RESP has asked for.
fn of_resp() -> Vec<(&'static str, RequestBody)> {
    let committed = |sequence, mutation| write(id(sequence), Ack::Committed, mutation);
    let equal = Mutation { condition: Condition::IfEquals(bytes("Ada")), ..put("user:1", "Grace") };
    let watched = AtomicCheck { key: bytes("{cart}.1"), condition: Condition::IfVersion(Version(11)) };
    let operations = vec![
        TransactionOperation::Read(bytes("{cart}.1")),
        TransactionOperation::Write(mutation("{cart}.count", Action::Incr { by: 1 })),
        TransactionOperation::Copy { from: bytes("{cart}.1"), to: bytes("{cart}.2"), if_absent: true },
    ];
    let transaction = TransactionRequest { id: id(56), checks: vec![watched], operations };
    let rename = TransactionOperation::Rename { from: bytes("a"), to: bytes("b"), if_absent: false };
    let renaming = TransactionRequest { id: id(57), checks: Vec::new(), operations: vec![rename] };
    vec![
        ("write put if equal", committed(50, equal)),
        (
            "write expire if longer",
            committed(51, mutation("user:1", Action::ExpireIf { ttl_ms: 1500, when: ExpireWhen::Longer })),
        ),
        (
            "write expire if it has a time to live that is longer",
            committed(52, mutation("user:1", Action::ExpireIf { ttl_ms: 0, when: ExpireWhen::SomeAndShorter })),
        ),
        ("write set range", committed(53, mutation("log", Action::SetRange { offset: 5, value: bytes("line") }))),
        ("write set bit", committed(54, mutation("flags", Action::SetBit { offset: 7, bit: true }))),
        ("write incr decimal", committed(55, mutation("price", Action::IncrDecimal { by: bytes("-1.5e2") }))),
        ("transaction", RequestBody::Transaction(transaction)),
        ("transaction of a rename", RequestBody::Transaction(renaming)),
        (
            "write put until a time",
            committed(
                58,
                mutation("user:1", Action::Put { value: bytes("Ada"), ttl: TimeToLive::Until(1_795_983_627_210) }),
            ),
        ),
        (
            "write expire at a time",
            committed(59, mutation("user:1", Action::ExpireAt { at_ms: 1_795_983_627_210, when: None })),
        ),
        (
            "write expire at a time if earlier",
            committed(
                60,
                mutation("user:1", Action::ExpireAt { at_ms: 1_795_983_627_210, when: Some(ExpireWhen::Shorter) }),
            ),
        ),
    ]
}

fn writes() -> Vec<(&'static str, RequestBody)> {
    let committed = |sequence, mutation| write(id(sequence), Ack::Committed, mutation);
    let conditional =
        |condition| Mutation { condition, return_previous: ReturnPrevious::Entry, ..put("user:1", "Grace") };
    let retried = WriteId { sequence: 7, first_unanswered: 5, retry: true, once: None };
    let receipt = Receipt { shard: ShardId(3), term: Term(7), index: LogIndex(1204) };
    let expiring = Action::Put { value: bytes("soon gone"), ttl: TimeToLive::Ms(60_000) };
    let keeping = Action::Put { value: bytes("still there"), ttl: TimeToLive::Keep };
    let asking = Mutation { return_previous: ReturnPrevious::Existence, ..put("user:1", "Ada") };
    let checks = vec![
        AtomicCheck { key: bytes("{order:9}.state"), condition: Condition::IfVersion(Version(11)) },
        AtomicCheck { key: bytes("{order:9}.lock"), condition: Condition::IfAbsent },
    ];
    let changes = vec![put("{order:9}.state", "paid"), mutation("{order:9}.count", Action::Incr { by: 1 })];
    let atomic =
        |checks, mutations| RequestBody::Atomic(AtomicRequest { id: id(30), ack: Ack::Committed, checks, mutations });
    vec![
        ("write put, retried", write(retried, Ack::Committed, put("user:1", "Ada"))),
        ("write put, accepted", write(id(8), Ack::Accepted, put("user:1", ""))),
        ("write put with a time to live", committed(9, mutation("session", expiring))),
        ("write put if absent", committed(10, conditional(Condition::IfAbsent))),
        ("write put if present", committed(11, conditional(Condition::IfPresent))),
        ("write put if version", committed(12, conditional(Condition::IfVersion(Version(4))))),
        ("write delete", committed(13, mutation("user:1", Action::Delete))),
        ("write incr", committed(14, mutation("visits", Action::Incr { by: -3 }))),
        ("write append", committed(15, mutation("log", Action::Append { value: bytes("line\n") }))),
        ("write expire", committed(16, mutation("user:1", Action::Expire { ttl_ms: 1500 }))),
        ("write persist", committed(17, mutation("user:1", Action::Persist))),
        (
            "batch",
            RequestBody::Batch {
                id: id(20),
                ack: Ack::Committed,
                mutations: vec![put("a", "1"), mutation("b", Action::Delete)],
            },
        ),
        ("batch of nothing", RequestBody::Batch { id: id(22), ack: Ack::Accepted, mutations: Vec::new() }),
        ("atomic", atomic(checks, changes)),
        ("atomic without checks", atomic(Vec::new(), vec![put("a", "1")])),
        ("write put if absent or version", committed(31, conditional(Condition::IfAbsentOrVersion(Version(4))))),
        ("write put that keeps the time to live", committed(32, mutation("session", keeping))),
        ("write put that asks whether the key existed", committed(33, asking)),
        ("write put under a one-shot name", write(named(34), Ack::Committed, put("user:1", "Ada"))),
        (
            "batch under a one-shot name",
            RequestBody::Batch { id: named(35), ack: Ack::Accepted, mutations: vec![put("a", "1"), put("b", "2")] },
        ),
        ("await", RequestBody::Await { receipt, wait_ms: 2500 }),
    ]
}

fn admin() -> Vec<(&'static str, RequestBody)> {
    let transfer = AdminCommand::TransferLeadership { shard: ShardId(3), to: NodeId(uuid(2)) };
    let node = NodeId(uuid(3));
    let ask = |verb| RequestBody::Admin(AdminCommand::Ask(verb));
    let joins = new_node();
    let token = |name: Option<&str>, zone: Option<&str>| NewToken {
        id: TokenId(uuid(0x70)),
        key: TokenKey([0xab; 32]),
        name: name.map(str::to_owned),
        zone: zone.map(str::to_owned),
        for_ms: 3_600_000,
    };
    let joins_by_token =
        ClusterVerb::JoinByToken { token: TokenId(uuid(0x70)), key: NodeKey([0xcd; 32]), node: Box::new(new_node()) };
    vec![
        ("admin transfer leadership", RequestBody::Admin(transfer)),
        ("admin shutdown", RequestBody::Admin(AdminCommand::Shutdown)),
        ("admin join", ask(ClusterVerb::Join(Box::new(joins)))),
        ("admin remove node", ask(ClusterVerb::Remove { node, accept_fewer_zones: true })),
        ("admin keep node", ask(ClusterVerb::Keep(node))),
        ("admin drain node", ask(ClusterVerb::Drain { node, for_ms: 600_000 })),
        ("admin undrain node", ask(ClusterVerb::Undrain(node))),
        ("admin replace node", ask(ClusterVerb::Replace { old: node, new: NodeId(uuid(4)) })),
        ("admin set zone", ask(ClusterVerb::Set { node, zone: Some("b".to_owned()), weight: None })),
        ("admin set weight", ask(ClusterVerb::Set { node, zone: None, weight: Some(3) })),
        ("admin pause moves", ask(ClusterVerb::Pause(true))),
        ("admin rate of moves", ask(ClusterVerb::Rate(Some(16)))),
        ("admin default rate of moves", ask(ClusterVerb::Rate(None))),
        ("admin allow repair", ask(ClusterVerb::AllowRepair)),
        ("admin finalize", ask(ClusterVerb::Finalize)),
        ("admin plan", RequestBody::Admin(AdminCommand::Plan(None))),
        ("admin plan of keep", RequestBody::Admin(AdminCommand::Plan(Some(ClusterVerb::Keep(node))))),
        ("admin panic shard", RequestBody::Admin(AdminCommand::PanicShard(ShardId(3)))),
        ("admin cut peers", RequestBody::Admin(AdminCommand::CutPeers(true))),
        ("admin heal peers", RequestBody::Admin(AdminCommand::CutPeers(false))),
        ("admin skew clock", RequestBody::Admin(AdminCommand::SkewClock(-3_600_000))),
        ("admin token", ask(ClusterVerb::Token(Box::new(token(None, None))))),
        ("admin token of one node", ask(ClusterVerb::Token(Box::new(token(Some("node-4"), Some("b")))))),
        ("admin join by token", ask(joins_by_token)),
        ("admin authority", RequestBody::Admin(AdminCommand::Authority)),
    ]
}

/// Who may do what, and with which keys nodes seal what they store.
fn of_auth() -> Vec<(&'static str, RequestBody)> {
    let change = |verb| RequestBody::Admin(AdminCommand::Auth(Box::new(verb)));
    let user = |verifier: Option<&str>, roles: Option<Vec<String>>, disabled| AuthVerb::PutUser {
        name: "ada".to_owned(),
        exists: verifier.is_some().then_some(false),
        verifier: verifier.map(str::to_owned),
        roles,
        disabled,
    };
    let grants = vec![
        Grant { prefix: bytes("app/"), classes: KeyClasses::READ.with(KeyClasses::SCAN) },
        Grant { prefix: bytes(""), classes: KeyClasses::WATCH },
    ];
    let token = |roles, expires_at_ms| AuthVerb::AddToken {
        id: UserTokenId(0xa7),
        user: "ada".to_owned(),
        roles,
        digest: [0xdd; 32],
        expires_at_ms,
    };
    let classes = KeyClasses::READ.with(KeyClasses::WRITE);
    let encrypt = |what| RequestBody::Admin(AdminCommand::Ask(ClusterVerb::Encrypt(what)));
    let slow = |ask| RequestBody::Admin(AdminCommand::SlowLog(ask));
    let log = |ask| RequestBody::Admin(AdminCommand::LogLevel(ask));
    vec![
        ("auth by token", RequestBody::Auth(AuthRequest::Token(bytes("kvt_00000000000000a7_secret")))),
        ("auth by password", RequestBody::Auth(AuthRequest::Scram(bytes("n,,n=ada,r=abc")))),
        ("auth proof", RequestBody::Auth(AuthRequest::Proof(bytes("c=biws,r=abcdef,p=xyz=")))),
        ("admin put user", change(user(Some("a verifier"), Some(vec!["readonly".to_owned()]), None))),
        ("admin disable user", change(user(None, None, Some(true)))),
        ("admin remove user", change(AuthVerb::RemoveUser("ada".to_owned()))),
        (
            "admin put role",
            change(AuthVerb::PutRole { name: "app".to_owned(), grants, cluster: ClusterClasses::STATUS }),
        ),
        ("admin remove role", change(AuthVerb::RemoveRole("app".to_owned()))),
        ("admin add token", change(token(None, None))),
        ("admin add token of a role", change(token(Some(vec!["app".to_owned()]), Some(1_700_000_000_000)))),
        ("admin remove token", change(AuthVerb::RemoveToken(UserTokenId(0xa7)))),
        ("admin deny certificate", change(AuthVerb::Deny { serial: bytes("serial"), denied: true })),
        (
            "admin limit user",
            change(AuthVerb::Limit {
                name: "ada".to_owned(),
                limits: UserLimits { requests_per_s: 1_000, bytes_per_s: 8 << 20, connections: 50 },
            }),
        ),
        ("admin show auth", RequestBody::Admin(AdminCommand::ShowAuth)),
        ("admin who am i", RequestBody::Admin(AdminCommand::WhoAmI)),
        (
            "admin check access",
            RequestBody::Admin(AdminCommand::CheckAccess { user: "ada".to_owned(), classes, key: bytes("app/1") }),
        ),
        ("admin encryption on", encrypt(EncryptVerb::On)),
        ("admin encryption rotate", encrypt(EncryptVerb::Rotate)),
        ("admin encryption rewrap", encrypt(EncryptVerb::Rewrap)),
        ("admin newest slow operations", slow(SlowLogAsk::Newest(10))),
        ("admin how many slow operations", slow(SlowLogAsk::Length)),
        ("admin forget slow operations", slow(SlowLogAsk::Forget)),
        ("admin watch requests from now on", RequestBody::Admin(AdminCommand::Monitor(None))),
        ("admin watch requests further", RequestBody::Admin(AdminCommand::Monitor(Some(41)))),
        ("admin show log level", log(LogLevelAsk::Show)),
        ("admin set log level", log(LogLevelAsk::Set { level: LogLevel::Debug, for_ms: 600_000 })),
        ("admin reset log level", log(LogLevelAsk::Reset)),
    ]
}
