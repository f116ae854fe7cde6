//! `kvorum cert`: makes and shows certificates, exchanges a cluster's authority, and has running nodes read their files again.

use crate::auth::cert::{self, CertError, ClusterAuthority, TlsIdentity};
use crate::auth::certificates::{LoadTlsError, NodeCertificates};
use crate::auth::issuer;
use crate::auth::user_cert::{CertificateView, Holder, USER_DAYS_DEFAULT};
use crate::cli::exit::Exit;
use crate::cli::init::{self, InitError};
use crate::cli::{say, start};
use crate::config::ConfigErrors;
use crate::folder;
use clap::Subcommand;
use kvorum_protocol::hexadecimal;
use kvorum_protocol::{ClusterId, NodeId};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::CertificateDer;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What `kvorum cert` does.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Make a cluster's certificate authority: ca.pem and the secret ca.key
    Authority {
        /// Where to put it
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
    },
    /// Make an issuer, which lets a node give certificates to nodes that join: issuer.pem and the secret issuer.key
    Issuer {
        /// The authority's folder
        #[arg(long, value_name = "FOLDER")]
        ca: PathBuf,
        /// Where to put the files: where the node's key is
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Make a node's certificate: ca.pem, node.pem and the secret node.key
    Node {
        /// The authority's folder
        #[arg(long, value_name = "FOLDER")]
        ca: PathBuf,
        /// Where to put the files
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// The cluster's id
        #[arg(long, value_name = "UUID")]
        cluster: Uuid,
        /// The node's id
        #[arg(long, value_name = "UUID")]
        node: Uuid,
        /// Names and IP addresses by which clients reach it
        #[arg(long, value_name = "HOST", value_delimiter = ',')]
        host: Vec<String>,
    },
    /// Make a user's certificate: NAME.pem, the secret NAME.key, and ca.pem
    ///
    /// Who shows it at a door that speaks TLS is that user, without a password. The user must be there: USER ADD.
    User {
        /// The user's name
        name: String,
        /// The cluster's folder
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// Where to put the files; by default users/ in the cluster's folder
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// How long it is valid
        #[arg(long, value_name = "DAYS", default_value_t = USER_DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Show whom a certificate names, its serial number, and until when it is valid
    Show {
        /// A file in PEM
        file: PathBuf,
    },
    /// Exchange the authority of a cluster whose folders are on this machine, in three steps; nodes go on meanwhile
    ///
    /// begin: makes a new authority beside the old one, which nodes believe as well from then on.
    /// issue: gives every node a certificate of the new one.
    /// end: nodes do not believe the old one any more.
    /// Copy each node's folder to its machine, and have the node reload, before the next step.
    Rotate {
        /// Which step
        step: RotateStep,
        /// The cluster's folder
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
    },
    /// Have a running node read its certificates again, on the machine that it runs on
    Reload {
        /// The node's configuration file
        #[arg(long, value_name = "FILE", env = "KVORUM_CONFIG")]
        config: PathBuf,
    },
}

/// A step of exchanging the authority.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum RotateStep {
    /// Believe a new one, too.
    Begin,
    /// Give certificates of the new one.
    Issue,
    /// Don't believe the old one.
    End,
}

/// Why it can't be done.
#[derive(Debug, thiserror::Error)]
pub enum CertVerbError {
    /// A certificate or its file.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The cluster's folder.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A node's configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The files do not belong together: a node would refuse them.
    #[error("{0}: nothing was sent to the node")]
    Unsound(#[from] LoadTlsError),
    /// The node can't be told.
    #[error("the node of {data_dir} can't be told: {detail}")]
    NotTold {
        /// Its data folder.
        data_dir: PathBuf,
        /// Why.
        detail: String,
    },
    /// A step comes before the one that it rests on.
    #[error("{0}")]
    Step(String),
}

impl CertVerbError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Init(error) => error.exit(),
            Self::Config(_) | Self::Unsound(_) => Exit::Config,
            Self::Cert(CertError::UserName(_)) => Exit::Usage,
            Self::Cert(_) | Self::NotTold { .. } | Self::Step(_) => Exit::Failure,
        }
    }
}

/// Where the new authority lies until it is the only one, within the folder of the old one.
const NEXT_FOLDER: &str = "next";
/// Where the old one lies from then on, for the records.
const OLD_FOLDER: &str = "old";
/// Where a node's new issuer lies until it is whole, within the node's folder.
const FRESH_ISSUER_FOLDER: &str = "issuer.new";

impl CertVerb {
    /// Does it.
    ///
    /// # Errors
    /// See [`CertVerbError`].
    pub fn run(self) -> Result<(), CertVerbError> {
        match self {
            Self::Authority { dir } => {
                cert::create_authority(&dir)?;
                let (certificate, key) = (cert::AUTHORITY_CERTIFICATE_FILE, cert::AUTHORITY_KEY_FILE);
                say(format_args!("{}: {certificate} and {key}", dir.display()));
            }
            Self::Issuer { ca, out } => {
                issuer::create_issuer(&ca, &out)?;
                let (certificate, key) = (issuer::ISSUER_CERTIFICATE_FILE, issuer::ISSUER_KEY_FILE);
                say(format_args!("{}: {certificate} and {key}", out.display()));
            }
            Self::Node { ca, out, cluster, node, host } => {
                cert::issue_node(&ca, &out, ClusterId(cluster), NodeId(node), &host)?;
                let (certificate, key) = (cert::NODE_CERTIFICATE_FILE, cert::NODE_KEY_FILE);
                say(format_args!("{}: {}, {certificate} and {key}", out.display(), cert::AUTHORITY_CERTIFICATE_FILE));
            }
            Self::User { name, dir, out, days } => {
                let out = out.unwrap_or_else(|| dir.join("users"));
                let [certificate, key] = issue_user(&dir, &out, &name, Some(days))?;
                say(format_args!("{} and {}: user {name} for {days} days", certificate.display(), key.display()));
            }
            Self::Show { file } => {
                let pem = cert::read(&file)?;
                for certificate in cert::certificates(&file.display().to_string(), &pem)? {
                    show(&certificate);
                }
            }
            Self::Rotate { step, dir } => rotate(step, &dir)?,
            Self::Reload { config } => reload(&config)?,
        }
        Ok(())
    }
}

/// Makes a user's certificate with the authority of a cluster's folder.
///
/// # Errors
/// See [`CertVerbError`].
pub(crate) fn issue_user(dir: &Path, out: &Path, user: &str, days: Option<u32>) -> Result<[PathBuf; 2], CertVerbError> {
    let shape = init::open(dir)?;
    let (signs, authorities) = signing(dir)?;
    let issued = ClusterAuthority::load(&signs)?.issue_user(ClusterId(shape.cluster_id), user, days)?;
    Ok(issued.with_authorities(authorities).write(out, user)?)
}

/// The folder of the authority that signs, and all authorities that nodes believe, while one may take the place of another.
///
/// # Errors
/// `File`.
pub(crate) fn signing(dir: &Path) -> Result<(PathBuf, String), CertError> {
    let authority = dir.join(init::AUTHORITY_FOLDER);
    let next = authority.join(NEXT_FOLDER);
    if !next.join(cert::AUTHORITY_KEY_FILE).exists() {
        let only = of(&authority)?;
        return Ok((authority, only));
    }
    let both = of(&authority)? + &of(&next)?;
    // Nodes may not believe the new one before all have been given its certificates.
    Ok((if next.join(ISSUED).exists() { next } else { authority }, both))
}

/// Marks a new authority whose certificates all nodes have been given.
const ISSUED: &str = "issued";

fn show(certificate: &CertificateDer<'_>) {
    match CertificateView::of(certificate) {
        Ok(view) => {
            let who = match &view.holder {
                Holder::Node(identity) => format!("node {} of cluster {}", identity.node, identity.cluster),
                Holder::User { cluster, user } => format!("user {user} of cluster {cluster}"),
            };
            let days = (view.not_after_s - now_s()).div_euclid(86_400);
            say(format_args!("{who}\n  serial {}\n  valid for {days} days more", hexadecimal::encode(&view.serial)));
        }
        Err(error) => say(format_args!("an authority or somebody else: {error}")),
    }
}

fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// One step of exchanging the authority. Each may be repeated after an interruption.
fn rotate(step: RotateStep, dir: &Path) -> Result<(), CertVerbError> {
    let shape = init::open(dir)?;
    let authority = dir.join(init::AUTHORITY_FOLDER);
    let next = authority.join(NEXT_FOLDER);
    let is_begun = next.join(cert::AUTHORITY_KEY_FILE).exists();
    let needs = |done: bool, before: &str| {
        let missing = || CertVerbError::Step(format!("run the step {before} first, and have every node reload"));
        if done { Ok(()) } else { Err(missing()) }
    };
    let nodes = init::nodes_in(dir)?;
    match step {
        RotateStep::Begin => {
            if !is_begun {
                // Of an exchange before, which was interrupted in the end.
                remove_if_there(&next.join(ISSUED), |path| fs::remove_file(path))?;
                cert::create_authority(&next)?;
            }
            let both = of(&authority)? + &of(&next)?;
            for node in &nodes {
                cert::write(&init::node_folder(dir, *node).join(cert::AUTHORITY_CERTIFICATE_FILE), &both, 0o644)?;
            }
            say(
                "a new authority is there, and every node's ca.pem has both: clients need that ca.pem before the next step",
            );
        }
        RotateStep::Issue => {
            needs(is_begun, "begin")?;
            let both = of(&authority)? + &of(&next)?;
            for node in &nodes {
                issue_anew(dir, *node, ClusterId(shape.cluster_id), &next, &both)?;
            }
            cert::write(&next.join(ISSUED), "Every node's folder has a certificate of this authority.\n", 0o644)?;
            say("every node's folder has a certificate of the new authority; so get all that are made from now on");
        }
        RotateStep::End => {
            needs(next.join(ISSUED).exists(), "issue")?;
            // After an interruption it may have its place already.
            let is_moved = !next.join(cert::AUTHORITY_CERTIFICATE_FILE).exists();
            let only = of(if is_moved { &authority } else { &next })?;
            for node in &nodes {
                cert::write(&init::node_folder(dir, *node).join(cert::AUTHORITY_CERTIFICATE_FILE), &only, 0o644)?;
            }
            retire(&authority, &next)?;
            say(
                "no node's ca.pem has the old authority any more; give ca.pem to clients, and new certificates to users",
            );
        }
    }
    say("copy each node's folder to its machine if it is not this one, and run for each");
    for node in nodes {
        say(format_args!("  kvorum cert reload --config {}", init::config_path(dir, node).display()));
    }
    Ok(())
}

fn of(authority: &Path) -> Result<String, CertError> {
    cert::read(&authority.join(cert::AUTHORITY_CERTIFICATE_FILE))
}

/// Gives a node a certificate of the new authority, and an issuer if it had one. Its key is a new one.
fn issue_anew(dir: &Path, node: u16, cluster: ClusterId, next: &Path, both: &str) -> Result<(), CertVerbError> {
    let folder = init::node_folder(dir, node);
    let config = start::load(Some(&init::config_path(dir, node)), Vec::new())?;
    let host = config.client_advertise.rsplit_once(':').map_or("", |(host, _)| host);
    let names = init::names_of(&init::without_brackets(host));
    let mut issued = ClusterAuthority::load(next)?.issue(cluster, config.node_id, &names)?;
    both.clone_into(&mut issued.authority_pem);
    TlsIdentity::from_pem(&issued)?.check()?;
    issued.write(&folder)?;
    let key = folder.join(issuer::ISSUER_KEY_FILE);
    if key.exists() {
        // The old one stays until the new one is whole: a node without an issuer lets nobody in.
        let fresh = folder.join(FRESH_ISSUER_FOLDER);
        remove_if_there(&fresh, |path| fs::remove_dir_all(path))?;
        issuer::create_issuer(next, &fresh)?;
        for file in [issuer::ISSUER_CERTIFICATE_FILE, issuer::ISSUER_KEY_FILE] {
            rename(&fresh.join(file), &folder.join(file))?;
        }
        remove_if_there(&fresh, |path| fs::remove_dir_all(path))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), CertError> {
    fs::rename(from, to).map_err(|source| CertError::File { path: from.to_owned(), source })
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), CertError> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| CertError::File { path: path.to_owned(), source }),
    }
}

/// The new authority takes the place of the old one. May be repeated after an interruption: each file of the old one is set aside before
/// the new one takes its place, and the key comes last.
fn retire(authority: &Path, next: &Path) -> Result<(), CertError> {
    let old = authority.join(OLD_FOLDER);
    cert::make_directory(&old)?;
    for file in [cert::AUTHORITY_CERTIFICATE_FILE, cert::AUTHORITY_KEY_FILE] {
        if next.join(file).exists() {
            if authority.join(file).exists() {
                rename(&authority.join(file), &old.join(file))?;
            }
            rename(&next.join(file), &authority.join(file))?;
        }
    }
    fs::remove_dir_all(next).map_err(|source| CertError::File { path: next.to_owned(), source })
}

/// Looks at the files as the node will, and signals it.
fn reload(path: &Path) -> Result<(), CertVerbError> {
    let config = start::load(Some(path), Vec::new())?;
    NodeCertificates::load(&config.tls, cert::Identity { cluster: config.cluster_id, node: config.node_id })?;
    let data_dir = config.data_dir;
    let not_told = |detail: String| CertVerbError::NotTold { data_dir: data_dir.clone(), detail };
    let process = folder::process_of(&data_dir).map_err(|error| not_told(error.to_string()))?;
    let process =
        process.and_then(Pid::from_raw).ok_or_else(|| not_told("it does not run on this machine".to_owned()))?;
    kill_process(process, Signal::HUP).map_err(|error| not_told(error.to_string()))?;
    say("the files are sound; the node reads them again, and its log says what becomes of it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// An authority's folder with another one in `next`, whose certificates all nodes have.
    fn issued() -> (TempDir, PathBuf, PathBuf) {
        let folder = TempDir::new().unwrap();
        let (authority, next) = (folder.path().join("ca"), folder.path().join("ca").join(NEXT_FOLDER));
        for folder in [&authority, &next] {
            cert::create_authority(folder).unwrap();
        }
        cert::write(&next.join(ISSUED), "", 0o644).unwrap();
        (folder, authority, next)
    }

    #[test]
    fn the_end_of_an_exchange_may_be_repeated_after_any_step() {
        let files = [cert::AUTHORITY_CERTIFICATE_FILE, cert::AUTHORITY_KEY_FILE];
        for done in 0..=4 {
            let (_folder, authority, next) = issued();
            let expected = files.map(|file| cert::read(&next.join(file)).unwrap());
            let old = authority.join(OLD_FOLDER);
            cert::make_directory(&old).unwrap();
            let steps = files
                .iter()
                .flat_map(|file| [(authority.join(file), old.join(file)), (next.join(file), authority.join(file))]);
            steps.take(done).for_each(|(from, to)| fs::rename(from, to).unwrap());
            retire(&authority, &next).unwrap();
            assert_eq!(files.map(|file| cert::read(&authority.join(file)).unwrap()), expected, "after {done} steps");
            assert!(files.iter().all(|file| old.join(file).exists()) && !next.exists(), "after {done} steps");
        }
    }
}
