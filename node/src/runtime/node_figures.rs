//! What a node tells another one's console of itself, beside its status.

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_core::measure::heat::RING_PARTS;
use kvorum_protocol::NodeId;
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::limits::NODES_MAX;

/// Figures of one node, as of its last second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFigures {
    /// Operations on keys per second that its clients had answered.
    pub operations_s: u32,
    /// Those that failed.
    pub failed_s: u32,
    /// Microseconds within which 99 of 100 reads were answered; `None` if there were none.
    pub read_p99_us: Option<u32>,
    /// The same of writes.
    pub write_p99_us: Option<u32>,
    /// The same of rounds of the journal.
    pub sync_p99_us: Option<u32>,
    /// How full the fullest queue of a shard is, in thousandths.
    pub queue_permille: u16,
    /// Bytes of the disk, if the system says.
    pub disk_total_bytes: Option<u64>,
    /// Bytes that the indexes may take; `None` without a limit.
    pub index_limit_bytes: Option<u64>,
    /// Microseconds to each of its peers; `None` without a connection.
    pub links: Vec<(NodeId, Option<u32>)>,
    /// Operations per second by part of the ring, in the last ten seconds; empty before those have passed. `None` where it leads nothing.
    pub ring: Vec<Option<u32>>,
}

impl NodeFigures {
    /// As the control plane carries it. What is to be told besides is another question there.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.put_u32_le(self.operations_s);
        out.put_u32_le(self.failed_s);
        for latency in [self.read_p99_us, self.write_p99_us, self.sync_p99_us] {
            out.option(latency, |out, us| out.put_u32_le(us));
        }
        out.put_u16_le(self.queue_permille);
        for bytes in [self.disk_total_bytes, self.index_limit_bytes] {
            out.option(bytes, |out, bytes| out.put_u64_le(bytes));
        }
        out.count(self.links.len());
        for (node, rtt_us) in &self.links {
            out.uuid(node.0);
            out.option(*rtt_us, |out, us| out.put_u32_le(us));
        }
        out.count(self.ring.len());
        for rate in &self.ring {
            out.option(*rate, |out, rate| out.put_u32_le(rate));
        }
        out.into()
    }

    /// Reads what [`NodeFigures::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::from(bytes));
        let figures = Self {
            operations_s: reader.u32()?,
            failed_s: reader.u32()?,
            read_p99_us: reader.option("latency of reads", Reader::u32)?,
            write_p99_us: reader.option("latency of writes", Reader::u32)?,
            sync_p99_us: reader.option("latency of syncs", Reader::u32)?,
            queue_permille: reader.u16()?,
            disk_total_bytes: reader.option("bytes of the disk", Reader::u64)?,
            index_limit_bytes: reader.option("limit of the indexes", Reader::u64)?,
            links: {
                let count = reader.count("links", NODES_MAX, 17)?;
                let link = |reader: &mut Reader| Ok((reader.node_id()?, reader.option("round trip", Reader::u32)?));
                (0..count).map(|_| link(&mut reader)).collect::<Result<_, DecodeError>>()?
            },
            ring: {
                let count = reader.count("parts of the ring", RING_PARTS, 1)?;
                (0..count).map(|_| reader.option("rate", Reader::u32)).collect::<Result<_, _>>()?
            },
        };
        reader.finish()?;
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn figures() -> NodeFigures {
        NodeFigures {
            operations_s: 48_200,
            failed_s: 3,
            read_p99_us: Some(1_350),
            write_p99_us: None,
            sync_p99_us: Some(3_100),
            queue_permille: 20,
            disk_total_bytes: Some(1 << 38),
            index_limit_bytes: None,
            links: vec![(NodeId(Uuid::from_u128(1)), Some(612)), (NodeId(Uuid::from_u128(2)), None)],
            ring: (0..RING_PARTS as u32).map(|part| part.is_multiple_of(3).then_some(part)).collect(),
        }
    }

    #[test]
    fn figures_come_back_and_nothing_shorter_or_longer_does() {
        for figures in [figures(), NodeFigures::default()] {
            let bytes = figures.encode();
            assert_eq!(NodeFigures::decode(bytes.clone()), Ok(figures));
            (0..bytes.len()).for_each(|end| assert!(NodeFigures::decode(bytes[..end].to_vec()).is_err(), "{end}"));
            assert!(NodeFigures::decode([&bytes[..], &[0]].concat()).is_err());
        }
    }

    /// Nodes that run different programs must agree on it.
    #[test]
    fn bytes_are_frozen() {
        let figures = NodeFigures { links: Vec::new(), ring: vec![Some(7), None], ..figures() };
        let mut bytes: Vec<u8> = [48_200_u32, 3].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.push(1);
        bytes.extend(1_350_u32.to_le_bytes());
        bytes.extend([0, 1]);
        bytes.extend(3_100_u32.to_le_bytes());
        bytes.extend(20_u16.to_le_bytes());
        bytes.push(1);
        bytes.extend((1_u64 << 38).to_le_bytes());
        bytes.push(0);
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(2_u32.to_le_bytes());
        bytes.push(1);
        bytes.extend(7_u32.to_le_bytes());
        bytes.push(0);
        assert_eq!(figures.encode(), bytes);
    }
}
