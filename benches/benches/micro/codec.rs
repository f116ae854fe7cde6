//! Frames of the protocol: 64 at a time, as they come in and leave when requests are pipelined.

use crate::sample::{key, value};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    Ack, Action, Condition, DecodeError, Durability, Entry, Epoch, Mutation, ReadMode, Request, RequestBody, RequestId,
    Response, ResponseBody, ReturnPrevious, TimeToLive, Version, WriteId, WriteResult, WriteStatus, frame,
};
use std::fmt::Debug;
use std::hint::black_box;

const FRAMES: usize = 64;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_messages(criterion, "GET request", get, Request::encode, Request::decode);
    bench_messages(criterion, "GET answer", found, Response::encode, Response::decode);
    bench_messages(criterion, "PUT request", put, Request::encode, Request::decode);
    bench_messages(criterion, "PUT answer", written, Response::encode, Response::decode);
}

fn bench_messages<M: PartialEq + Debug>(
    criterion: &mut Criterion,
    name: &str,
    message: fn(usize) -> M,
    encode: fn(&M, &mut BytesMut),
    decode: fn(Bytes) -> Result<M, DecodeError>,
) {
    let messages: Vec<M> = (0..FRAMES).map(message).collect();
    let mut stream = BytesMut::new();
    messages.iter().for_each(|message| encode(message, &mut stream));
    let mut rest = stream.clone();
    for message in &messages {
        let body = frame::decode(&mut rest, FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(&decode(body).unwrap(), message);
    }
    assert!(rest.is_empty());

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let mut out = BytesMut::with_capacity(stream.len());
    group.bench_function(format!("encode {FRAMES} of {name}"), |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&messages).iter().for_each(|message| encode(message, &mut out));
            black_box(&out);
        });
    });
    let read_all = |mut input: BytesMut| {
        while let Some(body) = frame::decode(&mut input, FRAME_BYTES_MAX).unwrap() {
            black_box(decode(body).unwrap());
        }
        input
    };
    group.bench_function(format!("decode {FRAMES} of {name}"), |bencher| {
        bencher.iter_batched(|| stream.clone(), read_all, BatchSize::SmallInput);
    });
    group.finish();
}

fn request(number: usize, body: RequestBody) -> Request {
    Request { id: RequestId(number as u32 + 1), deadline_ms: 0, body }
}

fn response(number: usize, body: ResponseBody) -> Response {
    Response { id: RequestId(number as u32 + 1), epoch: Epoch(1), forwarded: false, body }
}

fn get(number: usize) -> Request {
    request(number, RequestBody::Get { key: key(number), mode: ReadMode::Linearizable })
}

fn put(number: usize) -> Request {
    let id = WriteId { sequence: number as u64 + 1, first_unanswered: 1, retry: false, once: None };
    let action = Action::Put { value: value(7), ttl: TimeToLive::Forever };
    let mutation =
        Mutation { key: key(number), condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action };
    request(number, RequestBody::Write { id, ack: Ack::Committed, mutation })
}

fn found(number: usize) -> Response {
    let entry = Entry { value: value(7), version: Version(number as u64 + 1), expires_at_ms: None };
    response(number, ResponseBody::Value(Some(entry)))
}

fn written(number: usize) -> Response {
    let result = WriteResult {
        status: WriteStatus::Applied,
        version: Version(number as u64 + 1),
        ack: Ack::Committed,
        durability: Durability::Fsync,
        number: None,
        decimal: None,
        previous: None,
        receipt: None,
        existed: None,
        replayed: false,
    };
    response(number, ResponseBody::Written(result))
}
