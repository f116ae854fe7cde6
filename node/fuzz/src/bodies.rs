//! What each fuzz target does with its bytes. `tests/fuzz_smoke.rs` runs the very same functions over mutations of what is genuine, so
//! that a plain `cargo test` covers some of what a fuzzer would.
//!
//! Each function takes any bytes, must not panic, and says whether they meant anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvorum_core::audit::{AuditEvent, AuditKind};
use kvorum_core::auth::verbs::is_name;
use kvorum_core::measure::meter::Door;
use kvorum_core::ring::sealing::WrappedKey;
use kvorum_core::sealing::{DATA_KEY_BYTES, KeyEpoch, NodeKeys};
use kvorum_node::audit::chain::{ChainEnd, Checked, Checker};
use kvorum_node::auth::authorization::HeaderCredentials;
use kvorum_node::auth::cert::{ClusterAuthority, Identity};
use kvorum_node::auth::login::token_id;
use kvorum_node::auth::user_cert::{CertificateView, Holder, UserCertificate};
use kvorum_node::config::{EncryptionConfig, KekSource};
use kvorum_node::kek::{self, answered_key};
use kvorum_protocol::{ClusterId, NodeId, UserTokenId, hexadecimal};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(7));
const ELSEWHERE: ClusterId = ClusterId(Uuid::from_u128(8));

/// The data key of epoch 3, wrapped for [`CLUSTER`] by a key-encryption key of 32 ones. `kek/tests.rs` has it, too.
const WRAPPED: &str = "000102030405060708090a0b57c929d1bfce22090821e6b2d208c714884d634ebaa1ca2d400f83de6d2b65005198c3d57e8cd640384fa347ba3de6ba";
const DATA_KEY: [u8; DATA_KEY_BYTES] = [7; DATA_KEY_BYTES];

static KEYS: LazyLock<Arc<NodeKeys>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("kvorum-fuzz-kek-{}", std::process::id()));
    std::fs::write(&path, [1; 32]).expect("the folder of temporary files is there");
    let keys = kek::open(&EncryptionConfig { key: Some(KekSource::File(path.clone())), old_key: None }, CLUSTER);
    std::fs::remove_file(path).expect("it was written");
    keys.expect("32 bytes are a key")
});

fn event(number: u64) -> AuditEvent {
    let event = AuditEvent::at_door(AuditKind::Asked, Door::Binary, None, "ada", "NODE REMOVE \"x\"\n");
    AuditEvent { at_ms: 1_764_000_000_000 + number, ..event }
}

fn log() -> Vec<String> {
    let mut end = ChainEnd::BEGIN;
    (0..4).map(|number| end.line("node-1", &event(number))).collect()
}

/// Inputs that the targets accept.
pub fn genuine(target: &str) -> Vec<Vec<u8>> {
    let token = format!("kvt_{}_{}", UserTokenId(0xa7), "5".repeat(64));
    match target {
        "user_certificate" => {
            let authority = ClusterAuthority::create().expect("the system has randomness");
            let user =
                |user| authority.issue_user(CLUSTER, user, Some(30)).expect("a name").certificate_pem().to_owned();
            let node = authority.issue(CLUSTER, NodeId(Uuid::from_u128(1)), &[]).expect("an id").certificate_pem;
            let pems = [user("ada"), user("ada.user.x@example.org"), node];
            let der = |pem: String| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
            pems.map(der).into()
        }
        "user_token" => vec![token.into_bytes()],
        "authorization" => vec![
            format!("Bearer {token}").into_bytes(),
            format!("basic  {}", STANDARD.encode("ada:love:lace")).into_bytes(),
        ],
        "audit_log" => {
            let lines = log();
            let cut = format!("{}\n", &lines[3][..40]);
            let after_a_crash = ChainEnd::after(cut.trim_end().as_bytes()).line("node-1", &event(9));
            vec![lines.concat().into_bytes(), [lines[..3].concat(), cut, after_a_crash].concat().into_bytes()]
        }
        "wrapped_key" => vec![[&[3, 0], WRAPPED.as_bytes()].concat()],
        "key_program" => vec![hexadecimal::encode(&DATA_KEY).into_bytes()],
        _ => panic!("there is no target {target}"),
    }
}

/// The DER of a certificate that a client shows. Nobody has looked yet who signed it.
pub fn user_certificate(data: &[u8]) -> bool {
    let der = CertificateDer::from(data);
    let view = CertificateView::of(&der);
    let [here, elsewhere] = [CLUSTER, ELSEWHERE].map(|cluster| UserCertificate::of(&der, cluster));
    let node = Identity::of_certificate(&der);
    let Ok(CertificateView { holder, serial, .. }) = view else {
        assert!(here.is_err() && elsewhere.is_err() && node.is_err(), "nobody is named");
        return false;
    };
    let name = holder.name();
    assert!(data.windows(name.len()).any(|text| text == name.as_bytes()), "a holder has one spelling");
    assert!(serial.first() != Some(&0));
    match holder {
        Holder::Node(identity) => {
            assert!(here.is_ok_and(|user| user.is_none()) && elsewhere.is_ok_and(|user| user.is_none()));
            assert!(node.is_ok_and(|node| node == identity));
        }
        Holder::User { cluster, user } => {
            assert!(is_name(&user) && node.is_err());
            for (of, found) in [(CLUSTER, here), (ELSEWHERE, elsewhere)] {
                let expected = Some(UserCertificate { user: user.clone(), serial: serial.clone() });
                assert_eq!(found.ok(), (of == cluster).then_some(expected), "a user belongs to one cluster");
            }
        }
    }
    true
}

/// The text of a token.
pub fn user_token(data: &[u8]) -> bool {
    let Some(id) = token_id(data) else { return false };
    let secret = data.strip_prefix(format!("kvt_{id}_").as_bytes()).expect("a token has one spelling");
    assert_eq!(secret.len(), 64);
    true
}

/// The header `Authorization` of a request.
pub fn authorization(data: &[u8]) -> bool {
    let read = HeaderCredentials::read(data);
    let Some(credentials) = &read else { return false };
    assert!(data.len() <= 4096 && format!("{credentials:?}").len() < 16);
    let (scheme, said) = match credentials {
        HeaderCredentials::Token(token) => ("bearer", token.clone()),
        HeaderCredentials::Password { user, password } => {
            assert!(!user.contains(':'));
            let text = [user.as_bytes(), b":", password].concat();
            ("basic", STANDARD.encode(text).into_bytes())
        }
    };
    let (front, back) = data.split_at(scheme.len());
    assert!(front.eq_ignore_ascii_case(scheme.as_bytes()));
    assert!(back[0] == b' ' && back.trim_ascii() == said, "credentials have one encoding");
    assert_eq!(HeaderCredentials::read(&[scheme.as_bytes(), b" ", &said].concat()), read);
    true
}

fn check(files: &[&[u8]], kept: Option<&str>) -> Option<(Checked, [u8; 32])> {
    let mut checker = Checker::new(kept);
    files.iter().try_for_each(|file| checker.check(*file)).ok()?;
    checker.finish().ok()
}

/// Files that somebody gives to `kvorum audit verify`. What is sound goes on, and is the same however it is parted into files.
pub fn audit_log(data: &[u8]) -> bool {
    let mut ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let Some((found, last)) = check(&[data], None) else { return false };
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    assert!(found.lines + found.cut_short <= lines && found.begins <= found.lines);
    let half = ends.nth(lines as usize / 2).map_or(data.len(), |(at, _)| at + 1);
    let (first, second) = data.split_at(half);
    assert_eq!(check(&[first, second], None), Some((found.clone(), last)));
    if found.lines == 0 {
        return false;
    }
    let kept = check(&[data], Some(&hexadecimal::encode(&last))).expect("it is sound");
    assert!(kept.0.has_kept, "the last line is there");
    let whole = data.strip_suffix(b"\n").unwrap_or(data);
    let last_line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut end = ChainEnd::after(last_line);
    assert_eq!(end.last, last);
    let more =
        [whole, b"\n", end.line("node-1", &event(1)).as_bytes(), end.line("node-1", &event(2)).as_bytes()].concat();
    let (longer, _) = check(&[&more], None).expect("a log goes on from its last line");
    assert_eq!((longer.lines, longer.cut_short), (found.lines + 2, found.cut_short));
    // Whoever changes the last line shows it to whoever has kept its hash.
    let mut changed = whole.to_vec();
    if let Some(byte) = changed.last_mut() {
        *byte ^= 1;
    }
    assert!(check(&[&changed], None).is_none_or(|(_, hash)| hash != last));
    true
}

/// A wrapped data key of a ring map, and its number.
pub fn wrapped_key(data: &[u8]) -> bool {
    let Some((epoch, wrapped)) = data.split_first_chunk::<2>() else { return false };
    let Ok(wrapped) = std::str::from_utf8(wrapped) else { return false };
    let wrap = KEYS.wrap().expect("it has a key-encryption key");
    let key =
        WrappedKey { epoch: u16::from_le_bytes(*epoch), kek: wrap.kek(), wrapped: wrapped.to_owned(), made_ms: 0 };
    let opened = wrap.unwrap(&key);
    let is_genuine = key.epoch == 3 && wrapped.eq_ignore_ascii_case(WRAPPED);
    assert_eq!(opened.is_ok(), is_genuine, "only what was wrapped is unwrapped");
    assert!(opened.as_ref().is_ok_and(|key| *key.bytes() == DATA_KEY) == is_genuine);
    assert!(!KEYS.ring().has(KeyEpoch(key.epoch)));
    is_genuine
}

/// What a program answers that has the key-encryption key.
pub fn key_program(data: &[u8]) -> bool {
    let Some((key, answer)) = std::str::from_utf8(data).ok().and_then(|text| Some((answered_key(text)?, text))) else {
        return false;
    };
    assert_eq!(hexadecimal::encode(key.bytes()), answer.to_ascii_lowercase());
    assert!(!format!("{key:?}").contains(answer));
    true
}
