//! What a newer version sends, as this one reads it: nothing that it does not know ends a connection.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::peer::{Levels, PeerHello, PeerMessage, RespAddresses};
use kvorum_protocol::{ClusterId, ErrorCode, FolderId, NodeId, Outcome, Retry, ServerError};
use uuid::Uuid;

#[test]
fn an_error_code_that_is_not_known_keeps_its_number_its_outcome_and_its_advice() {
    let newer = Bytes::from_static(b"\x0f\x27\x02\x2c\x01\x00\x00\x00\x00\x05\x00later");
    let mut reader = Reader::new(newer.clone());
    let error = ServerError::decode(&mut reader).unwrap();
    reader.finish().unwrap();
    assert_eq!((error.code, error.code.number()), (ErrorCode::Unknown(9999), 9999));
    assert_eq!((error.outcome, error.retry), (Outcome::Unknown, Retry::AfterMs(300)));
    assert_eq!(error.to_string(), "Unknown(9999) (outcome unknown): later");
    assert!(!error.code.is_verdict(), "nobody takes it for final");
    let mut again = BytesMut::new();
    error.encode(&mut again);
    assert_eq!(again, newer, "who passes it on passes it on whole");
}

#[test]
fn a_hello_may_say_more_and_a_message_may_be_of_another_kind() {
    let hello = PeerHello {
        levels: Levels { min: 1, max: 3 },
        cluster: ClusterId(Uuid::from_u128(1)),
        node: NodeId(Uuid::from_u128(2)),
        disk: FolderId(Uuid::from_u128(3)),
        starts: 4,
        process: 5,
        knows: None,
        replaced: false,
        client: "localhost:7401".to_owned(),
        resp: RespAddresses::default(),
        program: "kvorum 9".to_owned(),
        more: Bytes::new(),
    };
    let mut bytes = BytesMut::new();
    PeerMessage::Hello(hello.clone()).encode(&mut bytes);
    bytes.put_slice(b"a field of later");
    let read = PeerMessage::decode(bytes.freeze()).unwrap();
    assert_eq!(read, PeerMessage::Hello(PeerHello { more: "a field of later".into(), ..hello }));
    assert_eq!(
        PeerMessage::decode(Bytes::from_static(b"\xc8whatever")).unwrap(),
        PeerMessage::Unknown { kind: 0xc8, body: "whatever".into() }
    );
    assert!(PeerMessage::decode(Bytes::from_static(b"\x0c\0\0\0\0more")).is_err(), "other messages end where they end");
}

#[test]
fn two_ranges_of_levels_have_their_highest_common_one() {
    let levels = |min, max| Levels { min, max };
    for (one, other, common) in [
        (levels(1, 1), levels(1, 1), Some(1)),
        (levels(1, 3), levels(2, 5), Some(3)),
        (levels(2, 5), levels(1, 3), Some(3)),
        (levels(1, 2), levels(3, 4), None),
        (levels(1, 9), levels(4, 4), Some(4)),
    ] {
        assert_eq!(one.common(other), common, "{one} and {other}");
    }
}
