//! Both ends against each other, and against the example of RFC 7677.

use super::*;
use crate::message::{decoded, encoded};
use crate::verifier::{Keys, signature, xor};
use proptest::prelude::*;

const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";

fn verifier(password: &[u8]) -> Verifier {
    Verifier::new(password, SALT, ITERATIONS_MIN)
}

/// What comes of a login.
fn login(
    verifier: &Verifier,
    password: &[u8],
    seen: Option<ChannelBinding>,
    real: Option<ChannelBinding>,
) -> Result<(), ScramError> {
    let (client, first) = Client::begin("ada, =", [1; NONCE_BYTES], seen);
    let first = ClientFirst::read(first.as_bytes())?;
    assert_eq!((first.user(), first.is_bound()), ("ada, =", seen.is_some()));
    let (exchange, challenge) = first.challenge(verifier.clone(), [2; NONCE_BYTES]);
    let (client, proof) = client.prove(challenge.as_bytes(), password)?;
    let server_final = exchange.finish(proof.as_bytes(), real)?;
    client.check(server_final.as_bytes())
}

#[test]
fn the_right_password_logs_in_and_no_other_one() {
    let verifier = verifier(b"geheim");
    assert_eq!(login(&verifier, b"geheim", None, None), Ok(()));
    assert_eq!(login(&verifier, b"Geheim", None, None), Err(ScramError::Wrong));
    assert_eq!(login(&Verifier::of_nobody([3; 32]), b"geheim", None, None), Err(ScramError::Wrong));
    assert!(verifier.matches(b"geheim") && !verifier.matches(b"") && !Verifier::of_nobody([3; 32]).matches(b"geheim"));
}

#[test]
fn a_login_is_bound_to_its_channel() {
    let verifier = verifier(b"geheim");
    assert_eq!(login(&verifier, b"geheim", Some([7; 32]), Some([7; 32])), Ok(()));
    assert_eq!(login(&verifier, b"geheim", Some([7; 32]), Some([8; 32])), Err(ScramError::Channel));
    assert_eq!(login(&verifier, b"geheim", Some([7; 32]), None), Err(ScramError::Channel));
    let unbound = login(&verifier, b"geheim", None, Some([7; 32]));
    assert_eq!(unbound, Err(ScramError::Channel), "somebody in between may have left it out");
    assert_eq!(ClientFirst::read(b"y,,n=a,r=012345678901234567"), Err(ScramError::Channel), "a downgrade");
}

/// RFC 7677, section 3.
#[test]
fn the_example_of_the_standard() {
    let client_first = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let without_proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let salt: [u8; SALT_BYTES] = decoded("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    let iterations = std::num::NonZeroU32::new(4096).unwrap();
    let keys = Keys::derive(b"pencil", &salt, iterations);
    let exchange = format!("{client_first},{server_first},{without_proof}");
    let proof = xor(keys.client_key(), signature(&keys.stored_key(), &exchange));
    assert_eq!(encoded(&proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let server = signature(&keys.server_key(), &exchange);
    assert_eq!(encoded(&server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_server_that_does_not_know_the_user_is_found_out() {
    let (client, _) = Client::begin("ada", [1; NONCE_BYTES], None);
    let nonce = format!("{}{}", encoded(&[1; NONCE_BYTES]), encoded(&[2; NONCE_BYTES]));
    let challenge = format!("r={nonce},s={},i=4096", encoded(&SALT));
    let (client, _) = client.prove(challenge.as_bytes(), b"geheim").unwrap();
    assert_eq!(client.check(format!("v={}", encoded(&[0; 32])).as_bytes()), Err(ScramError::ServerUnproven));
}

#[test]
fn a_server_can_ask_for_neither_too_little_nor_too_much_work_nor_play_an_old_exchange_again() {
    let answer = |challenge: String| {
        let (client, _) = Client::begin("ada", [1; NONCE_BYTES], None);
        client.prove(challenge.as_bytes(), b"geheim").map(drop)
    };
    let (own, added) = (encoded(&[1; NONCE_BYTES]), encoded(&[2; NONCE_BYTES]));
    for iterations in [0, 1, ITERATIONS_MIN - 1, ITERATIONS_MAX + 1, u32::MAX] {
        let challenge = format!("r={own}{added},s={},i={iterations}", encoded(&SALT));
        assert_eq!(answer(challenge), Err(ScramError::Iterations(iterations)));
    }
    for nonce in [&own, &added] {
        let challenge = format!("r={nonce},s={},i=4096", encoded(&SALT));
        assert_eq!(answer(challenge), Err(ScramError::Malformed), "{nonce}");
    }
}

#[test]
fn verifiers_are_written_and_read() {
    let verifier = verifier(b"geheim");
    let text = verifier.to_string();
    assert_eq!(text.parse(), Ok(verifier.clone()));
    assert!(!format!("{verifier:?}").contains(&encoded(&verifier.stored_key)));
    assert_ne!(verifier.mark(), Verifier::new(b"geheim", [9; SALT_BYTES], ITERATIONS_MIN).mark());
    for broken in ["", "SCRAM-SHA-256", "SCRAM-SHA-1$4096:a$b:c", &text.replace("4096", "1"), &text[..text.len() - 4]] {
        assert_eq!(broken.parse::<Verifier>(), Err(VerifierError), "{broken}");
    }
}

#[test]
fn messages_and_verifiers_have_one_writing() {
    let (own, added) = (encoded(&[1; NONCE_BYTES]), encoded(&[2; NONCE_BYTES]));
    let challenge = |iterations: &str| {
        let (client, _) = Client::begin("ada", [1; NONCE_BYTES], None);
        client.prove(format!("r={own}{added},s={},i={iterations}", encoded(&SALT)).as_bytes(), b"geheim").map(drop)
    };
    assert_eq!(challenge("4096"), Ok(()));
    let text = verifier(b"geheim").to_string();
    for iterations in ["+4096", "04096", "4096,"] {
        assert_eq!(challenge(iterations), Err(ScramError::Malformed), "{iterations}");
        assert_eq!(text.replace("4096", iterations).parse::<Verifier>(), Err(VerifierError), "{iterations}");
    }
    assert!(ClientFirst::read(b"n,,n=ada,r=012345678901234567").is_ok());
    assert_eq!(ClientFirst::read(b"n,,n=ada,r=012345678901234567,"), Err(ScramError::Malformed));
}

proptest! {
    #[test]
    fn no_message_makes_an_end_panic(message in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..100) {
        let _ = ClientFirst::read(&message);
        let (client, _) = Client::begin("ada", [1; NONCE_BYTES], None);
        let _ = client.prove(&message, b"geheim");
        let real = b"n,,n=a=2Cb,r=0123456789012345678";
        let _ = ClientFirst::read(&real[..cut.min(real.len())]);
        let (exchange, _) = ClientFirst::read(real).unwrap().challenge(Verifier::of_nobody([0; 32]), [2; NONCE_BYTES]);
        prop_assert!(exchange.finish(&message, Some([1; 32])).is_err());
    }
}
