//! Logins of the console: a cookie that says who somebody is, until when, and that this process has said so. Pure, but for the key.
//!
//! The key never leaves the process. A key that all nodes know would have to stand in the cluster's table of users, and who got hold of a
//! copy of that could make logins; as it is, a copy of the table lets nobody in. The price: a login holds for the node that gave it, until
//! that ends.
//!
//! A cookie has no rights in it. Each request is looked up in the table in force, so a user who is disabled, or has another password, is
//! out at once.

use super::super::query::BASE64;
use base64::Engine as _;
use http::HeaderMap;
use http::header::COOKIE;
use kvorum_core::auth::Principal;
use parking_lot::Mutex;
use ring::hmac;
use std::collections::BTreeMap;

/// The cookie's name. Browsers take one with this beginning from the node itself only, and over TLS.
pub(super) const NAME: &str = "__Host-kvorum";
/// How long a login lasts, in milliseconds.
pub(super) const LASTS_MS: u64 = 12 * 3_600_000;
/// Logins that were ended before their time and have not reached it yet. With more all of them are.
const ENDED_MAX: usize = 4_096;
/// The longest cookie that is looked at, in bytes.
const BYTES_MAX: usize = 1_024;
const FORM: u8 = 1;

/// A login that a cookie proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Login {
    /// Its own number.
    pub(super) number: [u8; 16],
    /// When it is over: Unix time in milliseconds.
    pub(in super::super) until_ms: u64,
    pub(in super::super) user: String,
    /// Of the password that it was made with.
    mark: [u8; 8],
    /// How many keys there were before the one that proves it.
    keys_before: u64,
}

impl Login {
    /// Who that is.
    pub(in super::super) fn principal(&self) -> Principal {
        Principal::Password { user: self.user.clone(), mark: self.mark }
    }
}

/// The logins of a process.
pub(super) struct Sessions(Mutex<Inner>);

struct Inner {
    key: hmac::Key,
    keys_before: u64,
    /// By number: until when they would have lasted.
    ended: BTreeMap<[u8; 16], u64>,
}

impl Sessions {
    /// Of a process that begins.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner { key: new_key(), keys_before: 0, ended: BTreeMap::new() }))
    }

    /// The cookie of somebody who has just proved who he is by a password, and his login; `None` for anybody else.
    pub(super) fn begin(&self, principal: &Principal, wall_ms: u64) -> Option<(String, Login)> {
        let Principal::Password { user, mark } = principal else { return None };
        let number: [u8; 16] = rand::random();
        let until_ms = wall_ms + LASTS_MS;
        let mut said = vec![FORM];
        said.extend(until_ms.to_be_bytes());
        said.extend(number);
        said.extend(mark);
        said.extend(user.as_bytes());
        let inner = self.0.lock();
        let proof = hmac::sign(&inner.key, &said);
        let login = Login { number, until_ms, user: user.clone(), mark: *mark, keys_before: inner.keys_before };
        Some((format!("{}.{}", BASE64.encode(&said), BASE64.encode(proof)), login))
    }

    /// Whether a login that was read before still holds.
    pub(super) fn holds(&self, login: &Login, wall_ms: u64) -> bool {
        let inner = self.0.lock();
        wall_ms < login.until_ms && login.keys_before == inner.keys_before && !inner.ended.contains_key(&login.number)
    }

    /// The login that a cookie's value proves, if it does.
    pub(super) fn read(&self, value: &str, wall_ms: u64) -> Option<Login> {
        let (said, proof) = value.split_once('.').filter(|_| value.len() <= BYTES_MAX)?;
        let (said, proof) = (BASE64.decode(said).ok()?, BASE64.decode(proof).ok()?);
        let inner = self.0.lock();
        hmac::verify(&inner.key, &said, &proof).ok()?;
        let (form, rest) = said.split_first()?;
        let (until, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<16>()?;
        let (mark, user) = rest.split_first_chunk::<8>()?;
        let (until_ms, user) = (u64::from_be_bytes(*until), std::str::from_utf8(user).ok()?.to_owned());
        let holds = *form == FORM && wall_ms < until_ms && !inner.ended.contains_key(number);
        holds.then_some(Login { number: *number, until_ms, user, mark: *mark, keys_before: inner.keys_before })
    }

    /// A login is over before its time.
    pub(super) fn end(&self, login: &Login, wall_ms: u64) {
        let mut inner = self.0.lock();
        inner.ended.retain(|_, until_ms| *until_ms > wall_ms);
        if inner.ended.len() >= ENDED_MAX {
            // Nobody gets back in who has left: rather all log in again.
            let keys_before = inner.keys_before + 1;
            *inner = Inner { key: new_key(), keys_before, ended: BTreeMap::new() };
            return;
        }
        inner.ended.insert(login.number, login.until_ms);
    }
}

fn new_key() -> hmac::Key {
    let key: [u8; 32] = rand::random();
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// The value of the console's cookie, if a request has one.
pub(super) fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == NAME).map(|(_, value)| value)
}

/// What sets the cookie in a browser.
pub(super) fn set(value: &str) -> String {
    format!("{NAME}={value}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Strict", LASTS_MS / 1_000)
}

/// What takes it away.
pub(super) fn unset() -> String {
    format!("{NAME}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ada() -> Principal {
        Principal::Password { user: "ada".to_owned(), mark: [7; 8] }
    }

    #[test]
    fn a_cookie_proves_who_somebody_is_until_it_is_over() {
        let sessions = Sessions::new();
        let (value, begun) = sessions.begin(&ada(), 1_000).expect("by a password");
        let until_ms = begun.until_ms;
        assert_eq!((begun.principal(), until_ms), (ada(), 1_000 + LASTS_MS));
        assert_eq!(sessions.read(&value, 2_000).expect("it holds"), begun);
        assert!(sessions.holds(&begun, until_ms - 1) && !sessions.holds(&begun, until_ms));
        assert!(sessions.read(&value, until_ms - 1).is_some());
        assert_eq!(sessions.read(&value, until_ms), None);
        assert!(sessions.begin(&Principal::Nobody, 0).is_none());
    }

    #[test]
    fn nobody_makes_or_changes_one() {
        let (sessions, other) = (Sessions::new(), Sessions::new());
        let (value, _) = sessions.begin(&ada(), 0).expect("by a password");
        assert_eq!(other.read(&value, 1), None, "another process has another key");
        let (said, proof) = value.split_once('.').expect("two parts");
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            let same = sessions.read(&changed, 1).is_none_or(|login| login.user == "ada" && login.until_ms == LASTS_MS);
            assert!(same, "{changed}: base64 may have spare bits, and they say nothing");
        }
        for wrong in ["", ".", said, &format!("{said}."), &format!(".{proof}"), &"A".repeat(2_000)] {
            assert_eq!(sessions.read(wrong, 1), None, "{wrong}");
        }
    }

    #[test]
    fn who_has_left_stays_out() {
        let sessions = Sessions::new();
        let values: Vec<_> = (0..3).filter_map(|_| sessions.begin(&ada(), 0)).map(|(value, _)| value).collect();
        let first = sessions.read(&values[0], 1).expect("it holds");
        sessions.end(&first, 1);
        assert_eq!(sessions.read(&values[0], 1), None);
        assert!(!sessions.holds(&first, 1), "nor does what he has opened before go on");
        let mut last = sessions.read(&values[1], 1).expect("the others hold");
        let second = last.clone();
        assert!(sessions.holds(&second, 1));
        for number in 0..ENDED_MAX as u64 {
            last.number[..8].copy_from_slice(&number.to_be_bytes());
            sessions.end(&last, 1);
        }
        assert!(values.iter().all(|value| sessions.read(value, 1).is_none()), "all log in again");
        assert!(!sessions.holds(&second, 1));
        assert!(sessions.0.lock().ended.len() <= ENDED_MAX);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie_of(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; __Host-kvorumx=1"));
        headers.append(COOKIE, HeaderValue::from_static("c=d;  __Host-kvorum=value.proof"));
        assert_eq!(cookie_of(&headers), Some("value.proof"));
        for attribute in ["Path=/;", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(set("x").contains(attribute) && unset().contains(attribute), "{attribute}");
        }
        assert!(!set("x").contains("Domain"), "a cookie of this name may have none");
    }
}
