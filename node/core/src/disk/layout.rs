//! Where each file of a data folder lies, and under which name.
//!
//! ```text
//! shards/00012/0000000003.segment
//! shards/00012/0000000001.data
//! shards/00012/manifest
//! shards/00012/hint
//! journal/0000000001.journal
//! <name>.metadata
//! ```
//!
//! What stands in a file is the concern of the layers above: they take these names from here.

use kvorum_protocol::ShardId;

/// The name of the manifest in a shard's folder.
pub const MANIFEST_FILE: &str = "manifest";
/// The name of the hint in a shard's folder.
pub const HINT_FILE: &str = "hint";
/// Set in the number of a *data segment*: one that holds records alone, which compaction moved or a snapshot brought.
/// Its file has a name and a count of its own.
pub const DATA_SEGMENT: u32 = 1 << 31;

/// The data folder itself.
pub(super) const ROOT_FOLDER: &str = "";
pub(super) const SHARDS_FOLDER: &str = "shards";
pub(super) const JOURNAL_FOLDER: &str = "journal";
pub(super) const SEGMENT_SUFFIX: &str = ".segment";
pub(super) const DATA_SUFFIX: &str = ".data";
pub(super) const JOURNAL_SUFFIX: &str = ".journal";
pub(super) const METADATA_SUFFIX: &str = ".metadata";
/// Of a file that is not whole yet.
pub(super) const NEW_SUFFIX: &str = ".new";

pub(super) fn shard_folder(shard: ShardId) -> String {
    format!("{SHARDS_FOLDER}/{:05}", shard.0)
}

pub(crate) fn segment_path(shard: ShardId, number: u32) -> String {
    let (number, suffix) = match number & DATA_SEGMENT {
        0 => (number, SEGMENT_SUFFIX),
        _ => (number & !DATA_SEGMENT, DATA_SUFFIX),
    };
    format!("{}/{number:010}{suffix}", shard_folder(shard))
}

pub(crate) fn shard_file_path(shard: ShardId, name: &str) -> String {
    format!("{}/{name}", shard_folder(shard))
}

pub(super) fn journal_path(number: u32) -> String {
    format!("{JOURNAL_FOLDER}/{number:010}{JOURNAL_SUFFIX}")
}

pub(super) fn metadata_path(name: &str) -> String {
    format!("{name}{METADATA_SUFFIX}")
}

pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(ROOT_FOLDER, |(folder, _)| folder)
}
