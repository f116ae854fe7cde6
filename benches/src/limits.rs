//! Every bound of the load generator.

use std::time::Duration;

/// Nodes of each cluster that is started here, of whatever system.
pub(crate) const NODES: usize = 3;
/// Most connections of one run.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;
/// Most requests that one connection keeps in flight.
pub(crate) const PIPELINE_MAX: usize = 4096;
/// Most operating-system threads that generate load.
pub(crate) const THREADS_MAX: usize = 256;
/// Most keys; the generator holds four bytes for each.
pub(crate) const KEYS_MAX: u32 = 100_000_000;
/// Longest measured time, and the limit of a run that is bounded by operations alone.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// A run that is bounded by operations ends after this time even if they are not done.
pub(crate) const OPERATIONS_DURATION: Duration = Duration::from_secs(600);
/// Longest time that writing all keys first may take.
pub(crate) const FILL_DURATION_MAX: Duration = Duration::from_secs(1800);
/// Writing all keys is given up when not one more was written for this long.
pub(crate) const FILL_STALL_MAX: Duration = Duration::from_secs(15);
/// The depth of pipelines while all keys are written, if the run's own is smaller: nothing is measured then.
pub(crate) const FILL_PIPELINE: usize = 32;
/// Keys that a connection claims at a time while all keys are written.
pub(crate) const FILL_CLAIM: u32 = 256;
/// No further request is encoded while this many bytes wait to be sent.
pub(crate) const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Room for this many bytes is made before each read.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// A connection stops writing while its oldest unanswered write is this many sequence numbers behind: the servers
/// remember no more answers of one client.
pub(crate) const SEQUENCE_WINDOW_MAX: usize = 4096;
/// Failures in a row after which a connection is given up.
pub(crate) const RECONNECTS_MAX: u32 = 30;
/// The first pause before connecting again; it doubles with each failure in a row, and is drawn from its upper half.
pub(crate) const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest such pause.
pub(crate) const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest time to connect and say HELLO.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A reply that is this much later than the request's own deadline means that the connection is dead.
pub(crate) const REPLY_GRACE: Duration = Duration::from_secs(1);
/// How long the end of a run waits for replies still under way. They are not measured; but one slow write to a disk is not
/// to be told as a request without an answer, and closing politely keeps the server's log quiet.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);
/// How often a connection looks after itself when nothing else wakes it.
pub(crate) const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// A connection asks for the topology at most this often.
pub(crate) const TOPOLOGY_PAUSE: Duration = Duration::from_millis(250);
/// After an error a connection sends nothing for at least this long, else a refusing server would be asked in a hot loop.
pub(crate) const ERROR_PAUSE_MIN: Duration = Duration::from_millis(5);
/// And for at most this long, whatever the server advises.
pub(crate) const ERROR_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The clock of an open loop looks at most this often for what is due; several requests are, if the rate is higher.
pub(crate) const PACE_TICK_MIN: Duration = Duration::from_micros(100);
/// And at least this often whether the run was given up.
pub(crate) const PACE_SLEEP_MAX: Duration = Duration::from_millis(100);
/// Highest rate of an open loop, in operations per second of all connections.
pub(crate) const RATE_MAX: f64 = 1e8;
/// Longest wait for one STATUS or TOPOLOGY.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the start of a run waits for every shard to have a leader.
pub(crate) const LEADERS_WAIT: Duration = Duration::from_secs(5);
/// The pause between two looks for leaders.
pub(crate) const LEADERS_PAUSE: Duration = Duration::from_millis(100);
/// The HTTP door of a node is so many ports above its binary one.
pub(crate) const HTTP_PORT_ABOVE: u16 = 20;
/// The RESP door for clients of Redis Cluster likewise.
pub(crate) const RESP_CLUSTER_PORT_ABOVE: u16 = 40;
/// Bytes of an answer's head over HTTP.
pub(crate) const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// The time that a node takes for a request over HTTP that does not say how long it may take.
pub(crate) const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Different reasons of lost connections that a report tells apart.
pub(crate) const REASONS_MAX: usize = 16;

const _: () = assert!(PIPELINE_MAX <= SEQUENCE_WINDOW_MAX, "a full pipeline fits the window of sequence numbers");
const _: () = assert!(FILL_PIPELINE <= PIPELINE_MAX);
const _: () = assert!(KEYS_MAX as u64 * 4 <= 1 << 29, "the table of keys stays under 512 MiB");
