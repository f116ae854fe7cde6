//! What a data folder holds beside logs and the journal: small files, each written twice.

pub mod checked_json;
pub mod known_folders;
pub mod mirrored;
pub mod replica_files;
pub(crate) mod stored_id;
