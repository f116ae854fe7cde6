//! What the fuzz targets do, without a fuzzer.
#![cfg(feature = "testing")]

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[path = "../../../protocol/fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

use smoke::smoke;

/// Inputs per target.
const ROUNDS: u64 = 20_000;

#[test]
fn auth_table() {
    smoke("auth_table", &bodies::genuine("auth_table"), ROUNDS, bodies::auth_table);
}

#[test]
fn auth_verbs() {
    smoke("auth_verbs", &bodies::genuine("auth_verbs"), ROUNDS, bodies::auth_verbs);
}

#[test]
fn ring_map() {
    smoke("ring_map", &bodies::genuine("ring_map"), ROUNDS, bodies::ring_map_with_keys);
}

#[test]
fn sealed_entry() {
    smoke("sealed_entry", &bodies::genuine("sealed_entry"), ROUNDS, bodies::sealed_entry);
}

#[test]
fn sealed_base() {
    smoke("sealed_base", &bodies::genuine("sealed_base"), ROUNDS, bodies::sealed_base);
}

#[test]
fn sealed_files() {
    smoke("sealed_files", &bodies::genuine("sealed_files"), ROUNDS, bodies::sealed_files);
}
