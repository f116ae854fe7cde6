//! The bounds of what a client decides. Those of the wire are in [`kvorum_protocol::limits`].

use std::time::Duration;

/// A write that is asked for a higher number each time it is sent is given up after so many.
pub const RENUMBERINGS_MAX: u32 = 16;
/// Times that one operation follows a pointer to another leader at once, without a pause in between.
pub const REDIRECTS_MAX: u32 = 8;
/// The longest pause that a node is granted when it refuses a connection.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Most seeds in a URL.
pub const SEEDS_MAX: usize = 64;
