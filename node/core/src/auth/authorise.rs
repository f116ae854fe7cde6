//! Whether somebody may have a request done. There is no other place that decides this, whichever door the request comes by.

use super::access::Access;
use kvorum_protocol::{
    Action, AdminCommand, AtomicRequest, AuthVerb, ClusterClasses, Condition, ErrorCode, KeyClasses, Mutation,
    ReadMode, RequestBody, ReturnPrevious, ServerError, SlowLogAsk, TransactionOperation, TransactionRequest,
};
use std::fmt;

/// What somebody may not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Anything, before the client has said who it is.
    Unauthenticated,
    /// This, with a key of the request.
    Key(KeyClasses),
    /// This, with the cluster.
    Cluster(ClusterClasses),
}

impl Denied {
    /// The error that says so. It names neither keys nor what may be done instead.
    pub fn error(self, user: &str) -> ServerError {
        match self {
            Self::Unauthenticated => ServerError::new(ErrorCode::Unauthenticated, self.to_string()),
            Self::Key(_) | Self::Cluster(_) => {
                ServerError::new(ErrorCode::PermissionDenied, format!("the user {user:?} has no right to {self}"))
            }
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("this node wants to know who asks: log in by a token or a password"),
            Self::Key(classes) => write!(f, "{classes} a key that it names"),
            Self::Cluster(classes) => write!(f, "{classes} of the cluster"),
        }
    }
}

/// Whether somebody may have this done. A request of several keys needs the right for each. There is no arm for all the rest: who
/// adds a request decides here who may ask it.
///
/// # Errors
/// What is missing first.
pub fn authorise(access: &Access, request: &RequestBody) -> Result<(), Denied> {
    use KeyClasses as K;
    let key = |classes: K, key: &[u8]| may_key(access, classes, key);
    let cluster = |classes| may_cluster(access, classes);
    match request {
        // The door answers them, whoever asks.
        RequestBody::Hello(_) | RequestBody::Auth(_) => Ok(()),
        // They tell how the cluster is built, and no more than a client needs to find its keys.
        RequestBody::Ping(_) | RequestBody::Topology | RequestBody::Await { .. } => anybody(access),
        RequestBody::Status(_) => cluster(ClusterClasses::STATUS),
        RequestBody::Explain(of) => key(K::READ, of),
        RequestBody::Get { key: of, mode: ReadMode::Linearizable | ReadMode::Stale } => key(K::READ, of),
        RequestBody::MultiGet { keys, mode: ReadMode::Linearizable | ReadMode::Stale } => {
            anybody(access)?;
            keys.iter().try_for_each(|of| key(K::READ, of))
        }
        RequestBody::Scan(scan) => key(if scan.values { K::SCAN.with(K::READ) } else { K::SCAN }, &scan.prefix),
        RequestBody::Write { mutation, .. } => may_write(access, mutation),
        RequestBody::Batch { mutations, .. } => {
            anybody(access)?;
            mutations.iter().try_for_each(|mutation| may_write(access, mutation))
        }
        RequestBody::Atomic(AtomicRequest { checks, mutations, .. }) => {
            anybody(access)?;
            checks.iter().try_for_each(|check| key(K::READ, &check.key))?;
            mutations.iter().try_for_each(|mutation| may_write(access, mutation))
        }
        RequestBody::Transaction(TransactionRequest { checks, operations, .. }) => {
            anybody(access)?;
            checks.iter().try_for_each(|check| key(K::READ, &check.key))?;
            operations.iter().try_for_each(|operation| match operation {
                TransactionOperation::Read(of) => key(K::READ, of),
                TransactionOperation::Write(mutation) => may_write(access, mutation),
                TransactionOperation::Rename { from, to, .. } => {
                    key(K::READ.with(K::DELETE), from)?;
                    key(K::WRITE, to)
                }
                TransactionOperation::Copy { from, to, .. } => {
                    key(K::READ, from)?;
                    key(K::WRITE, to)
                }
            })
        }
        RequestBody::Admin(command) => match command {
            AdminCommand::WhoAmI => anybody(access),
            AdminCommand::Plan(None) | AdminCommand::Authority => cluster(ClusterClasses::STATUS),
            AdminCommand::SlowLog(SlowLogAsk::Newest(_) | SlowLogAsk::Length) => cluster(ClusterClasses::METRICS),
            AdminCommand::TransferLeadership { .. }
            | AdminCommand::Shutdown
            | AdminCommand::SlowLog(SlowLogAsk::Forget)
            | AdminCommand::Monitor(_)
            | AdminCommand::LogLevel(_)
            | AdminCommand::Ask(_)
            | AdminCommand::Plan(Some(_)) => cluster(ClusterClasses::ADMIN),
            AdminCommand::Auth(verb) => match &**verb {
                // Who changes his own password, and nothing else of himself. Whoever has a token of his would become him for good.
                AuthVerb::PutUser { name, exists: Some(true), verifier: Some(_), roles: None, disabled: None }
                    if access.is_user(name) =>
                {
                    Ok(())
                }
                AuthVerb::PutUser { .. }
                | AuthVerb::RemoveUser(_)
                | AuthVerb::PutRole { .. }
                | AuthVerb::RemoveRole(_)
                | AuthVerb::AddToken { .. }
                | AuthVerb::RemoveToken(_)
                | AuthVerb::Deny { .. }
                | AuthVerb::Limit { .. } => cluster(ClusterClasses::USERS),
            },
            // What one may do oneself is no secret.
            AdminCommand::CheckAccess { user, .. } if *user == access.user() => anybody(access),
            AdminCommand::ShowAuth | AdminCommand::CheckAccess { .. } => cluster(ClusterClasses::USERS),
            AdminCommand::PanicShard(_) | AdminCommand::CutPeers(_) | AdminCommand::SkewClock(_) => {
                cluster(ClusterClasses::FAULTS)
            }
        },
    }
}

/// Whether it is known who asks.
///
/// # Errors
/// `Unauthenticated`.
pub fn anybody(access: &Access) -> Result<(), Denied> {
    if access.is_nobody() { Err(Denied::Unauthenticated) } else { Ok(()) }
}

/// Whether all of this may be done with the cluster.
///
/// # Errors
/// `Unauthenticated`, `Cluster`.
pub fn may_cluster(access: &Access, classes: ClusterClasses) -> Result<(), Denied> {
    if access.may_cluster(classes) { Ok(()) } else { anybody(access).and(Err(Denied::Cluster(classes))) }
}

/// Whether all of this may be done with a key, or with all keys that begin with it.
///
/// # Errors
/// `Unauthenticated`, `Key`.
pub fn may_key(access: &Access, classes: KeyClasses, key: &[u8]) -> Result<(), Denied> {
    if access.may(classes, key) { Ok(()) } else { anybody(access).and(Err(Denied::Key(classes))) }
}

fn may_write(access: &Access, mutation: &Mutation) -> Result<(), Denied> {
    may_key(access, needed(mutation), &mutation.key)
}

/// What a write does with its key. What tells the value, or something that follows from it, reads it.
fn needed(mutation: &Mutation) -> KeyClasses {
    use KeyClasses as K;
    let action = match &mutation.action {
        Action::Put { .. } | Action::Append { .. } | Action::SetRange { .. } => K::WRITE,
        Action::Incr { .. } | Action::SetBit { .. } | Action::IncrDecimal { .. } => K::WRITE.with(K::READ),
        Action::Delete => K::DELETE,
        Action::Expire { .. } | Action::ExpireIf { .. } | Action::ExpireAt { .. } | Action::Persist => K::WRITE,
    };
    let condition = match &mutation.condition {
        Condition::Always
        | Condition::IfAbsent
        | Condition::IfPresent
        | Condition::IfVersion(_)
        | Condition::IfAbsentOrVersion(_) => K::NONE,
        Condition::IfEquals(_) => K::READ,
    };
    let previous = match mutation.return_previous {
        ReturnPrevious::Nothing | ReturnPrevious::Existence => K::NONE,
        ReturnPrevious::Entry => K::READ,
    };
    action.with(condition).with(previous)
}
