//! What the doors of one node have in common.

use super::inflow::Inflow;
use super::places::Places;
use crate::auth::login::Logins;
use crate::runtime::door_counts::DoorCounts;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all doors of clients share. Clones mean the same.
#[derive(Clone)]
pub struct DoorCommons {
    /// The places for connections.
    pub places: Arc<Places>,
    /// The memory for what has come in and is not whole.
    pub inflow: Arc<Inflow>,
    /// What was answered.
    pub counts: Arc<DoorCounts>,
    /// What lets clients in.
    pub logins: Arc<Logins>,
    /// Cancelled when no more clients are taken, and those that are there are to leave.
    pub drain: CancellationToken,
    /// Cancelled when the doors close.
    pub stop: CancellationToken,
}
