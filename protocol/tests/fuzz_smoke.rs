//! What the fuzz targets do, without a fuzzer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[allow(dead_code, reason = "golden.rs uses all of it")]
mod samples;
#[path = "../fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

use bytes::{BufMut, BytesMut};
use kvorum_protocol::part::PART_KIND;
use kvorum_protocol::{Response, ResponseBody, frame};
use samples::families;
use smoke::smoke_both;

/// Inputs per target.
const ROUNDS: u64 = 100_000;
/// The bodies of the samples of one decoder.
fn bodies_of(family_name: &str) -> Vec<Vec<u8>> {
    let family = families().into_iter().find(|family| family.name == family_name).expect("the family exists");
    family.samples.iter().map(|sample| sample.body.to_vec()).collect()
}

/// Answers as the log holds them, without receipts: those of the responses whose names begin so.
fn results_of(name_prefix: &str) -> Vec<Vec<u8>> {
    let family = families().into_iter().find(|family| family.name == "responses").expect("the family exists");
    let samples = family.samples.into_iter().filter(|sample| sample.name.starts_with(name_prefix));
    let logged = |body| {
        let mut out = BytesMut::new();
        match Response::decode(body).expect("a sample is decoded").body {
            ResponseBody::Written(result) => result.encode(&mut out),
            ResponseBody::Atomic(result) => result.encode(&mut out),
            ResponseBody::Transaction(result) => result.encode(&mut out),
            other => panic!("{other:?} is no answer to a write"),
        }
        out.to_vec()
    };
    samples.map(|sample| logged(sample.body)).collect()
}

#[test]
fn frames() {
    let frames = families().into_iter().flat_map(|family| family.samples).map(|sample| sample.frame().to_vec());
    smoke_both("frames", &frames.collect::<Vec<_>>(), ROUNDS, 0, bodies::frames);
}

#[test]
fn parts() {
    let streams = [1, 700, 1300].map(|bytes| {
        let mut stream = BytesMut::new();
        for (left, bytes) in [(2 * bytes, bytes), (bytes, bytes), (0, bytes)] {
            frame::encode(&mut stream, |out| {
                out.put_u8(PART_KIND);
                out.put_u32_le(left as u32);
                out.put_bytes(7, bytes);
            });
            frame::encode(&mut stream, |out| out.put_slice(b"\x01between"));
        }
        stream.to_vec()
    });
    smoke_both("parts", &streams, ROUNDS, 0, bodies::parts);
}

#[test]
fn request() {
    smoke_both("request", &bodies_of("requests"), ROUNDS, 0, bodies::request);
}

#[test]
fn response() {
    smoke_both("response", &bodies_of("responses"), ROUNDS, 0, bodies::response);
}

#[test]
fn peer_message() {
    smoke_both("peer_message", &bodies_of("peer_messages"), ROUNDS, 0, bodies::peer_message);
}

#[test]
fn join_request() {
    smoke_both("join_request", &bodies_of("join_requests"), ROUNDS, 0, bodies::join_request);
}

#[test]
fn join_reply() {
    smoke_both("join_reply", &bodies_of("join_replies"), ROUNDS, 0, bodies::join_reply);
}

#[test]
fn node_status() {
    smoke_both("node_status", &bodies_of("node_statuses"), ROUNDS, 0, bodies::node_status);
}

#[test]
fn write_result() {
    smoke_both("write_result", &results_of("written"), ROUNDS, 0, bodies::write_result);
}

#[test]
fn atomic_result() {
    smoke_both("atomic_result", &results_of("atomic"), ROUNDS, 0, bodies::atomic_result);
}

#[test]
fn transaction_result() {
    smoke_both("transaction_result", &results_of("transaction"), ROUNDS, 0, bodies::transaction_result);
}
