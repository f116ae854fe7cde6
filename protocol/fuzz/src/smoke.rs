//! Runs a fuzz target without a fuzzer, for the tests of several crates: a bounded number of changed inputs.
//!
//! `KVORUM_SEED=n` replays a failure, `KVORUM_FUZZ_ROUNDS=n` goes on for longer. `KVORUM_FUZZ_CORPUS=folder` writes what is
//! changed into `folder/<target>`, where a fuzzer begins.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::path::Path;

/// Most changes made to an input.
const CHANGES_MAX: u64 = 4;
/// Longest input made from nothing, in bytes.
const RANDOM_BYTES_MAX: u64 = 300;
/// What has a meaning in many a text, or more than one writing.
const WORDS: [&[u8]; 18] = [
    b"+",
    b"0",
    b"=",
    b",",
    b" ",
    b"\n",
    b"\r\n",
    b"*",
    b"$",
    b"-1",
    b"\"",
    b"'",
    b"\\",
    b"[",
    b"e9",
    b"16777217",
    b"\0",
    b"\xff",
];
/// Numbers at which lengths and counts turn over.
const EDGES: [u32; 8] = [0, 1, 0x7f, 0xff, 0x1000, 0xffff, 0x7fff_ffff, 0xffff_ffff];

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Mutator<'a> {
    random: TestRng,
    inputs: &'a [Vec<u8>],
}

impl Mutator<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit.max(1)
    }

    fn random_bytes(&mut self, length_max: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.below(length_max + 1) as usize];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn genuine(&mut self) -> Vec<u8> {
        self.inputs[self.below(self.inputs.len() as u64) as usize].clone()
    }

    /// One in eight from nothing, one in eight unchanged, else with a few changes.
    fn input(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => return self.random_bytes(RANDOM_BYTES_MAX),
            1 => return self.genuine(),
            _ => {}
        }
        let mut input = self.genuine();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() as u64 + 1) as usize;
        let end = at + self.below((input.len() - at) as u64 + 1) as usize;
        match self.below(7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => {
                let inserted = self.random_bytes(16);
                drop(input.splice(at..at, inserted));
            }
            3 => {
                let other = self.genuine();
                drop(input.splice(at.., other));
            }
            4 => {
                let word = WORDS[self.below(WORDS.len() as u64) as usize];
                drop(input.splice(at..at, word.iter().copied()));
            }
            5 => {
                let edge = EDGES[self.below(EDGES.len() as u64) as usize].to_le_bytes();
                let end = (at + edge.len()).min(input.len());
                input[at..end].copy_from_slice(&edge[..end - at]);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (self.random.next_u32() % 8);
                }
            }
        }
    }
}

/// As [`smoke`], of a target that accepts at least so many of a thousand inputs that were changed: else it would test only how inputs are
/// refused. Not for what is sealed.
#[track_caller]
#[allow(dead_code, reason = "some crates have targets of sealed inputs only")]
pub fn smoke_both(name: &str, inputs: &[Vec<u8>], rounds: u64, least: u64, target: fn(&[u8]) -> bool) {
    let (accepted, rounds) = smoke(name, inputs, rounds, target);
    let is_enough = accepted > 0 && accepted * 1_000 >= least * rounds;
    assert!(rounds < 100 || is_enough, "{name} accepts {accepted} changed inputs of {rounds}");
}

/// Runs a target, which accepts all genuine inputs. Returns how many it accepted that were changed, and of how many inputs.
#[track_caller]
pub fn smoke(name: &str, inputs: &[Vec<u8>], rounds: u64, target: fn(&[u8]) -> bool) -> (u64, u64) {
    if let Some(folder) = std::env::var_os("KVORUM_FUZZ_CORPUS") {
        let folder = Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        for (at, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("genuine-{at}")), input).expect("the file can be written");
        }
    }
    for (at, input) in inputs.iter().enumerate() {
        assert!(target(input), "{name} accepts what nobody changed: {at}");
    }
    let rounds = environment("KVORUM_FUZZ_ROUNDS").unwrap_or(rounds);
    let seeds = environment("KVORUM_SEED").map_or(0..rounds, |seed| seed..seed + 1);
    let mut accepted = 0;
    let run = seeds.end - seeds.start;
    for seed in seeds {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let input = Mutator { random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes), inputs }.input();
        let Ok(is_accepted) = std::panic::catch_unwind(|| target(&input)) else {
            panic!("{name}: KVORUM_SEED={seed} repeats it: {:?}", input.escape_ascii().to_string())
        };
        accepted += u64::from(is_accepted && !inputs.contains(&input));
    }
    (accepted, run)
}
