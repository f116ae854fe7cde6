//! What one connection, and one request, may cost.

use kvorum_protocol::limits::VALUE_BYTES_MAX;
use std::time::Duration;

/// Bytes of a body that is a value.
pub(super) const RAW_BYTES_MAX: usize = VALUE_BYTES_MAX;
/// Bytes of a body of JSON: a value as base64, and what stands around it.
pub(super) const JSON_BYTES_MAX: usize = VALUE_BYTES_MAX / 3 * 4 + 512 * 1024;
/// Largest body of a login at the console: a name and a password.
pub(super) const LOGIN_BYTES_MAX: usize = 8 * 1024;
/// Operations of a bulk load that are done together,
pub(super) const BULK_OPERATIONS_MAX: usize = 1024;
/// and bytes of them, unless one alone is longer.
pub(super) const BULK_BYTES: usize = 1024 * 1024;
/// Bytes of a request's head.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of a request.
pub(super) const HEADERS_MAX: usize = 64;
/// The head of a request must be whole so long after its first byte.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// A client that takes nothing of an answer for so long is cut off.
pub(super) const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// Requests at once on a connection of HTTP/2.
pub(super) const STREAMS_MAX: u32 = 256;
/// Streams that a client of HTTP/2 opens and resets before anybody has looked at them.
pub(super) const RESETS_PENDING_MAX: usize = 20;
/// Streams that a node resets on a connection of HTTP/2 for what is wrong with them.
pub(super) const RESETS_MAX: usize = 128;
/// Bytes of values in an answer from which on it takes part in [`ANSWERS_BYTES_MAX`].
pub(super) const LARGE_ANSWER_BYTES: usize = 256 * 1024;
/// Bytes of values in large answers that clients have not taken yet, of all connections.
pub(super) const ANSWERS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that a connection buffers of an answer.
pub(super) const SEND_BUFFER_BYTES: usize = 256 * 1024;

const _: () = assert!(JSON_BYTES_MAX / 4 * 3 >= VALUE_BYTES_MAX + 1024, "the largest value fits as base64");
const _: () = assert!(ANSWERS_BYTES_MAX >= 8 * VALUE_BYTES_MAX, "a few of the largest values leave at once");
const _: () = assert!(JSON_BYTES_MAX < 24 * 1024 * 1024);
