//! The proof that a node has a token: a signature under the token's secret, over all that the node says and over its connection.

use kvorum_protocol::join::PROOF_BYTES;
use kvorum_protocol::{JoinRequest, TokenKey, TokenSecret};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

/// Signs a request. `binding`: what both ends of its connection draw from the connection's keys.
pub fn sign(request: &JoinRequest, secret: &TokenSecret, binding: &[u8; 32]) -> [u8; PROOF_BYTES] {
    let pair = Ed25519KeyPair::from_seed_unchecked(&secret.0).expect("a seed is any 32 bytes");
    pair.sign(&request.signed_by(binding)).as_ref().try_into().expect("a signature has 64 bytes")
}

/// Whether a request was signed by who has the secret of which this is the public half.
pub fn is_signed(request: &JoinRequest, key: &TokenKey, binding: &[u8; 32]) -> bool {
    UnparsedPublicKey::new(&ED25519, &key.0).verify(&request.signed_by(binding), &request.proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kvorum_protocol::peer::Levels;
    use kvorum_protocol::{FolderId, NewNode, NodeId, TokenId};
    use ring::signature::KeyPair;
    use uuid::Uuid;

    #[test]
    fn a_proof_is_of_one_secret_one_connection_and_every_byte() {
        let secret = TokenSecret([7; 32]);
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret.0).unwrap();
        let key = TokenKey(pair.public_key().as_ref().try_into().unwrap());
        let node = NewNode {
            id: NodeId(Uuid::from_u128(1)),
            name: "node-4".to_owned(),
            zone: "b".to_owned(),
            client: "a:1".to_owned(),
            peer: "a:2".to_owned(),
            folder: FolderId(Uuid::from_u128(2)),
            levels: Levels::OWN,
        };
        let signing_request = Bytes::from_static(b"a request");
        let unsigned = JoinRequest { token: TokenId(Uuid::from_u128(3)), node, signing_request, proof: [0; 64] };
        let proof = sign(&unsigned, &secret, &[1; 32]);
        let request = JoinRequest { proof, ..unsigned };
        assert!(is_signed(&request, &key, &[1; 32]));
        assert!(!is_signed(&request, &key, &[2; 32]), "it was made for another connection");
        assert!(!is_signed(&request, &TokenKey([9; 32]), &[1; 32]));
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(changed) = JoinRequest::from_bytes(changed.freeze()) {
                assert!(!is_signed(&changed, &key, &[1; 32]), "byte {at}");
            }
        }
    }
}
