//! Whether clients of a new cluster must log in, and how its first administrator does.

use super::{InitError, Shape, listen_at};
use crate::auth::cert::{self, AUTHORITY_CERTIFICATE_FILE, ClusterAuthority};
use crate::cli::{say, start};
use crate::config::{AuthMode, TlsDoors};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kvorum_core::auth::table::ADMIN;
use kvorum_protocol::ClusterId;
use kvorum_scram::{ITERATIONS_DEFAULT, Verifier};
use std::path::{Path, PathBuf};

/// Where the first administrator's password is.
pub(super) const ADMIN_FOLDER: &str = "admin";
const ADMIN_PASSWORD_FILE: &str = "password";
/// How long the first administrator's certificate is valid, in days.
const ADMIN_DAYS: u32 = 3650;

/// Whether clients of a new cluster must say who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewAuth {
    /// They must. The first administrator gets a password.
    Required,
    /// They need not, even where other machines reach the nodes.
    Open,
}

/// How clients of a new cluster get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewAccess {
    /// Whether they must log in. Unless it is said, they must if other machines reach the cluster.
    pub auth: Option<NewAuth>,
    /// Which doors speak TLS.
    pub doors: TlsDoors,
}

/// Reads which doors speak TLS.
pub(crate) fn doors(text: &str) -> Result<TlsDoors, String> {
    TlsDoors::read(text).ok_or_else(|| "must be off, all, or a list of client, http, resp and resp_cluster".to_owned())
}

/// The names by which clients reach a node at this host: most insist that its certificate has them.
pub(crate) fn names_of(host: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    if listen_at(host).is_loopback() {
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

/// The table of a node's configuration about that. Of `is_local` nodes nothing need be said.
pub(crate) fn auth_text(is_required: bool, is_local: bool) -> String {
    match (is_required, is_local) {
        (true, _) => "\n[auth]\nmode = \"required\"\n".to_owned(),
        (false, true) => String::new(),
        (false, false) => {
            "\n[auth]\nmode = \"open\"\n# Everybody who reaches this node may do everything.\ninsecure_open = true\n"
                .to_owned()
        }
    }
}

/// The files of the first administrator's certificate, its key, and the authority.
pub(crate) fn admin_files(dir: &Path) -> [PathBuf; 3] {
    let folder = dir.join(ADMIN_FOLDER);
    [format!("{ADMIN}.pem"), format!("{ADMIN}.key"), AUTHORITY_CERTIFICATE_FILE.to_owned()]
        .map(|file| folder.join(file))
}

/// The options by which `kvorum-cli` is the first administrator.
pub(crate) fn by_certificate(dir: &Path) -> String {
    let [certificate, key, authority] = admin_files(dir);
    format!("--ca {} --cert {} --key {}", authority.display(), certificate.display(), key.display())
}

/// The table of every node's configuration. Where clients must log in, the first administrator gets a certificate and a password; nodes
/// know what checks the password only.
///
/// # Errors
/// A file that can't be made.
pub(super) fn lay_out(dir: &Path, authority: &Path, shape: &Shape, auth: Option<NewAuth>) -> Result<String, InitError> {
    let is_local = shape.is_local();
    if auth.unwrap_or(if is_local { NewAuth::Open } else { NewAuth::Required }) == NewAuth::Open {
        return Ok(auth_text(false, is_local));
    }
    let password = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
    let verifier = Verifier::new(password.as_bytes(), rand::random(), ITERATIONS_DEFAULT);
    let folder = dir.join(ADMIN_FOLDER);
    cert::make_directory(&folder)?;
    cert::write(&folder.join(ADMIN_PASSWORD_FILE), &format!("{password}\n"), 0o600)?;
    let certificate = ClusterAuthority::load(authority)?;
    certificate.issue_user(ClusterId(shape.cluster_id), ADMIN, Some(ADMIN_DAYS))?.write(&folder, ADMIN)?;
    let table = auth_text(true, is_local);
    let about = format!(
        "# Of the first password of the user admin, ../{ADMIN_FOLDER}/{ADMIN_PASSWORD_FILE}. It counts while there is no table of \
         users."
    );
    Ok(format!("{table}{about}\nbootstrap_verifier = \"{verifier}\"\n"))
}

/// Refuses a cluster that lets more in than the flags say, by the configuration of its first node: whoever gave them would take it for a
/// closed one. One that lets less in stays as it is.
///
/// # Errors
/// `Differs`; a configuration that can't be read.
pub(super) fn refuse_less(dir: &Path, wants_login: bool, doors: TlsDoors) -> Result<(), InitError> {
    if !wants_login && doors == TlsDoors::default() {
        return Ok(());
    }
    let Some(first) = super::nodes_in(dir)?.first().copied() else { return Ok(()) };
    let path = super::config_path(dir, first);
    let config =
        start::load(Some(&path), Vec::new()).map_err(|errors| InitError::Shape { path, detail: errors.to_string() })?;
    let differs = |flag, found: String, wanted: String| InitError::Differs { dir: dir.to_owned(), flag, found, wanted };
    if wants_login && config.auth.mode == AuthMode::Open {
        return Err(differs("auth", "open".to_owned(), "required".to_owned()));
    }
    let has = config.tls.doors;
    let lacks = [
        doors.client && !has.client,
        doors.http && !has.http,
        doors.resp && !has.resp,
        doors.resp_cluster && !has.resp_cluster,
    ];
    if lacks.contains(&true) { Err(differs("tls", has.to_string(), doors.to_string())) } else { Ok(()) }
}

/// Tells how clients log in.
pub(super) fn tell(dir: &Path, is_local: bool, doors: TlsDoors) {
    let password = dir.join(ADMIN_FOLDER).join(ADMIN_PASSWORD_FILE);
    if password.exists() {
        say("clients must log in; the first administrator does so with");
        if doors.client {
            say(format_args!("  kvorum-cli {} …", by_certificate(dir)));
        } else {
            say(format_args!("  kvorum-cli --user admin --password-file {} …", password.display()));
        }
    } else if !is_local {
        say("everybody who reaches these nodes may do everything");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Purpose, ShapeFlags, create};
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_cluster_that_lets_more_in_than_the_flags_say_is_refused() {
        let all = doors("all").unwrap();
        let refused = |access: NewAccess, wants_login: bool, wanted: TlsDoors| {
            let folder = TempDir::new().unwrap();
            let shape = ShapeFlags::default().resolve().unwrap();
            create(folder.path(), &shape, Purpose::Development, access).unwrap();
            match refuse_less(folder.path(), wants_login, wanted) {
                Err(InitError::Differs { flag, found, .. }) => Some((flag, found)),
                Err(other) => panic!("{other}"),
                Ok(()) => None,
            }
        };
        let none = TlsDoors::default();
        let open = NewAccess { auth: Some(NewAuth::Open), doors: none };
        let closed = NewAccess { auth: Some(NewAuth::Required), doors: all };
        assert_eq!(refused(open, true, none), Some(("auth", "open".to_owned())));
        assert_eq!(refused(open, false, all), Some(("tls", "off".to_owned())));
        assert_eq!(refused(open, false, none), None);
        assert_eq!(refused(closed, true, all), None);
        assert_eq!(refused(closed, false, doors("http").unwrap()), None, "more doors do no harm");
    }
}
