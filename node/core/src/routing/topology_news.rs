//! The ring map with the leaders that are known, and the frame in which clients hear of it. Who leads changes for thousands
//! of clients at once, and the map is long: the frame is made once, by whoever needs it first.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::{Epoch, RequestId, Response, ResponseBody, Topology};
use std::sync::{Arc, OnceLock};

/// See the module.
#[derive(Debug)]
pub struct TopologyNews {
    /// The topology's, at hand: it stands in every reply.
    epoch: Epoch,
    topology: Arc<Topology>,
    frame: OnceLock<Bytes>,
}

impl TopologyNews {
    /// News of a topology.
    pub fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self { epoch: topology.epoch, topology: Arc::new(topology), frame: OnceLock::new() })
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What is new.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The frame that says so to a client that did not ask.
    pub fn frame(&self) -> &Bytes {
        self.frame.get_or_init(|| {
            let body = ResponseBody::Topology(Topology::clone(&self.topology));
            let mut frame = BytesMut::new();
            Response { id: RequestId(0), epoch: self.epoch, forwarded: false, body }.encode(&mut frame);
            frame.freeze()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::limits::FRAME_BYTES_MAX;
    use kvorum_protocol::{ClusterId, Durability, ShardInfo, Term, frame};
    use uuid::Uuid;

    #[test]
    fn the_frame_is_made_once_and_says_what_is_new() {
        let topology = Topology {
            epoch: Epoch(7),
            cluster: ClusterId(Uuid::from_u128(1)),
            durability: Durability::Fsync,
            nodes: Vec::new(),
            shards: vec![ShardInfo { leader: None, term: Term(3), replicas: Vec::new() }],
        };
        let news = TopologyNews::new(topology.clone());
        assert_eq!(news.frame().as_ptr(), news.frame().as_ptr(), "all clients are sent the same bytes");
        let body = frame::decode(&mut BytesMut::from(&news.frame()[..]), FRAME_BYTES_MAX).unwrap().unwrap();
        let response = Response::decode(body).unwrap();
        assert_eq!((response.id, response.epoch), (RequestId(0), Epoch(7)));
        assert_eq!(response.body, ResponseBody::Topology(topology));
    }
}
