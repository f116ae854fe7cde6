//! What the fuzz targets do, without a fuzzer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[path = "../../protocol/fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

use smoke::smoke;

/// Inputs per target.
const ROUNDS: u64 = 20_000;

#[test]
fn user_certificate() {
    smoke("user_certificate", &bodies::genuine("user_certificate"), ROUNDS, bodies::user_certificate);
}

#[test]
fn user_token() {
    smoke("user_token", &bodies::genuine("user_token"), ROUNDS, bodies::user_token);
}

#[test]
fn authorization() {
    smoke("authorization", &bodies::genuine("authorization"), ROUNDS, bodies::authorization);
}

#[test]
fn audit_log() {
    smoke("audit_log", &bodies::genuine("audit_log"), ROUNDS, bodies::audit_log);
}

#[test]
fn wrapped_key() {
    smoke("wrapped_key", &bodies::genuine("wrapped_key"), ROUNDS, bodies::wrapped_key);
}

#[test]
fn key_program() {
    smoke("key_program", &bodies::genuine("key_program"), ROUNDS, bodies::key_program);
}
