//! Looks at the disk again and again, and carries out what [`DiskWatch`] decides.

use crate::runtime::journal_threads::JournalHandle;
use crate::runtime::system_clock as clock;
use crate::runtime::worker_thread;
use kvorum_core::clock::Nanos;
use kvorum_core::disk::Disk;
use kvorum_core::health::disk_watch::{DiskWatch, Observation};
use kvorum_core::health::pressure::Pressure;
use kvorum_core::limits::{DISK_LOOK_EVERY, DISK_STALL_FATAL, DISK_STALL_HAND_OVER, WATCH_EVERY};
use kvorum_core::routing::router::Router;
use kvorum_protocol::report::DiskRoom;
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What the watch needs of a running node.
pub struct WatchArguments {
    /// The node's shards.
    pub router: Arc<Router>,
    /// What is watched.
    pub disk: Arc<dyn Disk>,
    /// Whose syncs are watched.
    pub journal: JournalHandle,
    /// Where shards look.
    pub pressure: Arc<Pressure>,
    /// What is to be left free of the disk, in bytes.
    pub headroom_bytes: u64,
}

/// The disk stalls: a sync has taken longer than [`DISK_STALL_FATAL`].
#[derive(Debug, thiserror::Error)]
#[error("a sync has taken over {} s; the disk stalls", DISK_STALL_FATAL.as_secs())]
pub struct DiskStalls;

/// Starts the watch on a thread and a runtime of its own: it must see a disk that stalls also while the workers of the node's runtime
/// wait for that disk. Nobody waits for the thread's end. `panicked` is called if it panics.
///
/// # Errors
/// If the system gives no thread, or what the runtime needs.
pub fn start(
    arguments: WatchArguments,
    failed: impl FnOnce(DiskStalls) + Send + 'static,
    stop: CancellationToken,
    panicked: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let watch = move || {
        runtime.block_on(run(arguments, failed, stop));
        // A look may hang with the disk.
        runtime.shutdown_background();
    };
    worker_thread::start("disk-watch", watch, panicked).map(drop)
}

/// Watches until `stop`, or until the disk has stalled for too long: then `failed` is called.
async fn run(arguments: WatchArguments, failed: impl FnOnce(DiskStalls), stop: CancellationToken) {
    let WatchArguments { router, disk, journal, pressure, headroom_bytes } = arguments;
    // A file system that does not say how large it is is taken for a large one.
    let total = ask(&disk, |disk| disk.total_bytes()).await.unwrap_or(u64::MAX);
    let mut watch = DiskWatch::new(headroom_bytes, total);
    pressure.set_disk_headroom(watch.headroom_bytes());
    let mut looked_at: Option<Nanos> = None;
    // A look may hang with the disk; the stall must be seen all the same.
    let mut looking: Option<tokio::task::JoinHandle<Option<u64>>> = None;
    let mut interval = tokio::time::interval(WATCH_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = clock::monotonic();
        let free_bytes = match looking.take() {
            Some(look) if look.is_finished() => look.await.ok().flatten(),
            unfinished => {
                looking = unfinished;
                None
            }
        };
        let look_is_due = looked_at.is_none_or(|at| now.ms_since(at) >= DISK_LOOK_EVERY.as_millis() as u64);
        if looking.is_none() && look_is_due {
            looked_at = Some(now);
            let disk = Arc::clone(&disk);
            looking = Some(tokio::spawn(async move { ask(&disk, |disk| disk.free_bytes()).await }));
            pressure.set_index_bytes(router.all_local().iter().map(|handle| handle.reader.index_bytes()).sum());
        }
        let actions = watch.observe(Observation { now, free_bytes, stalled_for: journal.stalled_for() });
        if let Some(free) = free_bytes {
            pressure.set_disk(free, actions.full);
            router.note_disk(DiskRoom { free_bytes: free, total_bytes: total });
        }
        actions.note_fitness(router.fitness());
        if actions.full_changed && actions.full {
            warn!(
                free_bytes,
                "the disk is almost full: this node hands leadership over, and refuses writes of shards that it leads"
            );
        } else if actions.full_changed {
            info!(free_bytes, "there is room on the disk again: writes are taken");
        }
        if actions.end_process {
            failed(DiskStalls);
            return;
        }
        if actions.slow_changed && actions.slow {
            let limit_ms = DISK_STALL_HAND_OVER.as_millis() as u64;
            warn!(limit_ms, "the disk stalls: this node hands leadership over");
        } else if actions.slow_changed {
            info!("the disk has not stalled for a while: this node may lead again");
        }
    }
}

/// Asks the disk off the async workers. `None` if it can't say.
async fn ask<E>(
    disk: &Arc<dyn Disk>,
    question: impl FnOnce(&dyn Disk) -> Result<u64, E> + Send + 'static,
) -> Option<u64>
where
    E: Send + 'static,
{
    let disk = Arc::clone(disk);
    tokio::task::spawn_blocking(move || question(&*disk)).await.ok()?.ok()
}
