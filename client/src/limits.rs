//! Every bound of the client. Those of the wire are in `kvorum_protocol::limits`.

use kvorum_protocol::limits::FRAME_BYTES_MAX;
use std::time::Duration;

pub use kvorum_client_core::limits::SEEDS_MAX;
pub use kvorum_protocol::limits::{
    ABSENCE_MS_MAX, BATCH_OPERATIONS_MAX, KEY_BYTES_MAX, MOVE_RATE_MB_MAX, NODE_WEIGHT_MAX, SCAN_ENTRIES_MAX,
    TOKEN_MS_MAX, VALUE_BYTES_MAX,
};

/// Operations in flight at once, unless the builder says otherwise; further ones wait within their deadline.
pub const IN_FLIGHT_DEFAULT: usize = 1024;
/// Most operations in flight that the builder accepts.
pub const IN_FLIGHT_MAX: usize = 65_536;
/// Bytes of keys and values in unanswered requests; further large requests wait within their deadline.
pub const IN_FLIGHT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How long an operation may take, unless it or the builder says otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// How long opening a connection may take (name resolution, TCP and HELLO), unless the builder says otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// Longest one-shot name of a write, in bytes: see [`Write::once`](crate::Write::once).
pub const ONCE_NAME_BYTES_MAX: usize = 255;

/// Requests up to this size are not counted against [`IN_FLIGHT_BYTES_MAX`]: their number alone bounds them.
pub(crate) const SMALL_REQUEST_BYTES: usize = 4 * 1024;
/// While several seeds are tried, or several addresses of one name, the next one joins in after this long without an answer.
pub(crate) const SEED_STAGGER: Duration = Duration::from_millis(100);
/// A connection is probed after this long without a reply, and given up after [`SILENT_PROBES_MAX`] such spans.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// See [`PROBE_INTERVAL`].
pub(crate) const SILENT_PROBES_MAX: u32 = 3;
/// Free space asked for before each read from a socket, in bytes.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A write buffer that grew past this is given back after it was written, in bytes.
pub(crate) const WRITE_BUFFER_KEPT_BYTES: usize = 1024 * 1024;
/// A request is not sent to a node while more than this waits to be written to it, in bytes.
pub(crate) const OUTGOING_BYTES_MAX: usize = IN_FLIGHT_BYTES_MAX / 16;
/// Values up to this size are copied out of the read buffer, so that keeping one does not keep the whole buffer.
pub(crate) const DETACHED_VALUE_BYTES: usize = 8 * 1024;
/// A MULTI-GET or BATCH is split so that one request carries at most this many bytes, unless a single write is larger.
pub(crate) const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests that one multi-key operation has in flight at once.
pub(crate) const GROUPS_IN_FLIGHT_MAX: usize = 32;
/// Shortest time between two refreshes of the topology.
pub(crate) const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Longest time between two refreshes while replies go on hinting that the topology is old.
pub(crate) const REFRESH_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How long one refresh of the topology may take.
pub(crate) const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(GROUP_BYTES_MAX + BATCH_OPERATIONS_MAX * 64 < FRAME_BYTES_MAX, "a full group fits a frame");
const _: () = assert!(OUTGOING_BYTES_MAX > WRITE_BUFFER_KEPT_BYTES, "the bound does not keep small requests back");
const _: () = assert!(
    KEY_BYTES_MAX + VALUE_BYTES_MAX + SMALL_REQUEST_BYTES < IN_FLIGHT_BYTES_MAX,
    "the largest request can be sent"
);
