//! Certificates of users: who shows one at a door of clients is that user, without a password.
//!
//! The name `<user>.user.<cluster id>.kvorum` stands in it as a subject alternative name, and the cluster's authority signed it. The
//! common name is for people, and nobody looks at it. Certificates of users are no servers', and their holders are no nodes.

use super::cert::{self, CertError, ClusterAuthority, Identity};
use kvorum_core::auth::verbs::is_name;
use kvorum_protocol::ClusterId;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::CertificateDer;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

/// How long a user's certificate is valid unless somebody says otherwise, in days.
pub const USER_DAYS_DEFAULT: u32 = 365;

/// Whom a certificate names. It says nothing about who signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A node of a cluster.
    Node(Identity),
    /// A user of a cluster.
    User {
        /// The cluster.
        cluster: ClusterId,
        /// The user's name.
        user: String,
    },
}

/// What a client's certificate says of it, once TLS has checked who signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserCertificate {
    /// The user's name.
    pub user: String,
    /// The certificate's serial number, without leading zeros.
    pub serial: Vec<u8>,
}

/// A user's certificate and key, and the authority that signed it, as PEM texts.
pub struct NewUserCertificate {
    authority_pem: String,
    certificate_pem: String,
    /// PKCS #8: secret.
    key_pem: String,
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateView {
    /// Whom it names.
    pub holder: Holder,
    /// Its serial number, without leading zeros.
    pub serial: Vec<u8>,
    /// From when it is valid: Unix time in seconds.
    pub not_before_s: i64,
    /// Until when it is valid: Unix time in seconds.
    pub not_after_s: i64,
}

impl CertificateView {
    /// What a certificate says.
    ///
    /// # Errors
    /// `NoIdentity` unless it names exactly one node or user: with two names, its holder could choose.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| CertError::NoIdentity("not a certificate"))?;
        let validity = parsed.validity();
        Ok(Self {
            holder: holder_of(&parsed)?,
            serial: without_zeros(parsed.raw_serial()),
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
        })
    }
}

/// A serial number without the zeros before it.
pub fn without_zeros(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Whom a certificate names.
pub(super) fn holder_of(certificate: &X509Certificate<'_>) -> Result<Holder, CertError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertError::NoIdentity("damaged subject alternative names"))?
        .ok_or(CertError::NoIdentity("no subject alternative names"))?;
    let mut holders = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Holder::from_name(name),
        _ => None,
    });
    match (holders.next(), holders.next()) {
        (Some(holder), None) => Ok(holder),
        (None, _) => Err(CertError::NoIdentity("it names neither a node nor a user")),
        (Some(Holder::Node(_)), Some(Holder::Node(_))) => Err(CertError::NoIdentity("it names two nodes")),
        (Some(Holder::User { .. }), Some(Holder::User { .. })) => Err(CertError::NoIdentity("it names two users")),
        (Some(_), Some(_)) => Err(CertError::NoIdentity("it names a node and a user")),
    }
}

impl Holder {
    /// Whose name this is; `None` for any other name.
    fn from_name(name: &str) -> Option<Self> {
        Identity::from_name(name).map(Self::Node).or_else(|| Self::user_from_name(name))
    }

    /// The user of a name `<user>.user.<cluster id>.kvorum`. A user's name may have dots; a cluster's id has none.
    fn user_from_name(name: &str) -> Option<Self> {
        let (user, cluster) = name.strip_suffix(".kvorum")?.rsplit_once(".user.")?;
        let holder = Self::User { cluster: ClusterId(cluster.parse().ok()?), user: user.to_owned() };
        // One spelling only, as for nodes.
        (is_name(user) && holder.name() == name).then_some(holder)
    }

    /// The name that stands in its certificate.
    pub fn name(&self) -> String {
        match self {
            Self::Node(identity) => identity.name(),
            Self::User { cluster, user } => format!("{user}.user.{cluster}.kvorum"),
        }
    }
}

impl UserCertificate {
    /// Who shows this certificate to a node of `cluster`. `None`: a node, which is no user.
    ///
    /// # Errors
    /// `NoIdentity` for a certificate of nobody, or of another cluster.
    pub fn of(certificate: &CertificateDer<'_>, cluster: ClusterId) -> Result<Option<Self>, CertError> {
        let view = CertificateView::of(certificate)?;
        match view.holder {
            Holder::Node(_) => Ok(None),
            Holder::User { cluster: of, user } if of == cluster => Ok(Some(Self { user, serial: view.serial })),
            Holder::User { .. } => Err(CertError::NoIdentity("its user is another cluster's")),
        }
    }
}

impl ClusterAuthority {
    /// A new key and certificate for a user. `days`: how long it is valid; `None` for as long as a node's.
    ///
    /// # Errors
    /// `Generate`; `UserName` for a name that no user can have.
    pub fn issue_user(
        &self,
        cluster: ClusterId,
        user: &str,
        days: Option<u32>,
    ) -> Result<NewUserCertificate, CertError> {
        if !is_name(user) {
            return Err(CertError::UserName(user.to_owned()));
        }
        let name = Holder::User { cluster, user: user.to_owned() }.name();
        let key = KeyPair::generate()?;
        let mut params = cert::valid_for_long(CertificateParams::new(vec![name])?);
        params.distinguished_name.push(DnType::CommonName, format!("Kvorum user {user}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if let Some(days) = days {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(u64::from(days) * 86_400);
        }
        let certificate = params.signed_by(&key, self.issuer())?;
        Ok(NewUserCertificate {
            authority_pem: self.certificate_pem().to_owned(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl NewUserCertificate {
    /// Writes `<user>.pem`, `<user>.key` (mode 0600) and `ca.pem` into `directory`, which is created if need be. Returns the first
    /// two. The key is written last: where it stands, all are whole.
    ///
    /// # Errors
    /// `Exists` if there is a key of that name already; `File`.
    pub fn write(&self, directory: &Path, user: &str) -> Result<[PathBuf; 2], CertError> {
        let [certificate, key] = ["pem", "key"].map(|kind| directory.join(format!("{user}.{kind}")));
        cert::refuse_existing(&key)?;
        cert::make_directory(directory)?;
        cert::write(&directory.join(cert::AUTHORITY_CERTIFICATE_FILE), &self.authority_pem, 0o644)?;
        cert::write(&certificate, &self.certificate_pem, 0o644)?;
        cert::write(&key, &self.key_pem, 0o600)?;
        Ok([certificate, key])
    }

    /// The same with more authorities than the one that has signed it.
    #[must_use]
    pub fn with_authorities(mut self, authority_pem: String) -> Self {
        self.authority_pem = authority_pem;
        self
    }

    /// The certificate, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key, as PEM: secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::NodeId;
    use rustls::pki_types::pem::PemObject as _;
    use std::os::unix::fs::PermissionsExt as _;
    use uuid::Uuid;

    fn cluster() -> ClusterId {
        ClusterId(Uuid::from_u128(99))
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_names_its_user_and_only_in_its_cluster() {
        let authority = ClusterAuthority::create().unwrap();
        for user in ["ada", "ada.user.x", "ada@example.org", "a-b_c.d", "10.0.0.1", "node"] {
            let issued = authority.issue_user(cluster(), user, Some(30)).unwrap();
            let of = UserCertificate::of(&der(&issued.certificate_pem), cluster()).unwrap().unwrap();
            assert_eq!(of.user, user);
            assert!((1..=20).contains(&of.serial.len()));
            let elsewhere = ClusterId(Uuid::from_u128(98));
            assert!(UserCertificate::of(&der(&issued.certificate_pem), elsewhere).is_err());
        }
        for user in ["", "a b", "a/b", "ä", &"a".repeat(129)] {
            assert!(matches!(authority.issue_user(cluster(), user, None), Err(CertError::UserName(_))), "{user}");
        }
    }

    /// Consul CVE-2021-37219: any certificate of the authority was a server's.
    #[test]
    fn nodes_are_no_users_and_users_are_no_nodes() {
        let authority = ClusterAuthority::create().unwrap();
        let node = NodeId(Uuid::from_u128(1));
        let of_node = authority.issue(cluster(), node, &[]).unwrap().certificate_pem;
        assert_eq!(UserCertificate::of(&der(&of_node), cluster()).unwrap(), None);
        let of_user = authority.issue_user(cluster(), "ada", None).unwrap().certificate_pem;
        assert!(matches!(Identity::of_certificate(&der(&of_user)), Err(CertError::NoIdentity(_))));
        let ada = Holder::User { cluster: cluster(), user: "ada".to_owned() }.name();
        let both = authority.issue(cluster(), node, &[ada]).unwrap().certificate_pem;
        assert!(UserCertificate::of(&der(&both), cluster()).is_err());
        assert!(Identity::of_certificate(&der(&both)).is_err());
    }

    /// etcd CVE-2018-16886: the common name was taken for the user.
    #[test]
    fn the_common_name_is_nobody() {
        let authority = ClusterAuthority::create().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("admin.user.{}.kvorum", cluster()));
        let certificate = params.signed_by(&key, authority.issuer()).unwrap();
        assert!(matches!(UserCertificate::of(certificate.der(), cluster()), Err(CertError::NoIdentity(_))));
    }

    #[test]
    fn only_the_one_spelling_is_a_user() {
        let name = Holder::User { cluster: cluster(), user: "ada".to_owned() }.name();
        assert!(Holder::from_name(&name).is_some());
        let simple = format!("ada.user.{}.kvorum", cluster().0.simple());
        for other in [
            name.replace("kvorum", "Kvorum"),
            format!("{name}."),
            name.replace("ada", ""),
            name.replace("ada", "*"),
            simple,
        ] {
            assert_eq!(Holder::from_name(&other), None, "{other}");
        }
    }

    #[test]
    fn files_are_written_once_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let authority = ClusterAuthority::create().unwrap();
        let issued = authority.issue_user(cluster(), "ada", None).unwrap();
        let [certificate, key] = issued.write(folder.path(), "ada").unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&certificate).unwrap(), issued.certificate_pem);
        assert!(matches!(issued.write(folder.path(), "ada"), Err(CertError::Exists(_))));
    }
}
