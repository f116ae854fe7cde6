//! The table in force on this node, for all doors: who somebody is, and what he may do.

use super::access::Access;
use super::rates::Spent;
use super::table::AuthTable;
use crate::clock::Nanos;
use core::net::{IpAddr, Ipv6Addr};
use kvorum_protocol::limits::USERS_MAX;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{AuthView, ErrorCode, NodeId, Outcome, ServerError, UserLimits, UserTokenId, hexadecimal};
use kvorum_scram::Verifier;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A node that has not heard for so long, in milliseconds, what the newest table is lets nobody log in, and answers no read that may
/// be old: somebody may have lost his rights meanwhile.
pub const STALE_AFTER_MS: u64 = 10_000;

/// Addresses of which it is known what came from them. Beyond it those are forgotten from which nobody is connected.
const ADDRESSES_MAX: usize = 65_536;

/// What counts as one address: of IPv6 the first 64 bits, as one machine has all the others.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

/// Who is asking, and how he has proved it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Principal {
    /// Nobody has said yet.
    #[default]
    Nobody,
    /// The connection's certificate says so.
    Certificate {
        /// The user.
        user: String,
        /// The certificate's serial number.
        serial: Vec<u8>,
    },
    /// By a password.
    Password {
        /// The user.
        user: String,
        /// Which password: see [`Verifier::mark`].
        mark: [u8; 8],
    },
    /// By a token.
    Token(UserTokenId),
}

/// Why somebody can't log in, or is somebody no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoginError {
    /// No such user, or not with this password, token or certificate.
    #[error("the user is not known here, or the password, token or certificate is wrong, or may not be used any more")]
    Refused,
    /// This node does not know what the newest table is.
    #[error("this node has not heard from the cluster lately who may log in: try another one")]
    Stale,
    /// The user has as many connections to this node as its limit says.
    #[error("the user has as many connections to this node as its limit says: close one, or try another node")]
    TooMany,
}

impl LoginError {
    /// The error as clients are told.
    pub fn error(self) -> ServerError {
        let code = match self {
            Self::Refused => ErrorCode::Unauthenticated,
            Self::Stale => ErrorCode::Unavailable,
            Self::TooMany => ErrorCode::TooManyConnections,
        };
        ServerError::new(code, self.to_string()).with_outcome(Outcome::NotApplied)
    }
}

/// One of the connections that a user may have to this node.
#[derive(Debug)]
pub struct UserPlace(Arc<()>);

/// What peers have said, for the keeper.
#[derive(Debug, Default)]
pub struct FromPeers {
    /// A peer has a newer table.
    pub newer: Option<NodeId>,
    /// These want the one in force.
    pub wanted: BTreeSet<NodeId>,
    /// One that a peer has sent.
    pub table: Option<AuthTable>,
}

struct InForce {
    table: Arc<AuthTable>,
    generation: u64,
    /// What those may do who have said nothing: where clients must log in, and where they need not.
    nobody: Arc<Access>,
    everybody: Arc<Access>,
    /// What each user may do, made when it is first asked.
    accesses: Mutex<HashMap<String, Option<Arc<Access>>>>,
}

/// The table in force, and whether clients must say who they are.
pub struct AuthGate {
    /// The node's configuration says so.
    required: AtomicBool,
    /// The ring map says so.
    required_by_cluster: AtomicBool,
    /// The node's configuration says that everybody may do everything, whatever the ring map says.
    insists_on_open: AtomicBool,
    in_force: RwLock<Arc<InForce>>,
    /// Grows whenever another table is in force: who holds an [`Access`] of an older one asks for it again.
    generation: AtomicU64,
    /// When this node heard last that it has the newest table, in nanoseconds; 0 if never.
    heard_at: AtomicU64,
    heard: Mutex<FromPeers>,
    /// What users with a limit have asked of this node lately. As many as the table has at most.
    usages: Mutex<HashMap<String, Arc<Spent>>>,
    /// Connections of users: each holds a reference. As many as the table has at most.
    connections: Mutex<HashMap<String, Arc<()>>>,
    /// How much may come from one address.
    address_limits: OnceLock<UserLimits>,
    /// What came from addresses lately, at most [`ADDRESSES_MAX`].
    addresses: Mutex<HashMap<IpAddr, Arc<Spent>>>,
}

impl InForce {
    fn new(table: Arc<AuthTable>, generation: u64) -> Self {
        let (nobody, everybody) = (Access::nobody(generation), Access::everything(generation));
        let accesses = Mutex::default();
        Self { table, generation, nobody: Arc::new(nobody), everybody: Arc::new(everybody), accesses }
    }
}

impl Default for AuthGate {
    fn default() -> Self {
        Self {
            required: AtomicBool::new(false),
            required_by_cluster: AtomicBool::new(false),
            insists_on_open: AtomicBool::new(false),
            in_force: RwLock::new(Arc::new(InForce::new(Arc::default(), 1))),
            generation: AtomicU64::new(1),
            heard_at: AtomicU64::new(0),
            heard: Mutex::default(),
            usages: Mutex::default(),
            connections: Mutex::default(),
            address_limits: OnceLock::new(),
            addresses: Mutex::default(),
        }
    }
}

impl AuthGate {
    /// Clients must say who they are at this node. Said before the first one comes.
    pub fn require(&self) {
        self.required.store(true, Ordering::Release);
    }

    /// They need not, whatever the cluster says: the way in for an operator whom nobody knows any more. Said before the first one
    /// comes.
    pub fn insist_on_open(&self) {
        self.insists_on_open.store(true, Ordering::Release);
    }

    /// The ring map says whether they must.
    pub fn cluster_requires(&self, required: bool) {
        if self.required_by_cluster.swap(required, Ordering::AcqRel) != required {
            // Whoever was let in without a word is asked now.
            let mut in_force = self.in_force.write();
            self.renew(&mut in_force, None);
        }
    }

    /// Whether they must.
    pub fn is_required(&self) -> bool {
        let by_cluster =
            || self.required_by_cluster.load(Ordering::Acquire) && !self.insists_on_open.load(Ordering::Acquire);
        self.required.load(Ordering::Acquire) || by_cluster()
    }

    fn renew(&self, in_force: &mut Arc<InForce>, table: Option<AuthTable>) {
        let generation = in_force.generation + 1;
        let table = table.map_or_else(|| Arc::clone(&in_force.table), Arc::new);
        *in_force = Arc::new(InForce::new(table, generation));
        self.generation.store(generation, Ordering::Release);
    }

    /// Grows with each table that is put in force. Costs one look at memory that hardly ever changes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The table in force.
    pub fn table(&self) -> Arc<AuthTable> {
        Arc::clone(&self.in_force.read().table)
    }

    /// What those may know who keep users.
    pub fn view(&self) -> AuthView {
        self.table().view(self.is_required())
    }

    /// Puts a newer table in force. Returns whether it was news.
    pub fn put_in_force(&self, table: AuthTable) -> bool {
        let mut in_force = self.in_force.write();
        if table.epoch <= in_force.table.epoch {
            return false;
        }
        self.renew(&mut in_force, Some(table));
        true
    }

    /// What somebody may do by the table in force.
    ///
    /// # Errors
    /// `Refused` if he may not even be here any more.
    pub fn access(&self, principal: &Principal, wall_ms: u64) -> Result<Arc<Access>, LoginError> {
        let in_force = Arc::clone(&self.in_force.read());
        let table = &in_force.table;
        let user = match principal {
            Principal::Nobody if self.is_required() => return Ok(Arc::clone(&in_force.nobody)),
            Principal::Nobody => return Ok(Arc::clone(&in_force.everybody)),
            Principal::Certificate { user, serial } => {
                if table.denies(serial) {
                    return Err(LoginError::Refused);
                }
                user
            }
            Principal::Password { user, mark } => {
                let known = table.enabled(user).and_then(|user| user.verifier());
                if known.is_none_or(|verifier| verifier.mark() != *mark) {
                    return Err(LoginError::Refused);
                }
                user
            }
            Principal::Token(id) => {
                let token = table.tokens.get(&id.to_string()).ok_or(LoginError::Refused)?;
                if token.expires_at_ms.is_some_and(|at_ms| at_ms <= wall_ms) {
                    return Err(LoginError::Refused);
                }
                let access = Access::of_user(table, &token.user, token.roles.as_ref(), in_force.generation);
                let access = access.ok_or(LoginError::Refused)?.by_token(token.expires_at_ms);
                return Ok(Arc::new(access));
            }
        };
        let make = || Access::of_user(table, user, None, in_force.generation).map(Arc::new);
        let access = in_force.accesses.lock().entry(user.clone()).or_insert_with(make).clone();
        access.ok_or(LoginError::Refused)
    }

    /// What a user has asked of this node lately, if there is a limit.
    pub fn usage_of(&self, access: &Access) -> Option<Arc<Spent>> {
        let limited = !access.limits().is_none();
        limited.then(|| {
            let mut usages = self.usages.lock();
            if usages.len() > USERS_MAX {
                // Those of users that are gone.
                usages.retain(|_, usage| Arc::strong_count(usage) > 1);
            }
            Arc::clone(usages.entry(access.user().to_owned()).or_default())
        })
    }

    /// A connection of a user is counted as long as what this gives is held. `held`: what the connection has from an earlier login.
    ///
    /// # Errors
    /// `TooMany`: the user has as many as it may. Nothing is held then.
    pub fn place_of(&self, access: &Access, held: Option<UserPlace>) -> Result<UserPlace, LoginError> {
        let mut connections = self.connections.lock();
        if connections.len() > USERS_MAX {
            connections.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = connections.entry(access.user().to_owned()).or_default();
        if let Some(held) = held.filter(|held| Arc::ptr_eq(&held.0, places)) {
            return Ok(held);
        }
        let (most, taken) = (access.limits().connections, Arc::strong_count(places) - 1);
        if most > 0 && taken >= most as usize {
            return Err(LoginError::TooMany);
        }
        Ok(UserPlace(Arc::clone(places)))
    }

    /// So much may come from one address. Said before the first client comes.
    pub fn limit_addresses(&self, limits: UserLimits) {
        let _ = self.address_limits.set(limits);
    }

    /// How much may come from one address.
    pub fn address_limits(&self) -> UserLimits {
        self.address_limits.get().copied().unwrap_or_default()
    }

    /// What came from an address lately, if there is a limit.
    pub fn usage_from(&self, address: IpAddr) -> Option<Arc<Spent>> {
        let limited = !self.address_limits().is_none();
        limited.then(|| {
            let mut addresses = self.addresses.lock();
            if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&network_of(address)) {
                addresses.retain(|_, usage| Arc::strong_count(usage) > 1);
            }
            Arc::clone(addresses.entry(network_of(address)).or_default())
        })
    }

    /// What a user may do; `None` if it may not log in.
    pub fn access_of(&self, user: &str) -> Option<Access> {
        Access::of_user(&self.table(), user, None, self.generation())
    }

    /// Who has this token, of which the SHA-256 is given.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub fn log_in_by_token(&self, id: UserTokenId, digest: &[u8; 32], now: Nanos) -> Result<Principal, LoginError> {
        self.check_fresh(now)?;
        let table = self.table();
        let known = table.tokens.get(&id.to_string()).and_then(|token| hexadecimal::decode(&token.digest));
        // Digests of 256 random bits: nothing is learnt from how long it takes to compare them.
        if known.is_some_and(|known| known == digest) { Ok(Principal::Token(id)) } else { Err(LoginError::Refused) }
    }

    /// Whether certificates of that serial number, which is without leading zeros, are not taken.
    pub fn denies(&self, serial: &[u8]) -> bool {
        self.in_force.read().table.denies(serial)
    }

    /// The user of a certificate that TLS has verified. Also where everybody may come in the table must be known to be the newest one:
    /// the certificate may be denied by now, and its user be somebody else.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub fn log_in_by_certificate(&self, user: &str, serial: &[u8], now: Nanos) -> Result<Principal, LoginError> {
        if !self.has_heard(now) {
            return Err(LoginError::Stale);
        }
        Ok(Principal::Certificate { user: user.to_owned(), serial: serial.to_vec() })
    }

    /// What checks the password of a user; `None` if there is no such user, or it has no password, or may not log in.
    ///
    /// # Errors
    /// `Stale`.
    pub fn verifier_of(&self, user: &str, now: Nanos) -> Result<Option<Verifier>, LoginError> {
        self.check_fresh(now)?;
        Ok(self.table().enabled(user).and_then(|user| user.verifier()))
    }

    fn check_fresh(&self, now: Nanos) -> Result<(), LoginError> {
        if self.is_fresh(now) { Ok(()) } else { Err(LoginError::Stale) }
    }

    /// Whether this node has heard lately what the newest table is. Where everybody may come in it does not matter.
    pub fn is_fresh(&self, now: Nanos) -> bool {
        !self.is_required() || self.has_heard(now)
    }

    fn has_heard(&self, now: Nanos) -> bool {
        let heard_at = self.heard_at.load(Ordering::Acquire);
        heard_at != 0 && now.ms_since(Nanos(heard_at)) < STALE_AFTER_MS
    }

    /// The table in force is the newest one.
    pub(super) fn heard_that_newest(&self, now: Nanos) {
        self.heard_at.store(now.0.max(1), Ordering::Release);
    }

    /// A peer has said which table it has, wants one, or has sent one.
    pub fn hear(&self, from: NodeId, message: &PeerMessage, now: Nanos) {
        match message {
            PeerMessage::AuthNews { epoch, leads } => {
                let own = self.table().epoch;
                if *epoch > own {
                    self.heard.lock().newer = Some(from);
                } else if *leads && *epoch == own {
                    self.heard_that_newest(now);
                }
            }
            PeerMessage::AuthWanted => drop(self.heard.lock().wanted.insert(from)),
            PeerMessage::AuthTable(bytes) => match AuthTable::from_bytes(bytes) {
                Ok(table) if table.epoch > self.table().epoch => self.heard.lock().table = Some(table),
                Ok(_) => {}
                Err(error) => tracing::warn!(%from, %error, "a peer's table of users was refused"),
            },
            _ => {}
        }
    }

    /// Takes what peers have said.
    pub(super) fn take_heard(&self) -> FromPeers {
        std::mem::take(&mut self.heard.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::table::User;
    use kvorum_protocol::{ClusterClasses, KeyClasses};

    fn gate(change: impl FnOnce(&mut AuthTable)) -> AuthGate {
        let gate = AuthGate::default();
        gate.require();
        let mut table = AuthTable::initial(None);
        change(&mut table);
        gate.put_in_force(table);
        gate
    }

    fn certificate(user: &str) -> Principal {
        Principal::Certificate { user: user.to_owned(), serial: vec![7] }
    }

    #[test]
    fn an_open_gate_lets_everybody_do_everything_and_a_closed_one_nobody() {
        let open = AuthGate::default();
        let access = open.access(&Principal::Nobody, 0).unwrap();
        assert!(access.may(KeyClasses::ALL, b"k") && access.may_cluster(ClusterClasses::ALL) && !access.is_nobody());
        assert!(open.is_fresh(Nanos(0)));
        let closed = gate(|_| {});
        let access = closed.access(&Principal::Nobody, 0).unwrap();
        assert!(
            !access.may(KeyClasses::READ, b"k") && !access.may_cluster(ClusterClasses::STATUS) && access.is_nobody()
        );
        assert!(closed.access(&certificate("admin"), 0).unwrap().may_cluster(ClusterClasses::ALL));
        assert_eq!(closed.access(&certificate("ada"), 0), Err(LoginError::Refused));
    }

    #[test]
    fn a_change_ends_what_rested_on_the_table_before() {
        let verifier = Verifier::new(b"geheim", [1; 16], 4096);
        let mark = verifier.mark();
        let user = |verifier: &Verifier| User {
            verifier: Some(verifier.to_string()),
            roles: BTreeSet::from(["readonly".to_owned()]),
            ..User::default()
        };
        let gate = gate(|table| drop(table.users.insert("ada".to_owned(), user(&verifier))));
        let ada = Principal::Password { user: "ada".to_owned(), mark };
        let before = gate.access(&ada, 0).unwrap();
        assert!(before.may(KeyClasses::READ, b"k") && !before.may(KeyClasses::WRITE, b"k"));
        assert_eq!(before.generation(), gate.generation());
        let mut next = AuthTable::clone(&gate.table());
        next.epoch += 1;
        next.users.insert("ada".to_owned(), user(&Verifier::new(b"anders", [1; 16], 4096)));
        assert!(gate.put_in_force(next.clone()) && !gate.put_in_force(next.clone()));
        assert_ne!(before.generation(), gate.generation());
        assert_eq!(gate.access(&ada, 0), Err(LoginError::Refused));
        next.epoch += 1;
        next.denied.insert("07".to_owned());
        gate.put_in_force(next);
        assert_eq!(gate.access(&certificate("admin"), 0), Err(LoginError::Refused));
    }

    #[test]
    fn a_node_that_does_not_know_the_newest_table_lets_no_certificate_in_also_where_everybody_may_come() {
        for required in [false, true] {
            let gate = AuthGate::default();
            if required {
                gate.require();
            }
            assert_eq!(gate.log_in_by_certificate("admin", &[7], Nanos(1)), Err(LoginError::Stale));
            gate.put_in_force(AuthTable::initial(None));
            assert_eq!(gate.log_in_by_certificate("admin", &[7], Nanos(1)), Err(LoginError::Stale), "a copy of before");
            gate.heard_that_newest(Nanos(5));
            let admin = gate.log_in_by_certificate("admin", &[7], Nanos(6)).unwrap();
            assert_eq!(gate.access(&admin, 0).unwrap().user(), "admin");
            let later = Nanos(STALE_AFTER_MS * 1_000_000 + 5);
            assert_eq!(gate.log_in_by_certificate("admin", &[7], later), Err(LoginError::Stale));
        }
    }

    #[test]
    fn a_token_gives_some_of_its_users_rights_and_for_a_while() {
        let (digest, id) = ([9; 32], UserTokenId(1));
        let verb = kvorum_protocol::AuthVerb::AddToken {
            id,
            user: "admin".to_owned(),
            roles: Some(vec!["monitor".to_owned()]),
            digest,
            expires_at_ms: Some(100),
        };
        let gate = gate(|table| *table = crate::auth::verbs::admit(table, &verb).unwrap().unwrap());
        gate.heard_that_newest(Nanos(5));
        assert_eq!(gate.log_in_by_token(id, &[8; 32], Nanos(6)), Err(LoginError::Refused));
        let token = gate.log_in_by_token(id, &digest, Nanos(6)).unwrap();
        let access = gate.access(&token, 99).unwrap();
        assert_eq!(access.user(), "admin");
        assert!(access.may_cluster(ClusterClasses::METRICS) && !access.may_cluster(ClusterClasses::ADMIN));
        assert!(gate.access_of("admin").is_some_and(|access| access.is_user("admin")));
        assert!(!access.is_user("admin"), "by another password he would be the user for good");
        assert_eq!(gate.access(&token, 100), Err(LoginError::Refused));
        let later = Nanos(STALE_AFTER_MS * 1_000_000 + 5);
        assert_eq!(gate.log_in_by_token(id, &digest, later), Err(LoginError::Stale));
    }
}
