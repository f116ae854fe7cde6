//! What the fuzz targets do, without a fuzzer.

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;
#[path = "../../fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

use smoke::smoke_both;

/// Inputs per target.
const ROUNDS: u64 = 30_000;

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
    [b"\x07h[a-c]ohbo", b"\x05a*b*caxbxc", b"\x08[^\\]]?\\*z]*", b"\x07***?[a]aaaaa", b"\x05[z-a]q"];
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

fn owned(inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    inputs.iter().map(|input| input.to_vec()).collect()
}

#[test]
fn requests() {
    smoke_both("resp_request", &owned(&REQUESTS), ROUNDS, 100, bodies::request);
}

#[test]
fn patterns() {
    smoke_both("resp_pattern", &owned(&PATTERNS), ROUNDS, 50, bodies::pattern);
}

#[test]
fn numbers() {
    smoke_both("resp_number", &owned(&NUMBERS), ROUNDS, 100, bodies::number);
}

#[test]
fn logins() {
    smoke_both("resp_login", &owned(&LOGINS), ROUNDS, 100, bodies::login);
}
