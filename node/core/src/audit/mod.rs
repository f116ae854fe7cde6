//! What is written down of who did what: logins, refusals, and what operators change. Pure: who drives it writes the lines.
//!
//! [`AuditDesk`] is where sessions and doors leave what happened. It is bounded, and never waits. The node makes lines of that, each
//! with the hash of the one before.

mod desk;
mod words;

pub use desk::AuditDesk;
pub use words::change;

use crate::measure::meter::Door;
use core::net::IpAddr;
use serde::Serialize;

/// Most bytes of a text in a line. The rest is left out.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// The node has begun to write.
    Opened,
    /// A client has said who it is, and was let in.
    Login,
    /// It was not let in.
    LoginFailed,
    /// A request was not done: its user may not have it done.
    Denied,
    /// Something was asked for that changes the cluster, a node, or who may do what. Written before it is done.
    Asked,
    /// What became of that.
    Answered,
    /// So many events were not written: they came faster than lines can be written, or the disk took none.
    Dropped,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEvent {
    /// What.
    pub kind: AuditKind,
    /// The way in.
    pub door: Option<Door>,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// The user; empty while it is nobody.
    pub user: String,
    /// What it was about.
    pub what: String,
    /// How often it was left out before, since the last line of its kind.
    pub repeats: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

impl AuditEvent {
    /// Something that a client did at a door.
    pub fn at_door(kind: AuditKind, door: Door, from: Option<IpAddr>, user: &str, what: &str) -> Self {
        let (user, what) = (bounded(user), bounded(what));
        Self { kind, door: Some(door), from, user, what, repeats: 0, at_ms: 0 }
    }

    /// Something that happened to the log itself.
    fn of_log(kind: AuditKind, what: String) -> Self {
        Self { kind, door: None, from: None, user: String::new(), what, repeats: 0, at_ms: 0 }
    }
}

/// As much of a text as is written.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX)].to_owned()
}
