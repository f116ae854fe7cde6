//! Writes the audit log: takes what waits, and has it written where waiting for a disk holds nobody up.

use crate::audit::file::AuditFile;
use crate::runtime::audit_tail::AuditTail;
use kvorum_core::routing::router::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// After a write that has failed the next one is tried so much later, whether something waits or not.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Writes what happens from here on, until it is stopped.
pub(super) async fn run(router: Arc<Router>, mut file: AuditFile, tail: Arc<AuditTail>, stop: CancellationToken) {
    let news = Arc::new(Notify::new());
    let wake = Arc::clone(&news);
    router.audit().open(router.clock().now(), Box::new(move || wake.notify_one()));
    let mut fails = false;
    loop {
        let stopped = stop.is_cancelled();
        let events = Vec::from(router.audit().take());
        let count = events.len() as u64;
        tail.add(&events);
        let written = tokio::task::spawn_blocking(move || {
            let written = file.append(&events);
            (file, written)
        });
        let Ok((same, written)) = written.await else { return };
        file = same;
        router.audit().note_written(written.is_ok());
        match &written {
            Ok(()) if fails => info!("the audit log is written again"),
            Err(reason) if !fails => {
                error!(%reason, "the audit log can't be written: nothing is changed through this node until it can");
            }
            _ => {}
        }
        fails = written.is_err();
        if fails {
            router.audit().note_dropped(count);
        }
        if stopped {
            return;
        }
        tokio::select! {
            () = news.notified(), if !fails => {}
            () = tokio::time::sleep(TRY_AGAIN_AFTER), if fails => {}
            () = stop.cancelled() => {}
        }
    }
}
