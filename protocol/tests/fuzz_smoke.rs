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
use smoke::smoke;

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

/// A target that accepts nothing would test only how inputs are refused.
#[track_caller]
fn assert_both(name: &str, inputs: &[Vec<u8>], target: fn(&[u8]) -> bool) {
    let accepted = smoke(name, inputs, ROUNDS, target);
    assert!(
        accepted > 0 || std::env::var_os("KVORUM_SEED").is_some(),
        "{name}: some changes leave something to accept"
    );
}

#[test]
fn frames() {
    let frames = families().into_iter().flat_map(|family| family.samples).map(|sample| sample.frame().to_vec());
    assert_both("frames", &frames.collect::<Vec<_>>(), bodies::frames);
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
    assert_both("parts", &streams, bodies::parts);
}

#[test]
fn request() {
    assert_both("request", &bodies_of("requests"), bodies::request);
}

#[test]
fn response() {
    assert_both("response", &bodies_of("responses"), bodies::response);
}

#[test]
fn peer_message() {
    assert_both("peer_message", &bodies_of("peer_messages"), bodies::peer_message);
}

#[test]
fn join_request() {
    assert_both("join_request", &bodies_of("join_requests"), bodies::join_request);
}

#[test]
fn join_reply() {
    assert_both("join_reply", &bodies_of("join_replies"), bodies::join_reply);
}

#[test]
fn node_status() {
    assert_both("node_status", &bodies_of("node_statuses"), bodies::node_status);
}

#[test]
fn write_result() {
    assert_both("write_result", &results_of("written"), bodies::write_result);
}

#[test]
fn atomic_result() {
    assert_both("atomic_result", &results_of("atomic"), bodies::atomic_result);
}

#[test]
fn transaction_result() {
    assert_both("transaction_result", &results_of("transaction"), bodies::transaction_result);
}
