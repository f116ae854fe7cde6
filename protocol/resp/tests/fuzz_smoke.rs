//! What the fuzz targets do, without a fuzzer: a bounded number of random and mutated inputs for each.
//!
//! `KVORUM_SEED=n` replays a failure, `KVORUM_FUZZ_ROUNDS=n` goes on for longer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Inputs per target.
const ROUNDS: u64 = 30_000;
/// Most changes made to an input.
const CHANGES_MAX: u64 = 4;

/// What is changed. The first byte says how the rest is cut.
const REQUESTS: [&[u8]; 8] = [
    b"\x00*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    b"\x04*6\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nEX\r\n$2\r\n10\r\n$2\r\nNX\r\n*1\r\n$4\r\nPING\r\n",
    b"\x02PING\r\nset k \"a b\\x41\" ex 10\r\n\r\n*0\r\n*-1\r\n",
    b"\x01*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n",
    b"\x08*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$1\r\n7\r\n*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n",
    b"\x06*4\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$2\r\n10\r\n$2\r\nGT\r\n*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$0\r\n\r\n",
    b"\x00*2\r\n$8\r\n16777217\r\n$8\r\n67108864\r\n*1\r\n$16777217\r\nxx",
    b"\x0a*5\r\n$3\r\nLCS\r\n$1\r\na\r\n$1\r\nb\r\n$3\r\nIDX\r\n$12\r\nWITHMATCHLEN\r\n",
];
const PATTERNS: [&[u8]; 5] =
    [b"\x06h[a-c]ohbo", b"\x05a*b*cxaxbxc", b"\x08[^\\]]?\\*z]*", b"\x07***?[a]aaaaa", b"\x03[z-aq"];
const NUMBERS: [&[u8]; 8] = [
    b"0",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"3.0e3",
    b"-0.00000000000000000051",
    b"1e308",
    b"inf",
];
const LOGINS: [&[u8]; 5] = [
    b"AUTH\npassword",
    b"auth\nada\npassword",
    b"HELLO\n3\nAUTH\nada\npassword\nSETNAME\nclient",
    b"hello\n2\nsetname\nn\nauth\n\n",
    b"HELLO\n3\nAUTH\nauth\nAUTH\nAUTH\nada\nlovelace",
];

/// Pieces of what is put in.
const WORDS: [&[u8]; 13] =
    [b"\r\n", b"\n", b"*", b"$", b"-1", b"0", b"\"", b"'", b"\\", b"[", b"e9", b"16777217", b"\0"];

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Mutator {
    random: TestRng,
    inputs: &'static [&'static [u8]],
}

impl Mutator {
    fn new(seed: u64, inputs: &'static [&'static [u8]]) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self { random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes), inputs }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit.max(1) as u64) as usize
    }

    fn input(&mut self) -> Vec<u8> {
        let mut bytes = self.inputs[self.below(self.inputs.len())].to_vec();
        if self.below(3) == 0 {
            bytes.extend_from_slice(&self.inputs[self.below(self.inputs.len())][1..]);
        }
        for _ in 0..self.random.next_u64() % (CHANGES_MAX + 1) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.random.next_u64() as u8),
            2 if at < bytes.len() => bytes[at] = self.random.next_u64() as u8,
            3 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
}

#[track_caller]
fn smoke(inputs: &'static [&'static [u8]], body: fn(&[u8]) -> bool) {
    let rounds = environment("KVORUM_FUZZ_ROUNDS").unwrap_or(ROUNDS);
    let seeds = environment("KVORUM_SEED").map_or(0..rounds, |seed| seed..seed + 1);
    let mut meant = 0u64;
    for seed in seeds.clone() {
        let input = Mutator::new(seed, inputs).input();
        let result = std::panic::catch_unwind(|| body(&input));
        let Ok(is_meant) = result else {
            panic!("KVORUM_SEED={seed} repeats it: {:?}", input.escape_ascii().to_string())
        };
        meant += u64::from(is_meant);
    }
    assert!(seeds.end - seeds.start < 100 || meant * 10 > seeds.end, "{meant} of {} meant anything", seeds.end);
}

#[test]
fn requests() {
    smoke(&REQUESTS, bodies::request);
}

#[test]
fn patterns() {
    smoke(&PATTERNS, bodies::pattern);
}

#[test]
fn numbers() {
    smoke(&NUMBERS, bodies::number);
}

#[test]
fn logins() {
    smoke(&LOGINS, bodies::login);
}
