//! What each fuzz target does with its bytes. `protocol/tests` runs the very same functions over mutations of every
//! message, so that a plain `cargo test` covers some of what a fuzzer would.
//!
//! Each function takes any bytes, must not panic, and says whether they were a message. Where they were, encoding what
//! was decoded must give the same bytes again: a value has one encoding, so that bytes can be compared, remembered and
//! checksummed in place of values.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::part::Assembler;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{
    AtomicResult, DecodeError, JoinReply, JoinRequest, NodeStatus, Request, Response, TransactionResult, WriteResult,
    frame,
};

/// The most that a frame's body may hold in this target: small, so that lengths over the limit are met often.
const FRAME_LIMIT: usize = 4096;

/// A stream of frames. It must come apart in the same way whether its bytes come at once or one by one.
pub fn frames(data: &[u8]) -> bool {
    let mut at_once = BytesMut::from(data);
    let mut bodies = Vec::new();
    let end = drain(&mut at_once, &mut bodies);
    let mut encoded = BytesMut::new();
    for body in &bodies {
        frame::encode(&mut encoded, |out| out.extend_from_slice(body));
    }
    assert_eq!(encoded, data[..encoded.len()], "frames have one encoding");

    let (mut one_by_one, mut slowly) = (BytesMut::new(), Vec::new());
    let mut end_slowly = Ok(());
    for &byte in data {
        one_by_one.extend_from_slice(&[byte]);
        end_slowly = drain(&mut one_by_one, &mut slowly);
        if end_slowly.is_err() {
            break;
        }
    }
    assert_eq!((&bodies, &end), (&slowly, &end_slowly));
    !bodies.is_empty()
}

/// A stream of frames, some of which are parts of messages. What comes out is what went in, and never more.
pub fn parts(data: &[u8]) -> bool {
    let (mut stream, mut frames) = (BytesMut::from(data), Vec::new());
    // What is wrong with the frames is another target's business.
    let _ = drain(&mut stream, &mut frames);
    let mut assembler = Assembler::new(FRAME_LIMIT);
    let (mut taken, mut given) = (0, 0);
    for body in frames {
        taken += body.len();
        let begins = assembler.begins(&body);
        match assembler.handle(body) {
            Ok(Some(message)) => given += message.len(),
            Ok(None) => assert!(assembler.is_under_way()),
            Err(_) => break,
        }
        assert!(begins.is_ok_and(|bytes| bytes.unwrap_or(0) <= FRAME_LIMIT));
        assert!(given <= taken);
    }
    given > 0
}

fn drain(buffer: &mut BytesMut, bodies: &mut Vec<Bytes>) -> Result<(), DecodeError> {
    while let Some(body) = frame::decode(buffer, FRAME_LIMIT)? {
        bodies.push(body);
    }
    Ok(())
}

/// The body of a client's frame.
pub fn request(data: &[u8]) -> bool {
    let id = Request::peek_id(data);
    check(data, Request::decode, |request, out| {
        assert_eq!(Some(request.id), id, "the id can be read before the rest");
        request.encode_body(out);
    })
}

/// The body of a node's frame.
pub fn response(data: &[u8]) -> bool {
    check(data, Response::decode, Response::encode_body)
}

/// A message between nodes, and whatever it carries.
pub fn peer_message(data: &[u8]) -> bool {
    check(data, PeerMessage::decode, |message, out| {
        match message {
            PeerMessage::Forward { request: inner, .. } | PeerMessage::Returned { request: inner, .. } => {
                _ = request(inner);
            }
            PeerMessage::ForwardReply { response: inner, .. } => _ = response(inner),
            PeerMessage::Hello(_)
            | PeerMessage::Raft(..)
            | PeerMessage::Leading(_)
            | PeerMessage::Ring(_)
            | PeerMessage::AuthNews { .. }
            | PeerMessage::AuthWanted
            | PeerMessage::AuthTable(_)
            | PeerMessage::DataKeys { .. }
            | PeerMessage::MapAsked { .. }
            | PeerMessage::MapIs { .. }
            | PeerMessage::Report(_)
            | PeerMessage::Unfit(_)
            | PeerMessage::Clock(_)
            | PeerMessage::Snapshot(..)
            | PeerMessage::Trace { .. }
            | PeerMessage::Unknown { .. } => {}
        }
        message.encode(out);
    })
}

/// What a node that has a token asks: anybody may send it.
pub fn join_request(data: &[u8]) -> bool {
    check(data, JoinRequest::from_bytes, |request, out| {
        let signed = request.signed_by(&[7; 32]);
        assert!(signed.len() > data.len() - request.proof.len(), "the proof is over all but itself");
        request.encode(out);
    })
}

/// What such a node is answered.
pub fn join_reply(data: &[u8]) -> bool {
    check(data, JoinReply::from_bytes, JoinReply::encode)
}

/// A node's status, as it travels between nodes.
pub fn node_status(data: &[u8]) -> bool {
    check(data, NodeStatus::from_bytes, NodeStatus::encode)
}

/// An answer to a write, as the log remembers it.
pub fn write_result(data: &[u8]) -> bool {
    check(data, |bytes| whole(bytes, WriteResult::decode), WriteResult::encode)
}

/// An answer to an ATOMIC, as the log remembers it.
pub fn atomic_result(data: &[u8]) -> bool {
    check(data, |bytes| whole(bytes, AtomicResult::decode), AtomicResult::encode)
}

/// An answer to a TRANSACTION, as the log remembers it.
pub fn transaction_result(data: &[u8]) -> bool {
    check(data, |bytes| whole(bytes, TransactionResult::decode), TransactionResult::encode)
}

fn whole<T>(bytes: Bytes, decode: fn(&mut Reader) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

fn check<T>(data: &[u8], decode: impl Fn(Bytes) -> Result<T, DecodeError>, encode: impl Fn(&T, &mut BytesMut)) -> bool {
    let Ok(value) = decode(Bytes::copy_from_slice(data)) else { return false };
    let mut encoded = BytesMut::new();
    encode(&value, &mut encoded);
    assert_eq!(encoded, data, "a value has one encoding");
    true
}
