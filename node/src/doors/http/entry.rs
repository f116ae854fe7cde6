//! Entries and results as JSON. Pure.

use super::problem::{Problem, ProblemBody};
use super::query::{BASE64, decode_base64};
use super::request::VERSION_MAX;
use base64::Engine as _;
use bytes::Bytes;
use kvorum_protocol::limits::TTL_MS_MAX;
use kvorum_protocol::{Ack, Durability, Version, WriteResult};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

/// A key or a value: as text where it is UTF-8, and as base64 where it is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// As it is.
    pub(super) plain: Option<String>,
    /// As base64 with the alphabet of addresses, without padding.
    pub(super) base64: Option<String>,
}

impl Text {
    /// These bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { plain: Some(text.to_owned()), base64: None },
            Err(_) => Self { plain: None, base64: Some(BASE64.encode(bytes)) },
        }
    }
}

/// Reads a member that stands in `name` or, as base64, in `name_base64`.
///
/// # Errors
/// `InvalidArgument` if both or none are there, `Malformed`.
pub(super) fn member(name: &str, plain: Option<String>, base64: Option<String>) -> Result<Bytes, Problem> {
    match (plain, base64) {
        (Some(_), Some(_)) => Err(Problem::conflicting(format!("{name} and {name}_base64 exclude each other"))),
        (Some(plain), None) => Ok(plain.into()),
        (None, Some(base64)) => decode_base64(&format!("{name}_base64"), base64.as_bytes()),
        (None, None) => Err(Problem::conflicting(format!("{name}, or {name}_base64, is missing"))),
    }
}

/// A key with its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryJson {
    /// The key, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// The value, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The value as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// The version: an exact number below 2^52.
    version: u64,
    /// When it expires, in milliseconds of the shard's log time, which follows Unix time; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    /// Where the value came from: `cache` is a node's memory, under the leader's lease; for `database` a quorum or a disk was
    /// asked. Both are linearizable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cache")]
    source: Option<&'static str>,
    /// How the answer came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    served: Option<ServedJson>,
}

/// How a read was answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Served)]
pub(super) struct ServedJson {
    /// The node that was asked.
    pub(super) node: String,
    /// `lease`, `confirmed`, `forwarded` or `stale`.
    #[schema(example = "lease")]
    pub(super) path: &'static str,
    /// `memory`; `disk` for a large value, which may have had to come from there. Only the node that read it knows.
    #[schema(example = "memory")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<&'static str>,
}

impl EntryJson {
    /// An entry, with its value if `with_value`.
    pub(super) fn new(key: &[u8], entry: &kvorum_protocol::Entry, with_value: bool) -> Self {
        let (key, value) = (Text::of(key), with_value.then(|| Text::of(&entry.value)));
        let (value, value_base64) = value.map_or((None, None), |value| (value.plain, value.base64));
        Self {
            key: key.plain,
            key_base64: key.base64,
            value,
            value_base64,
            version: entry.version.0,
            expires_at_ms: entry.expires_at_ms,
            source: None,
            served: None,
        }
    }

    /// The same, with where it came from.
    pub(super) fn served(self, source: &'static str, served: ServedJson) -> Self {
        Self { source: Some(source), served: Some(served), ..self }
    }
}

/// What became of a write.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Written)]
pub(super) struct WrittenJson {
    /// The key, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// The key's new version; for a removal, the version that the removal was given.
    version: u64,
    /// After an addition, the new number; after an append, the new length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    /// The key was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    /// `committed`: a quorum has it. `accepted`: the leader has it, and it may be lost.
    status: &'static str,
    /// What a committed write survives: `fsync` or `memory`.
    durability: &'static str,
    /// Of an accepted write, its receipt: what a read names in `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "3.7.1204")]
    write: Option<String>,
}

impl WrittenJson {
    /// A write that took effect.
    pub(super) fn new(key: &[u8], result: &WriteResult, deleted: bool) -> Self {
        let key = Text::of(key);
        Self {
            key: key.plain,
            key_base64: key.base64,
            version: result.version.0,
            number: result.number,
            deleted: deleted.then_some(true),
            status: status_name(result.ack),
            durability: durability_name(result.durability),
            write: result.receipt.map(|receipt| receipt.to_string()),
        }
    }
}

/// The seeds' envelope: the same with `status` and `durability` beside `data`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WrittenEnvelope)]
pub(super) struct WrittenEnvelope {
    data: WrittenData,
    status: &'static str,
    durability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    write: Option<String>,
}

/// What an envelope holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WrittenData)]
struct WrittenData {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
}

impl From<WrittenJson> for WrittenEnvelope {
    fn from(written: WrittenJson) -> Self {
        let WrittenJson { key, key_base64, version, deleted, status, durability, write, number: _ } = written;
        Self { data: WrittenData { key, key_base64, version, deleted }, status, durability, write }
    }
}

/// An entry in an envelope.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryEnvelope {
    /// The entry.
    pub(super) data: EntryJson,
}

/// A write in an envelope: what `PUT /kv` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutEnvelope {
    /// The write.
    pub(super) data: PutData,
}

/// See [`PutEnvelope`].
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutData {
    /// The key.
    #[schema(min_length = 1, example = "user:1")]
    pub(super) key: Option<String>,
    /// The key as base64.
    pub(super) key_base64: Option<String>,
    /// The value.
    #[schema(example = "Ada")]
    pub(super) value: Option<String>,
    /// The value as base64.
    pub(super) value_base64: Option<String>,
    /// Milliseconds to live.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 3153600000000_u64)]
    pub(super) ttl_ms: Option<TtlNumber>,
    /// Keep the time to live that the key has; not together with `ttl_ms`.
    pub(super) keep_ttl: Option<bool>,
}

/// What `PUT /kv/{key}` takes as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutBody {
    /// The value.
    #[schema(example = "Ada")]
    pub(super) value: Option<String>,
    /// The value as base64.
    pub(super) value_base64: Option<String>,
    /// The version that the key has, if it exists.
    #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
    pub(super) version: Option<VersionNumber>,
    /// Milliseconds to live.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 3153600000000_u64)]
    pub(super) ttl_ms: Option<TtlNumber>,
    /// Keep the time to live that the key has; not together with `ttl_ms`.
    pub(super) keep_ttl: Option<bool>,
}

/// What `POST /kv/{key}/incr` takes; an empty body adds 1.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IncrBody {
    /// What to add.
    #[schema(value_type = i64, example = 1)]
    pub(super) by: Addend,
}

/// The operations of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(min_items = 1, max_items = 4096)]
pub(super) struct Operations(pub(super) Vec<BatchOperation>);

/// One operation of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum BatchOperation {
    /// Reads; not in an atomic batch.
    Get {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
    },
    /// Stores.
    Put {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// The value.
        value: Option<String>,
        /// The value as base64.
        value_base64: Option<String>,
        /// Milliseconds to live.
        #[schema(value_type = Option<u64>, minimum = 1, maximum = 3153600000000_u64)]
        ttl_ms: Option<TtlNumber>,
        /// Keep the time to live that the key has; not together with `ttl_ms`.
        keep_ttl: Option<bool>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Removes.
    Delete {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Adds to a number.
    Incr {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// What to add; 1 if absent.
        #[schema(value_type = Option<i64>)]
        by: Option<Addend>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Appends.
    Append {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// The bytes.
        value: Option<String>,
        /// The bytes as base64.
        value_base64: Option<String>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Sets the time to live.
    Expire {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// Milliseconds to live.
        #[schema(value_type = u64, minimum = 1, maximum = 3153600000000_u64)]
        ttl_ms: TtlNumber,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Takes the time to live off.
    Persist {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = Option<u64>, maximum = 4503599627370495_u64)]
        if_version: Option<VersionNumber>,
    },
    /// Checks, and writes nothing; only in an atomic batch.
    Check {
        /// The key.
        key: Option<String>,
        /// The key as base64.
        key_base64: Option<String>,
        /// The version that the key must have; 0 if it must not exist.
        #[schema(value_type = u64, maximum = 4503599627370495_u64)]
        if_version: VersionNumber,
    },
}

/// The results of a batch, in the order of its operations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResults)]
pub(super) struct BatchResults {
    /// One per operation.
    pub(super) results: Vec<BatchResult>,
}

/// What became of one operation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResult)]
pub(super) struct BatchResult {
    /// The status that the operation alone would have been answered with.
    pub(super) status: u16,
    /// The entry, after `get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<EntryJson>,
    /// What was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) written: Option<WrittenJson>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<Box<ProblemJson>>,
    /// `true`: this is what an earlier request with the same Idempotency-Key was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replayed: Option<bool>,
}

/// A problem inside another answer.
pub(super) type ProblemJson = ProblemBody;

impl BatchResult {
    /// Whether it may be that of a write.
    pub(super) fn is_of_write(&self) -> bool {
        self.entry.is_none()
    }
}

impl From<Problem> for BatchResult {
    fn from(problem: Problem) -> Self {
        let replayed = problem.is_replayed().then_some(true);
        Self { status: problem.status(), entry: None, written: None, problem: Some(Box::new(problem.body())), replayed }
    }
}

/// The name of what a write waited for.
pub(super) fn status_name(ack: Ack) -> &'static str {
    match ack {
        Ack::Committed => "committed",
        Ack::Accepted => "accepted",
    }
}

/// The name of a durability.
pub(super) fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Memory => "memory",
    }
}

/// The condition that a version of a batch means.
pub(super) fn condition_of(if_version: Option<VersionNumber>) -> kvorum_protocol::Condition {
    use kvorum_protocol::Condition;
    match if_version {
        None => Condition::Always,
        Some(Whole(0)) => Condition::IfAbsent,
        Some(Whole(version)) => Condition::IfVersion(Version(version)),
    }
}

/// A version in JSON; 0 stands for none.
pub(super) type VersionNumber = Whole<0, VERSION_MAX>;
/// Milliseconds to live in JSON.
pub(super) type TtlNumber = Whole<1, TTL_MS_MAX>;

/// A whole number in JSON, which may be written as `7` or as `7.0`: to JSON they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = whole(&Number::deserialize(deserializer)?).and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| D::Error::custom(format!("expected a whole number from {MIN} to {MAX}")))
    }
}

/// What is added to a number, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addend(pub(super) i64);

impl<'de> Deserialize<'de> for Addend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = whole(&Number::deserialize(deserializer)?).and_then(|number| i64::try_from(number).ok());
        number.map(Self).ok_or_else(|| D::Error::custom("expected a whole number of 64 bits"))
    }
}

/// The whole number that a number of JSON is, if it is one.
fn whole(number: &Number) -> Option<i128> {
    let exact = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
    let float = || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 2.0_f64.powi(53));
    exact.or_else(|| float().map(|float| float as i128))
}

/// Reads JSON.
///
/// # Errors
/// `Malformed`, saying where.
pub(super) fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        assert_eq!(Text::of(b"a\"\0"), Text { plain: Some("a\"\0".into()), base64: None });
        assert_eq!(Text::of(b"\xff\xfe"), Text { plain: None, base64: Some("__4".into()) });
        assert_eq!(member("value", None, Some("__4".into())).expect("bytes"), &b"\xff\xfe"[..]);
        assert_eq!(member("value", None, None).expect_err("none").status(), 422);
        assert_eq!(member("value", Some(String::new()), Some(String::new())).expect_err("both").status(), 422);
    }

    #[test]
    fn json_that_is_not_what_is_asked_for_is_refused() {
        for body in [
            "",
            "{",
            "[]",
            "{\"data\":{}} x",
            "{\"data\":{\"key\":\"a\",\"key\":\"b\"}}",
            "{\"data\":{\"key\":1}}",
            "{\"data\":{\"kee\":\"a\"}}",
            "{\"data\":{\"key\":\"a\"},\"x\":1}",
        ] {
            assert_eq!(from_json::<PutEnvelope>(body.as_bytes()).expect_err(body).status(), 400);
        }
        for version in ["-1", "0.5", "4503599627370496", "1e300", "\"1\"", "true"] {
            let body = format!("{{\"value\":\"a\",\"version\":{version}}}");
            assert_eq!(from_json::<PutBody>(body.as_bytes()).expect_err(version).status(), 400);
        }
        let body = br#"{"value":"a","version":7.0}"#;
        assert_eq!(from_json::<PutBody>(body).expect("7.0 is 7").version, Some(Whole(7)));
        let body = br#"{"value":"a","version":2113686514504061.0}"#;
        assert_eq!(from_json::<PutBody>(body).expect("a whole number").version, Some(Whole(2_113_686_514_504_061)));
        let deep = "[".repeat(100_000);
        assert!(from_json::<PutEnvelope>(deep.as_bytes()).is_err(), "no stack is used up");
    }
}
