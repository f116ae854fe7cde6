//! Mutual TLS: both ends of a connection prove which node of which cluster they are, and nobody else gets in.
//!
//! No check is written here. The dialling node asks for the certificate of one name, `<node>.node.<cluster>.kvorum`, and
//! TLS refuses any other; the accepting node lets TLS check the signature, and then compares the identity in the
//! certificate with the peers it knows (see [`super::incoming`]).

use super::transport::ALPN;
use crate::auth::cert::TlsIdentity;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// Why the TLS configurations could not be made from an identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate is unusable, or the key is not the certificate's.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// The authorities are unusable.
    #[error("unusable authority: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// The provider lacks what QUIC starts with.
    #[error(transparent)]
    Cipher(#[from] NoInitialCipherSuite),
}

/// How this node dials.
pub(super) fn client(identity: &TlsIdentity) -> Result<QuicClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities(identity)?)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Each connection proves both identities anew. Connections are few and long: resumption would save nothing.
    config.resumption = Resumption::disabled();
    Ok(QuicClientConfig::try_from(config)?)
}

/// How this node accepts.
pub(super) fn server(identity: &TlsIdentity) -> Result<QuicServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities(identity)?.into(), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

fn authorities(identity: &TlsIdentity) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in identity.authorities() {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    // Named, not the process default: another dependency may bring a second provider, and then there is none.
    Arc::new(rustls::crypto::ring::default_provider())
}
