//! `Idempotency-Key`: a name under which a write takes effect once, whoever sends it, through whichever node
//! (draft-ietf-httpapi-idempotency-key-header-07). Pure.

use super::problem::Problem;
use super::whose::Whose;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use kvorum_protocol::hash::hash64;
use kvorum_protocol::{Once, OnceId};
use ring::digest::{Context, SHA256};
use uuid::Uuid;

/// The client's name for a write.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The answer is the one that an earlier request had.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in characters.
const KEY_BYTES_MAX: usize = 255;
/// Headers that change what a write does, or how it is answered.
const TELLING: [HeaderName; 5] = [
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("kvorum-ttl-ms"),
    HeaderName::from_static("prefer"),
];

/// What a request with the header is known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IdempotencyKey {
    id: OnceId,
    /// What the head asks for.
    head: Vec<u8>,
}

impl IdempotencyKey {
    /// Reads the header, if it is there.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn read(parts: &Parts) -> Result<Option<Self>, Problem> {
        let mut values = parts.headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = parse(value.as_bytes()).filter(|_| values.next().is_none()).ok_or_else(|| {
            let expected = "1 to 255 visible characters of ASCII, bare or as a string in quotes, and once";
            Problem::invalid(format!("the header Idempotency-Key is not as it must be: {expected}"))
        })?;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        // Nobody is answered what somebody else was.
        let user = parts.extensions.get::<Whose>().map_or("", |whose| whose.access.user());
        let id = id_of(&[user.as_bytes(), &key, parts.method.as_str().as_bytes(), target.as_bytes()]);
        Ok(Some(Self { id, head: telling(&parts.headers) }))
    }

    /// The name of the whole request, whose body this is.
    pub(super) fn once(&self, body: &[u8]) -> Once {
        let mut asked = self.head.clone();
        asked.extend_from_slice(&(body.len() as u64).to_le_bytes());
        asked.extend_from_slice(&hash64(body).to_le_bytes());
        Once { id: self.id, digest: hash64(&asked), keeps_refusal: true }
    }

    /// The name of its first operation, if each has one of its own; the operation is told by the name later.
    pub(super) fn once_of_each(&self) -> Once {
        self.once(b"")
    }
}

/// The first half of a hash over all of these, each with its length before it.
fn id_of(parts: &[&[u8]]) -> OnceId {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let (half, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
    OnceId(Uuid::from_bytes(*half))
}

/// What the headers say, so that no two that differ look the same.
fn telling(headers: &HeaderMap) -> Vec<u8> {
    let mut told = Vec::new();
    for name in TELLING {
        let values = headers.get_all(name);
        told.extend_from_slice(&(values.iter().count() as u64).to_le_bytes());
        for value in values {
            told.extend_from_slice(&(value.len() as u64).to_le_bytes());
            told.extend_from_slice(value.as_bytes());
        }
    }
    told
}

/// A string in quotes, as RFC 9651 has it, or what is bare; `None` if it is neither.
fn parse(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let key = match value.strip_prefix(b"\"") {
        None => value.iter().all(u8::is_ascii_graphic).then(|| value.to_vec())?,
        Some(rest) => unquote(rest.strip_suffix(b"\"")?)?,
    };
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

fn unquote(inner: &[u8]) -> Option<Vec<u8>> {
    let (mut key, mut rest) = (Vec::with_capacity(inner.len()), inner.iter());
    while let Some(byte) = rest.next() {
        key.push(match byte {
            b'\\' => *rest.next().filter(|escaped| matches!(escaped, b'"' | b'\\'))?,
            b' '..=b'~' if *byte != b'"' => *byte,
            _ => return None,
        });
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    fn parts(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn read(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Once {
        let key = IdempotencyKey::read(&parts(method, target, headers)).expect("a key");
        key.expect("it is there").once(b"body")
    }

    #[test]
    fn a_key_is_bare_or_a_string_in_quotes() {
        let parsed = |text: &str| parse(text.as_bytes()).map(|key| String::from_utf8(key).expect("ASCII"));
        for (text, key) in [
            ("abc", "abc"),
            ("  a\"b ", "a\"b"),
            ("\"abc\"", "abc"),
            ("\"a b\"", "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("7f3a-…".trim_end_matches('…'), "7f3a-"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(key), "{text}");
        }
        let long = "x".repeat(KEY_BYTES_MAX);
        assert_eq!(parsed(&long).as_deref(), Some(&*long));
        for text in ["", "\"\"", "a b", "\"", "\"abc", "\"a\"b\"", r#""\a""#, "\"a\";x=1", "ä", &format!("{long}x")] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_that_is_no_key_is_refused() {
        assert_eq!(IdempotencyKey::read(&parts("PUT", "/kv/a", &[])).expect("none"), None);
        for headers in [&[("idempotency-key", &b""[..])][..], &[("idempotency-key", b"a"), ("idempotency-key", b"a")]] {
            let refused = IdempotencyKey::read(&parts("PUT", "/kv/a", headers));
            assert_eq!(refused.expect_err("no key").status(), 400, "{headers:?}");
        }
    }

    /// Nodes that run different programs must agree on it.
    #[test]
    fn the_id_is_frozen() {
        let once = read("PUT", "/kv/a?ack=committed", &[("idempotency-key", b"\"abc\"")]);
        assert_eq!(once.id.to_string(), "8f8d5d1c-5e80-21e3-aec4-280a929aa89c");
        assert_eq!(once.digest, 5_894_516_199_598_878_474);
    }

    #[test]
    fn key_method_and_target_are_the_name_and_all_else_is_the_digest() {
        let key = ("idempotency-key", &b"abc"[..]);
        let plain = read("PUT", "/kv/a", &[key]);
        assert_eq!(read("PUT", "http://node-1/kv/a", &[("idempotency-key", b"\"abc\"")]), plain, "as HTTP/2 has it");
        for other in [
            read("DELETE", "/kv/a", &[key]),
            read("PUT", "/kv/b", &[key]),
            read("PUT", "/kv/a?ttl_ms=1", &[key]),
            read("PUT", "/kv/a", &[("idempotency-key", b"abd")]),
        ] {
            assert_ne!(other.id, plain.id);
        }
        for name in TELLING {
            let other = read("PUT", "/kv/a", &[key, (name.as_str(), b"*")]);
            assert_eq!(other.id, plain.id);
            assert_ne!(other.digest, plain.digest, "{name}");
        }
        let other =
            IdempotencyKey::read(&parts("PUT", "/kv/a", &[key])).expect("a key").expect("a key").once(b"bodies");
        assert_ne!(other.digest, plain.digest);
    }
}
