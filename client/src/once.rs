//! One-shot names: a write takes effect once under one, whoever sends it.

use crate::limits::ONCE_NAME_BYTES_MAX;
use kvorum_client_core::Error;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::{Mutation, Once, OnceId, ReturnPrevious};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What this client's names are hashed with before anything else. docs/PROTOCOL.md says so, for clients that are to share them.
const REALM: &[u8] = b"kvorum-client";

/// A name that its user chose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OnceName(Vec<u8>);

impl OnceName {
    pub(crate) fn new(name: &[u8]) -> Self {
        Self(name.to_vec())
    }

    /// The name as nodes know it: the id is of name and key, and the digest covers all else that the write asks for.
    pub(crate) fn of(&self, mutation: &Mutation) -> Result<Once, Error> {
        if self.0.is_empty() {
            return Err(Error::InvalidArgument("a one-shot name has at least one byte".to_owned()));
        }
        if self.0.len() > ONCE_NAME_BYTES_MAX {
            let (what, size) = ("the one-shot name's length in bytes", self.0.len());
            return Err(Error::TooLarge { what, size, limit: ONCE_NAME_BYTES_MAX });
        }
        if mutation.return_previous == ReturnPrevious::Entry {
            let problem = "a write under a one-shot name can't return the entry that was there before";
            return Err(Error::InvalidArgument(problem.to_owned()));
        }
        let once = Once { id: id_of(&[REALM, &self.0, &mutation.key]), digest: 0, keeps_refusal: true };
        // As of the only write of a BATCH: nobody else makes digests out of a write.
        Ok(once.nth(0, hash64(&mutation.key), mutation))
    }
}

/// The first half of a hash over all of these, each with its length before it.
fn id_of(parts: &[&[u8]]) -> OnceId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (half, _) = hash.split_first_chunk().expect("SHA-256 has 32 bytes");
    OnceId(Uuid::from_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_op::WriteOp;

    fn once(name: &str, op: WriteOp) -> Result<Once, Error> {
        OnceName::new(name.as_bytes()).of(&op.checked().expect("it makes sense"))
    }

    /// Programs with other versions of this client must agree on it.
    #[test]
    fn the_name_is_frozen() {
        let once = once("order-17", WriteOp::incr("sold", 1)).expect("a name");
        assert_eq!(once.id.0.to_string(), "727deee5-d881-334a-9bd0-4a7e54a3060a");
        assert_eq!((once.digest, once.keeps_refusal), (11_175_326_337_998_057_359, true));
    }

    #[test]
    fn name_and_key_are_the_id_and_all_else_is_the_digest() {
        let of = |name: &str, op| once(name, op).expect("a name");
        let plain = of("ab", WriteOp::put("c", "v"));
        assert_eq!(of("ab", WriteOp::put("c", "v")), plain);
        for other in [of("a", WriteOp::put("bc", "v")), of("ab", WriteOp::put("d", "v"))] {
            assert_ne!(other.id, plain.id);
        }
        let ttl = std::time::Duration::from_secs(1);
        for op in [
            WriteOp::put("c", "w"),
            WriteOp::append("c", "v"),
            WriteOp::put("c", "v").ttl(ttl),
            WriteOp::put("c", "v").if_absent(),
            WriteOp::put("c", "v").return_existed(),
            WriteOp::delete("c"),
        ] {
            let other = of("ab", op.clone());
            assert_eq!(other.id, plain.id);
            assert_ne!(other.digest, plain.digest, "{op:?}");
        }
    }

    #[test]
    fn what_no_node_would_take_is_no_name() {
        let long = "n".repeat(ONCE_NAME_BYTES_MAX);
        assert!(once(&long, WriteOp::delete("k")).is_ok());
        let too_long = once(&format!("{long}n"), WriteOp::delete("k"));
        assert!(matches!(too_long, Err(Error::TooLarge { limit: ONCE_NAME_BYTES_MAX, .. })), "{too_long:?}");
        for (name, op) in [("", WriteOp::delete("k")), ("n", WriteOp::delete("k").return_previous())] {
            assert!(matches!(once(name, op), Err(Error::InvalidArgument(_))));
        }
    }
}
