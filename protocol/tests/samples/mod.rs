//! One value of every message there is, in every shape it has. Golden bytes, damage and mutation all begin with these.

mod join;
mod peer;
mod requests;
mod responses;

pub(crate) use join::{join_replies, join_requests};
pub(crate) use peer::peer_messages;
pub(crate) use requests::requests;
pub(crate) use responses::{responses, statuses};

use bytes::{Bytes, BytesMut};
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{JoinReply, JoinRequest, NodeStatus, Request, Response, frame};
use uuid::Uuid;

/// A named value of one decoder, and its bytes.
pub(crate) struct Sample {
    /// What it is, unique within its decoder.
    pub(crate) name: String,
    /// As it stands inside a frame, or inside another message.
    pub(crate) body: Bytes,
    /// Whether bytes decode to the very value that `body` was encoded from.
    pub(crate) is_decoded_from: Box<dyn Fn(Bytes) -> bool>,
}

impl Sample {
    /// The body in a frame of its own.
    pub(crate) fn frame(&self) -> Bytes {
        let mut out = BytesMut::new();
        frame::encode(&mut out, |out| out.extend_from_slice(&self.body));
        out.freeze()
    }
}

/// The samples of one decoder.
pub(crate) struct Family {
    /// Also the name of its file of golden bytes.
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// Every sample of every decoder.
pub(crate) fn families() -> Vec<Family> {
    vec![
        family("requests", requests(), Request::encode_body, |body| Request::decode(body).ok()),
        family("responses", responses(), Response::encode_body, |body| Response::decode(body).ok()),
        family("peer_messages", peer_messages(), PeerMessage::encode, |body| PeerMessage::decode(body).ok()),
        family("join_requests", join_requests(), JoinRequest::encode, |body| JoinRequest::from_bytes(body).ok()),
        family("join_replies", join_replies(), JoinReply::encode, |body| JoinReply::from_bytes(body).ok()),
        family("node_statuses", statuses(), NodeStatus::encode, |body| NodeStatus::from_bytes(body).ok()),
    ]
}

fn family<T: PartialEq + 'static>(
    name: &'static str,
    values: Vec<(String, T)>,
    encode: fn(&T, &mut BytesMut),
    decode: fn(Bytes) -> Option<T>,
) -> Family {
    let sample = |(name, value): (String, T)| {
        let mut body = BytesMut::new();
        encode(&value, &mut body);
        let is_decoded_from = Box::new(move |bytes| decode(bytes).as_ref() == Some(&value));
        Sample { name, body: body.freeze(), is_decoded_from }
    };
    Family { name, samples: values.into_iter().map(sample).collect() }
}

/// A UUID whose bytes show their order.
pub(crate) fn uuid(last: u8) -> Uuid {
    Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_ee00 + u128::from(last))
}

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
