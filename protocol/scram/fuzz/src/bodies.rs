//! What each fuzz target does with its bytes. `tests/fuzz_smoke.rs` runs the very same functions over mutations of genuine messages,
//! so that a plain `cargo test` covers some of what a fuzzer would.
//!
//! Each function takes any bytes, must not panic, and says whether they were a message. A message has one encoding. A proof that
//! nobody could have made but who knows the password is taken in no other bytes.

use kvorum_scram::{
    Client, ClientFinal, ClientFirst, Exchange, ITERATIONS_MAX, ITERATIONS_MIN, NONCE_BYTES, SALT_BYTES, Verifier,
};
use std::sync::LazyLock;

const USER: &str = "ada, =";
const PASSWORD: &[u8] = b"geheim";
const CLIENT_NONCE: [u8; NONCE_BYTES] = [1; NONCE_BYTES];
const SERVER_NONCE: [u8; NONCE_BYTES] = [2; NONCE_BYTES];
const CHANNEL: [u8; 32] = [7; 32];

/// One login, in messages, over a channel that is bound or is not.
pub struct Login {
    first: String,
    challenge: String,
    proof: String,
    answer: String,
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(PASSWORD, [3; SALT_BYTES], ITERATIONS_MIN));
static CLIENTS: LazyLock<[ClientFinal; 2]> = LazyLock::new(|| [false, true].map(|is_bound| proven(is_bound).0));
static LOGINS: LazyLock<[Login; 2]> = LazyLock::new(|| [false, true].map(Login::new));

fn channel(is_bound: bool) -> Option<[u8; 32]> {
    is_bound.then_some(CHANNEL)
}

fn challenged(is_bound: bool) -> (Exchange, String) {
    let (_, first) = Client::begin(USER, CLIENT_NONCE, channel(is_bound));
    let first = ClientFirst::read(first.as_bytes()).expect("a client's own message");
    first.challenge(VERIFIER.clone(), SERVER_NONCE)
}

fn proven(is_bound: bool) -> (ClientFinal, String) {
    let (client, _) = Client::begin(USER, CLIENT_NONCE, channel(is_bound));
    client.prove(challenged(is_bound).1.as_bytes(), PASSWORD).expect("a server's own message")
}

impl Login {
    fn new(is_bound: bool) -> Self {
        let (_, first) = Client::begin(USER, CLIENT_NONCE, channel(is_bound));
        let ((exchange, challenge), (_, proof)) = (challenged(is_bound), proven(is_bound));
        let answer = exchange.finish(proof.as_bytes(), channel(is_bound)).expect("the right password");
        Self { first, challenge, proof, answer }
    }
}

/// Messages that the targets accept, by target. A first byte says whether the channel is bound, where that counts.
pub fn genuine(target: &str) -> Vec<Vec<u8>> {
    let behind = |first: u8, text: &str| [&[first], text.as_bytes()].concat();
    let of_both = |text: fn(&Login) -> &String| {
        let logins = LOGINS.iter().enumerate();
        logins.map(|(at, login)| behind(at as u8, text(login))).collect()
    };
    match target {
        "scram_first" => {
            let user = |name| Client::begin(name, CLIENT_NONCE, None).1.into_bytes();
            let users = [user("a"), user("b=2C"), user("ä")];
            LOGINS.iter().map(|login| login.first.clone().into_bytes()).chain(users).collect()
        }
        "scram_challenge" => of_both(|login| &login.challenge),
        "scram_proof" => of_both(|login| &login.proof),
        "scram_answer" => of_both(|login| &login.answer),
        "scram_verifier" => {
            vec![VERIFIER.to_string().into_bytes(), Verifier::of_nobody([5; 32]).to_string().into_bytes()]
        }
        _ => panic!("there is no target {target}"),
    }
}

/// A client's first message, which anybody may send.
pub fn scram_first(data: &[u8]) -> bool {
    let Ok(first) = ClientFirst::read(data) else { return false };
    let header = if first.is_bound() { "p=tls-exporter,," } else { "n,," };
    let user = first.user().replace('=', "=3D").replace(',', "=2C");
    let nonce = data.strip_prefix(format!("{header}n={user},r=").as_bytes()).expect("a message has one encoding");
    assert!(nonce.len() >= NONCE_BYTES && nonce.iter().all(|byte| byte.is_ascii_graphic() && *byte != b','));
    let is_bound = first.is_bound();
    let (exchange, challenge) = first.challenge(VERIFIER.clone(), SERVER_NONCE);
    assert!(challenge.as_bytes()[2..].starts_with(nonce));
    // Whoever does not know the password plays another login's proof.
    let proof = LOGINS[usize::from(is_bound)].proof.as_bytes();
    let is_own = LOGINS.iter().any(|login| login.first.as_bytes() == data);
    assert_eq!(exchange.finish(proof, channel(is_bound)).is_ok(), is_own);
    true
}

/// A client's proof, which anybody may send.
pub fn scram_proof(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    let is_bound = first % 2 == 1;
    let login = &LOGINS[usize::from(is_bound)];
    let answer = challenged(is_bound).0.finish(data, channel(is_bound));
    assert_eq!(answer.is_ok(), data == login.proof.as_bytes(), "a proof has one encoding");
    let (exchange, _) = challenged(true);
    assert!(exchange.finish(data, None).is_err(), "the channel can't be left out");
    answer.is_ok_and(|answer| answer == login.answer)
}

/// A server's challenge, as a client reads it that somebody has led astray.
pub fn scram_challenge(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    if is_costly(data) {
        return false;
    }
    let is_bound = first % 2 == 1;
    let (client, _) = Client::begin(USER, CLIENT_NONCE, channel(is_bound));
    let Ok((_, proof)) = client.prove(data, PASSWORD) else { return false };
    let challenge = std::str::from_utf8(data).expect("a message is a text");
    let rest = challenge.strip_prefix("r=").expect("a challenge begins so");
    let (nonce, rest) = rest.split_once(",s=").expect("then comes the salt");
    let (_, iterations) = rest.split_once(",i=").expect("then come the iterations");
    assert_eq!(iterations, ITERATIONS_MIN.to_string(), "a number has one encoding, and this is not costly");
    let own = LOGINS[0].first.rsplit_once("r=").expect("it ends in the nonce").1;
    assert!(nonce.len() > own.len() && nonce.starts_with(own), "an old exchange is not played again");
    let is_genuine = challenge == LOGINS[0].challenge;
    assert_eq!(proof == LOGINS[usize::from(is_bound)].proof, is_genuine);
    assert!(proof.contains(nonce));
    true
}

/// Whether a client that takes these iterations hashes for longer than a target should.
fn is_costly(data: &[u8]) -> bool {
    let at = data.windows(3).rposition(|text| text == b",i=");
    let digits = at.and_then(|at| std::str::from_utf8(&data[at + 3..]).ok());
    let count = digits.and_then(|text| text.trim_end_matches(',').parse().ok());
    count.is_some_and(|count: u32| count > ITERATIONS_MIN && count <= ITERATIONS_MAX)
}

/// A server's answer to a proof, as a client reads it that somebody has led astray.
pub fn scram_answer(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    let is_bound = first % 2 == 1;
    let is_proven = CLIENTS[usize::from(is_bound)].clone().check(data).is_ok();
    assert_eq!(is_proven, data == LOGINS[usize::from(is_bound)].answer.as_bytes(), "an answer has one encoding");
    is_proven
}

/// A verifier, as a table of users or a configuration holds it.
pub fn scram_verifier(data: &[u8]) -> bool {
    let Some(verifier) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Verifier>().ok()) else {
        return false;
    };
    assert_eq!(verifier.to_string().as_bytes(), data, "a verifier has one encoding");
    let first = ClientFirst::read(LOGINS[0].first.as_bytes()).expect("a client's own message");
    let is_own = verifier == *VERIFIER;
    let answer = first.challenge(verifier, SERVER_NONCE).0.finish(LOGINS[0].proof.as_bytes(), None);
    // With another key of the server it may take the proof, and then proves nothing to the client.
    assert_eq!(answer.is_ok_and(|answer| answer == LOGINS[0].answer), is_own);
    true
}
