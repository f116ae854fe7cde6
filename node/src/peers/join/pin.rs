//! Whom a node that joins has reached: the certificate must be a node's of the token's cluster, signed by the authority that the token
//! names. Nothing is sent before that.

use crate::auth::cert::{Identity, hash_of_authority};
use kvorum_protocol::{AuthorityHash, ClusterId};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Accepts the nodes of one cluster, by its authority.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    pub(super) cluster: ClusterId,
    pub(super) authority: AuthorityHash,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|one| hash_of_authority(one) == Some(self.authority));
        let pinned = pinned.ok_or_else(|| Error::General("another authority than the token names".to_owned()))?;
        let identity = Identity::of_certificate(end_entity).map_err(|error| Error::General(error.to_string()))?;
        if identity.cluster != self.cluster {
            return Err(Error::General(format!("a node of cluster {}, not of the token's", identity.cluster)));
        }
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        // Whichever node it is: any of them may answer.
        let name = ServerName::try_from(identity.name()).map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // QUIC has TLS 1.3 only.
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
