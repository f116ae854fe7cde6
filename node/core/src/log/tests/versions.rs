//! Files of another version: they are refused by name, and nothing of them is changed or given up.

use super::*;
use crate::disk::{HINT_FILE, MANIFEST_FILE};
use crate::formats::{self, Format};

/// Segment 1 begins with a sound header of this version.
fn set_version(disk: &MemoryDisk, version: u8) {
    disk.edit_segment(SHARD, 1, |bytes| {
        bytes[7] = version;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
}

fn refused(result: Result<(ShardLog, Recovered), LogError>) -> Unsupported {
    match result.map(|(log, recovered)| (entries(&log), recovered)) {
        Err(LogError::Unsupported { shard: SHARD, what }) => what,
        other => panic!("expected another version, got {other:?}"),
    }
}

fn unsupported(format: Format, found: u8) -> Unsupported {
    format.check(found.into()).unwrap_err().into()
}

#[test]
fn a_log_of_the_next_version_is_refused_and_stays_as_it_is() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(3));
    for durable in [None, Some(log.end())] {
        for version in [2, 4] {
            let disk = disk.after_kill();
            set_version(&disk, version);
            let before = disk.segment_bytes(SHARD, 1);
            assert_eq!(refused(try_open(&disk, durable)), unsupported(formats::SEGMENT, version));
            assert!(disk.segment_bytes(SHARD, 1) == before, "nothing was cut");
            set_version(&disk, 3);
            assert_eq!(entries(&open(&disk, durable).0), numbered(3), "the program that reads it goes on with it");
        }
    }
}

#[test]
fn a_manifest_or_a_base_of_the_next_version_is_refused() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(3));
    let (index, term, state) = (LogIndex(2), Term(1), Bytes::from_static(b"state"));
    let base = Base { index, term, membership: Membership::default(), state, sealed: false };
    let front = {
        let mut out = bytes::BytesMut::new();
        base.encode(&mut out);
        out.len()
    };
    let checkpoint = log.prepare_checkpoint(base, LogIndex(1), None, Bytes::from_static(b"index"));
    checkpoint.write(&*disk).unwrap();
    let written = disk.read_shard_file(SHARD, MANIFEST_FILE).unwrap().unwrap();
    let end = written.len() - 4;
    for (at, version, expected) in
        [(7, 4, unsupported(formats::MANIFEST, 4)), (end - front, 3, unsupported(formats::BASE, 3))]
    {
        let mut bytes = written.clone();
        bytes[at] = version;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        disk.write_shard_file(SHARD, MANIFEST_FILE, &[&bytes]).unwrap();
        assert_eq!(refused(try_open(&disk, Some(log.end()))), expected);
    }
    disk.write_shard_file(SHARD, MANIFEST_FILE, &[&written]).unwrap();
    let mut hint = disk.read_shard_file(SHARD, HINT_FILE).unwrap().unwrap();
    assert!(open(&disk.after_kill(), Some(log.end())).0.read_hint().unwrap().is_some());
    hint[7] = 4;
    let crc = crc32fast::hash(&hint[..24]);
    hint[24..28].copy_from_slice(&crc.to_le_bytes());
    disk.write_shard_file(SHARD, HINT_FILE, &[&hint]).unwrap();
    let log = open(&disk.after_kill(), Some(log.end())).0;
    assert_eq!(log.read_hint().unwrap(), None, "it only saves time: the index is rebuilt");
}
