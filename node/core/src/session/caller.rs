//! Whose requests a session's are, and what he may have done.

use super::Session;
use super::pending::value_bytes;
use crate::audit::{AuditKind, change};
use crate::auth::authorise::may_cluster;
use crate::auth::rates::Spent;
use crate::auth::{Access, AuthGate, LoginError, Principal, authorise};
use crate::clock::Nanos;
use crate::measure::meter::{Door, OperationKind};
use crate::routing::router::Router;
use crate::shard::Operation;
use bytes::Bytes;
use kvorum_protocol::{
    ClusterClasses, ErrorCode, KeyClasses, ReadMode, RequestBody, ResponseBody, Retry, ServerError,
    TransactionOperation, UserLimits,
};
use std::sync::Arc;

/// Whose requests they are.
#[derive(Debug)]
pub(super) struct Caller {
    principal: Principal,
    access: Arc<Access>,
    /// What he has asked of this node lately, if there is a limit.
    usage: Option<Arc<Spent>>,
    /// A request was refused since he has asked too much.
    is_over: bool,
    /// A node has asked on behalf of its client, and has looked at what that one may do.
    is_peer: bool,
}

impl Caller {
    /// Of a client that has not said anything yet, or of a peer.
    pub(super) fn new(gate: &AuthGate, door: Door) -> Self {
        let principal = Principal::Nobody;
        let access = gate.access(&principal, 0).unwrap_or_else(|_| Arc::new(Access::nobody(0)));
        Self { principal, access, usage: None, is_over: false, is_peer: door == Door::Peer }
    }

    /// Of a client that has said who it is.
    fn of(gate: &AuthGate, principal: Principal, access: Arc<Access>) -> Self {
        Self { usage: gate.usage_of(&access), principal, access, is_over: false, is_peer: false }
    }

    /// Who it is.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What the caller may do by the table in force. Whoever may not be here any more may do nothing.
    fn access(&mut self, router: &Router) -> &Arc<Access> {
        let gate = router.auth();
        let generation = gate.generation();
        if self.access.generation() != generation || self.access.is_over(router) {
            let wall_ms = router.clock().now().wall_ms;
            let of_now = gate.access(&self.principal, wall_ms);
            self.access = of_now.unwrap_or_else(|_| Arc::new(Access::nobody(generation)));
            self.usage = gate.usage_of(&self.access);
        }
        &self.access
    }
}

impl<Origin: Copy> Session<Origin> {
    /// Requests from here on are this client's.
    ///
    /// # Errors
    /// `Refused`: he may not be here, and the session stays as it was.
    pub fn log_in(&mut self, principal: Principal) -> Result<(), LoginError> {
        self.log_in_again(principal)?;
        self.note_login();
        Ok(())
    }

    /// The same, of a client that this session was made for again.
    ///
    /// # Errors
    /// As [`Session::log_in`].
    pub fn log_in_again(&mut self, principal: Principal) -> Result<(), LoginError> {
        let router = &self.context.router;
        let access = router.auth().access(&principal, router.clock().now().wall_ms)?;
        self.caller = Caller::of(router.auth(), principal, access);
        Ok(())
    }

    /// The same, of somebody of whom it is known already what he may do.
    ///
    /// # Errors
    /// As [`Session::log_in`].
    pub fn log_in_as(&mut self, principal: &Principal, access: &Arc<Access>) -> Result<(), LoginError> {
        if access.generation() != self.context.router.auth().generation() {
            return self.log_in(principal.clone());
        }
        if *principal != Principal::Nobody {
            self.caller = Caller::of(self.context.router.auth(), principal.clone(), Arc::clone(access));
            self.note_login();
        }
        Ok(())
    }

    /// Requests from here on are those of a client that has said nothing.
    pub fn log_out(&mut self) {
        self.caller = Caller::new(self.context.router.auth(), self.door);
    }

    /// Whose requests they are.
    pub fn principal(&self) -> &Principal {
        &self.caller.principal
    }

    /// What he may do by the table in force.
    pub fn access(&mut self) -> Arc<Access> {
        Arc::clone(self.caller.access(&self.context.router))
    }

    /// Whether the client has still to say who it is.
    pub fn is_nobody(&mut self) -> bool {
        self.caller.access(&self.context.router).is_nobody()
    }

    /// Whether the client may go on here: whoever had logged in may be nobody any more.
    pub fn may_stay(&mut self) -> bool {
        self.caller.principal == Principal::Nobody || !self.caller.access(&self.context.router).is_nobody()
    }

    /// Whether the client may have this done with the cluster: for what a door does without a request.
    ///
    /// # Errors
    /// `Unauthenticated`, `PermissionDenied`.
    pub fn may_cluster(&mut self, classes: ClusterClasses) -> Result<(), ServerError> {
        let access = self.caller.access(&self.context.router);
        let allowed = may_cluster(access, classes).map_err(|denied| denied.error(access.user()));
        if let Err(error) = &allowed {
            self.note(AuditKind::Denied, &error.detail);
        }
        allowed
    }

    /// A status names keys that are hot: only those that the client may read.
    pub(super) fn leave_out_keys(&mut self, body: &mut ResponseBody) {
        if let ResponseBody::Status(nodes) = body
            && !self.caller.is_peer
        {
            let access = self.caller.access(&self.context.router);
            nodes.iter_mut().for_each(|node| node.hot_keys.retain(|hot| access.may(KeyClasses::READ, &hot.key)));
        }
    }

    /// Why a request is not done; `None` if it may be.
    pub(super) fn refusal(&mut self, body: &RequestBody, now: Nanos) -> Option<ServerError> {
        if self.caller.is_peer {
            return None;
        }
        // What is refused for want of a right costs, too, and a line of the audit log. By the limits of now.
        self.caller.access(&self.context.router);
        if let Err(error) = self.charge(body, now) {
            self.caller.is_over = true;
            return Some(error);
        }
        let access = self.caller.access(&self.context.router);
        if let Err(denied) = authorise(access, body) {
            let error = denied.error(access.user());
            let changes = if let RequestBody::Admin(command) = body { change(command) } else { None };
            let what = changes.unwrap_or_else(|| OperationKind::of(body).name().to_owned());
            self.note(AuditKind::Denied, &format!("{what}: {}", error.detail));
            return Some(error);
        }
        if let RequestBody::Admin(command) = body
            && let Err(error) = self.note_asked(command)
        {
            return Some(error);
        }
        if is_stale_read(body) && !self.context.router.auth().is_fresh(now) {
            // Other requests need a leader, which has heard of a quorum.
            let detail = "this node has not heard from the cluster lately who may read: ask another one, or read \
                          what is newest";
            return Some(ServerError::new(ErrorCode::Unavailable, detail));
        }
        None
    }
}

impl<Origin: Copy> Session<Origin> {
    /// Counts a request against what its user, and its address, may ask.
    ///
    /// # Errors
    /// `Overloaded`, with the pause.
    fn charge(&self, body: &RequestBody, now: Nanos) -> Result<(), ServerError> {
        let ask = |usage: &Spent, limits, whose| {
            let asked = usage.ask(now, request_bytes(body), limits);
            asked.map_err(|wait_ms| over(whose, limits, wait_ms))
        };
        if let Some(usage) = &self.caller.usage {
            ask(usage, self.caller.access.limits(), "user")?;
        }
        if let Some(usage) = self.audited.usage() {
            ask(usage, self.context.router.auth().address_limits(), "address")?;
        }
        Ok(())
    }

    /// Whether a request was refused since its user, or its address, asks too much: whoever waits and asks again for him hides that.
    pub fn is_over_limit(&self) -> bool {
        self.caller.is_over
    }

    /// Counts an answer likewise. Whoever asks next waits for it.
    pub(super) fn charge_answer(&self, body: &ResponseBody, now: Nanos) {
        if let Some(usage) = &self.caller.usage {
            usage.answer(now, value_bytes(body) as u64, self.caller.access.limits());
        }
        if let Some(usage) = self.audited.usage() {
            usage.answer(now, value_bytes(body) as u64, self.context.router.auth().address_limits());
        }
    }
}

fn over(whose: &str, limits: UserLimits, wait_ms: u64) -> ServerError {
    let UserLimits { requests_per_s, bytes_per_s, .. } = limits;
    let detail = format!(
        "the {whose} asks more of this node than the limit of {requests_per_s} requests and {bytes_per_s} bytes per second (0 is \
         none): try again in {wait_ms} ms"
    );
    let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1);
    ServerError::new(ErrorCode::Overloaded, detail).with_retry(Retry::AfterMs(wait_ms))
}

/// Bytes of keys and values in a request.
fn request_bytes(body: &RequestBody) -> u64 {
    let bytes = match body {
        RequestBody::Get { key, .. } => key.len(),
        RequestBody::MultiGet { keys, .. } => keys.iter().map(Bytes::len).sum(),
        RequestBody::Write { mutation, .. } => Operation::mutation_bytes(mutation),
        RequestBody::Batch { mutations, .. } => mutations.iter().map(Operation::mutation_bytes).sum(),
        RequestBody::Atomic(atomic) => atomic.mutations.iter().map(Operation::mutation_bytes).sum(),
        RequestBody::Transaction(transaction) => {
            let written = |operation: &TransactionOperation| match operation {
                TransactionOperation::Write(mutation) => Operation::mutation_bytes(mutation),
                operation => operation.keys().map(Bytes::len).sum(),
            };
            transaction.operations.iter().map(written).sum()
        }
        RequestBody::Ping(payload) => payload.len(),
        RequestBody::Hello(_)
        | RequestBody::Topology
        | RequestBody::Status(_)
        | RequestBody::Explain(_)
        | RequestBody::Scan(_)
        | RequestBody::Await { .. }
        | RequestBody::Auth(_)
        | RequestBody::Admin(_) => 0,
    };
    bytes as u64
}

fn is_stale_read(body: &RequestBody) -> bool {
    let mode = match body {
        RequestBody::Get { mode, .. } | RequestBody::MultiGet { mode, .. } => *mode,
        RequestBody::Scan(scan) => scan.mode,
        _ => ReadMode::Linearizable,
    };
    mode == ReadMode::Stale
}
