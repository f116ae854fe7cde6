//! The folder of a node that joins.
//!
//! ```text
//! join.json         which node it is going to be, while it is none yet
//! node.key          its key, which never leaves this machine
//! ca.pem, node.pem  the cluster's authority, and the node's certificate
//! data/             its data folder, with the ring map
//! kvorum.toml       its configuration; written last, so it is there when all the rest is
//! ```

use super::JoinError;
use crate::auth::cert::{self, Identity, NODE_KEY_FILE, NodeCertificate, TlsIdentity};
use crate::auth::issuer;
use crate::cli::init::{self, CONFIG_FILE, InitError, Shape};
use crate::cli::start;
use crate::config::{Member, TlsDoors};
use crate::folder::{self, DataFolder, Owner};
use kvorum_core::disk::RealDisk;
use kvorum_core::map_keeper;
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_protocol::{Admitted, ClusterId, FolderId, JoinToken, NodeId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const BEGUN_FILE: &str = "join.json";
/// What is left if [`cert::write`] is interrupted while it writes that.
const BEGUN_FILE_UNFINISHED: &str = "join.tmp";
/// As every configuration names it.
const DATA_FOLDER: &str = "data";

/// A node that has begun to join: written down before anybody hears of it, so that it asks again as the same one.
pub(super) struct JoinBegun {
    ids: BegunIds,
    key_pem: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct BegunIds {
    cluster: Uuid,
    token: Uuid,
    node: Uuid,
    folder: Uuid,
}

/// What is known of a node that was let in, beside the answer.
pub(super) struct Newcomer<'a> {
    pub(super) begun: &'a JoinBegun,
    pub(super) token: &'a JoinToken,
    pub(super) listen: [SocketAddr; init::DOORS],
    pub(super) base_port: u16,
    /// Which of its doors speak TLS.
    pub(super) doors: TlsDoors,
}

impl JoinBegun {
    pub(super) fn node(&self) -> NodeId {
        NodeId(self.ids.node)
    }

    pub(super) fn folder(&self) -> FolderId {
        FolderId(self.ids.folder)
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Goes on with what was begun in the folder by the same token, or begins anew.
    pub(super) fn open_or_begin(dir: &Path, token: &JoinToken) -> Result<Self, JoinError> {
        let path = dir.join(BEGUN_FILE);
        let found = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<BegunIds>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_other_files(dir)?;
                None
            }
            Err(error) => return Err(InitError::File { path, error }.into()),
        };
        let is_same = |ids: &BegunIds| (ids.cluster, ids.token) == (token.cluster.0, token.id.0);
        let key_path = dir.join(NODE_KEY_FILE);
        if let Some(ids) = found.filter(is_same)
            && key_path.try_exists().map_err(|error| InitError::File { path: key_path.clone(), error })?
        {
            return Ok(Self { ids, key_pem: cert::read(&key_path)? });
        }
        // By another token it is another node: the first one may have used its own.
        let [node, folder] = [(); 2].map(|()| Uuid::new_v4());
        let ids = BegunIds { cluster: token.cluster.0, token: token.id.0, node, folder };
        let key_pem = issuer::new_key()?;
        cert::make_directory(dir)?;
        remove(&key_path, fs::remove_file)?;
        remove(&dir.join(DATA_FOLDER), fs::remove_dir_all)?;
        let text = serde_json::to_string(&ids).expect("four ids have a text");
        cert::write(&path, &text, 0o600)?;
        cert::write(&key_path, &key_pem, 0o600)?;
        Ok(Self { ids, key_pem })
    }
}

/// Nothing that somebody else may need is overwritten.
fn refuse_other_files(dir: &Path) -> Result<(), InitError> {
    let failed = |error| InitError::File { path: dir.to_owned(), error };
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let ours = ["lost+found", BEGUN_FILE_UNFINISHED];
    let is_ours = |entry: &fs::DirEntry| ours.iter().any(|name| entry.file_name() == *name);
    let foreign = entries.find(|entry| !entry.as_ref().is_ok_and(is_ours));
    match foreign {
        Some(entry) => {
            let example = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            Err(InitError::NotEmpty { dir: dir.to_owned(), example })
        }
        None => Ok(()),
    }
}

fn remove<'a>(path: &'a Path, remove: impl FnOnce(&'a Path) -> io::Result<()>) -> Result<(), InitError> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(InitError::File { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

/// The configuration in the folder, if all is done there.
pub(super) fn finished(dir: &Path, cluster: ClusterId) -> Result<Option<PathBuf>, JoinError> {
    let path = dir.join(CONFIG_FILE);
    if !path.try_exists().map_err(|error| InitError::File { path: path.clone(), error })? {
        return Ok(None);
    }
    let found = start::load(Some(&path), Vec::new())?.cluster_id;
    if found != cluster {
        return Err(JoinError::OfAnotherCluster { dir: dir.to_owned(), found, expected: cluster });
    }
    remove(&dir.join(BEGUN_FILE), fs::remove_file)?;
    Ok(Some(path))
}

/// Checks the answer, and writes all that the node needs. Returns its name, and where its configuration is.
pub(super) fn write(dir: &Path, node: &Newcomer<'_>, admitted: Admitted) -> Result<(String, PathBuf), JoinError> {
    let begun = node.begun;
    let ring = RingMap::from_bytes(&admitted.map)?;
    if ring.cluster != node.token.cluster.0 {
        return Err(JoinError::Answer("its ring map is another cluster's"));
    }
    let own = ring.nodes.iter().find(|known| known.id == begun.node().0);
    let own = own.ok_or(JoinError::Answer("its ring map lacks this node"))?;
    let certificate = NodeCertificate {
        authority_pem: admitted.authorities,
        certificate_pem: admitted.certificate,
        key_pem: begun.key_pem.clone(),
    };
    let tls = TlsIdentity::from_pem(&certificate)?;
    tls.check()?;
    if tls.identity() != (Identity { cluster: node.token.cluster, node: begun.node() }) {
        return Err(JoinError::Answer("its certificate is another node's"));
    }
    if tls.authority()? != node.token.authority {
        return Err(JoinError::Answer("another authority than the token's has signed the certificate"));
    }
    certificate.write(dir)?;

    let owner = Owner {
        cluster: node.token.cluster,
        node: begun.node(),
        shards: ring.shards.len() as u16,
        durability: ring.durability,
    };
    let boot = folder::boot_id().map_err(|error| JoinError::Process { what: "the kernel's boot id", error })?;
    let data = DataFolder::open_or_make(&dir.join(DATA_FOLDER), owner, &boot, begun.folder())?;
    map_keeper::write_copy(&RealDisk::open(data.path())?, &ring)?;
    data.stop_clean()?;

    let path = dir.join(CONFIG_FILE);
    cert::write(&path, &config_text(node, &ring, own), 0o644)?;
    remove(&dir.join(BEGUN_FILE), fs::remove_file)?;
    Ok((own.name.clone(), path))
}

fn config_text(node: &Newcomer<'_>, ring: &RingMap, own: &RingNode) -> String {
    let shape = Shape {
        cluster_id: ring.cluster,
        nodes: ring.nodes.len() as u16,
        shards: ring.shards.len() as u16,
        replication_factor: ring.replication_factor.into(),
        durability: ring.durability.to_string(),
        base_port: node.base_port,
        hosts: Vec::new(),
        fault_hooks: false,
    };
    let joins = "\n# It is none of the founders, and has joined by a token.\njoins = true\n";
    let member = |known: &RingNode| Member {
        id: NodeId(known.id),
        name: known.name.clone(),
        zone: known.zone.clone(),
        client: known.client.clone(),
        peer: known.peer.clone(),
    };
    let mut text = shape.config_head(&own.name, own.id, (&node.listen, node.doors), joins);
    text.push_str(&init::auth_text(ring.auth_required, node.listen.iter().all(|door| door.ip().is_loopback())));
    text.extend(ring.nodes.iter().map(|known| init::member_text(&member(known))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_that_was_interrupted_at_its_first_file_may_be_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = Path::new(BEGUN_FILE).with_extension("tmp");
        assert_eq!(unfinished, Path::new(BEGUN_FILE_UNFINISHED), "as it is called beside the file");
        fs::write(dir.path().join(BEGUN_FILE_UNFINISHED), "{").unwrap();
        refuse_other_files(dir.path()).unwrap();
        fs::write(dir.path().join("letters.txt"), "of somebody").unwrap();
        assert!(matches!(refuse_other_files(dir.path()), Err(InitError::NotEmpty { .. })));
    }
}
