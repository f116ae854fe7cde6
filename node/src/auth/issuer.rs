//! The issuer: an authority below the cluster's own one, whose key lies on nodes that run. It gives certificates to nodes that join
//! by a token. The cluster's authority itself stays off-line.
//!
//! Each issuer has a key of its own, and may make no further authorities. A node without these two files signs nothing.

use super::cert::{self, CertError, ClusterAuthority, Identity};
use kvorum_protocol::NodeKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use std::io;
use std::path::Path;
use uuid::Uuid;

/// The issuer's certificate, beside the node's own.
pub const ISSUER_CERTIFICATE_FILE: &str = "issuer.pem";
/// The issuer's key: secret.
pub const ISSUER_KEY_FILE: &str = "issuer.key";

/// What signs the certificates of nodes that join.
pub struct NodeIssuer {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A key for which a node wants a certificate, and the proof that the node has its private half.
pub struct SigningRequest(CertificateSigningRequestParams);

/// Makes an issuer with the authority in `authority_directory`, and writes `issuer.pem` and `issuer.key` (mode 0600) into
/// `directory`. The key is written last: where it stands, both are whole.
///
/// # Errors
/// `Exists` if there is an issuer's key in `directory` already; `File` and `Generate`.
pub fn create_issuer(authority_directory: &Path, directory: &Path) -> Result<(), CertError> {
    cert::refuse_existing(&directory.join(ISSUER_KEY_FILE))?;
    let authority = ClusterAuthority::load(authority_directory)?;
    let key = KeyPair::generate()?;
    let mut params = cert::valid_for_long(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, format!("Kvorum issuer {}", Uuid::new_v4()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, authority.issuer())?;
    cert::make_directory(directory)?;
    cert::write(&directory.join(ISSUER_CERTIFICATE_FILE), &certificate.pem(), 0o644)?;
    cert::write(&directory.join(ISSUER_KEY_FILE), &key.serialize_pem(), 0o600)
}

impl NodeIssuer {
    /// The issuer whose files lie in `directory`; `None` if there is none.
    ///
    /// # Errors
    /// `File`, and `Generate` for damaged contents.
    pub fn load(directory: &Path) -> Result<Option<Self>, CertError> {
        let key = match cert::read(&directory.join(ISSUER_KEY_FILE)) {
            Err(CertError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => KeyPair::from_pem(&other?)?,
        };
        let certificate_pem = cert::read(&directory.join(ISSUER_CERTIFICATE_FILE))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Some(Self { certificate_pem, issuer }))
    }

    /// A certificate for the node with that identity and the key of the request, followed by the issuer's own, as PEM. Of the
    /// request nothing counts but the key. `hosts`: by which names clients reach it.
    ///
    /// # Errors
    /// `Generate`.
    pub fn sign(&self, identity: Identity, request: &SigningRequest, hosts: &[String]) -> Result<String, CertError> {
        let certificate = cert::node_params(identity, hosts)?.signed_by(&request.0.public_key, &self.issuer)?;
        Ok(certificate.pem() + &self.certificate_pem)
    }
}

impl SigningRequest {
    /// Makes one for a key, as DER.
    ///
    /// # Errors
    /// `Generate`.
    pub fn make(key_pem: &str) -> Result<Vec<u8>, CertError> {
        let params = cert::valid_for_long(CertificateParams::default());
        Ok(params.serialize_request(&KeyPair::from_pem(key_pem)?)?.der().to_vec())
    }

    /// Reads one, and checks that whoever made it has the private key.
    ///
    /// # Errors
    /// `Generate` for anything else than a request of an ECDSA P-256 key.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        let request = CertificateSigningRequestParams::from_der(&der.into())?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(rcgen::Error::UnsupportedSignatureAlgorithm.into());
        }
        Ok(Self(request))
    }

    /// By which the ring map names the key.
    pub fn key(&self) -> NodeKey {
        NodeKey(cert::sha256(&self.0.public_key.subject_public_key_info()))
    }
}

/// A new private key of a node, as PEM (PKCS #8).
///
/// # Errors
/// `Generate` if the system gives no random numbers.
pub fn new_key() -> Result<String, CertError> {
    Ok(KeyPair::generate()?.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::super::cert::{NodeCertificate, TlsIdentity, create_authority};
    use super::*;
    use kvorum_protocol::{ClusterId, NodeId};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn identity() -> Identity {
        Identity { cluster: ClusterId(Uuid::new_v4()), node: NodeId(Uuid::new_v4()) }
    }

    #[test]
    fn what_an_issuer_signs_belongs_to_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, node) = (folder.path().join("ca"), folder.path().join("node"));
        create_authority(&authority).unwrap();
        create_issuer(&authority, &node).unwrap();
        assert!(matches!(create_issuer(&authority, &node), Err(CertError::Exists(_))));
        let mode = fs::metadata(node.join(ISSUER_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let key_pem = new_key().unwrap();
        let request = SigningRequest::from_der(&SigningRequest::make(&key_pem).unwrap()).unwrap();
        let issuer = NodeIssuer::load(&node).unwrap().expect("it is there");
        let (identity, authority_pem) = (identity(), fs::read_to_string(authority.join("ca.pem")).unwrap());
        let certificate_pem = issuer.sign(identity, &request, &[]).unwrap();
        let tls = TlsIdentity::from_pem(&NodeCertificate { authority_pem, certificate_pem, key_pem }).unwrap();
        tls.check().unwrap();
        assert_eq!((tls.identity(), tls.chain().len()), (identity, 2));
        let of_authority = cert::hash_of_authority(&tls.authorities()[0]);
        assert_eq!(Some(tls.authority().unwrap()), of_authority);
        assert!(NodeIssuer::load(folder.path()).unwrap().is_none());
    }

    #[test]
    fn an_authority_is_found_among_several() {
        let (one, other) = (ClusterAuthority::create().unwrap(), ClusterAuthority::create().unwrap());
        let Identity { cluster, node } = identity();
        let of_one = one.issue(cluster, node, &[]).unwrap();
        let of_other = other.issue(cluster, node, &[]).unwrap();
        let expected = TlsIdentity::from_pem(&of_one).unwrap().authority().unwrap();
        let both = of_other.authority_pem.clone() + &of_one.authority_pem;
        let tls = TlsIdentity::from_pem(&NodeCertificate { authority_pem: both, ..of_one }).unwrap();
        assert_eq!(tls.authority().unwrap(), expected);
        let foreign =
            NodeCertificate { authority_pem: of_other.authority_pem, ..one.issue(cluster, node, &[]).unwrap() };
        assert!(matches!(TlsIdentity::from_pem(&foreign).unwrap().authority(), Err(CertError::Contradiction(..))));
    }

    #[test]
    fn no_flipped_bit_makes_a_request_one_for_another_key() {
        let sound = SigningRequest::make(&new_key().unwrap()).unwrap();
        let key = SigningRequest::from_der(&sound).unwrap().key();
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[at] ^= 1 << bit;
                // The reader passes over some bits that no signature covers, such as one of the outermost tag.
                let read = SigningRequest::from_der(&damaged);
                assert!(read.is_err() || read.unwrap().key() == key, "byte {at} bit {bit}");
            }
            assert!(SigningRequest::from_der(&sound[..at]).is_err(), "cut at {at}");
        }
    }
}
