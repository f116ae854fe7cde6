//! The folder as a whole: whose it is, the journal, and the small files beside the shards.

use super::VerifyError;
use super::report::{Effect, Finding, JournalReport, OwnerReport, Report, Verdict};
use super::scratch::ScratchFileSystem;
use super::shard::{self, Journaled};
use crate::folder::{self, Inspected, Part};
use kvorum_core::disk::{Disk, DiskError, FileDisk};
use kvorum_core::folder::known_folders::{self, KNOWN_DISKS};
use kvorum_core::folder::mirrored;
use kvorum_core::folder::replica_files;
use kvorum_core::journal::{self, JournalError, Replayed};
use kvorum_core::map_keeper::RING_COPY;
use kvorum_core::ring::{RingError, RingMap};
use kvorum_core::sealing::Keyring;
use kvorum_protocol::{Durability, ShardId};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Looks at everything.
pub(super) fn look(path: &Path, keys: &Arc<Keyring>) -> Result<Report, VerifyError> {
    let io = |error| VerifyError::Io { path: path.to_owned(), error };
    let inspected = folder::inspect(path);
    let system = ScratchFileSystem::new(path);
    let names = list(path).map_err(io)?;
    let disk = FileDisk::over(system.clone()).map_err(|error| io(io::Error::other(error)))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut report = Report {
        folder: path.display().to_string(),
        verdict: Verdict::Sound,
        owner: None,
        last_process: None,
        journal: None,
        shards: Vec::new(),
        findings: Vec::new(),
        notes: Vec::new(),
    };
    look_at_identity(&mut report, &inspected);
    look_at_copies(&mut report, &disk);
    let journaled = look_at_journal(&mut report, &*disk, &inspected);
    let folders = disk.list_shards().map_err(|error| io(io::Error::other(error)))?;
    let shards: BTreeSet<ShardId> = folders.into_iter().chain(noted_shards(&names)).collect();
    for id in shards {
        report.shards.push(shard::look(&disk, id, &journaled, keys));
    }
    look_at_leftovers(&mut report, &system, &names);
    if report.all_findings().next().is_some() {
        report.verdict = Verdict::Damaged;
    }
    Ok(report)
}

fn list(path: &Path) -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn finding(file: &str, what: impl Into<String>, effect: Effect) -> Finding {
    Finding { file: file.to_owned(), offset: None, what: what.into(), effect }
}

fn look_at_identity(report: &mut Report, inspected: &Inspected) {
    match &inspected.identity {
        Part::Found((owner, disk)) => {
            report.owner = Some(OwnerReport {
                cluster: owner.cluster.to_string(),
                node: owner.node.to_string(),
                disk: disk.to_string(),
                shards: owner.shards,
                durability: owner.durability.to_string(),
            });
        }
        Part::Missing => report.findings.push(finding("identity", "it is missing", Effect::DoesNotStart)),
        Part::Damaged => {
            let mends = matches!(inspected.identity_copy, Part::Found(_));
            let effect = if mends { Effect::GetsBy } else { Effect::DoesNotStart };
            report.findings.push(finding("identity", "it is damaged", effect));
        }
        Part::Unsupported(version) => {
            report.findings.push(finding("identity", version.to_string(), Effect::DoesNotStart));
        }
        Part::Unreadable(error) => {
            report.findings.push(finding("identity", format!("it can't be read: {error}"), Effect::DoesNotStart));
        }
    }
    if let Part::Damaged | Part::Unreadable(_) = inspected.identity_copy {
        report.findings.push(finding("identity.copy", "it is damaged", Effect::GetsBy));
    }
    // Without it the worst is taken for true: a crash, and with durability `memory` amnesia.
    let lost = match &inspected.identity {
        Part::Found((owner, _)) if owner.durability == Durability::Memory => Effect::ReplacesReplica,
        _ => Effect::GetsBy,
    };
    match &inspected.run_state {
        Part::Found(state) => {
            report.last_process = Some(match (state.amnesia, state.running) {
                (true, _) => "replicas with amnesia are left: they are replaced at the next start",
                (false, false) => "stopped cleanly",
                (false, true) => "ended without a word: a start recovers",
            });
        }
        Part::Missing => report.findings.push(finding("run-state", "it is missing", lost)),
        Part::Damaged | Part::Unsupported(_) => report.findings.push(finding("run-state", "it is damaged", lost)),
        Part::Unreadable(error) => {
            report.findings.push(finding("run-state", format!("it can't be read: {error}"), Effect::DoesNotStart));
        }
    }
    let sound = inspected.starts.iter().filter(|part| matches!(part, Part::Found(_))).count();
    let effect = if sound == 0 { Effect::DoesNotStart } else { Effect::GetsBy };
    for (file, part) in ["starts", "starts.copy"].into_iter().zip(&inspected.starts) {
        let what = match part {
            Part::Found(_) => continue,
            Part::Missing => "it is missing".to_owned(),
            Part::Damaged | Part::Unsupported(_) => "it is damaged".to_owned(),
            Part::Unreadable(error) => format!("it can't be read: {error}"),
        };
        report.findings.push(finding(file, what, effect));
    }
}

/// The files that are kept twice.
fn look_at_copies(report: &mut Report, disk: &Arc<dyn Disk>) {
    let mut look = |name: &str, check: fn(&[u8]) -> Result<(), String>| {
        let names = [name.to_owned(), mirrored::copy_of(name)];
        let states = names.clone().map(|name| match disk.read_metadata(&name) {
            Ok(None) => Ok(false),
            Ok(Some(bytes)) => check(&bytes).map(|()| true),
            Err(error) => Err(error.to_string()),
        });
        let mends = states.contains(&Ok(true));
        for (name, state) in names.iter().zip(states) {
            let Err(what) = state else { continue };
            let effect = if mends { Effect::GetsBy } else { Effect::DoesNotStart };
            report.findings.push(finding(&metadata_file(name), what, effect));
        }
        mends
    };
    const DAMAGED: &str = "it is damaged";
    look(RING_COPY, |bytes| match RingMap::from_copy(bytes) {
        Ok(_) => Ok(()),
        Err(newer @ RingError::Level { .. }) => Err(newer.to_string()),
        Err(_) => Err(DAMAGED.to_owned()),
    });
    look(KNOWN_DISKS, |bytes| known_folders::decode(bytes).map(drop).map_err(|_| DAMAGED.to_owned()));
    if !look(journal::IDENTITY_FILE, |bytes| journal::decode_identity(bytes).map(drop).map_err(|_| DAMAGED.to_owned()))
    {
        // Without its identity the journal is damaged, and is told of as that.
        report.findings.retain(|finding| !finding.file.starts_with(journal::IDENTITY_FILE));
    }
}

/// Replays the journal as a start does.
fn look_at_journal(report: &mut Report, disk: &dyn Disk, inspected: &Inspected) -> Journaled {
    let stopped_cleanly = matches!(&inspected.run_state, Part::Found(state) if !state.running && !state.amnesia);
    let files = disk.list_journal_files().map_or(0, |files| files.len());
    match journal::replay(disk) {
        Ok(replayed) => {
            let Replayed { rounds, .. } = replayed;
            report.journal = Some(JournalReport { files, rounds, newest_round: replayed.newest_round() });
            if stopped_cleanly && rounds > 1 {
                // The last frame of a stop needs no other; it is left out if it does not fit.
                report.notes.push(format!(
                    "the journal has {rounds} rounds to write back although the node stopped cleanly: its newest round is \
                     damaged, or did not fit. The rounds before it hold the same"
                ));
            }
            Journaled { durable: replayed.durable, is_complete: stopped_cleanly && files > 0 }
        }
        Err(error) => {
            let file =
                if matches!(error, JournalError::Identity) { metadata_file("journal") } else { "journal".into() };
            // After a clean stop the logs hold everything; else it is not known any more what was promised.
            let effect = match &error {
                damage if !damage.is_loss() => Effect::DoesNotStart,
                _ if stopped_cleanly => Effect::GetsBy,
                _ => Effect::ReplacesReplica,
            };
            report.findings.push(finding(&file, error.to_string(), effect));
            Journaled::default()
        }
    }
}

/// The shards that a note speaks of.
fn noted_shards(names: &BTreeSet<String>) -> impl Iterator<Item = ShardId> {
    names.iter().filter_map(|name| replica_files::noted_shard(name.strip_suffix(".metadata")?))
}

fn look_at_leftovers(report: &mut Report, system: &ScratchFileSystem, names: &BTreeSet<String>) {
    for file in system.removed() {
        report.notes.push(format!("{file} is left over: a start removes it"));
    }
    const OURS: [&str; 9] =
        ["LOCK", "identity", "identity.copy", "run-state", "starts", "starts.copy", "lock", "shards", "journal"];
    let foreign = |name: &&String| {
        let of_ours = name.ends_with(".metadata") || name.ends_with(".new") || *name == "lost+found";
        !of_ours && !OURS.contains(&name.as_str())
    };
    for name in names.iter().filter(foreign) {
        report.notes.push(format!("{name} is no file of a node"));
    }
}

/// The file of a metadata name.
pub(super) fn metadata_file(name: &str) -> String {
    format!("{name}.metadata")
}

/// What is told of a file that the system can't give.
pub(super) fn unreadable(error: &DiskError) -> String {
    error.to_string()
}
