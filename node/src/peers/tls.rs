//! Mutual TLS: both ends of a connection prove which node of which cluster they are, and nobody else gets in; but for nodes that join
//! by a token, which have no certificate yet.
//!
//! No check is written here. The dialling node asks for the certificate of one name, `<node>.node.<cluster>.kvorum`, and
//! TLS refuses any other; the accepting node lets TLS check the signature, and then compares the identity in the
//! certificate with the peers it knows (see [`super::incoming`]). TLS accepts who shows no certificate, too: such a connection is
//! closed unless it is of a node that joins (see [`super::join`]).

use super::join::JOIN_ALPN;
use super::transport::ALPN;
use crate::auth::cert::TlsIdentity;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
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
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities(identity)?.into(), provider())
        .allow_unauthenticated()
        .build()?;
    let provider = provider();
    let certified = |chain| CertifiedKey::from_der(chain, identity.key(), &provider).map(Arc::new);
    let with_authorities = [identity.chain(), identity.authorities()].concat();
    let chains = Chains { of_peers: certified(identity.chain().to_vec())?, of_joiners: certified(with_authorities)? };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(chains));
    config.alpn_protocols = vec![ALPN.to_vec(), JOIN_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

/// The node's certificate, as it is shown.
#[derive(Debug)]
struct Chains {
    of_peers: Arc<CertifiedKey>,
    /// With the authorities themselves: a node that joins knows but the hash of one.
    of_joiners: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_peer = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ALPN));
        Some(Arc::clone(if is_peer { &self.of_peers } else { &self.of_joiners }))
    }
}

fn authorities(identity: &TlsIdentity) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in identity.authorities() {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    // Named, not the process default: another dependency may bring a second provider, and then there is none.
    Arc::new(rustls::crypto::ring::default_provider())
}
