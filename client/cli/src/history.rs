//! The file that remembers what was typed. It holds keys and values, so only its owner may read it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the history is kept, as the XDG base directory specification has it.
pub(crate) fn path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("kvorum").join("history"))
}

/// Makes the file if it is not there, and takes it and its folder from everybody else. Something that is no regular file, such
/// as a link to the null device, is somebody's choice and stays as it is.
///
/// # Errors
/// What the system says. Nothing must be written to the file then.
pub(crate) fn make_private(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        tighten(folder, 0o700)?;
    }
    match fs::symlink_metadata(file) {
        Ok(found) if !found.is_file() => Ok(()),
        _ => {
            OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
            tighten(file, 0o600)
        }
    }
}

/// Takes permissions away, and gives none.
fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & !mode == 0 { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(found & mode)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_history_is_its_owners_alone() {
        let root = tempfile::TempDir::new().unwrap();
        let file = root.path().join("kvorum/history");
        make_private(&file).unwrap();
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

        fs::write(&file, "PUT token secret\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(file.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        make_private(&file).unwrap();
        assert_eq!(
            (mode(&file), mode(file.parent().unwrap())),
            (0o600, 0o700),
            "one of an older version is taken back"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "PUT token secret\n");
    }

    #[test]
    fn what_a_link_leads_to_is_left_alone() {
        let root = tempfile::TempDir::new().unwrap();
        let (file, elsewhere) = (root.path().join("kvorum/history"), root.path().join("elsewhere"));
        fs::write(&elsewhere, "").unwrap();
        fs::set_permissions(&elsewhere, Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(file.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        make_private(&file).unwrap();
        assert_eq!(mode(&elsewhere), 0o644);
    }
}
