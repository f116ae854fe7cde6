//! The key-encryption key: from a file, from the environment, or with a program that does not give it away.
//!
//! A key that is here wraps data keys with AES-256-GCM. A program is called as `PROGRAM wrap` or `PROGRAM unwrap`, with a key in
//! hexadecimal digits on its standard input, and answers likewise. So any key management service may hold the key.

use crate::config::{EncryptionConfig, KekSource};
use kvorum_core::ring::RingMap;
use kvorum_core::ring::sealing::{RingSealing, WrappedKey};
use kvorum_core::sealing::{DATA_KEY_BYTES, DataKey, KeyEpoch, KeyFailure, KeyWrap, Keyring, NodeKeys};
use kvorum_protocol::{ClusterId, hexadecimal};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const KEK_BYTES: usize = 32;
/// What keys are derived with from a key-encryption key.
const SALT: &[u8] = b"kvorum key encryption 1";
/// Most bytes that a program may answer. The ring map has place for as many keys as there may be.
const ANSWER_BYTES_MAX: u64 = 2 * 1024;
/// How long a program may take: whoever keeps the ring map waits meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The ring map's copy in a data folder, and its second copy.
const RING_COPIES: [&str; 2] = ["ring.json.metadata", "ring.json.copy.metadata"];

fn failure(what: impl Into<String>) -> KeyFailure {
    KeyFailure(what.into())
}

/// One key-encryption key.
enum Kek {
    Key { wraps: Box<LessSafeKey>, fingerprint: u64 },
    Program { path: PathBuf, fingerprint: u64 },
}

/// The key-encryption keys of a node.
struct Keks {
    cluster: ClusterId,
    /// The one of now, then the one before.
    keks: Vec<Kek>,
}

struct Bits256;

impl KeyType for Bits256 {
    fn len(&self) -> usize {
        32
    }
}

fn derived(secret: &[u8], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let root = Salt::new(HKDF_SHA256, SALT).extract(secret);
    let filled = root.expand(&[info], Bits256).and_then(|okm| okm.fill(&mut out));
    filled.expect("HKDF gives up to 255 times as much");
    out
}

fn fingerprint(secret: &[u8]) -> u64 {
    // JSON's numbers are exact up to 2^53.
    u64::from_be_bytes(*derived(secret, b"fingerprint").first_chunk().expect("32 bytes")) >> 11
}

/// 32 bytes, as such or as hexadecimal digits.
fn key_of(bytes: &[u8]) -> Option<[u8; KEK_BYTES]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    hexadecimal::decode(text)?.try_into().ok()
}

impl Kek {
    fn open(source: &KekSource) -> Result<Self, KeyFailure> {
        let key = match source {
            KekSource::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| failure(format!("{}: {error}", path.display())))?;
                let wrong = || failure(format!("{}: it holds no 32 bytes, nor 64 hexadecimal digits", path.display()));
                key_of(&bytes).ok_or_else(wrong)?
            }
            KekSource::Variable(name) => {
                let text = std::env::var(name).map_err(|error| failure(format!("{name}: {error}")))?;
                key_of(text.as_bytes()).ok_or_else(|| failure(format!("{name}: it holds no 64 hexadecimal digits")))?
            }
            KekSource::Program(path) => {
                let fingerprint = fingerprint(path.as_os_str().as_encoded_bytes());
                return Ok(Self::Program { path: path.clone(), fingerprint });
            }
        };
        let wraps = UnboundKey::new(&AES_256_GCM, &derived(&key, b"wrap")).expect("a key of 256 bits");
        Ok(Self::Key { wraps: Box::new(LessSafeKey::new(wraps)), fingerprint: fingerprint(&key) })
    }

    fn fingerprint(&self) -> u64 {
        match self {
            Self::Key { fingerprint, .. } | Self::Program { fingerprint, .. } => *fingerprint,
        }
    }
}

fn call(program: &Path, what: &str, input: &str) -> Result<String, KeyFailure> {
    let failed = |why: String| failure(format!("{} {what}: {why}", program.display()));
    let mut child = Command::new(program)
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let told = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let (sender, answer) = mpsc::channel();
    let stdout = child.stdout.take().expect("it is a pipe");
    // Whoever the program has started may hold its output open for ever; then this thread stays.
    std::thread::spawn(move || {
        let mut output = String::new();
        let heard = stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut output).map(|_| output);
        let _ = sender.send(heard);
    });
    let until = Instant::now() + ANSWER_WITHIN;
    let heard = answer.recv_timeout(ANSWER_WITHIN).map_err(|_| format!("it has not answered within {ANSWER_WITHIN:?}"));
    let ended = heard.and_then(|heard| Ok((heard, ended(&mut child, until)?)));
    let (heard, ended) = ended.map_err(|why| {
        // It has ended, or does now.
        let _ = child.kill().and_then(|()| child.wait());
        failed(why)
    })?;
    if !ended.success() {
        return Err(failed(format!("it has ended with {ended}")));
    }
    let output = told.transpose().and(heard).map_err(|error| failed(error.to_string()))?;
    Ok(output.trim().to_owned())
}

/// The data key that a program has answered: its hexadecimal digits.
pub fn answered_key(answer: &str) -> Option<DataKey> {
    let key: [u8; DATA_KEY_BYTES] = hexadecimal::decode(answer)?.try_into().ok()?;
    Some(DataKey::new(key))
}

/// Waits for a program that has answered.
fn ended(child: &mut Child, until: Instant) -> Result<ExitStatus, String> {
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => return Ok(status),
            None if Instant::now() >= until => {
                return Err(format!("it has answered, and not ended within {ANSWER_WITHIN:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Keks {
    fn bound_to(&self, epoch: KeyEpoch) -> Vec<u8> {
        [self.cluster.0.as_bytes(), &epoch.0.to_be_bytes()[..]].concat()
    }

    fn unwrap_with(&self, kek: &Kek, key: &WrappedKey) -> Result<DataKey, KeyFailure> {
        let opened = match kek {
            Kek::Program { path, .. } => {
                let opened = answered_key(&call(path, "unwrap", &key.wrapped)?);
                return opened.ok_or_else(|| failure(format!("{} unwrap: it has answered no key", path.display())));
            }
            Kek::Key { wraps, .. } => {
                let wrong = || failure(format!("data key {} is wrapped with another encryption.key", key.epoch));
                let bytes = hexadecimal::decode(&key.wrapped).ok_or_else(wrong)?;
                let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
                let (bound_to, mut text) = (self.bound_to(KeyEpoch(key.epoch)), sealed.to_vec());
                let nonce = Nonce::assume_unique_for_key(*nonce);
                wraps.open_in_place(nonce, Aad::from(bound_to), &mut text).map_err(|_| wrong())?.to_vec()
            }
        };
        let key: Result<[u8; DATA_KEY_BYTES], _> = opened.try_into();
        Ok(DataKey::new(key.map_err(|_| failure("what was unwrapped is no data key"))?))
    }
}

impl KeyWrap for Keks {
    fn kek(&self) -> u64 {
        self.keks[0].fingerprint()
    }

    fn hides_its_key(&self) -> bool {
        matches!(self.keks[0], Kek::Program { .. })
    }

    fn draw(&self) -> Result<[u8; DATA_KEY_BYTES], KeyFailure> {
        let mut key = [0; DATA_KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| failure("the system has no randomness"))?;
        Ok(key)
    }

    fn wrap(&self, epoch: KeyEpoch, key: &DataKey) -> Result<String, KeyFailure> {
        match &self.keks[0] {
            Kek::Program { path, .. } => call(path, "wrap", &hexadecimal::encode(key.bytes())),
            Kek::Key { wraps, .. } => {
                let mut nonce = [0; NONCE_LEN];
                SystemRandom::new().fill(&mut nonce).map_err(|_| failure("the system has no randomness"))?;
                let (bound_to, mut text) = (self.bound_to(epoch), key.bytes().to_vec());
                let unique = Nonce::assume_unique_for_key(nonce);
                let sealed = wraps.seal_in_place_append_tag(unique, Aad::from(bound_to), &mut text);
                sealed.expect("a key is shorter than the limit of AES-GCM");
                Ok(hexadecimal::encode(&[&nonce[..], &text].concat()))
            }
        }
    }

    fn unwrap(&self, key: &WrappedKey) -> Result<DataKey, KeyFailure> {
        let of_key = self.keks.iter().find(|kek| kek.fingerprint() == key.kek);
        self.unwrap_with(of_key.unwrap_or(&self.keks[0]), key)
    }
}

/// The keys of a node: what the configuration names is opened.
///
/// # Errors
/// If it can't be read.
pub fn open(config: &EncryptionConfig, cluster: ClusterId) -> Result<Arc<NodeKeys>, KeyFailure> {
    let keks = config.key.iter().chain(&config.old_key).map(Kek::open).collect::<Result<Vec<_>, _>>()?;
    let wrap = (!keks.is_empty()).then(|| Box::new(Keks { cluster, keks }) as Box<dyn KeyWrap>);
    Ok(Arc::new(NodeKeys::new(wrap)))
}

/// The data keys of a data folder, opened with a key-encryption key that is named as in a configuration.
///
/// # Errors
/// If the key can't be read, or is another one.
pub fn of_verify(source: &str, folder: &Path) -> Result<Arc<Keyring>, KeyFailure> {
    let source = KekSource::parse(source, Path::new(""));
    let source = source.ok_or_else(|| failure("expected file:PATH, env:NAME or exec:/PROGRAM"))?;
    let Some(map) = map_of(folder) else {
        return Err(failure("the folder has no copy of the ring map, which holds the data keys"));
    };
    let config = EncryptionConfig { key: Some(source), old_key: None };
    let keys = open(&config, ClusterId(map.cluster))?;
    keys.follow(&map.sealing)?;
    Ok(Arc::clone(keys.ring()))
}

/// What a data folder says of keys. Changes nothing in it: not even its lock is taken.
pub fn of_folder(folder: &Path) -> RingSealing {
    map_of(folder).map(|map| map.sealing).unwrap_or_default()
}

fn map_of(folder: &Path) -> Option<RingMap> {
    let copies = RING_COPIES.iter().filter_map(|name| std::fs::read(folder.join(name)).ok());
    copies.filter_map(|bytes| RingMap::from_copy(&bytes).ok()).max_by_key(|map| map.epoch)
}

#[cfg(test)]
mod tests;
