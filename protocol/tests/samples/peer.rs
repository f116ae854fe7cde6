use super::{bytes, uuid};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::peer::{
    Levels, PeerHello, PeerMessage, RaftEntry, RaftEntryKind, RaftMessage, RaftMessageKind, RespAddresses,
};
use kvorum_protocol::report::{DiskRoom, NodeReport, ShardLoad};
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{
    ClientId, ClusterId, Epoch, FolderId, LogIndex, NodeId, ReadMode, ReplicaId, Request, RequestBody, RequestId,
    Response, ResponseBody, ShardId, SpanId, Term, TraceContext, TraceId,
};

/// Every message between nodes, every kind of consensus message.
pub(crate) fn peer_messages() -> Vec<(String, PeerMessage)> {
    let hello = PeerHello {
        levels: Levels { min: 3, max: 4 },
        cluster: ClusterId(uuid(0xaa)),
        node: NodeId(uuid(1)),
        disk: FolderId(uuid(0xd1)),
        starts: 7,
        process: 0x1234_5678_9abc_def0,
        knows: None,
        replaced: false,
        client: "node-1.example:7400".into(),
        resp: RespAddresses { standalone: ":7430".into(), cluster: "redis.example:7440".into() },
        program: "kvorum 0.1.0".into(),
        more: Bytes::new(),
    };
    let (mut request, mut response) = (BytesMut::new(), BytesMut::new());
    let get = RequestBody::Get { key: bytes("user:1"), mode: ReadMode::Linearizable };
    Request { id: RequestId(3), deadline_ms: 4990, body: get }.encode_body(&mut request);
    let value = ResponseBody::Value(None);
    Response { id: RequestId(3), epoch: Epoch(4), forwarded: false, body: value }.encode_body(&mut response);
    let request = request.freeze();
    let mut all = vec![
        ("hello".to_owned(), PeerMessage::Hello(hello.clone())),
        (
            "hello to a node that was met before".to_owned(),
            PeerMessage::Hello(PeerHello { knows: Some(FolderId(uuid(0xd2))), ..hello }),
        ),
        (
            "forward".to_owned(),
            PeerMessage::Forward {
                id: 77,
                client: ClientId(uuid(0xc1)),
                term: Term(7),
                in_order: true,
                request: request.clone(),
            },
        ),
        (
            "trace".to_owned(),
            PeerMessage::Trace {
                id: 77,
                context: TraceContext::sampled(TraceId(*b"0123456789abcdef"), SpanId(*b"01234567")),
            },
        ),
        ("returned".to_owned(), PeerMessage::Returned { id: 77, request }),
        ("forward reply".to_owned(), PeerMessage::ForwardReply { id: 77, response: response.freeze() }),
        ("leading".to_owned(), PeerMessage::Leading(vec![(ShardId(3), Term(7)), (ShardId::META, Term(2))])),
        ("leading nothing".to_owned(), PeerMessage::Leading(Vec::new())),
        ("ring".to_owned(), PeerMessage::Ring(bytes("the map's stored form"))),
        ("auth news".to_owned(), PeerMessage::AuthNews { epoch: 7, leads: true }),
        ("auth wanted".to_owned(), PeerMessage::AuthWanted),
        ("data keys".to_owned(), PeerMessage::DataKeys { kek: 0x0102_0304_0506_0708, epoch: 9 }),
        ("auth table".to_owned(), PeerMessage::AuthTable(bytes("the table's stored form"))),
        ("map asked".to_owned(), PeerMessage::MapAsked { number: 0x0102_0304_0506_0708 }),
        ("map is".to_owned(), PeerMessage::MapIs { number: 0x0102_0304_0506_0708, epoch: 9 }),
        ("clock".to_owned(), PeerMessage::Clock(1_700_000_000_456)),
        ("report".to_owned(), PeerMessage::Report(report(None))),
        ("report with what comes".to_owned(), PeerMessage::Report(report(Some(vec![(ShardId(6), 4_096)])))),
        ("unfit".to_owned(), PeerMessage::Unfit(5)),
        ("fit".to_owned(), PeerMessage::Unfit(0)),
    ];
    all.extend(kinds().into_iter().map(|kind| {
        let message = RaftMessage { kind, ..plain() };
        (format!("raft {kind:?}"), PeerMessage::Raft(ShardId(3), message))
    }));
    let entry = |index, kind, payload| RaftEntry { term: Term(7), index: LogIndex(index), kind, payload };
    let append = RaftMessage {
        entries: vec![
            entry(106, RaftEntryKind::Operations, bytes("operations of a shard")),
            entry(107, RaftEntryKind::Membership, bytes("members")),
            entry(108, RaftEntryKind::Operations, bytes("")),
        ],
        ..plain()
    };
    let refusal = RaftMessage {
        kind: RaftMessageKind::AppendResponse,
        reject: true,
        reject_hint: LogIndex(90),
        priority: -1,
        context: bytes("campaign"),
        ..plain()
    };
    all.push(("raft Append with entries".to_owned(), PeerMessage::Raft(ShardId(3), append)));
    all.push(("raft AppendResponse, refused".to_owned(), PeerMessage::Raft(ShardId(3), refusal)));
    all.extend(snapshot_messages());
    all
}

fn report(coming: Option<Vec<(ShardId, u64)>>) -> NodeReport {
    NodeReport {
        epoch: 9,
        faulty: vec![(ShardId(3), ReplicaId(2)), (ShardId::META, ReplicaId(17))],
        settled: vec![(ShardId(4), 8)],
        hears: vec![NodeId(uuid(2))],
        disk: Some(DiskRoom { free_bytes: 60 << 30, total_bytes: 100 << 30 }),
        held_bytes: 7 << 30,
        peer_address: "10.0.0.1:7410".to_owned(),
        loads: vec![ShardLoad { shard: ShardId(4), micros_per_second: 125_000, led_ms: 61_000 }],
        coming,
        more: Bytes::new(),
    }
}

fn snapshot_messages() -> impl Iterator<Item = (String, PeerMessage)> {
    let (header, records) = (SnapshotPart::Header, SnapshotPart::Records);
    let chunk = |part, at, count, text| SnapshotBody::Chunk { part, at, count, bytes: bytes(text) };
    let end = |installed, reason: &str| SnapshotBody::End { installed, reason: reason.to_owned() };
    let bodies = [
        ("offer", SnapshotBody::Offer { header_bytes: 6, records: 1_000_000 }),
        ("pull of the header", SnapshotBody::Pull { part: header, at: 0, count_max: 262_144, bytes_max: 262_144 }),
        ("pull of records", SnapshotBody::Pull { part: records, at: 4711, count_max: 512, bytes_max: 262_144 }),
        ("chunk of the header", chunk(header, 0, 6, "header")),
        ("chunk of records", chunk(records, 4711, 2, "records of a shard")),
        ("end, installed", end(true, "")),
        ("end, given up", end(false, "no such snapshot")),
    ];
    let id = SnapshotId { term: Term(6), index: LogIndex(105), nonce: 77 };
    bodies.into_iter().map(move |(name, body)| {
        let message = SnapshotMessage { from: ReplicaId(1), to: ReplicaId(2), id, body };
        (format!("snapshot {name}"), PeerMessage::Snapshot(ShardId(3), message))
    })
}

fn plain() -> RaftMessage {
    RaftMessage {
        kind: RaftMessageKind::Append,
        from: ReplicaId(1),
        to: ReplicaId(2),
        term: Term(7),
        log_term: Term(6),
        index: LogIndex(105),
        commit: LogIndex(104),
        commit_term: Term(6),
        reject: false,
        reject_hint: LogIndex(0),
        priority: 0,
        lease_stamp: 123_456_789,
        log_time_ms: 1_700_000_000_123,
        context: bytes(""),
        entries: Vec::new(),
    }
}

fn kinds() -> [RaftMessageKind; 9] {
    use RaftMessageKind as Kind;
    [
        Kind::Append,
        Kind::AppendResponse,
        Kind::RequestVote,
        Kind::RequestVoteResponse,
        Kind::RequestPreVote,
        Kind::RequestPreVoteResponse,
        Kind::Heartbeat,
        Kind::HeartbeatResponse,
        Kind::TimeoutNow,
    ]
}
