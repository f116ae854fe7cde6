//! The parser and the replies, compared with an independent implementation of the protocol.

use bytes::{Buf, Bytes, BytesMut};
use kvorum_resp::{Output, Progress, ReplyWriter, Request, RequestParser, RespVersion};
use proptest::prelude::*;
use resp_rs::{resp2, resp3};

/// Arrays of bulk strings, by the other implementation.
fn theirs(input: &[u8]) -> Vec<Vec<Bytes>> {
    let mut parser = resp2::Parser::new();
    parser.feed(Bytes::copy_from_slice(input));
    let argument = |frame: resp2::Frame| frame.into_bulk_string().expect("an argument is a bulk string");
    let request = |frame: resp2::Frame| frame.into_array().expect("a request is an array").into_iter().map(argument);
    std::iter::from_fn(|| parser.next_frame().expect("the frames are valid"))
        .map(|frame| request(frame).collect())
        .collect()
}

/// The same by ours, from pieces of so many bytes.
fn ours(input: &[u8], piece_bytes: usize) -> Vec<Vec<Bytes>> {
    let (mut parser, mut buffer, mut request) = (RequestParser::new(true), BytesMut::new(), Request::new());
    let mut requests = Vec::new();
    for piece in input.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        while parser.next(&mut buffer, &mut request).expect("the requests are valid") == Progress::Request {
            requests.push(request.iter().map(|argument| request.share(argument)).collect());
        }
    }
    assert!(parser.is_idle(&buffer));
    requests
}

fn requests() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let argument = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..24),
        1 => proptest::collection::vec(any::<u8>(), 0..3000),
        1 => "[*$:+\r\n0-9-]{0,8}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(proptest::collection::vec(argument, 1..8), 0..8)
}

/// A reply of either version.
#[derive(Clone, Debug)]
enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Double(f64),
    Boolean(bool),
    Verbatim(String),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Set(Vec<Self>),
    Push(Vec<Self>),
}

fn replies() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[A-Z]{1,8}".prop_map(Reply::Simple),
        "ERR [a-z ]{1,20}".prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Reply::Bulk),
        Just(Reply::Null),
        any::<f64>().prop_filter("comparable", |value| !value.is_nan()).prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        "[ -~]{0,20}".prop_map(Reply::Verbatim),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            list.clone().prop_map(Reply::Array),
            list.clone().prop_map(Reply::Set),
            proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
    .prop_flat_map(|reply| prop_oneof![4 => Just(reply.clone()), 1 => Just(Reply::Push(vec![Reply::Bulk(b"message".to_vec()), reply]))])
}

fn write(reply: &Reply, into: &mut ReplyWriter<'_>) {
    let all = |items: &[Reply], into: &mut ReplyWriter<'_>| items.iter().for_each(|item| write(item, into));
    match reply {
        Reply::Simple(text) => into.simple(text),
        Reply::Error(text) => into.error(text.as_bytes()),
        Reply::Integer(value) => into.integer(*value),
        Reply::Bulk(bytes) => into.bulk(bytes),
        Reply::Null => into.null(),
        Reply::Double(value) => into.double(*value),
        Reply::Boolean(value) => into.boolean(*value),
        Reply::Verbatim(text) => into.verbatim(text.as_bytes()),
        Reply::Array(items) => {
            into.array(items.len());
            all(items, into);
        }
        Reply::Set(items) => {
            into.set(items.len());
            all(items, into);
        }
        Reply::Push(items) => {
            into.push(items.len());
            all(items, into);
        }
        Reply::Map(pairs) => {
            into.map(pairs.len());
            for (key, value) in pairs {
                write(key, into);
                write(value, into);
            }
        }
    }
}

fn written(reply: &Reply, version: RespVersion) -> Bytes {
    let mut output = Output::new();
    write(reply, &mut ReplyWriter::new(&mut output, version));
    output.copy_to_bytes(output.remaining())
}

fn bulk(bytes: &[u8]) -> resp2::Frame {
    resp2::Frame::BulkString(Some(Bytes::copy_from_slice(bytes)))
}

/// What a reply is in RESP2.
fn second(reply: &Reply) -> resp2::Frame {
    let array = |items: Vec<resp2::Frame>| resp2::Frame::Array(Some(items));
    match reply {
        Reply::Simple(text) => resp2::Frame::SimpleString(Bytes::copy_from_slice(text.as_bytes())),
        Reply::Error(text) => resp2::Frame::Error(Bytes::copy_from_slice(text.as_bytes())),
        Reply::Integer(value) => resp2::Frame::Integer(*value),
        Reply::Bulk(bytes) => bulk(bytes),
        Reply::Null => resp2::Frame::BulkString(None),
        Reply::Double(value) => bulk(kvorum_resp::number::float::float_text(*value).as_bytes()),
        Reply::Boolean(value) => resp2::Frame::Integer(i64::from(*value)),
        Reply::Verbatim(text) => bulk(text.as_bytes()),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => array(items.iter().map(second).collect()),
        Reply::Map(pairs) => array(pairs.iter().flat_map(|(key, value)| [second(key), second(value)]).collect()),
    }
}

/// What a reply is in RESP3.
fn third(reply: &Reply) -> resp3::Frame {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    match reply {
        Reply::Simple(text) => resp3::Frame::SimpleString(bytes(text)),
        Reply::Error(text) => resp3::Frame::Error(bytes(text)),
        Reply::Integer(value) => resp3::Frame::Integer(*value),
        Reply::Bulk(value) => resp3::Frame::BulkString(Some(Bytes::copy_from_slice(value))),
        Reply::Null => resp3::Frame::Null,
        Reply::Double(value) if value.is_infinite() => {
            resp3::Frame::SpecialFloat(bytes(if *value > 0.0 { "inf" } else { "-inf" }))
        }
        Reply::Double(value) => resp3::Frame::Double(*value),
        Reply::Boolean(value) => resp3::Frame::Boolean(*value),
        Reply::Verbatim(text) => resp3::Frame::VerbatimString { payload: bytes(&format!("txt:{text}")) },
        Reply::Array(items) => resp3::Frame::Array(Some(items.iter().map(third).collect())),
        Reply::Set(items) => resp3::Frame::Set(items.iter().map(third).collect()),
        Reply::Push(items) => resp3::Frame::Push(items.iter().map(third).collect()),
        Reply::Map(pairs) => resp3::Frame::Map(pairs.iter().map(|(key, value)| (third(key), third(value))).collect()),
    }
}

proptest! {
    #[test]
    fn requests_are_the_same_to_both(requests in requests(), piece_bytes in 1usize..5000) {
        let argument = |argument: &Vec<u8>| resp2::Frame::BulkString(Some(Bytes::copy_from_slice(argument)));
        let frame = |request: &Vec<Vec<u8>>| resp2::Frame::Array(Some(request.iter().map(argument).collect()));
        let input: Vec<u8> = requests.iter().flat_map(|request| resp2::frame_to_bytes(&frame(request))).collect();
        let parsed = ours(&input, piece_bytes);
        prop_assert_eq!(&parsed, &theirs(&input));
        prop_assert_eq!(parsed, requests);
    }

    #[test]
    fn replies_in_the_second_version_are_read_as_what_was_meant(reply in replies()) {
        let (frame, rest) = resp2::parse_frame(written(&reply, RespVersion::Two)).expect("the reply is valid");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(frame, second(&reply));
    }

    #[test]
    fn replies_in_the_third_version_are_read_as_what_was_meant(reply in replies()) {
        let (frame, rest) = resp3::parse_frame(written(&reply, RespVersion::Three)).expect("the reply is valid");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(frame, third(&reply));
    }
}
