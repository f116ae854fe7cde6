//! Keys and parameters out of a request's target. Pure.
//!
//! A key is bytes. What stands after the first `/kv/` of the raw target is the key, percent-decoded exactly once and never
//! normalised: `//`, `..`, `%2F` and `%00` are keys. Proxies and browsers fold some of those before they send, so each key can be
//! given as `?key=` or `?key_base64=` instead.

use super::problem::Problem;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use kvorum_protocol::limits::NAME_BYTES_MAX;
use percent_encoding::percent_decode_str;
use std::str::FromStr;

/// Base64 with the alphabet of addresses, padded or not.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Reads base64 in either alphabet, padded or not.
///
/// # Errors
/// `Malformed`, naming `what`.
pub(super) fn decode_base64(what: &str, text: &[u8]) -> Result<Bytes, Problem> {
    let url_safe: Vec<u8> = text
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    let decoded =
        BASE64.decode(url_safe).map_err(|error| Problem::malformed(format!("{what} is no base64: {error}")))?;
    Ok(decoded.into())
}

/// Percent-decodes, once.
///
/// # Errors
/// `Malformed`, if a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decode(what: &str, raw: &str) -> Result<Bytes, Problem> {
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Problem::malformed(format!("{what} has a % that is not followed by two hexadecimal digits")));
        }
        rest = &rest[at + 3..];
    }
    Ok(percent_decode_str(raw).collect::<Vec<u8>>().into())
}

/// The key in a raw path, without an `ending` such as `/incr`.
///
/// # Errors
/// `Malformed`; `InvalidArgument` if the key is empty.
pub(super) fn key_of_path(path: &str, ending: &str) -> Result<Bytes, Problem> {
    let raw = path.strip_prefix("/kv/").unwrap_or_default();
    let raw = raw.strip_suffix(ending).unwrap_or(raw);
    let key = percent_decode("the key", raw)?;
    if key.is_empty() { Err(Problem::invalid("the key is empty")) } else { Ok(key) }
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, Bytes)>);

impl Query {
    /// Reads the raw query of a target that takes the `allowed` parameters, each once.
    ///
    /// # Errors
    /// `Malformed`; `InvalidArgument` for a parameter that is not taken or stands there twice.
    pub(super) fn parse(raw: Option<&str>, allowed: &[&'static str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, Bytes)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| percent_decode("the query", &text.replace('+', " "));
            let name = plain(name)?;
            let Some(name) = allowed.iter().find(|allowed| allowed.as_bytes() == &name[..]) else {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(Problem::invalid(format!(
                    "there is no parameter {name:?} here; there are {}",
                    if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
                )));
            };
            if pairs.iter().any(|(known, _)| known == name) {
                return Err(Problem::invalid(format!("the parameter {name} stands there twice")));
            }
            pairs.push(((*name).to_owned(), plain(value)?));
        }
        Ok(Self(pairs))
    }

    /// A parameter's bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A parameter as text.
    ///
    /// # Errors
    /// `Malformed`, if it is no UTF-8.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(value) = self.bytes(name) else { return Ok(None) };
        let text = std::str::from_utf8(value);
        text.map(Some).map_err(|_| Problem::malformed(format!("the parameter {name} is no UTF-8")))
    }

    /// A parameter that names something, in 255 bytes at most.
    ///
    /// # Errors
    /// `Malformed`, if it is no UTF-8; `InvalidArgument`, if it is longer.
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.text(name)? {
            Some(text) if text.len() > NAME_BYTES_MAX => {
                Err(Problem::invalid(format!("{name} has {NAME_BYTES_MAX} bytes at most")))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// A parameter of some type.
    ///
    /// # Errors
    /// `InvalidArgument`, saying what was `expected`.
    pub(super) fn value<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let parsed = text.parse().map_err(|_| Problem::invalid(format!("{name} is {text:?}, expected {expected}")))?;
        Ok(Some(parsed))
    }

    /// A parameter that is `true` or `false`; false if it is not there.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.value(name, "true or false")?.unwrap_or(false))
    }

    /// The bytes of `name`, which may stand in `name` or, as base64, in `name_base64`.
    ///
    /// # Errors
    /// `InvalidArgument` if both are there, `Malformed` if it is no UTF-8 or no base64.
    pub(super) fn either(&self, name: &str, in_base64: &str) -> Result<Option<Bytes>, Problem> {
        match (self.bytes(name), self.bytes(in_base64)) {
            (Some(_), Some(_)) => Err(Problem::conflicting(format!("{name} and {in_base64} exclude each other"))),
            (Some(_), None) => Ok(self.text(name)?.map(|text| Bytes::copy_from_slice(text.as_bytes()))),
            (None, Some(text)) => decode_base64(in_base64, text).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The key that the parameters name.
    ///
    /// # Errors
    /// As [`Query::either`]; `InvalidArgument` if there is none, or it is empty.
    pub(super) fn key(&self) -> Result<Bytes, Problem> {
        let key = self.either("key", "key_base64")?;
        let key = key.ok_or_else(|| Problem::conflicting("the parameter key, or key_base64, is missing"))?;
        if key.is_empty() { Err(Problem::invalid("the key is empty")) } else { Ok(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Result<Vec<u8>, u16> {
        key_of_path(path, "").map(|key| key.to_vec()).map_err(|problem| problem.status())
    }

    #[test]
    fn a_key_is_what_stands_there_decoded_once() {
        assert_eq!(key("/kv/user:1"), Ok(b"user:1".to_vec()));
        assert_eq!(key("/kv//"), Ok(b"/".to_vec()));
        assert_eq!(key("/kv/a//b/../c"), Ok(b"a//b/../c".to_vec()));
        assert_eq!(key("/kv/%2F%00%ff"), Ok(b"/\0\xff".to_vec()));
        assert_eq!(key("/kv/%252F"), Ok(b"%2F".to_vec()), "once");
        assert_eq!(key("/kv/a+b"), Ok(b"a+b".to_vec()), "a plus is a plus in a path");
        assert_eq!(key("/kv/kv/x"), Ok(b"kv/x".to_vec()));
        for path in ["/kv/", "/kv/%", "/kv/%4", "/kv/%zz", "/kv/a%4"] {
            assert_eq!(key(path), Err(400), "{path}");
        }
        assert_eq!(key_of_path("/kv/a/incr/incr", "/incr").expect("a key"), &b"a/incr"[..]);
    }

    #[test]
    fn parameters_are_known_and_stand_there_once() {
        let parse = |raw| Query::parse(Some(raw), &["key", "key_base64", "limit", "keys_only"]);
        let query = parse("key=a%20b+c&limit=7&keys_only=true").expect("a query");
        assert_eq!(query.key().expect("a key"), &b"a b c"[..]);
        assert_eq!(query.value::<u32>("limit", "a number").expect("a number"), Some(7));
        assert!(query.flag("keys_only").expect("a flag"));
        assert_eq!(parse("key_base64=_w").expect("a query").key().expect("a key"), &b"\xff"[..]);
        assert_eq!(parse("key_base64=/w==").expect("a query").key().expect("a key"), &b"\xff"[..]);
        for raw in ["x=1", "key=a&key=b", "key=%"] {
            assert_eq!(parse(raw).expect_err(raw).status(), 400);
        }
        for (raw, status) in
            [("", 422), ("key=", 400), ("key=%ff", 400), ("key=a&key_base64=YQ", 422), ("key_base64=!", 400)]
        {
            assert_eq!(parse(raw).expect("a query").key().expect_err(raw).status(), status, "{raw}");
        }
        assert_eq!(parse("limit=-1").expect("a query").value::<u32>("limit", "a number").expect_err("").status(), 400);
    }
}
