//! What went wrong, as RFC 9457 has it: one kind per decision that a caller may make, with a page each.

use super::idempotency::REPLAYED;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use kvorum_client_core::error::Error;
use kvorum_protocol::{ErrorCode, NodeId, Outcome, Retry, ServerError, Version};
use serde::Serialize;
use std::borrow::Cow;

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its name, and the end of its address.
    pub(super) code: &'static str,
    /// The status that it is answered with.
    pub(super) status: u16,
    /// What it is called.
    pub(super) title: &'static str,
    /// What it means, for its page.
    pub(super) meaning: &'static str,
    /// What to do, for its page.
    pub(super) remedy: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:literal, $title:literal, $meaning:literal, $remedy:literal;)*) => {
        $(pub(super) const $name: Kind =
            Kind { code: $code, status: $status, title: $title, meaning: $meaning, remedy: $remedy };)*
        /// Every kind.
        pub(super) const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    MALFORMED = "malformed", 400, "The request is malformed",
        "The node can't read the request: its JSON, its percent-encoding, or its base64.",
        "Correct the request. The detail says what is wrong, and where.";
    INVALID_ARGUMENT = "invalid-argument", 400, "An argument makes no sense",
        "The request is well formed, and one of its values is not allowed.",
        "Correct the value. The detail names it and says what is allowed.";
    UNAUTHENTICATED = "unauthenticated", 401, "The node wants to know who asks",
        "The request does not say who asks, or nobody of that name and with that proof may log in.",
        "Send Authorization: Bearer with a token, or Basic with a user and a password.";
    PERMISSION_DENIED = "permission-denied", 403, "Whoever asks may not do this",
        "The user's roles do not say that it may.",
        "Ask an administrator for a role that does: kvorum-cli acl check says what a user may do.";
    NOT_PERMITTED = "not-permitted", 403, "This is switched off here",
        "The cluster's configuration does not allow the operation.",
        "Ask the operator.";
    NOT_FOUND = "not-found", 404, "There is no such thing",
        "The key does not exist or has expired, or nothing is served at this address.",
        "Check the key, or see /docs for the addresses.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "This address does not take the method",
        "The header Allow says which methods it takes.",
        "Use one of them.";
    NOT_ACCEPTABLE = "not-acceptable", 406, "No representation is acceptable",
        "The header Accept names none of application/json, application/octet-stream and text/plain.",
        "Accept one of them, or */*.";
    CLUSTER_REFUSES = "cluster-refuses", 409, "The cluster can't do that as it is now",
        "Replicas would have no place, a shard has no majority, or replicas would stand in fewer zones.",
        "The detail names the reason. Mend it, and ask again.";
    SESSION_EXPIRED = "session-expired", 409, "It is not known whether the write took effect",
        "The node repeated the write for you, and the shard has forgotten whether an earlier copy took effect.",
        "Read the key to see what is there.";
    RECEIPT_FORGOTTEN = "receipt-forgotten", 409, "The log no longer tells",
        "The entry that the receipt names was compacted away, so nothing tells whether it is the write's.",
        "Read the key without the receipt, and compare.";
    WRITE_LOST = "write-lost", 410, "The accepted write was lost",
        "The leader that had accepted the write lost leadership before a quorum had it. It never takes effect.",
        "Write again. With ack=committed an answer means that the write is there to stay.";
    PRECONDITION_FAILED = "precondition-failed", 412, "The condition does not hold",
        "The key's version is another one, or the key exists where it must not, or the other way round.",
        "Read the key and decide again. key_version is the version that it has, 0 if there is no such key.";
    TOO_LARGE = "too-large", 413, "Too large",
        "A key, a value, a list or an answer is over its limit.",
        "Send less. The detail says what the limit is.";
    URI_TOO_LONG = "uri-too-long", 414, "The address is too long",
        "The request's address has more bytes than the node reads.",
        "Send long keys in the body: POST /batch takes any key.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "The node does not read this content type",
        "This address takes application/json.",
        "Set the header Content-Type to application/json.";
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable", 416, "The range lies outside the value",
        "The header Range asks for bytes that the value does not have.",
        "The header Content-Range says how long the value is.";
    NOT_AN_INTEGER = "not-an-integer", 422, "The value is not a number",
        "INCR adds to a decimal number of 64 bits, and the key holds something else.",
        "Use another key, or overwrite the value.";
    INTEGER_OVERFLOW = "integer-overflow", 422, "The number would leave its range",
        "INCR would go past the range of a number of 64 bits.",
        "Add less.";
    CROSS_SHARD = "cross-shard", 422, "The keys are in different shards",
        "All keys of an atomic batch must be in one shard.",
        "Give the keys the same {tag}, such as {user:1}:name and {user:1}:mail.";
    CONFLICTING_ARGUMENTS = "conflicting-arguments", 422, "The arguments don't go together",
        "Each argument is allowed, and two of them say different things, or one is missing that another one needs.",
        "Leave one out, or add what is missing. The detail names them.";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", 422, "The Idempotency-Key was used for something else",
        "Another request came with this key to this address, and its body, its conditions or its type were others. Nothing was done.",
        "Use a fresh key for each write, and send a write again as it was.";
    INVALID_CURSOR = "invalid-cursor", 422, "The cursor is none that this cluster gave out",
        "A scan goes on with the cursor of the page before, as it is.",
        "Begin the scan anew.";
    INVALID_RECEIPT = "invalid-receipt", 422, "The receipt is none that this cluster gave out",
        "A read waits for the write whose receipt it names, and there is no such shard.",
        "Use what a write with ack=accepted has answered in write, as it is.";
    OVERLOADED = "overloaded", 429, "The node has too much to do",
        "A queue is full. Nothing was done.",
        "Try again after the pause that Retry-After names, and send less at once.";
    INTERNAL = "internal", 500, "A fault of the node",
        "The node's log says more.",
        "Report it, with the node's log.";
    UNAVAILABLE = "unavailable", 503, "The shard has no leader",
        "No node can answer for the key right now: its shard elects a leader, or has lost its majority.",
        "Try again after the pause that Retry-After names. If it lasts, see CLUSTER CHECK.";
    STOPPING = "stopping", 503, "The node is stopping",
        "The node takes no more requests. Others go on.",
        "Ask another node.";
    TOO_MANY_CONNECTIONS = "too-many-connections", 503, "The node has as many connections as it takes",
        "The setting connections_max is reached, or a limit of the address or of the user.",
        "Close connections that are not needed, or ask another node.";
    DEADLINE_EXCEEDED = "deadline-exceeded", 504, "No answer in time",
        "The deadline passed. outcome says whether a write took effect.",
        "Try again if the outcome allows it. The header Kvorum-Timeout-Ms sets the time.";
    DISK_FULL = "disk-full", 507, "The disk is full",
        "The shard's leader has no room for another write. Reads and deletes work.",
        "Free some space, or add disks.";
}

/// A problem, as it is answered.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    outcome: Option<Outcome>,
    retry_after_ms: Option<u32>,
    leader: Option<NodeId>,
    key_version: Option<Version>,
    allow: Option<&'static str>,
    /// With RANGE_NOT_SATISFIABLE: the value's length.
    length: Option<usize>,
    /// It is what an earlier request with the same Idempotency-Key was answered.
    replayed: bool,
}

/// The members of a problem's JSON.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// The address of the kind's page.
    #[serde(rename = "type")]
    #[schema(example = "/problems/overloaded")]
    kind: String,
    /// The kind, for people.
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong here.
    detail: String,
    /// The kind, for programs.
    #[schema(example = "overloaded")]
    code: &'static str,
    /// What became of the operation: `not_applied`, `applied` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    outcome: Option<&'static str>,
    /// When to try again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
    /// The node that may lead the key's shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// The version that the key has, 0 if there is no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_version: Option<u64>,
}

impl Problem {
    /// A problem of this kind, with what went wrong here.
    pub(super) fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            outcome: None,
            retry_after_ms: None,
            leader: None,
            key_version: None,
            allow: None,
            length: None,
            replayed: false,
        }
    }

    /// What is wrong, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The request can't be read.
    pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(&MALFORMED, detail)
    }

    /// A value is not allowed.
    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(&INVALID_ARGUMENT, detail)
    }

    /// Arguments contradict each other, or lack one.
    pub(super) fn conflicting(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(&CONFLICTING_ARGUMENTS, detail)
    }

    /// There is no such key.
    pub(super) fn no_such_key() -> Self {
        Self::new(&NOT_FOUND, "there is no such key")
    }

    /// A condition does not hold for a key that has this version, 0 for none.
    pub(super) fn condition_failed(version: Version) -> Self {
        let detail = if version.0 == 0 { "the key does not exist" } else { "the key has another version" };
        Self { key_version: Some(version), ..Self::new(&PRECONDITION_FAILED, detail) }
    }

    /// The range lies outside a value of so many bytes.
    pub(super) fn out_of_range(length: usize) -> Self {
        let detail = format!("the value has {length} bytes");
        Self { length: Some(length), ..Self::new(&RANGE_NOT_SATISFIABLE, detail) }
    }

    /// The address takes other methods.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(&METHOD_NOT_ALLOWED, format!("allowed are {allow}")) }
    }

    /// The same about a read: it says nothing of what became of a write.
    pub(super) fn of_read(self) -> Self {
        Self { outcome: None, ..self }
    }

    /// The same, perhaps as what an earlier request was answered.
    pub(super) fn replayed(self, replayed: bool) -> Self {
        Self { replayed, ..self }
    }

    /// Whether it is.
    pub(super) fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// What it is answered with.
    pub(super) fn status(&self) -> u16 {
        self.kind.status
    }

    /// Its JSON.
    pub(super) fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("/problems/{}", self.kind.code),
            title: self.kind.title,
            status: self.kind.status,
            detail: self.detail.clone().into_owned(),
            code: self.kind.code,
            outcome: self.outcome.map(outcome_name),
            retry_after_ms: self.retry_after_ms,
            leader: self.leader.map(|leader| leader.to_string()),
            key_version: self.key_version.map(|version| version.0),
        }
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Applied => "applied",
        Outcome::Unknown => "unknown",
    }
}

/// The kind that a node's error is.
pub(super) fn kind_of(code: ErrorCode) -> &'static Kind {
    match code {
        ErrorCode::Malformed | ErrorCode::UnknownOperation | ErrorCode::HelloExpected => &MALFORMED,
        ErrorCode::InvalidArgument => &INVALID_ARGUMENT,
        ErrorCode::TooLarge => &TOO_LARGE,
        ErrorCode::Overloaded => &OVERLOADED,
        ErrorCode::Unavailable | ErrorCode::NotLeader => &UNAVAILABLE,
        ErrorCode::DeadlineExceeded => &DEADLINE_EXCEEDED,
        ErrorCode::SessionExpired | ErrorCode::SequenceTooLow => &SESSION_EXPIRED,
        ErrorCode::NotAnInteger | ErrorCode::NotADecimal => &NOT_AN_INTEGER,
        ErrorCode::IntegerOverflow => &INTEGER_OVERFLOW,
        ErrorCode::CrossShard => &CROSS_SHARD,
        ErrorCode::OnceIdReused => &IDEMPOTENCY_KEY_REUSED,
        ErrorCode::DiskFull => &DISK_FULL,
        ErrorCode::ShuttingDown => &STOPPING,
        ErrorCode::TooManyConnections => &TOO_MANY_CONNECTIONS,
        ErrorCode::Unauthenticated => &UNAUTHENTICATED,
        ErrorCode::PermissionDenied => &PERMISSION_DENIED,
        ErrorCode::NotPermitted => &NOT_PERMITTED,
        ErrorCode::Refused => &CLUSTER_REFUSES,
        _ => &INTERNAL,
    }
}

impl From<ServerError> for Problem {
    fn from(error: ServerError) -> Self {
        Self {
            outcome: Some(error.outcome),
            retry_after_ms: match error.retry {
                Retry::AfterMs(ms) => Some(ms),
                Retry::No => None,
            },
            leader: error.leader,
            ..Self::new(kind_of(error.code), error.detail)
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => error.into(),
            error => {
                let (code, outcome) = (error.code(), error.outcome());
                let retry_after_ms = (code == ErrorCode::Unavailable).then_some(100);
                Self { outcome: Some(outcome), retry_after_ms, ..Self::new(kind_of(code), error.report()) }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(ms) = self.retry_after_ms {
            // The header knows whole seconds only.
            headers.insert(RETRY_AFTER, HeaderValue::from(u64::from(ms).div_ceil(1000)));
        }
        if self.kind.code == UNAUTHENTICATED.code {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kvorum\""));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"kvorum\", charset=\"UTF-8\""));
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(length) = self.length
            && let Ok(range) = HeaderValue::try_from(format!("bytes */{length}"))
        {
            headers.insert(http::header::CONTENT_RANGE, range);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_node_is_a_kind_and_few_are_internal() {
        let internal: Vec<_> =
            ErrorCode::ALL.iter().filter(|code| kind_of(**code) == &INTERNAL).map(ToString::to_string).collect();
        // The first two are about HELLO, which this door does not speak.
        assert_eq!(internal, ["UnsupportedVersion", "WrongCluster", "Internal"]);
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let mut codes: Vec<_> = KINDS.iter().map(|kind| kind.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), KINDS.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }

    #[test]
    fn an_error_becomes_a_problem_with_all_that_it_says() {
        let error = ServerError::new(ErrorCode::Overloaded, "a queue is full");
        let problem = Problem::from(error);
        let json = serde_json::to_value(problem.body()).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "type": "/problems/overloaded", "title": "The node has too much to do", "status": 429,
                "detail": "a queue is full", "code": "overloaded", "outcome": "not_applied", "retry_after_ms": 50,
            })
        );
        let response = problem.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
