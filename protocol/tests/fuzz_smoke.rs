//! What the fuzz targets do, without a fuzzer: a bounded number of random and mutated inputs for each.
//!
//! `KVORUM_SEED=n` replays a failure, `KVORUM_FUZZ_ROUNDS=n` goes on for longer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[allow(dead_code, reason = "golden.rs uses all of it")]
mod samples;

use bytes::{BufMut, BytesMut};
use kvorum_protocol::part::PART_KIND;
use kvorum_protocol::{Response, ResponseBody, frame};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use samples::families;

/// Inputs per target.
const ROUNDS: u64 = 100_000;
/// Longest input made from nothing, in bytes.
const RANDOM_BYTES_MAX: usize = 300;
/// Most changes made to a message.
const CHANGES_MAX: u64 = 4;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Mutator {
    random: TestRng,
    messages: Vec<Vec<u8>>,
}

impl Mutator {
    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn random_bytes(&mut self, length_max: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(length_max as u64 + 1) as usize];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn message(&mut self) -> Vec<u8> {
        let position = self.below(self.messages.len() as u64) as usize;
        self.messages[position].clone()
    }

    /// One in eight from nothing, else a message with a few changes.
    fn input(&mut self) -> Vec<u8> {
        if self.below(8) == 0 {
            return self.random_bytes(RANDOM_BYTES_MAX);
        }
        let mut input = self.message();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let position = self.below(input.len() as u64 + 1) as usize;
        let end = position + self.below((input.len() - position) as u64 + 1) as usize;
        match self.below(6) {
            0 => input.truncate(position),
            1 => drop(input.drain(position..end)),
            2 => {
                let inserted = self.random_bytes(16);
                drop(input.splice(position..position, inserted));
            }
            3 => {
                let other = self.message();
                drop(input.splice(position.., other));
            }
            // Numbers at which lengths and counts turn over.
            4 => {
                const EDGES: [u32; 8] = [0, 1, 0x7f, 0xff, 0x1000, 0xffff, 0x7fff_ffff, 0xffff_ffff];
                let edge = EDGES[self.below(EDGES.len() as u64) as usize].to_le_bytes();
                let end = (position + 4).min(input.len());
                input[position..end].copy_from_slice(&edge[..end - position]);
            }
            _ => {
                if let Some(byte) = input.get_mut(position) {
                    *byte ^= 1 << (self.random.next_u32() % 8);
                }
            }
        }
    }
}

/// Runs a target, and returns how many inputs it accepted.
fn smoke(name: &str, messages: Vec<Vec<u8>>, target: fn(&[u8]) -> bool) -> u64 {
    let seed = environment("KVORUM_SEED").unwrap_or(1);
    let rounds = environment("KVORUM_FUZZ_ROUNDS").unwrap_or(ROUNDS);
    // Shown by the test harness only if the target panics.
    println!("{name}: replay with KVORUM_SEED={seed} KVORUM_FUZZ_ROUNDS={rounds}");
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    let mut mutator = Mutator { random, messages };
    (0..rounds).filter(|_| target(&mutator.input())).count() as u64
}

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
fn assert_both(name: &str, messages: Vec<Vec<u8>>, target: fn(&[u8]) -> bool) {
    assert!(messages.iter().all(|message| target(message)), "{name} accepts what nobody changed");
    let accepted = smoke(name, messages, target);
    assert!(accepted > 0, "{name}: some changes leave a message");
}

#[test]
fn frames() {
    let frames = families().into_iter().flat_map(|family| family.samples).map(|sample| sample.frame().to_vec());
    assert_both("frames", frames.collect(), bodies::frames);
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
    assert_both("parts", streams.to_vec(), bodies::parts);
}

#[test]
fn request() {
    assert_both("request", bodies_of("requests"), bodies::request);
}

#[test]
fn response() {
    assert_both("response", bodies_of("responses"), bodies::response);
}

#[test]
fn peer_message() {
    assert_both("peer_message", bodies_of("peer_messages"), bodies::peer_message);
}

#[test]
fn join_request() {
    assert_both("join_request", bodies_of("join_requests"), bodies::join_request);
}

#[test]
fn join_reply() {
    assert_both("join_reply", bodies_of("join_replies"), bodies::join_reply);
}

#[test]
fn node_status() {
    assert_both("node_status", bodies_of("node_statuses"), bodies::node_status);
}

#[test]
fn write_result() {
    assert_both("write_result", results_of("written"), bodies::write_result);
}

#[test]
fn atomic_result() {
    assert_both("atomic_result", results_of("atomic"), bodies::atomic_result);
}

#[test]
fn transaction_result() {
    assert_both("transaction_result", results_of("transaction"), bodies::transaction_result);
}
