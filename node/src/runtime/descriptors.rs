//! File descriptors: a client that connects takes one, and so does a file while it is open. They must not meet at the end
//! of what the system allows: a segment that can't be made stops a shard.
//!
//! So the soft limit is raised to the hard one, what the node needs for itself is kept back from clients, and a limit that
//! does not even suffice for that ends the start. Segments take none: a mapping needs no descriptor.

use kvorum_core::limits::REFUSED_LINGERING_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The standard streams, the runtime's own, the locks of the data folder, the sockets that listen, the peers' socket, and
/// those of clients that are refused.
const STANDING: u64 = 16 + REFUSED_LINGERING_MAX as u64;
/// Files and folders that are open for a moment: segments that are made, manifests and hints that are written, files that are
/// read at a start, checked, or removed.
const FILES_AT_ONCE: u64 = 128;
/// A node that takes fewer clients than this is of no use.
const CONNECTIONS_MIN: u64 = 16;

/// The limit does not suffice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the process may have {limit} file descriptors and needs at least {needed}, or {wanted} for all of connections_max: \
     raise the hard limit (ulimit -n, LimitNOFILE=, docker's --ulimit nofile=)"
)]
pub struct TooFewDescriptors {
    /// What the system allows.
    pub limit: u64,
    /// What a node needs that serves [`CONNECTIONS_MIN`] clients.
    pub needed: u64,
    /// What it needs for as many as its configuration says.
    pub wanted: u64,
}

/// How many connections of clients fit below `limit`, at most `connections_max`. `journal_files` stay open.
///
/// # Errors
/// If it is fewer than a node must serve.
pub fn connections_within(limit: u64, connections_max: u32, journal_files: u64) -> Result<u32, TooFewDescriptors> {
    let own = STANDING + FILES_AT_ONCE + journal_files;
    let wanted = own + u64::from(connections_max);
    let needed = own + CONNECTIONS_MIN.min(connections_max.into());
    if limit < needed {
        return Err(TooFewDescriptors { limit, needed, wanted });
    }
    Ok(u32::try_from(limit - own).unwrap_or(u32::MAX).min(connections_max))
}

/// Raises the soft limit of the process to the hard one, and returns what it is then.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    let is_raised = current == maximum || setrlimit(Resource::Nofile, wanted).is_ok();
    // No limit at all is one that is never reached.
    if is_raised { maximum } else { current }.unwrap_or(u64::MAX)
}

/// Raises the limit, and says how many connections of clients fit below it, of those that the configuration allows.
///
/// # Errors
/// If it does not suffice for a node.
pub fn provide(connections_max: u32, journal_files: u64) -> Result<u32, TooFewDescriptors> {
    let limit = raise_limit();
    let connections = connections_within(limit, connections_max, journal_files)?;
    if connections < connections_max {
        let needed = limit + u64::from(connections_max - connections);
        tracing::warn!(
            limit,
            connections,
            connections_max,
            needed,
            "file descriptors suffice for fewer connections than connections_max; raise the hard limit",
        );
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_node_does_not_need_itself() {
        let own = STANDING + FILES_AT_ONCE + 4;
        assert_eq!(connections_within(1 << 20, 1024, 4), Ok(1024));
        assert_eq!(connections_within(u64::MAX, u32::MAX, 4), Ok(u32::MAX));
        assert_eq!(connections_within(1024, 1024, 4), Ok(1024 - own as u32));
        assert_eq!(connections_within(own + CONNECTIONS_MIN, 1024, 4), Ok(CONNECTIONS_MIN as u32));
    }

    #[test]
    fn a_limit_that_does_not_suffice_is_refused_with_what_is_needed() {
        let error = connections_within(100, 1024, 4).unwrap_err();
        let own = STANDING + FILES_AT_ONCE + 4;
        assert_eq!(error, TooFewDescriptors { limit: 100, needed: own + CONNECTIONS_MIN, wanted: own + 1024 });
        assert_eq!(connections_within(error.needed, 1024, 4), Ok(CONNECTIONS_MIN as u32), "what it names suffices");
        assert_eq!(connections_within(error.wanted, 1024, 4), Ok(1024), "for all of them, too");
        assert_eq!(connections_within(own, 0, 4), Ok(0));
    }

    #[test]
    fn the_soft_limit_is_the_hard_one_afterwards() {
        let limit = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, current.unwrap_or(u64::MAX)), (maximum, limit));
    }
}
