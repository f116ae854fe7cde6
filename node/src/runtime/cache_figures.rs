//! What reads found in a node's memory, as nodes tell each other.

use bytes::{BufMut as _, Bytes, BytesMut};
use kvorum_protocol::codec::{DecodeError, Reader, Writer as _};

/// Figures of reads and memory: of one node since it started, or of several together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheFigures {
    /// GETs that were answered out of memory.
    pub hits: u64,
    /// Those for which another node, a quorum or a disk was asked.
    pub misses: u64,
    /// Keys of replicas.
    pub keys: u64,
    /// Keys that replicas took out since their time had come.
    pub expired: u64,
    /// Memory of the indexes, in bytes.
    pub index_bytes: u64,
    /// Memory that they may take, in bytes; `None` without a limit.
    pub index_limit_bytes: Option<u64>,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Mapped files, in bytes.
    pub mapped_bytes: u64,
}

impl CacheFigures {
    /// Those of two nodes, or more, together. What one of them has no limit for has none.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits.saturating_add(other.hits),
            misses: self.misses.saturating_add(other.misses),
            keys: self.keys.saturating_add(other.keys),
            expired: self.expired.saturating_add(other.expired),
            index_bytes: self.index_bytes.saturating_add(other.index_bytes),
            index_limit_bytes: self.index_limit_bytes.zip(other.index_limit_bytes).map(|(a, b)| a.saturating_add(b)),
            resident_bytes: self.resident_bytes.saturating_add(other.resident_bytes),
            mapped_bytes: self.mapped_bytes.saturating_add(other.mapped_bytes),
        }
    }

    /// As the control plane carries it. What is to be told besides is another question there.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        for figure in [self.hits, self.misses, self.keys, self.expired, self.index_bytes] {
            out.put_u64_le(figure);
        }
        out.option(self.index_limit_bytes, |out, limit| out.put_u64_le(limit));
        out.put_u64_le(self.resident_bytes);
        out.put_u64_le(self.mapped_bytes);
        out.into()
    }

    /// Reads what [`CacheFigures::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::from(bytes));
        let figures = Self {
            hits: reader.u64()?,
            misses: reader.u64()?,
            keys: reader.u64()?,
            expired: reader.u64()?,
            index_bytes: reader.u64()?,
            index_limit_bytes: reader.option("limit of the indexes", Reader::u64)?,
            resident_bytes: reader.u64()?,
            mapped_bytes: reader.u64()?,
        };
        reader.finish()?;
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: u64, index_limit_bytes: Option<u64>) -> CacheFigures {
        CacheFigures {
            hits: of,
            misses: of + 1,
            keys: of + 2,
            expired: of + 3,
            index_bytes: of + 4,
            index_limit_bytes,
            resident_bytes: of + 5,
            mapped_bytes: of + 6,
        }
    }

    #[test]
    fn figures_come_back_and_nothing_shorter_or_longer_does() {
        for limit in [None, Some(9)] {
            let bytes = figures(10, limit).encode();
            assert_eq!(CacheFigures::decode(bytes.clone()), Ok(figures(10, limit)));
            (0..bytes.len()).for_each(|end| assert!(CacheFigures::decode(bytes[..end].to_vec()).is_err(), "{end}"));
            assert!(CacheFigures::decode([&bytes[..], &[0]].concat()).is_err());
        }
    }

    /// Nodes that run different programs must agree on it.
    #[test]
    fn bytes_are_frozen() {
        let mut bytes: Vec<u8> = (10_u64..15).flat_map(u64::to_le_bytes).collect();
        bytes.push(1);
        bytes.extend([99_u64, 15, 16].into_iter().flat_map(u64::to_le_bytes));
        assert_eq!(figures(10, Some(99)).encode(), bytes);
    }

    #[test]
    fn a_sum_has_a_limit_if_all_have_one() {
        let sum = figures(10, Some(1)).plus(figures(100, Some(2)));
        let expected = CacheFigures {
            hits: 110,
            misses: 112,
            keys: 114,
            expired: 116,
            index_bytes: 118,
            index_limit_bytes: Some(3),
            resident_bytes: 120,
            mapped_bytes: 122,
        };
        assert_eq!(sum, expected);
        assert_eq!(sum.plus(figures(1, None)).index_limit_bytes, None);
    }
}
