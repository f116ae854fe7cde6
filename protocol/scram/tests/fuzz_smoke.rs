//! What the fuzz targets do, without a fuzzer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[path = "../../fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

use smoke::smoke_both;

/// Inputs per target, and of the one that hashes a password.
const ROUNDS: u64 = 30_000;
const HASHED: u64 = 1_000;

#[test]
fn scram_first() {
    smoke_both("scram_first", &bodies::genuine("scram_first"), ROUNDS, 0, bodies::scram_first);
}

#[test]
fn scram_proof() {
    smoke_both("scram_proof", &bodies::genuine("scram_proof"), ROUNDS, 0, bodies::scram_proof);
}

#[test]
fn scram_challenge() {
    smoke_both("scram_challenge", &bodies::genuine("scram_challenge"), HASHED, 0, bodies::scram_challenge);
}

#[test]
fn scram_answer() {
    smoke_both("scram_answer", &bodies::genuine("scram_answer"), ROUNDS, 0, bodies::scram_answer);
}

#[test]
fn scram_verifier() {
    smoke_both("scram_verifier", &bodies::genuine("scram_verifier"), ROUNDS, 0, bodies::scram_verifier);
}
