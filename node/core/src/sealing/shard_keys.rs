//! The keys of one shard, made of the node's data keys when they are first used.

use super::{
    DataKey, FRONT_BYTES, KeyEpoch, Keyring, NONCE_BYTES, SealError, SealNonce, TAG_BYTES, decode_front, encode_front,
};
use crate::cost;
use kvorum_protocol::ShardId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::hmac;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What keys are made with, besides a data key: another one would make other keys.
const SALT: &[u8] = b"kvorum at rest 1";
/// What a key is for.
const RECORDS: u8 = 1;
const WHOLES: u8 = 2;
const NONCES_OF_WHOLES: u8 = 3;
/// Keys lie in pieces of which each is twice as long as the one before.
const PIECES: usize = u16::BITS as usize;

/// The keys of one shard and one epoch.
struct EpochKeys {
    records: LessSafeKey,
    wholes: LessSafeKey,
    nonces_of_wholes: hmac::Key,
}

type Piece = Box<[OnceLock<Box<EpochKeys>>]>;

/// The keys of one shard. A look-up costs a few nanoseconds and takes no lock.
pub struct ShardKeys {
    shard: ShardId,
    ring: Arc<Keyring>,
    /// By epoch: piece `n` holds 2^n of them, from 2^n on.
    made: [OnceLock<Piece>; PIECES],
}

impl Default for ShardKeys {
    /// Of a shard that is plain.
    fn default() -> Self {
        Self::new(ShardId(0), Arc::default())
    }
}

impl fmt::Debug for ShardKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardKeys({})", self.shard)
    }
}

/// 256 bits.
struct Bits256;

impl KeyType for Bits256 {
    fn len(&self) -> usize {
        32
    }
}

fn derived(root: &Prk, shard: ShardId, purpose: u8) -> [u8; 32] {
    let mut out = [0; 32];
    let made = root.expand(&[&shard.0.to_be_bytes(), &[purpose]], Bits256).and_then(|okm| okm.fill(&mut out));
    made.expect("HKDF gives up to 255 times as much");
    out
}

impl EpochKeys {
    fn new(shard: ShardId, key: &DataKey) -> Self {
        let root = Salt::new(HKDF_SHA256, SALT).extract(key.bytes());
        let cipher = |purpose| {
            let key = UnboundKey::new(&AES_256_GCM, &derived(&root, shard, purpose));
            LessSafeKey::new(key.expect("a key of 256 bits"))
        };
        Self {
            records: cipher(RECORDS),
            wholes: cipher(WHOLES),
            nonces_of_wholes: hmac::Key::new(hmac::HMAC_SHA256, &derived(&root, shard, NONCES_OF_WHOLES)),
        }
    }
}

fn seal(key: &LessSafeKey, nonce: &SealNonce, aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
    cost::hashed(text.len());
    let sealed = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce.0), Aad::from(aad), text);
    let tag = sealed.expect("no text is as long as AES-GCM's limit");
    *tag.as_ref().first_chunk().expect("a tag has 16 bytes")
}

fn open(key: &LessSafeKey, nonce: &SealNonce, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    cost::hashed(sealed.len());
    let mut text = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce.0);
    let opened = key.open_in_place(nonce, Aad::from(aad), &mut text).map_err(|_| SealError::Forged)?.len();
    text.truncate(opened);
    Ok(text)
}

impl ShardKeys {
    /// The keys of a shard.
    pub fn new(shard: ShardId, ring: Arc<Keyring>) -> Self {
        Self { shard, ring, made: Default::default() }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The node's keys.
    pub fn ring(&self) -> &Arc<Keyring> {
        &self.ring
    }

    /// What is sealed with now; `None` if the shard is written plain.
    pub fn active(&self) -> Option<KeyEpoch> {
        self.ring.active()
    }

    fn of(&self, epoch: KeyEpoch) -> Result<&EpochKeys, SealError> {
        let number = epoch.0.checked_ilog2().ok_or(SealError::Forged)?;
        let first = 1_usize << number;
        let piece = self.made[number as usize].get_or_init(|| (0..first).map(|_| OnceLock::new()).collect());
        let place = &piece[usize::from(epoch.0) - first];
        if let Some(keys) = place.get() {
            return Ok(keys);
        }
        let key = self.ring.key(epoch).ok_or(SealError::NoKey(epoch))?;
        Ok(place.get_or_init(|| Box::new(EpochKeys::new(self.shard, &key))))
    }

    /// Seals a part of a record, or of an entry, where it lies. Costs about 100 ns, and 0.3 ns per byte.
    ///
    /// # Panics
    /// If there is no such key.
    pub(crate) fn seal(&self, epoch: KeyEpoch, nonce: &SealNonce, aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let keys = self.of(epoch).expect("who seals has looked for the key");
        seal(&keys.records, nonce, aad, text)
    }

    /// What was sealed, tag included. Costs as much as sealing.
    ///
    /// # Errors
    /// If the key is not here, or the bytes are not what was sealed.
    pub(crate) fn open(
        &self,
        epoch: KeyEpoch,
        nonce: &SealNonce,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        open(&self.of(epoch)?.records, nonce, aad, sealed)
    }

    /// Seals something as a whole, with what it is bound to. Costs about 2 ns per byte.
    ///
    /// # Panics
    /// If there is no such key.
    pub(crate) fn seal_whole(&self, epoch: KeyEpoch, bound_to: &[u8], text: &[u8]) -> Vec<u8> {
        let keys = self.of(epoch).expect("who seals has looked for the key");
        let mut context = hmac::Context::with_key(&keys.nonces_of_wholes);
        context.update(&(bound_to.len() as u64).to_be_bytes());
        context.update(bound_to);
        context.update(text);
        let nonce = SealNonce(*context.sign().as_ref().first_chunk::<NONCE_BYTES>().expect("32 bytes"));
        let mut out = Vec::with_capacity(FRONT_BYTES + text.len() + TAG_BYTES);
        out.extend_from_slice(&encode_front(epoch, &nonce));
        out.extend_from_slice(text);
        let tag = seal(&keys.wholes, &nonce, bound_to, &mut out[FRONT_BYTES..]);
        out.extend_from_slice(&tag);
        out
    }

    /// What [`ShardKeys::seal_whole`] was given.
    ///
    /// # Errors
    /// If the key is not here, or the bytes are not what was sealed.
    pub(crate) fn open_whole(&self, bound_to: &[u8], whole: &[u8]) -> Result<Vec<u8>, SealError> {
        let (epoch, nonce, sealed) = decode_front(whole).ok_or(SealError::Forged)?;
        open(&self.of(epoch)?.wholes, &nonce, bound_to, sealed)
    }
}
