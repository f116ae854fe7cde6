//! Certificates: a cluster's own authority, and the identity that it gives each node.
//!
//! A node's certificate says who it is: the name `<node id>.node.<cluster id>.kvorum` stands in it as a subject
//! alternative name, and the cluster's authority signed it. Host names and addresses play no part, because they change.
//!
//! Certificates are valid until 2100. A cluster must not stop on the day a certificate expires, and a node whose clock is
//! wrong must still be able to join: a node is shut out by removing it from the membership, not by the calendar.

use super::user_cert::{Holder, holder_of};
use kvorum_protocol::{AuthorityHash, ClusterId, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// The authority's certificate: public, on every node.
pub const AUTHORITY_CERTIFICATE_FILE: &str = "ca.pem";
/// The authority's key: secret, needed only where certificates are issued.
pub const AUTHORITY_KEY_FILE: &str = "ca.key";
/// A node's certificate.
pub const NODE_CERTIFICATE_FILE: &str = "node.pem";
/// A node's key: secret.
pub const NODE_KEY_FILE: &str = "node.key";

/// A name of every node of every cluster: a client that trusts the cluster's authority needs to know only that it talks to a node.
pub const NODE_NAME: &str = "node.kvorum";

/// What goes wrong with certificates and their files.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key is there already and is never overwritten.
    #[error("{0} exists already; remove it yourself if it is not needed any more")]
    Exists(PathBuf),
    /// Not a PEM file of the expected kind.
    #[error("{path}: not the PEM file it should be: {reason}")]
    Pem {
        /// The file, or what the text was given as.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A certificate that doesn't name exactly one holder, or not the kind that is wanted, or one that isn't a certificate.
    #[error("the certificate can't be used: {0}")]
    NoIdentity(&'static str),
    /// The files contradict each other: one is damaged, or is another cluster's or node's.
    #[error("{0} do not belong together; one of them is damaged, or another cluster's or node's: {1}")]
    Contradiction(&'static str, rustls::Error),
    /// No user can have this name.
    #[error("{0:?} is no name of a user: it has 1 to 128 letters, digits and characters of - _ . @")]
    UserName(String),
    /// The library could not make a key or a certificate.
    #[error("can't make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Who a certificate says its holder is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Makes a new authority in `directory`: `ca.pem` and `ca.key` (mode 0600).
///
/// # Errors
/// `Exists` if there is an authority's key already; `File` and `Generate`.
pub fn create_authority(directory: &Path) -> Result<ClusterAuthority, CertError> {
    refuse_existing(&directory.join(AUTHORITY_KEY_FILE))?;
    let authority = ClusterAuthority::create()?;
    authority.write(directory)?;
    Ok(authority)
}

/// Issues a node's certificate with the authority in `authority_directory` and writes the three files that the node needs,
/// `ca.pem`, `node.pem` and `node.key` (mode 0600), into `directory`. `hosts`: names and IP addresses at which clients reach it; what
/// is none is left out.
///
/// # Errors
/// `Exists` if there is a node's key in `directory` already; `File`, `Pem` and `Generate`.
pub fn issue_node(
    authority_directory: &Path,
    directory: &Path,
    cluster: ClusterId,
    node: NodeId,
    hosts: &[String],
) -> Result<(), CertError> {
    refuse_existing(&directory.join(NODE_KEY_FILE))?;
    ClusterAuthority::load(authority_directory)?.issue(cluster, node, hosts)?.write(directory)
}

/// The key and certificate that sign a cluster's node certificates.
pub struct ClusterAuthority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl ClusterAuthority {
    /// A new authority (ECDSA P-256), in memory only.
    ///
    /// # Errors
    /// `Generate` if the system gives no random numbers.
    pub fn create() -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for_long(CertificateParams::default());
        // A name of its own for each authority: "unknown issuer" is a better answer than "bad signature" when the
        // certificates of two clusters are mixed up.
        params.distinguished_name.push(DnType::CommonName, format!("Kvorum authority {}", Uuid::new_v4()));
        // One authority may stand between it and a node: see [`super::issuer`].
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority of these PEM texts.
    ///
    /// # Errors
    /// `Generate` if either is not what it should be.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// The authority whose files [`create_authority`] wrote.
    ///
    /// # Errors
    /// `File`, and `Generate` for damaged contents.
    pub fn load(directory: &Path) -> Result<Self, CertError> {
        let certificate = read(&directory.join(AUTHORITY_CERTIFICATE_FILE))?;
        let key = read(&directory.join(AUTHORITY_KEY_FILE))?;
        Self::from_pem(&certificate, &key)
    }

    /// The authority's certificate.
    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Writes `ca.pem` and `ca.key` into `directory`, which is created if need be. The key is written last: where it
    /// stands, both are whole.
    ///
    /// # Errors
    /// `File`.
    pub fn write(&self, directory: &Path) -> Result<(), CertError> {
        make_directory(directory)?;
        write(&directory.join(AUTHORITY_CERTIFICATE_FILE), &self.certificate_pem, 0o644)?;
        write(&directory.join(AUTHORITY_KEY_FILE), &self.issuer.key().serialize_pem(), 0o600)
    }

    /// A new key and certificate for `node`. `extra_names` are the DNS names or IP addresses at which clients reach it: most of them
    /// insist on that.
    ///
    /// # Errors
    /// `Generate`, for a name that is none.
    pub fn issue(
        &self,
        cluster: ClusterId,
        node: NodeId,
        extra_names: &[String],
    ) -> Result<NodeCertificate, CertError> {
        let key = KeyPair::generate()?;
        let certificate = node_params(Identity { cluster, node }, extra_names)?.signed_by(&key, &self.issuer)?;
        Ok(NodeCertificate {
            authority_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// What a node's certificate says.
pub(super) fn node_params(identity: Identity, extra_names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut names = vec![identity.name(), NODE_NAME.to_owned()];
    names.extend_from_slice(extra_names);
    let mut params = valid_for_long(CertificateParams::new(names)?);
    params.distinguished_name.push(DnType::CommonName, format!("Kvorum node {}", identity.node));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Either end of a connection between two nodes may be the one that dialled.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A node's certificate and key, and the authority that signed it, as PEM texts.
pub struct NodeCertificate {
    /// The authority's certificate.
    pub authority_pem: String,
    /// The node's certificate.
    pub certificate_pem: String,
    /// The node's key (PKCS #8): secret.
    pub key_pem: String,
}

impl NodeCertificate {
    /// Writes `ca.pem`, `node.pem` and `node.key` into `directory`, which is created if need be. The key is written last:
    /// where it stands, all three are whole.
    ///
    /// # Errors
    /// `File`.
    pub fn write(&self, directory: &Path) -> Result<(), CertError> {
        make_directory(directory)?;
        write(&directory.join(AUTHORITY_CERTIFICATE_FILE), &self.authority_pem, 0o644)?;
        write(&directory.join(NODE_CERTIFICATE_FILE), &self.certificate_pem, 0o644)?;
        write(&directory.join(NODE_KEY_FILE), &self.key_pem, 0o600)
    }
}

/// What a node needs to prove who it is and to check others: parsed, and its identity read from the certificate.
pub struct TlsIdentity {
    identity: Identity,
    authority_pem: String,
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        let (authority_pem, authorities) = (self.authority_pem.clone(), self.authorities.clone());
        Self { identity: self.identity, authority_pem, authorities, chain: self.chain.clone(), key: self.key() }
    }
}

impl TlsIdentity {
    /// Reads `ca.pem`, `node.pem` and `node.key`.
    ///
    /// # Errors
    /// `File`, `Pem`, and `NoIdentity` if the certificate names no node.
    pub fn load(directory: &Path) -> Result<Self, CertError> {
        let text = |name: &str| read(&directory.join(name));
        Self::from_pem(&NodeCertificate {
            authority_pem: text(AUTHORITY_CERTIFICATE_FILE)?,
            certificate_pem: text(NODE_CERTIFICATE_FILE)?,
            key_pem: text(NODE_KEY_FILE)?,
        })
    }

    /// Parses PEM texts. `ca.pem` may hold several authorities (one that comes and one that goes), `node.pem` may
    /// hold a chain with the node's own certificate first.
    ///
    /// # Errors
    /// `Pem`, and `NoIdentity` if the certificate names no node.
    pub fn from_pem(pem: &NodeCertificate) -> Result<Self, CertError> {
        let authorities = certificates(AUTHORITY_CERTIFICATE_FILE, &pem.authority_pem)?;
        let chain = certificates(NODE_CERTIFICATE_FILE, &pem.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(pem.key_pem.as_bytes())
            .map_err(|error| CertError::Pem { path: NODE_KEY_FILE.into(), reason: error.to_string() })?;
        let identity = Identity::of_certificate(&chain[0])?;
        let authority_pem = pem.authority_pem.clone();
        Ok(Self { identity, authority_pem, authorities, chain, key })
    }

    /// Makes sure that the files belong together: an authority has signed the certificate, and the key is the certificate's.
    /// If they don't, no peer lets this node in. Whether the certificate is valid now is not looked at: clocks go wrong, and are
    /// set right.
    ///
    /// # Errors
    /// `Contradiction`, and `Pem` for an authority that is none.
    pub fn check(&self) -> Result<(), CertError> {
        self.verify_chain(&self.authorities)?;
        // Named, not the process default: another dependency may bring a second provider, and then there is none.
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(self.chain.clone(), self.key(), &provider)
            .map(drop)
            .map_err(|error| CertError::Contradiction("the node's certificate and its key", error))
    }

    /// Makes sure that one of these authorities has signed the certificate.
    fn verify_chain(&self, authorities: &[CertificateDer<'static>]) -> Result<(), CertError> {
        let unusable = |error: String| CertError::Pem { path: AUTHORITY_CERTIFICATE_FILE.into(), reason: error };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|error| unusable(error.to_string()))?;
        }
        let provider = rustls::crypto::ring::default_provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.into());
        let verifier = verifier.build().map_err(|error| unusable(error.to_string()))?;
        let (_, own) = x509_parser::parse_x509_certificate(&self.chain[0])
            .map_err(|_| CertError::NoIdentity("not a certificate"))?;
        let valid_from = u64::try_from(own.validity().not_before.timestamp()).unwrap_or(0);
        let when = UnixTime::since_unix_epoch(Duration::from_secs(valid_from));
        verifier
            .verify_client_cert(&self.chain[0], &self.chain[1..], when)
            .map(drop)
            .map_err(|error| CertError::Contradiction("the node's certificate and the authority's", error))
    }

    /// The authority that has signed the certificate, itself or through another one: who joins by a token expects it.
    ///
    /// # Errors
    /// As [`TlsIdentity::check`].
    pub fn authority(&self) -> Result<AuthorityHash, CertError> {
        let signed = |authority: &&CertificateDer<'static>| self.verify_chain(std::slice::from_ref(*authority)).is_ok();
        let Some(authority) = self.authorities.iter().find(signed) else {
            // Says why.
            self.verify_chain(&self.authorities)?;
            return Err(CertError::NoIdentity("no authority has signed it"));
        };
        hash_of_authority(authority).ok_or(CertError::NoIdentity("its authority is no certificate"))
    }

    /// The authorities as they stand in `ca.pem`.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// Who the certificate says this node is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The authorities whose signature is accepted; at least one.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The node's certificate, first, and those between it and the authority.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The node's key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl Identity {
    /// `<node id>.node.<cluster id>.kvorum`.
    pub fn name(&self) -> String {
        format!("{}.node.{}.kvorum", self.node, self.cluster)
    }

    /// The identity of which this is the name; `None` for any other name.
    pub fn from_name(name: &str) -> Option<Self> {
        let (node, cluster) = name.strip_suffix(".kvorum")?.split_once(".node.")?;
        let identity = Self { cluster: ClusterId(cluster.parse().ok()?), node: NodeId(node.parse().ok()?) };
        // One spelling only: an id may be written in several ways, a name must not.
        (identity.name() == name).then_some(identity)
    }

    /// The identity that a certificate names. It says nothing about who signed it.
    ///
    /// # Errors
    /// `NoIdentity` unless the certificate carries exactly one such name, and none of a user: with two, its holder could choose.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| CertError::NoIdentity("not a certificate"))?;
        match holder_of(&parsed)? {
            Holder::Node(identity) => Ok(identity),
            Holder::User { .. } => Err(CertError::NoIdentity("it is a user's, and users are no nodes")),
        }
    }
}

/// By which a token names an authority; `None` for bytes that are no certificate.
pub(crate) fn hash_of_authority(certificate: &CertificateDer<'_>) -> Option<AuthorityHash> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(AuthorityHash(sha256(parsed.public_key().raw)))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("it has 32 bytes")
}

pub(super) fn valid_for_long(mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

pub(crate) fn certificates(file: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let bad = |reason: String| CertError::Pem { path: file.into(), reason };
    let parsed: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if parsed.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(parsed) }
}

pub(super) fn refuse_existing(path: &Path) -> Result<(), CertError> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(CertError::Exists(path.to_owned())),
        Err(source) => Err(CertError::File { path: path.to_owned(), source }),
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), CertError> {
    fs::create_dir_all(path).map_err(|source| CertError::File { path: path.to_owned(), source })
}

pub(crate) fn read(path: &Path) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| CertError::File { path: path.to_owned(), source })
}

/// Writes a whole file or none: beside it first, synced, then renamed into place. The mode is set before the first byte
/// is there, so that a key is at no moment readable by others.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let temporary = path.with_extension("tmp");
    let attempt = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // What a crash left behind keeps its old mode when it is opened again.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().map_err(|source| CertError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (ClusterId, NodeId) {
        (ClusterId(Uuid::new_v4()), NodeId(Uuid::new_v4()))
    }

    #[test]
    fn a_node_certificate_names_its_node_and_cluster() {
        let (cluster, node) = ids();
        let authority = ClusterAuthority::create().unwrap();
        let issued = authority.issue(cluster, node, &["127.0.0.1".to_owned(), "db1.example.org".to_owned()]).unwrap();
        let identity = TlsIdentity::from_pem(&issued).unwrap();
        assert_eq!(identity.identity(), Identity { cluster, node });
        assert_eq!(Identity::of_certificate(&identity.chain()[0]).unwrap(), Identity { cluster, node });
    }

    #[test]
    fn files_come_back_and_keys_are_private() {
        let (cluster, node) = ids();
        let directory = tempfile::tempdir().unwrap();
        let (authority, own) = (directory.path().join("authority"), directory.path().join("node"));
        create_authority(&authority).unwrap();
        issue_node(&authority, &own, cluster, node, &[]).unwrap();
        assert_eq!(TlsIdentity::load(&own).unwrap().identity(), Identity { cluster, node });
        for key in [authority.join(AUTHORITY_KEY_FILE), own.join(NODE_KEY_FILE)] {
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
        }
        let left_over = fs::read_dir(&own)
            .unwrap()
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "tmp"));
        assert_eq!(left_over.count(), 0);
    }

    #[test]
    fn a_loaded_authority_signs_under_the_same_name() {
        let (cluster, node) = ids();
        let directory = tempfile::tempdir().unwrap();
        let created = create_authority(directory.path()).unwrap().issue(cluster, node, &[]).unwrap();
        let loaded = ClusterAuthority::load(directory.path()).unwrap().issue(cluster, node, &[]).unwrap();
        let issuer = |pem: &NodeCertificate| {
            let certificate = TlsIdentity::from_pem(pem).unwrap().chain()[0].to_vec();
            x509_parser::parse_x509_certificate(&certificate).unwrap().1.issuer().to_string()
        };
        assert_eq!(issuer(&created), issuer(&loaded));
        assert!(issuer(&created).contains("Kvorum authority"));
    }

    #[test]
    fn keys_are_never_overwritten() {
        let (cluster, node) = ids();
        let directory = tempfile::tempdir().unwrap();
        create_authority(directory.path()).unwrap();
        assert!(matches!(create_authority(directory.path()), Err(CertError::Exists(_))));
        issue_node(directory.path(), directory.path(), cluster, node, &[]).unwrap();
        assert!(matches!(
            issue_node(directory.path(), directory.path(), cluster, node, &[]),
            Err(CertError::Exists(path)) if path.ends_with(NODE_KEY_FILE)
        ));
    }

    #[test]
    fn a_certificate_that_names_no_node_or_two_has_no_identity() {
        let (cluster, node) = ids();
        let authority = ClusterAuthority::create().unwrap();
        let second = Identity { cluster, node: NodeId(Uuid::new_v4()) }.name();
        let two = authority.issue(cluster, node, &[second]).unwrap();
        assert!(matches!(TlsIdentity::from_pem(&two), Err(CertError::NoIdentity("it names two nodes"))));
        let itself = NodeCertificate { certificate_pem: two.authority_pem.clone(), ..two };
        assert!(matches!(TlsIdentity::from_pem(&itself), Err(CertError::NoIdentity(_))));
        assert!(matches!(
            Identity::of_certificate(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])),
            Err(CertError::NoIdentity("not a certificate"))
        ));
    }

    #[test]
    fn only_the_one_spelling_is_an_identity() {
        let (cluster, node) = ids();
        let name = Identity { cluster, node }.name();
        assert_eq!(Identity::from_name(&name), Some(Identity { cluster, node }));
        for other in [
            name.to_uppercase(),
            format!("x{name}"),
            format!("{name}."),
            format!("{}.node.{}.kvorum", node.0.simple(), cluster),
            format!("*.node.{cluster}.kvorum"),
            "node.kvorum".to_owned(),
            String::new(),
        ] {
            assert_eq!(Identity::from_name(&other), None, "{other}");
        }
    }

    /// A node with such files would start, and be turned away by each of its peers.
    #[test]
    fn files_in_which_a_byte_flips_are_refused_or_as_good_as_before() {
        let (cluster, node) = ids();
        let issued = ClusterAuthority::create().unwrap().issue(cluster, node, &[]).unwrap();
        let texts = [&issued.authority_pem, &issued.certificate_pem, &issued.key_pem];
        let usable = |texts: &[String; 3]| {
            let [authority_pem, certificate_pem, key_pem] = texts.clone();
            let tls = TlsIdentity::from_pem(&NodeCertificate { authority_pem, certificate_pem, key_pem })?;
            tls.check().map(|()| tls)
        };
        let sound = usable(&texts.map(String::clone)).unwrap();
        let (mut refused, mut harmless) = ([0; 3], 0);
        for file in 0..3 {
            for at in 0..texts[file].len() {
                for bits in [1 << (at % 7), 0xff] {
                    let mut bytes = texts[file].clone().into_bytes();
                    bytes[at] ^= bits;
                    let mut damaged = texts.map(String::clone);
                    // What is no text is refused when it is read.
                    let Ok(text) = String::from_utf8(bytes) else { continue };
                    damaged[file] = text;
                    match usable(&damaged) {
                        Err(_) => refused[file] += 1,
                        // The authority's own signature, or a line break.
                        Ok(tls) => {
                            assert_eq!((tls.identity(), tls.chain()), (sound.identity(), sound.chain()), "{file}:{at}");
                            harmless += 1;
                        }
                    }
                }
            }
        }
        assert!(
            refused.iter().all(|refused| *refused > 100) && harmless < 400,
            "{refused:?} refused, {harmless} harmless"
        );
    }

    #[test]
    fn files_of_two_clusters_or_nodes_do_not_belong_together() {
        let (cluster, node) = ids();
        let issue = || ClusterAuthority::create().unwrap().issue(cluster, node, &[]).unwrap();
        let (one, other) = (issue(), issue());
        let check = |pem: NodeCertificate| TlsIdentity::from_pem(&pem).unwrap().check().unwrap_err().to_string();
        let foreign = check(NodeCertificate { authority_pem: other.authority_pem.clone(), ..issue() });
        assert!(foreign.contains("the node's certificate and the authority's do not belong together"), "{foreign}");
        let key = check(NodeCertificate { key_pem: other.key_pem, ..one });
        assert!(key.contains("the node's certificate and its key do not belong together"), "{key}");
    }

    #[test]
    fn damaged_files_are_errors() {
        let (cluster, node) = ids();
        let issued = ClusterAuthority::create().unwrap().issue(cluster, node, &[]).unwrap();
        let without = |certificate_pem: &str, key_pem: &str| {
            TlsIdentity::from_pem(&NodeCertificate {
                authority_pem: issued.authority_pem.clone(),
                certificate_pem: certificate_pem.to_owned(),
                key_pem: key_pem.to_owned(),
            })
        };
        assert!(matches!(without("", &issued.key_pem), Err(CertError::Pem { .. })));
        assert!(matches!(without(&issued.certificate_pem, "no key"), Err(CertError::Pem { .. })));
        assert!(ClusterAuthority::from_pem("nothing", &issued.key_pem).is_err());
        assert!(matches!(
            TlsIdentity::load(Path::new("/nonexistent")),
            Err(CertError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound
        ));
    }
}
