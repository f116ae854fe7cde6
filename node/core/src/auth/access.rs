//! What one user may do, made ready to be asked for each request.

use super::table::{AuthTable, ROOT, UserRole};
use crate::routing::router::Router;
use bytes::Bytes;
use kvorum_protocol::{ClusterClasses, KeyClasses, UserLimits};
use std::collections::BTreeSet;

/// The keys with which one thing may be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Keys {
    #[default]
    None,
    All,
    /// Those that begin with one of these, which are in order, and of which none begins with another.
    Begin(Box<[Bytes]>),
}

/// What one user may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    user: String,
    generation: u64,
    /// For each class by itself.
    keys: [Keys; KeyClasses::NAMED.len()],
    cluster: ClusterClasses,
    is_nobody: bool,
    /// When it is over, by the wall clock.
    until_ms: Option<u64>,
    /// Somebody has come by a token of the user, and may not be the user.
    is_by_token: bool,
    limits: UserLimits,
}

impl Access {
    /// Of somebody who may do everything, and whom nobody has asked.
    pub fn everything(generation: u64) -> Self {
        let keys = std::array::from_fn(|_| Keys::All);
        Self {
            user: String::new(),
            generation,
            keys,
            cluster: ClusterClasses::ALL,
            is_nobody: false,
            until_ms: None,
            is_by_token: false,
            limits: UserLimits::default(),
        }
    }

    /// Of somebody who has not said who he is, and has to.
    pub fn nobody(generation: u64) -> Self {
        let keys = std::array::from_fn(|_| Keys::None);
        Self {
            user: String::new(),
            generation,
            keys,
            cluster: ClusterClasses::NONE,
            is_nobody: true,
            until_ms: None,
            is_by_token: false,
            limits: UserLimits::default(),
        }
    }

    /// Of a user with these of its roles; all of them, if none are named. Who may do everything may have less by any role.
    pub fn of_user(
        table: &AuthTable,
        user: &str,
        of_roles: Option<&BTreeSet<String>>,
        generation: u64,
    ) -> Option<Self> {
        let known = table.enabled(user)?;
        let (own, limits) = (&known.roles, known.limits());
        let counts = |name: &&String| own.contains(*name) || own.contains(ROOT);
        let names = of_roles.unwrap_or(own).iter().filter(counts);
        let roles: Vec<UserRole> = names.filter_map(|name| table.role(name)).collect();
        let mut prefixes: [BTreeSet<Bytes>; KeyClasses::NAMED.len()] = Default::default();
        for grant in roles.iter().flat_map(UserRole::known_grants) {
            for (at, (class, _)) in KeyClasses::NAMED.iter().enumerate() {
                if grant.classes.contains(*class) {
                    prefixes[at].insert(grant.prefix.clone());
                }
            }
        }
        let cluster = roles.iter().map(UserRole::known_cluster).fold(ClusterClasses::NONE, ClusterClasses::with);
        let keys = prefixes.map(Keys::of);
        let user = user.to_owned();
        let (is_nobody, until_ms, is_by_token) = (false, None, false);
        Some(Self { user, generation, keys, cluster, is_nobody, until_ms, is_by_token, limits })
    }

    /// The same by a token, until its time is over: Unix time in milliseconds.
    #[must_use]
    pub(super) fn by_token(self, until_ms: Option<u64>) -> Self {
        Self { until_ms, is_by_token: true, ..self }
    }

    /// Whether it is this user that asks, and not somebody to whom the user gave a token.
    pub fn is_user(&self, name: &str) -> bool {
        !self.is_nobody && !self.is_by_token && !name.is_empty() && self.user == name
    }

    /// Whether its time is over. Looks at the clock only if it ends at all.
    pub fn is_over(&self, router: &Router) -> bool {
        self.until_ms.is_some_and(|until_ms| router.clock().now().wall_ms >= until_ms)
    }

    /// The user's name; empty for somebody whom nobody has asked.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Which table it was made of: see [`super::AuthGate::generation`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the client has still to say who it is.
    pub fn is_nobody(&self) -> bool {
        self.is_nobody
    }

    /// Whether all of this may be done with a key, or with all keys that begin with it. Costs some comparisons of the key's first
    /// bytes.
    pub fn may(&self, classes: KeyClasses, key: &[u8]) -> bool {
        let mut left = classes.0;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            if !self.keys.get(at).is_some_and(|keys| keys.contain(key)) {
                return false;
            }
        }
        true
    }

    /// How much the user may ask of this node.
    pub fn limits(&self) -> UserLimits {
        self.limits
    }

    /// Whether all of this may be done with the cluster.
    pub fn may_cluster(&self, classes: ClusterClasses) -> bool {
        self.cluster.contains(classes)
    }
}

impl Keys {
    fn of(prefixes: BTreeSet<Bytes>) -> Self {
        let mut own: Vec<Bytes> = Vec::new();
        for prefix in prefixes {
            // In order, so what contains it stands right before.
            if !own.last().is_some_and(|last| prefix.starts_with(last)) {
                own.push(prefix);
            }
        }
        match own.first() {
            None => Self::None,
            Some(first) if first.is_empty() => Self::All,
            Some(_) => Self::Begin(own.into()),
        }
    }

    fn contain(&self, key: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Begin(prefixes) => {
                // The prefix of a key is not after it, and nothing lies between the two that is not a longer one.
                let after = prefixes.partition_point(|prefix| prefix[..] <= *key);
                after > 0 && key.starts_with(&prefixes[after - 1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(prefixes: &[&[u8]]) -> Keys {
        Keys::of(prefixes.iter().map(|prefix| Bytes::copy_from_slice(prefix)).collect())
    }

    #[test]
    fn prefixes_are_prefixes() {
        let some = keys(&[b"app/", b"app/x", b"b", b"cc"]);
        assert_eq!(some, keys(&[b"app/", b"b", b"cc"]));
        for (key, expected) in [
            (&b"app/"[..], true),
            (b"app/x/y", true),
            (b"app", false),
            (b"b", true),
            (b"c", false),
            (b"cd", false),
            (b"ccc", true),
            (b"", false),
            (b"\xff", false),
        ] {
            assert_eq!(some.contain(key), expected, "{key:?}");
        }
        assert_eq!((keys(&[]), keys(&[b"", b"a"])), (Keys::None, Keys::All));
    }

    proptest! {
        #[test]
        fn as_many_comparisons_as_with_each_prefix(
            prefixes in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..4), 0..8),
            key in proptest::collection::vec(0_u8..3, 0..6),
        ) {
            let prefixes: Vec<&[u8]> = prefixes.iter().map(Vec::as_slice).collect();
            let expected = prefixes.iter().any(|prefix| key.starts_with(prefix));
            prop_assert_eq!(keys(&prefixes).contain(&key), expected);
        }
    }
}
