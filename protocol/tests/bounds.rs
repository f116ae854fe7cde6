//! Lengths and counts from outside: over the limit they are refused at once, and within it they are believed only as far
//! as there are bytes to back them. So no message makes a decoder set aside more memory than a multiple of its own size.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, DEADLINE_MS_MAX, ERROR_TEXT_BYTES_MAX, EXPIRY_MS_MAX, FRAME_BYTES_MAX, HOT_KEY_BYTES_MAX,
    HOT_KEYS_MAX, JOIN_PEM_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, NODES_MAX, PING_BYTES_MAX, RAFT_ENTRIES_MAX,
    RAFT_ENTRY_BYTES_MAX, REPLICAS_MAX, RING_BYTES_MAX, SCAN_ENTRIES_MAX, SEQUENCE_MAX, SHARDS_MAX,
    SIGNING_REQUEST_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_HEADER_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX,
};
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{
    Ack, Action, Condition, DecodeError, JoinReply, JoinRequest, Mutation, NodeStatus, ReadMode, Request, RequestBody,
    RequestId, Response, ReturnPrevious, ScanCursor, ScanRequest, ShardId, WriteId,
};

/// The front of a request: operation, id, deadline.
fn request(operation: u8) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(operation);
    out.put_u32_le(1);
    out.put_u32_le(0);
    out
}

/// The front of a response: kind, id, epoch, flags.
fn response(kind: u8) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u32_le(1);
    out.put_u64_le(1);
    out.put_u8(0);
    out
}

fn zeros(mut front: BytesMut, count: usize) -> BytesMut {
    front.put_bytes(0, count);
    front
}

/// Sequence 1, first unanswered 0, no retry, committed, no one-shot name.
fn with_write_id(mut front: BytesMut) -> BytesMut {
    front.put_u64_le(1);
    zeros(front, 11)
}

type Decode = fn(Bytes) -> Option<DecodeError>;

/// A message up to a length or count, that field's limit, and the width of the field in bytes.
struct Announced {
    name: &'static str,
    front: BytesMut,
    limit: usize,
    width: usize,
    decode: Decode,
}

fn announced() -> Vec<Announced> {
    let of_request: Decode = |bytes| Request::decode(bytes).err();
    let of_response: Decode = |bytes| Response::decode(bytes).err();
    let of_peer: Decode = |bytes| PeerMessage::decode(bytes).err();
    let of_join: Decode = |bytes| JoinRequest::from_bytes(bytes).err();
    let of_join_reply: Decode = |bytes| JoinReply::from_bytes(bytes).err();
    let of_status: Decode = |bytes| NodeStatus::from_bytes(bytes).err();
    let peer = |kind| BytesMut::from(&[kind][..]);
    // A raft message up to its context: shard, kind Append, replicas 1 and 1, then the numbers.
    let raft = || {
        let mut out = peer(2);
        out.put_u16_le(0);
        out.put_u8(1);
        out.put_u64_le(1);
        out.put_u64_le(1);
        zeros(out, 5 * 8 + 1 + 4 * 8)
    };
    // One entry, up to its payload's length.
    let raft_entry = || {
        let mut out = zeros(raft(), 4);
        out.put_u32_le(1);
        zeros(out, 17)
    };
    // A message about a snapshot up to its kind: shard, replicas 1 and 1, id.
    let snapshot = |kind| {
        let mut out = peer(6);
        out.put_u16_le(0);
        out.put_u64_le(1);
        out.put_u64_le(1);
        out = zeros(out, 3 * 8);
        out.put_u8(kind);
        out
    };
    // A mutation up to its key: the action, no condition, no previous, argument 0.
    let mutation = |action| {
        let mut out = with_write_id(request(0x20));
        out.put_u8(action);
        zeros(out, 10)
    };
    // A topology with no nodes and one shard that has no leader, up to its replicas.
    let topology = |shards: u32| {
        let mut out = zeros(response(0x03), 8 + 16 + 1 + 4);
        out.put_u32_le(shards);
        zeros(out, 9)
    };
    let put_value = || {
        let mut out = mutation(1);
        out.put_u32_le(1);
        out.put_u8(b'k');
        out
    };
    let some_entry = || {
        let mut out = response(0x10);
        out.put_u8(1);
        zeros(out, 9)
    };
    // A node's status up to its hot keys.
    let status = || zeros(BytesMut::new(), 39 + 4 + 9 + 32 + 26);
    // The first of them up to its key: shard 0, reads.
    let hot_key = || {
        let mut out = status();
        out.put_u32_le(1);
        zeros(out, 3)
    };
    let row = |name, front, limit, width, decode| Announced { name, front, limit, width, decode };
    vec![
        row("hello name", zeros(request(0x01), 12 + 1 + 16), NAME_BYTES_MAX, 2, of_request),
        row("ping", request(0x02), PING_BYTES_MAX, 4, of_request),
        row("explain key", request(0x05), KEY_BYTES_MAX, 4, of_request),
        row("get key", zeros(request(0x10), 1), KEY_BYTES_MAX, 4, of_request),
        row("multi-get keys", zeros(request(0x11), 1), BATCH_OPERATIONS_MAX, 4, of_request),
        row("scan prefix", zeros(request(0x12), 18), KEY_BYTES_MAX, 4, of_request),
        row("mutation key", mutation(1), KEY_BYTES_MAX, 4, of_request),
        row("put value", put_value(), VALUE_BYTES_MAX, 4, of_request),
        row("batch", with_write_id(request(0x21)), BATCH_OPERATIONS_MAX, 4, of_request),
        row("atomic checks", with_write_id(request(0x22)), BATCH_OPERATIONS_MAX, 4, of_request),
        row("atomic mutations", zeros(with_write_id(request(0x22)), 4), BATCH_OPERATIONS_MAX, 4, of_request),
        row("program", zeros(response(0x01), 10 + 32 + 1), NAME_BYTES_MAX, 2, of_response),
        row("pong", response(0x02), PING_BYTES_MAX, 4, of_response),
        row("topology nodes", zeros(response(0x03), 25), NODES_MAX, 4, of_response),
        row("topology shards", zeros(response(0x03), 29), SHARDS_MAX, 4, of_response),
        row("replicas", topology(1), REPLICAS_MAX, 4, of_response),
        row("statuses", response(0x04), NODES_MAX, 4, of_response),
        row("explained replicas", zeros(response(0x05), 11), REPLICAS_MAX, 4, of_response),
        row("value", some_entry(), VALUE_BYTES_MAX, 4, of_response),
        row("transaction checks", with_write_id(request(0x24)), BATCH_OPERATIONS_MAX, 4, of_request),
        row("transaction operations", zeros(with_write_id(request(0x24)), 4), BATCH_OPERATIONS_MAX, 4, of_request),
        row("values", response(0x11), BATCH_OPERATIONS_MAX, 4, of_response),
        row("page", zeros(response(0x12), 1), SCAN_ENTRIES_MAX as usize, 4, of_response),
        row("batch results", response(0x21), BATCH_OPERATIONS_MAX, 4, of_response),
        row("atomic results", zeros(response(0x22), 1), BATCH_OPERATIONS_MAX, 4, of_response),
        row("transaction replies", zeros(response(0x24), 1), BATCH_OPERATIONS_MAX, 4, of_response),
        row("status peers", zeros(BytesMut::new(), 16 + 2 + 2 + 4 + 8 + 1 + 2 + 4), NODES_MAX, 4, of_status),
        row("status hot keys", status(), HOT_KEYS_MAX, 4, of_status),
        row("hot key", hot_key(), HOT_KEY_BYTES_MAX, 4, of_status),
        row("status shards", zeros(status(), 4), SHARDS_MAX + 1, 4, of_status),
        row("peer's address for clients", zeros(peer(1), 70), NAME_BYTES_MAX, 2, of_peer),
        row("peer program", zeros(peer(1), 72), NAME_BYTES_MAX, 2, of_peer),
        row("ring map", peer(10), RING_BYTES_MAX, 4, of_peer),
        row("faulty replicas", zeros(peer(11), 8), SHARDS_MAX + 1, 4, of_peer),
        row("settled groups", zeros(peer(11), 12), SHARDS_MAX + 1, 4, of_peer),
        row("nodes that are heard", zeros(peer(11), 16), NODES_MAX, 4, of_peer),
        row("name of a node that joins", zeros(BytesMut::new(), 32), NAME_BYTES_MAX, 2, of_join),
        row("signing request", zeros(BytesMut::new(), 32 + 8 + 20), SIGNING_REQUEST_BYTES_MAX, 4, of_join),
        row("certificate", peer(0), JOIN_PEM_BYTES_MAX, 4, of_join_reply),
        row("authorities", zeros(peer(0), 4), JOIN_PEM_BYTES_MAX, 4, of_join_reply),
        row("ring map of a join", zeros(peer(0), 8), RING_BYTES_MAX, 4, of_join_reply),
        row("refusal of a join", peer(1), ERROR_TEXT_BYTES_MAX, 2, of_join_reply),
        row("context", raft(), 64, 4, of_peer),
        row("raft entries", zeros(raft(), 4), RAFT_ENTRIES_MAX, 4, of_peer),
        row("entry payload", raft_entry(), RAFT_ENTRY_BYTES_MAX, 4, of_peer),
        row("forwarded request", zeros(peer(3), 33), FRAME_BYTES_MAX, 4, of_peer),
        row("returned request", zeros(peer(14), 8), FRAME_BYTES_MAX, 4, of_peer),
        row("forwarded response", zeros(peer(4), 8), FRAME_BYTES_MAX, 4, of_peer),
        row("leading", peer(5), SHARDS_MAX + 1, 4, of_peer),
        row("snapshot header", snapshot(1), SNAPSHOT_HEADER_BYTES_MAX as usize, 4, of_peer),
        row("snapshot chunk", zeros(snapshot(3), 13), SNAPSHOT_CHUNK_BYTES_MAX, 4, of_peer),
        row("snapshot reason", zeros(snapshot(4), 1), ERROR_TEXT_BYTES_MAX, 2, of_peer),
    ]
}

#[test]
fn what_is_announced_over_its_limit_is_refused_by_name() {
    for Announced { name, front, limit, width, decode } in announced() {
        for over in [limit as u32 + 1, u32::MAX >> (32 - 8 * width)] {
            let mut message = front.clone();
            message.put_slice(&over.to_le_bytes()[..width]);
            // Bytes to back a part of it change nothing.
            let error = decode(zeros(message, 100).freeze());
            let expected = (u64::from(over), limit as u64);
            let Some(DecodeError::OverLimit { value, limit, .. }) = error else { panic!("{name}: {error:?}") };
            assert_eq!((value, limit), expected, "{name}");
        }
    }
}

#[test]
fn what_is_announced_without_the_bytes_is_truncated() {
    for Announced { name, front, limit, width, decode } in announced() {
        // One byte of what was announced is there.
        let mut message = front.clone();
        message.put_slice(&(limit as u32).to_le_bytes()[..width]);
        message.put_u8(0);
        assert_eq!(decode(message.freeze()), Some(DecodeError::Truncated), "{name}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let mut late = request(0x03);
    late[5..9].copy_from_slice(&(DEADLINE_MS_MAX + 1).to_le_bytes());
    assert!(matches!(Request::decode(late.freeze()), Err(DecodeError::OverLimit { .. })));

    let write = |action: u8, argument: u64, sequence: u64, first_unanswered: u64| {
        let mut out = request(0x20);
        out.put_u64_le(sequence);
        out.put_u64_le(first_unanswered);
        out.put_bytes(0, 3);
        out.put_u8(action);
        out.put_u16(0);
        out.put_u64_le(argument);
        out.put_u32_le(1);
        out.put_u8(b'k');
        if matches!(action, 1 | 4) {
            out.put_u32_le(0);
        }
        Request::decode(out.freeze()).map(|_| ())
    };
    assert_eq!(write(1, TTL_MS_MAX, 1, 1), Ok(()));
    assert!(matches!(write(1, TTL_MS_MAX + 1, 1, 1), Err(DecodeError::OverLimit { .. })));
    assert_eq!(write(1, 1 << 63 | EXPIRY_MS_MAX, 1, 1), Ok(()), "a time, not how long it is until then");
    assert!(matches!(write(1, 1 << 63 | (EXPIRY_MS_MAX + 1), 1, 1), Err(DecodeError::OverLimit { .. })));
    assert_eq!(write(11, 5 << 48 | EXPIRY_MS_MAX, 1, 1), Ok(()));
    assert!(matches!(write(11, 6 << 48, 1, 1), Err(DecodeError::UnknownValue { .. })));
    for (action, argument) in [(2, 1), (4, 1), (5, 0), (6, 1), (7, 0), (0, 0)] {
        assert!(matches!(write(action, argument, 1, 1), Err(DecodeError::UnknownValue { .. })), "{action} {argument}");
    }
    assert!(matches!(write(2, 0, 0, 0), Err(DecodeError::UnknownValue { .. })), "sequence 0");
    assert!(matches!(write(2, 0, 1 << 63, 0), Err(DecodeError::OverLimit { .. })), "sequence 2^63");
    assert!(matches!(write(2, 0, 4, 5), Err(DecodeError::OverLimit { .. })), "first unanswered above the sequence");
}

#[test]
fn a_batch_has_only_numbers_that_a_write_may_have() {
    let batch = |sequence: u64, count: usize| {
        let id = WriteId { sequence, first_unanswered: 0, retry: false, once: None };
        let mutation = Mutation {
            key: "k".into(),
            condition: Condition::Always,
            return_previous: ReturnPrevious::Nothing,
            action: Action::Delete,
        };
        let body = RequestBody::Batch { id, ack: Ack::Committed, mutations: vec![mutation; count] };
        let mut out = BytesMut::new();
        Request { id: RequestId(1), deadline_ms: 0, body }.encode_body(&mut out);
        Request::decode(out.freeze()).map(|_| ())
    };
    assert_eq!(batch(SEQUENCE_MAX - 2, 3), Ok(()));
    assert_eq!(batch(SEQUENCE_MAX, 0), Ok(()));
    assert!(matches!(batch(SEQUENCE_MAX - 2, 4), Err(DecodeError::OverLimit { .. })));
}

#[test]
fn a_page_has_a_limit_within_its_own() {
    let scan = |limit: u32| {
        let scan = ScanRequest {
            shard: ShardId(0),
            cursor: ScanCursor::default(),
            prefix: Bytes::new(),
            limit,
            values: false,
            mode: ReadMode::Stale,
        };
        let mut out = BytesMut::new();
        Request { id: RequestId(1), deadline_ms: 0, body: RequestBody::Scan(scan) }.encode_body(&mut out);
        Request::decode(out.freeze()).map(|_| ())
    };
    assert_eq!((scan(1), scan(SCAN_ENTRIES_MAX)), (Ok(()), Ok(())));
    assert!(matches!(scan(0), Err(DecodeError::UnknownValue { .. })));
    assert!(matches!(scan(SCAN_ENTRIES_MAX + 1), Err(DecodeError::OverLimit { .. })));
}

/// Wherever keys stand: the request is whole, so its id can be answered, and the connection goes on.
#[test]
fn an_empty_key_is_a_value_that_means_nothing() {
    let mut multi_get = request(0x11);
    multi_get.put_u8(0);
    multi_get.put_u32_le(1);
    multi_get.put_u32_le(0);
    let mut get = request(0x10);
    get.put_u8(0);
    get.put_u32_le(0);
    let mut atomic = with_write_id(request(0x22));
    // One check without a key; no mutation.
    atomic.put_u32_le(1);
    atomic.put_u8(0);
    atomic.put_u32_le(0);
    atomic.put_u32_le(0);
    let mut batch = with_write_id(request(0x21));
    batch.put_u32_le(1);
    batch.put_u8(2);
    batch = zeros(batch, 1 + 1 + 8 + 4);
    for body in [multi_get, get, atomic, batch] {
        let error = Request::decode(body.freeze());
        assert_eq!(error, Err(DecodeError::UnknownValue { field: "key length", value: 0 }));
    }
}

#[test]
fn unknown_operations_are_told_from_damage_and_their_id_can_be_answered() {
    let body = zeros(request(0x7e), 3).freeze();
    assert_eq!(Request::peek_id(&body).unwrap().0, 1);
    assert_eq!(Request::decode(body), Err(DecodeError::UnknownOperation(0x7e)));
    assert_eq!(Request::peek_id(&[0x10, 0, 0, 0, 0]), None, "0 is no request's id");
    assert_eq!(Request::peek_id(&[0x10, 1, 0, 0]), None);
}

#[test]
fn a_topology_is_consistent_or_refused() {
    let topology = |shards: u32, leader: u16, replica: u16| {
        let mut out = zeros(response(0x03), 25);
        out.put_u32_le(1);
        out = zeros(out, 22);
        out.put_u32_le(shards);
        for _ in 0..shards {
            out.put_u8(1);
            out.put_u16_le(leader);
            out.put_u64_le(1);
            out.put_u32_le(1);
            out.put_u16_le(replica);
        }
        Response::decode(out.freeze()).map(|_| ())
    };
    assert_eq!(topology(2, 0, 0), Ok(()));
    assert!(topology(2, 1, 0).is_err() && topology(2, 0, 1).is_err(), "a shard names a node that is not there");
    assert!(topology(3, 0, 0).is_err() && topology(0, 0, 0).is_err(), "shards are a power of two");
}
