//! How a node joins that has a token and no certificate yet: one question and one answer on a stream of their own.
//!
//! Whoever reaches the peers' port may send the question, so it is small, and nothing of it is believed before its proof is.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{ERROR_TEXT_BYTES_MAX, JOIN_PEM_BYTES_MAX, RING_BYTES_MAX, SIGNING_REQUEST_BYTES_MAX};
use crate::token::TokenId;
use crate::verb::NewNode;
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a proof: an Ed25519 signature.
pub const PROOF_BYTES: usize = 64;
/// What the signed message begins with. No other signature of the same key can be taken for a proof.
const DOMAIN: &[u8] = b"kvorum-join/1 proof\0";

/// The question: may this node join?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// By which token.
    pub token: TokenId,
    /// The node. Its name may be empty: the cluster gives it one then.
    pub node: NewNode,
    /// The key for which it wants a certificate: a certificate signing request (PKCS #10, DER). Nothing else of it counts.
    pub signing_request: Bytes,
    /// The signature of [`JoinRequest::signed_by`] under the token's secret.
    pub proof: [u8; PROOF_BYTES],
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinReply {
    /// It may, and is a node of the ring map.
    Admitted(Box<Admitted>),
    /// It may not, and asking again changes nothing. The text says why.
    Refused(String),
    /// Not now: ask again. The text says why.
    Later(String),
}

/// What a node that may join needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Its certificate, first, and those between it and the authority, as PEM.
    pub certificate: String,
    /// The cluster's authorities, as PEM.
    pub authorities: String,
    /// A ring map in its stored form; the node is in it, and so are all its peers.
    pub map: Bytes,
}

impl JoinRequest {
    /// Appends the question: token, node, signing request, proof.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_without_proof(out);
        out.put_slice(&self.proof);
    }

    fn encode_without_proof(&self, out: &mut BytesMut) {
        out.uuid(self.token.0);
        self.node.encode(out);
        out.bytes(&self.signing_request);
    }

    /// What the proof signs: everything else that is asked, and what ties it to its connection. `binding` are bytes that both ends
    /// of the connection draw from its keys and nobody else knows, so that a proof is of no use on another connection.
    pub fn signed_by(&self, binding: &[u8; 32]) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(DOMAIN);
        out.put_slice(binding);
        self.encode_without_proof(&mut out);
        out.freeze()
    }

    /// Reads a question that must fill `bytes`.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let request = Self {
            token: reader.token_id()?,
            node: NewNode::decode(&mut reader)?,
            signing_request: reader.bytes("signing request", SIGNING_REQUEST_BYTES_MAX)?,
            proof: reader.array()?,
        };
        reader.finish()?;
        Ok(request)
    }
}

impl JoinReply {
    /// Appends the answer: its kind, then its fields.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Admitted(admitted) => {
                out.put_u8(0);
                out.bytes(admitted.certificate.as_bytes());
                out.bytes(admitted.authorities.as_bytes());
                out.bytes(&admitted.map);
            }
            Self::Refused(text) => {
                out.put_u8(1);
                out.text(text, ERROR_TEXT_BYTES_MAX);
            }
            Self::Later(text) => {
                out.put_u8(2);
                out.text(text, ERROR_TEXT_BYTES_MAX);
            }
        }
    }

    /// Reads an answer that must fill `bytes`.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let pem = |reader: &mut Reader, field| {
            let bytes = reader.bytes(field, JOIN_PEM_BYTES_MAX)?;
            String::from_utf8(bytes.into()).map_err(|_| DecodeError::NotText(field))
        };
        let reply = match reader.u8()? {
            0 => Self::Admitted(Box::new(Admitted {
                certificate: pem(&mut reader, "certificate")?,
                authorities: pem(&mut reader, "authorities")?,
                map: reader.bytes("ring map", RING_BYTES_MAX)?,
            })),
            1 => Self::Refused(reader.text("refusal", ERROR_TEXT_BYTES_MAX)?),
            2 => Self::Later(reader.text("refusal", ERROR_TEXT_BYTES_MAX)?),
            value => return Err(DecodeError::UnknownValue { field: "answer to a join", value: value.into() }),
        };
        reader.finish()?;
        Ok(reply)
    }
}
