//! Who may do what: how a client says who it is, and how operators keep users, roles and tokens.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{
    AUTH_BYTES_MAX, AUTH_NAME_BYTES_MAX, DENIED_SERIALS_MAX, GRANTS_MAX, KEY_BYTES_MAX, ROLES_MAX, ROLES_OF_USER_MAX,
    SERIAL_BYTES_MAX, USER_TOKENS_MAX, USERS_MAX, VERIFIER_BYTES_MAX,
};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// How a client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthRequest {
    /// By a token, as text: `kvt_<id>_<secret>`. At most [`AUTH_BYTES_MAX`] bytes.
    Token(Bytes),
    /// By a password: the first message of SCRAM-SHA-256. Answered by a challenge. At most [`AUTH_BYTES_MAX`] bytes.
    Scram(Bytes),
    /// The client's answer to the challenge. At most [`AUTH_BYTES_MAX`] bytes.
    Proof(Bytes),
}

impl fmt::Debug for AuthRequest {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Scram(_) => "Scram(…)",
            Self::Proof(_) => "Proof(…)",
        })
    }
}

impl AuthRequest {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let (kind, bytes) = match self {
            Self::Token(token) => (1, token),
            Self::Scram(first) => (2, first),
            Self::Proof(proof) => (3, proof),
        };
        out.put_u8(kind);
        out.bytes(bytes);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let bytes = reader.bytes("what a client says of itself", AUTH_BYTES_MAX)?;
        Ok(match kind {
            1 => Self::Token(bytes),
            2 => Self::Scram(bytes),
            3 => Self::Proof(bytes),
            value => return Err(DecodeError::UnknownValue { field: "way to log in", value: value.into() }),
        })
    }
}

macro_rules! classes {
    ($(#[$about:meta])* $type:ident: $number:ty, $field:literal { $($(#[$doc:meta])* $name:ident = $bit:literal $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
        pub struct $type(pub $number);

        impl $type {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            /// None.
            pub const NONE: Self = Self(0);
            /// All that this version knows.
            pub const ALL: Self = Self($(1 << $bit)|*);
            /// Each by itself, with its name.
            pub const NAMED: &[(Self, &str)] = &[$((Self::$name, $word)),*];

            /// Whether all of `other` are among these.
            pub fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These and those.
            #[must_use]
            pub fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The class of a name.
            pub fn named(name: &str) -> Option<Self> {
                Self::NAMED.iter().find(|(_, word)| *word == name).map(|(class, _)| *class)
            }

            /// The names, in their order.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMED.iter().filter(move |(class, _)| self.contains(*class)).map(|(_, word)| *word)
            }

            pub(crate) fn decode(value: $number) -> Result<Self, DecodeError> {
                let classes = Self(value);
                let known = Self::ALL.contains(classes);
                known.then_some(classes).ok_or(DecodeError::UnknownValue { field: $field, value: value.into() })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (at, name) in self.names().enumerate() {
                    write!(f, "{}{name}", if at > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    };
}

classes! {
    /// What may be done with keys.
    KeyClasses: u8, "classes of what is done with keys" {
        /// See values, whether a key exists, and how it is stored.
        READ = 0 "read",
        /// Store values, and say how long they live.
        WRITE = 1 "write",
        /// Remove keys.
        DELETE = 2 "delete",
        /// List keys.
        SCAN = 3 "scan",
        /// Hear of changes.
        WATCH = 4 "watch",
    }
}

classes! {
    /// What may be done with the cluster.
    ClusterClasses: u16, "classes of what is done with the cluster" {
        /// See how nodes and shards are.
        STATUS = 0 "status",
        /// Read metrics.
        METRICS = 1 "metrics",
        /// Add, drain and remove nodes, move shards, stop nodes, see and end connections of others.
        ADMIN = 2 "admin",
        /// Keep users, roles, tokens and certificates. Who may do that can give itself all the rest.
        USERS = 3 "users",
        /// Make backups, and restore them.
        BACKUP = 4 "backup",
        /// Inject faults, where fault hooks are on.
        FAULTS = 5 "faults",
    }
}

/// What may be done with the keys that begin with a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What the keys begin with; empty for all keys. At most [`KEY_BYTES_MAX`] bytes.
    pub prefix: Bytes,
    /// What may be done with them.
    pub classes: KeyClasses,
}

/// The number of a token, which is no secret: 16 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct UserTokenId(pub u64);

impl fmt::Display for UserTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What an operator asks for. Each may be repeated: whoever asks again hears that it is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthVerb {
    /// A user is like this from now on. What is not said stays; a user that was not there begins without password and roles.
    PutUser {
        /// The name: 1 to [`AUTH_NAME_BYTES_MAX`] bytes.
        name: String,
        /// The user must not be there yet, or must be.
        exists: Option<bool>,
        /// The verifier of its password, in the form of `kvorum-scram`; empty for no password.
        verifier: Option<String>,
        /// All its roles.
        roles: Option<Vec<String>>,
        /// Whether it may not log in.
        disabled: Option<bool>,
    },
    /// A user is gone, and its tokens with it.
    RemoveUser(String),
    /// A role is like this from now on.
    PutRole {
        /// The name: 1 to [`AUTH_NAME_BYTES_MAX`] bytes; none of those that are built in.
        name: String,
        /// What it may do with keys; at most [`GRANTS_MAX`] prefixes.
        grants: Vec<Grant>,
        /// What it may do with the cluster.
        cluster: ClusterClasses,
    },
    /// A role is gone. Users must not have it any more.
    RemoveRole(String),
    /// Whoever has this token is this user.
    AddToken {
        /// Its number, drawn at random.
        id: UserTokenId,
        /// The user.
        user: String,
        /// Of its roles only these, if any are named.
        roles: Option<Vec<String>>,
        /// SHA-256 of the whole text of the token.
        digest: [u8; 32],
        /// It is over then, by the nodes' clocks: Unix time in milliseconds.
        expires_at_ms: Option<u64>,
    },
    /// A token is gone.
    RemoveToken(UserTokenId),
    /// A certificate is not taken any more, or is again.
    Deny {
        /// Its serial number: 1 to [`SERIAL_BYTES_MAX`] bytes.
        serial: Bytes,
        /// Whether it is denied.
        denied: bool,
    },
    /// A user may ask so much of each node.
    Limit {
        /// The user.
        name: String,
        /// How much.
        limits: UserLimits,
    },
}

/// How much somebody may ask of each node. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserLimits {
    /// Requests per second. A second's worth may come at once.
    pub requests_per_s: u32,
    /// Bytes of requests and answers per second.
    pub bytes_per_s: u64,
    /// Connections at a time. One that comes over HTTP counts while a request of the user is worked at.
    pub connections: u32,
}

impl UserLimits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn encode(self, out: &mut BytesMut) {
        out.put_u32_le(self.requests_per_s);
        out.put_u64_le(self.bytes_per_s);
        out.put_u32_le(self.connections);
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { requests_per_s: reader.u32()?, bytes_per_s: reader.u64()?, connections: reader.u32()? })
    }
}

impl AuthVerb {
    /// Appends the verb: its kind, then its fields.
    pub fn encode(&self, out: &mut BytesMut) {
        let name = |out: &mut BytesMut, name: &str| out.text(name, AUTH_NAME_BYTES_MAX);
        match self {
            Self::PutUser { name: user, exists, verifier, roles, disabled } => {
                out.put_u8(1);
                name(out, user);
                out.option(*exists, |out, exists| out.bool(exists));
                out.option(verifier.as_ref(), |out, verifier| out.text(verifier, VERIFIER_BYTES_MAX));
                out.option(roles.as_ref(), |out, roles| encode_names(out, roles));
                out.option(*disabled, |out, disabled| out.bool(disabled));
            }
            Self::RemoveUser(user) => {
                out.put_u8(2);
                name(out, user);
            }
            Self::PutRole { name: role, grants, cluster } => {
                out.put_u8(3);
                name(out, role);
                encode_grants(out, grants);
                out.put_u16_le(cluster.0);
            }
            Self::RemoveRole(role) => {
                out.put_u8(4);
                name(out, role);
            }
            Self::AddToken { id, user, roles, digest, expires_at_ms } => {
                out.put_u8(5);
                out.put_u64_le(id.0);
                name(out, user);
                out.option(roles.as_ref(), |out, roles| encode_names(out, roles));
                out.put_slice(digest);
                out.option(*expires_at_ms, |out, at| out.put_u64_le(at));
            }
            Self::RemoveToken(id) => {
                out.put_u8(6);
                out.put_u64_le(id.0);
            }
            Self::Deny { serial, denied } => {
                out.put_u8(7);
                out.bytes(serial);
                out.bool(*denied);
            }
            Self::Limit { name: user, limits } => {
                out.put_u8(8);
                name(out, user);
                limits.encode(out);
            }
        }
    }

    /// Reads what [`AuthVerb::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::PutUser {
                name: decode_name(reader, "user's name")?,
                exists: reader.option("existence", |reader| reader.bool("existence"))?,
                verifier: reader.option("verifier", |reader| reader.text("verifier", VERIFIER_BYTES_MAX))?,
                roles: reader.option("roles", decode_names)?,
                disabled: reader.option("disabled", |reader| reader.bool("disabled"))?,
            },
            2 => Self::RemoveUser(decode_name(reader, "user's name")?),
            3 => Self::PutRole {
                name: decode_name(reader, "role's name")?,
                grants: decode_grants(reader)?,
                cluster: ClusterClasses::decode(reader.u16()?)?,
            },
            4 => Self::RemoveRole(decode_name(reader, "role's name")?),
            5 => Self::AddToken {
                id: UserTokenId(reader.u64()?),
                user: decode_name(reader, "user's name")?,
                roles: reader.option("roles", decode_names)?,
                digest: reader.array()?,
                expires_at_ms: reader.option("end of a token", Reader::u64)?,
            },
            6 => Self::RemoveToken(UserTokenId(reader.u64()?)),
            7 => Self::Deny { serial: decode_serial(reader)?, denied: reader.bool("denied")? },
            8 => Self::Limit { name: decode_name(reader, "user's name")?, limits: UserLimits::decode(reader)? },
            value => return Err(DecodeError::UnknownValue { field: "what is asked about users", value: value.into() }),
        })
    }
}

/// Who may do what, without anything secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuthView {
    /// Grows with each change.
    pub epoch: u64,
    /// Whether clients must say who they are.
    pub required: bool,
    /// The users, by name.
    pub users: Vec<UserView>,
    /// The roles, by name, those that are built in among them.
    pub roles: Vec<RoleView>,
    /// The tokens, by number.
    pub tokens: Vec<TokenView>,
    /// Serial numbers of certificates that are not taken.
    pub denied: Vec<Bytes>,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// Whether it can log in by a password.
    pub has_password: bool,
    /// Whether it may not log in.
    pub disabled: bool,
    /// Its roles.
    pub roles: Vec<String>,
    /// How much it may ask of each node.
    pub limits: UserLimits,
}

/// A role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleView {
    /// The name.
    pub name: String,
    /// It can't be changed.
    pub built_in: bool,
    /// What it may do with keys.
    pub grants: Vec<Grant>,
    /// What it may do with the cluster.
    pub cluster: ClusterClasses,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenView {
    /// Its number.
    pub id: UserTokenId,
    /// Whose it is.
    pub user: String,
    /// Of the user's roles only these, if any are named.
    pub roles: Option<Vec<String>>,
    /// When it is over: Unix time in milliseconds.
    pub expires_at_ms: Option<u64>,
}

impl AuthView {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let name = |out: &mut BytesMut, name: &str| out.text(name, AUTH_NAME_BYTES_MAX);
        out.put_u64_le(self.epoch);
        out.bool(self.required);
        out.count(self.users.len());
        for user in &self.users {
            name(out, &user.name);
            out.bool(user.has_password);
            out.bool(user.disabled);
            encode_names(out, &user.roles);
            user.limits.encode(out);
        }
        out.count(self.roles.len());
        for role in &self.roles {
            name(out, &role.name);
            out.bool(role.built_in);
            encode_grants(out, &role.grants);
            out.put_u16_le(role.cluster.0);
        }
        out.count(self.tokens.len());
        for token in &self.tokens {
            out.put_u64_le(token.id.0);
            name(out, &token.user);
            out.option(token.roles.as_ref(), |out, roles| encode_names(out, roles));
            out.option(token.expires_at_ms, |out, at| out.put_u64_le(at));
        }
        out.count(self.denied.len());
        self.denied.iter().for_each(|serial| out.bytes(serial));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (epoch, required) = (reader.u64()?, reader.bool("required")?);
        let count = reader.count("users", USERS_MAX, 8)?;
        let user = |reader: &mut Reader| {
            Ok(UserView {
                name: decode_name(reader, "user's name")?,
                has_password: reader.bool("password")?,
                disabled: reader.bool("disabled")?,
                roles: decode_names(reader)?,
                limits: UserLimits::decode(reader)?,
            })
        };
        let users = (0..count).map(|_| user(reader)).collect::<Result<_, DecodeError>>()?;
        let count = reader.count("roles", ROLES_MAX + BUILT_IN_MAX, 8)?;
        let role = |reader: &mut Reader| {
            Ok(RoleView {
                name: decode_name(reader, "role's name")?,
                built_in: reader.bool("built in")?,
                grants: decode_grants(reader)?,
                cluster: ClusterClasses::decode(reader.u16()?)?,
            })
        };
        let roles = (0..count).map(|_| role(reader)).collect::<Result<_, DecodeError>>()?;
        let count = reader.count("tokens", USER_TOKENS_MAX, 12)?;
        let token = |reader: &mut Reader| {
            Ok(TokenView {
                id: UserTokenId(reader.u64()?),
                user: decode_name(reader, "user's name")?,
                roles: reader.option("roles", decode_names)?,
                expires_at_ms: reader.option("end of a token", Reader::u64)?,
            })
        };
        let tokens = (0..count).map(|_| token(reader)).collect::<Result<_, DecodeError>>()?;
        let count = reader.count("denied certificates", DENIED_SERIALS_MAX, 5)?;
        let denied = (0..count).map(|_| decode_serial(reader)).collect::<Result<_, DecodeError>>()?;
        Ok(Self { epoch, required, users, roles, tokens, denied })
    }
}

/// Most roles that are built in.
const BUILT_IN_MAX: usize = 16;

fn encode_names(out: &mut BytesMut, names: &[String]) {
    out.count(names.len());
    names.iter().for_each(|name| out.text(name, AUTH_NAME_BYTES_MAX));
}

fn decode_names(reader: &mut Reader) -> Result<Vec<String>, DecodeError> {
    let count = reader.count("roles of a user", ROLES_OF_USER_MAX, 3)?;
    (0..count).map(|_| decode_name(reader, "role's name")).collect()
}

fn decode_name(reader: &mut Reader, field: &'static str) -> Result<String, DecodeError> {
    let name = reader.text(field, AUTH_NAME_BYTES_MAX)?;
    if name.is_empty() { Err(DecodeError::UnknownValue { field, value: 0 }) } else { Ok(name) }
}

fn decode_serial(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let field = "serial number of a certificate";
    let serial = reader.bytes(field, SERIAL_BYTES_MAX)?;
    if serial.is_empty() { Err(DecodeError::UnknownValue { field, value: 0 }) } else { Ok(serial) }
}

fn encode_grants(out: &mut BytesMut, grants: &[Grant]) {
    out.count(grants.len());
    for grant in grants {
        out.bytes(&grant.prefix);
        out.put_u8(grant.classes.0);
    }
}

fn decode_grants(reader: &mut Reader) -> Result<Vec<Grant>, DecodeError> {
    let count = reader.count("grants", GRANTS_MAX, 5)?;
    let grant = |reader: &mut Reader| {
        Ok(Grant {
            prefix: reader.bytes("prefix of a grant", KEY_BYTES_MAX)?,
            classes: KeyClasses::decode(reader.u8()?)?,
        })
    };
    (0..count).map(|_| grant(reader)).collect()
}
