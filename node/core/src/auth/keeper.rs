//! The keeper of the table of users on this node, as a value that its owner drives, beside [`crate::map_keeper`].
//!
//! The table is the value of one key of the `meta` group. The group's leader writes the first one, and changes it when an operator
//! asks. Every node puts newer tables in force, from its own replica of the group or from a peer, and keeps a copy in its data folder:
//! whom it let in before it lets in after a start without a quorum, too, if it hears soon that the copy is the newest table.
//!
//! Peers say each second, and at once after a change, which table they have. Who has an older one asks for the whole.

use super::gate::AuthGate;
use super::table::{AUTH_KEY, AuthTable};
use super::verbs::{self, AuthRefusal};
use crate::clock::Nanos;
use crate::disk::{Disk, DiskError};
use crate::folder::mirrored::{self, KeptError};
use crate::meta_key::{MetaKey, speaks_for_group};
use crate::routing::router::Router;
use crate::shard::ShardHandle;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{AuthVerb, ClientId, ShardId};
use std::sync::Arc;
use tracing::{info, warn};

/// The name of the table's copy in the data folder.
pub const AUTH_COPY: &str = "auth.json";
/// The cluster's level from which on there are users: nodes of an earlier one ask nobody who he is.
pub const AUTH_LEVEL: u16 = 2;
/// How often peers are told which table is in force here.
const TELL_EVERY_MS: u64 = 1_000;
/// After a proposal the keeper waits this long for the key to change before it proposes again.
const PROPOSE_AGAIN_MS: u64 = 500;
/// Whoever has been asked for the table is asked again after so long.
const ASK_AGAIN_MS: u64 = 1_000;

/// What became of what an operator asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthAsked {
    /// Another node speaks for the group.
    Elsewhere,
    /// It is on its way, or something else is.
    Soon,
    /// The table says so.
    Done,
    /// It can't be done.
    Refused(AuthRefusal),
}

/// The keeper.
pub struct AuthKeeper {
    router: Arc<Router>,
    /// Where the copy is kept.
    disk: Arc<dyn Disk>,
    /// The table of a cluster that has none.
    initial: AuthTable,
    key: MetaKey<AuthTable>,
    told_at: Option<Nanos>,
    asked_at: Option<Nanos>,
}

impl AuthKeeper {
    /// A keeper that has looked at nothing yet. `initial` is written if the cluster has no table.
    pub fn new(router: Arc<Router>, disk: Arc<dyn Disk>, client: ClientId, initial: AuthTable) -> Self {
        let key = MetaKey::new(AUTH_KEY, "table of users", client, PROPOSE_AGAIN_MS..=PROPOSE_AGAIN_MS);
        Self { router, disk, initial, key, told_at: None, asked_at: None }
    }

    /// The same keeper, which writes this table if the cluster has none.
    #[must_use]
    pub fn with_initial(self, initial: AuthTable) -> Self {
        Self { initial, ..self }
    }

    /// Puts the copy of the last process in force, if there is one. Returns whether there is: then the cluster has a table.
    ///
    /// # Errors
    /// If the disk fails. A copy that is damaged is done without.
    pub fn read_copy(&self) -> Result<bool, DiskError> {
        match mirrored::read(&*self.disk, AUTH_COPY, AuthTable::from_copy) {
            Ok(Some(table)) => drop(self.gate().put_in_force(table)),
            Ok(None) => return Ok(false),
            Err(KeptError::Disk(failure)) => return Err(failure),
            Err(KeptError::Damaged(failure) | KeptError::Unsupported(failure)) => {
                warn!(error = %failure, "the copy of the table of users is done without");
            }
        }
        Ok(true)
    }

    fn gate(&self) -> &AuthGate {
        self.router.auth()
    }

    /// Looks at the key and at what peers have said, and does what is due. Returns whether a newer table is in force. Cheap unless
    /// there is one, of which a copy is written.
    pub fn look(&mut self, now: Nanos) -> bool {
        let before = self.gate().generation();
        self.key.hear_answers();
        let heard = self.gate().take_heard();
        if let Some(table) = heard.table {
            self.take(table);
        }
        if let Some(handle) = self.router.local(ShardId::META) {
            self.key.read(&handle, AuthTable::from_bytes);
            if let Some(table) = self.key.take_news().cloned() {
                self.take(table);
            }
            if speaks_for_group(&handle, now) {
                self.lead(&handle, now);
            }
        }
        let changed = self.gate().generation() != before;
        self.tell(changed, now);
        let Some(peers) = self.router.peers() else { return changed };
        if !heard.wanted.is_empty() {
            let message = PeerMessage::AuthTable(self.gate().table().to_bytes().into());
            for peer in heard.wanted {
                // One that gets none asks again.
                let _ = peers.send(peer, &message);
            }
        }
        if let Some(peer) = heard.newer
            && self.asked_at.is_none_or(|at| now.ms_since(at) >= ASK_AGAIN_MS || changed)
        {
            self.asked_at = peers.send(peer, &PeerMessage::AuthWanted).is_ok().then_some(now);
        }
        changed
    }

    /// An operator asks for something. Ask again until it is done or refused.
    pub fn ask(&mut self, verb: &AuthVerb, now: Nanos) -> AuthAsked {
        let Some(handle) = self.router.local(ShardId::META).filter(|handle| speaks_for_group(handle, now)) else {
            return AuthAsked::Elsewhere;
        };
        let level = self.router.ring().level;
        if level < AUTH_LEVEL {
            return AuthAsked::Refused(AuthRefusal::Level(level));
        }
        // Whoever asks may have seen a table, at another node, that has come since the last look.
        self.key.read(&handle, AuthTable::from_bytes);
        let Some(table) = self.key.stored() else { return AuthAsked::Soon };
        match verbs::admit(table, verb) {
            Err(refusal) => AuthAsked::Refused(refusal),
            // It is in force here with the next look.
            Ok(None) if table.epoch > self.gate().table().epoch => AuthAsked::Soon,
            Ok(None) => AuthAsked::Done,
            Ok(Some(_)) if !self.key.may_propose(now) => AuthAsked::Soon,
            Ok(Some(next)) => {
                info!(epoch = next.epoch, "changing the table of users, as asked for");
                self.key.propose(&handle, now, next.to_bytes());
                AuthAsked::Soon
            }
        }
    }

    fn take(&mut self, table: AuthTable) {
        if table.epoch <= self.gate().table().epoch {
            return;
        }
        if let Err(failure) = mirrored::write(&*self.disk, AUTH_COPY, &table.to_copy()) {
            warn!(error = %failure, "the copy of the table of users was not written; the next start waits for the cluster");
        }
        let (epoch, users) = (table.epoch, table.users.len());
        if self.gate().put_in_force(table) {
            info!(epoch, users, "the table of users is in force");
        }
    }

    fn lead(&mut self, handle: &ShardHandle, now: Nanos) {
        if self.router.ring().level < AUTH_LEVEL {
            return;
        }
        match self.key.stored() {
            // It has applied an entry of its own term, so this is the newest table.
            Some(table) if table.epoch == self.gate().table().epoch => self.gate().heard_that_newest(now),
            // An operator's recovery has lost what the group had agreed on, and a node has kept it.
            Some(table) if table.epoch < self.gate().table().epoch && self.key.may_propose(now) => {
                let kept = self.gate().table();
                info!(epoch = kept.epoch, "writing the table of users that a node has kept");
                self.key.propose(handle, now, kept.to_bytes());
            }
            Some(_) => {}
            None if !self.key.may_propose(now) => {}
            None => {
                // A recovery may have lost the group's log, and a copy of the table is left.
                let known = self.gate().table();
                let first = if known.epoch == 0 { &self.initial } else { &*known };
                info!(epoch = first.epoch, "writing the first table of users");
                self.key.propose(handle, now, first.to_bytes());
            }
        }
    }

    /// Tells peers which table is in force here.
    fn tell(&mut self, changed: bool, now: Nanos) {
        if !changed && self.told_at.is_some_and(|at| now.ms_since(at) < TELL_EVERY_MS) {
            return;
        }
        let (Some(peers), level) = (self.router.peers(), self.router.ring().level) else { return };
        let epoch = self.gate().table().epoch;
        if level < AUTH_LEVEL || epoch == 0 {
            return;
        }
        self.told_at = Some(now);
        let handle = self.router.local(ShardId::META);
        let is_stored = self.key.stored().is_some_and(|table| table.epoch == epoch);
        let leads = is_stored && handle.is_some_and(|handle| speaks_for_group(&handle, now));
        let message = PeerMessage::AuthNews { epoch, leads };
        for peer in peers.up() {
            // The next one comes in a second.
            let _ = peers.send(peer, &message);
        }
    }
}
