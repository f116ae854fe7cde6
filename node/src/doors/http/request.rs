//! What requests have in common: who asks, the parameters, the time, and how to write.

use super::negotiate::header_text;
use super::problem::{Problem, UNAUTHENTICATED};
use super::query::Query;
use super::whose::Whose;
use crate::auth::user_cert::UserCertificate;
use axum::extract::Request;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use kvorum_core::limits::DEADLINE_DEFAULT_MS;
use kvorum_protocol::limits::{DEADLINE_MS_MAX, TTL_MS_MAX};
use kvorum_protocol::{Ack, Action, Condition, Once, ReadMode, Receipt, ReturnPrevious, TimeToLive, WriteResult};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The connection that a request came on.
#[derive(Clone, Debug)]
pub(super) struct From {
    /// Its number.
    pub(super) connection: u64,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// Who has opened it, if its certificate says so.
    pub(super) certificate: Option<Arc<UserCertificate>>,
}

/// The time within which an answer is wanted, in milliseconds.
const TIMEOUT: HeaderName = HeaderName::from_static("kvorum-timeout-ms");
/// Versions have 52 bits, so that every JSON number holds them exactly.
pub(super) const VERSION_MAX: u64 = (1 << 52) - 1;
/// A time to live, in milliseconds.
const TTL: HeaderName = HeaderName::from_static("kvorum-ttl-ms");
/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A request's head, taken apart.
pub(super) struct Asked<'a> {
    /// The raw path.
    pub(super) path: &'a str,
    /// The headers.
    pub(super) headers: &'a HeaderMap,
    /// The parameters.
    pub(super) query: Query,
    /// Whose it is.
    pub(super) whose: Whose,
    /// The time within which an answer is wanted.
    pub(super) within: Duration,
}

impl<'a> Asked<'a> {
    /// Takes apart a request that may have these parameters.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub(super) fn read(request: &'a Request, parameters: &[&'static str]) -> Result<Self, Problem> {
        let whose = request.extensions().get::<Whose>().ok_or_else(nobody)?.clone();
        Self::of(request.uri(), request.headers(), whose, parameters)
    }

    /// The same of a head whose body is read apart.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub(super) fn of_parts(parts: &'a Parts, parameters: &[&'static str]) -> Result<Self, Problem> {
        let whose = parts.extensions.get::<Whose>().ok_or_else(nobody)?.clone();
        Self::of(&parts.uri, &parts.headers, whose, parameters)
    }

    /// The same of the parts that count.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub(super) fn of(
        uri: &'a http::Uri,
        headers: &'a HeaderMap,
        whose: Whose,
        parameters: &[&'static str],
    ) -> Result<Self, Problem> {
        let ms = number(headers, &TIMEOUT, 1..=u64::from(DEADLINE_MS_MAX))?;
        let within = Duration::from_millis(ms.unwrap_or(DEADLINE_DEFAULT_MS.into()));
        Ok(Asked { path: uri.path(), headers, query: Query::parse(uri.query(), parameters)?, whose, within })
    }

    /// The write that a read waits for, and for how long.
    ///
    /// # Errors
    /// `InvalidArgument`; `ConflictingArguments` for a read that may be stale, or a time without a write.
    pub(super) fn after(&self) -> Result<Option<(Receipt, Duration)>, Problem> {
        let wait_ms = self.query.value("wait_ms", "milliseconds")?;
        if wait_ms.is_some_and(|ms: u32| ms > DEADLINE_MS_MAX) {
            return Err(Problem::invalid(format!("wait_ms is out of range, expected at most {DEADLINE_MS_MAX}")));
        }
        let expected = "a receipt such as 3.7.1204, which a write with ack=accepted answers in write";
        let Some(receipt) = self.query.value("after", expected)? else {
            let alone =
                wait_ms.is_some().then(|| Problem::conflicting("wait_ms is for reads that name a write in after"));
            return alone.map_or(Ok(None), Err);
        };
        if self.mode()? == ReadMode::Stale {
            return Err(Problem::conflicting("a stale read may miss the write that after names"));
        }
        let wait = wait_ms.map_or(self.within, |ms| Duration::from_millis(ms.into()));
        Ok(Some((receipt, wait)))
    }

    /// How fresh a read must be.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn mode(&self) -> Result<ReadMode, Problem> {
        match self.query.text("consistency")? {
            None | Some("linearizable") => Ok(ReadMode::Linearizable),
            Some("stale") => Ok(ReadMode::Stale),
            Some(other) => Err(Problem::invalid(format!("consistency is {other:?}, expected linearizable or stale"))),
        }
    }
}

/// A request that nobody has looked at is nobody's.
fn nobody() -> Problem {
    Problem::new(&UNAUTHENTICATED, "nobody has looked at who asks")
}

/// A header that is a number within a range.
fn number(
    headers: &HeaderMap,
    name: &HeaderName,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Problem> {
    let Some(text) = header_text(headers, name)? else { return Ok(None) };
    let number = text.trim().parse().ok().filter(|number| allowed.contains(number));
    number.map(Some).ok_or_else(|| {
        let (from, to) = (allowed.start(), allowed.end());
        Problem::invalid(format!("the header {name} is {text:?}, expected a number from {from} to {to}"))
    })
}

/// How a write is to be done.
pub(super) struct WriteOptions {
    /// When to answer.
    pub(super) ack: Ack,
    /// The version that the key must have; 0 if it must not exist.
    pub(super) if_version: Option<u64>,
    ttl_ms: Option<u64>,
    /// The key keeps the time to live that it has.
    keep_ttl: bool,
    /// The name under which it takes effect once.
    pub(super) once: Option<Once>,
}

impl WriteOptions {
    /// The parameters of a write.
    pub(super) const PARAMETERS: [&'static str; 4] = ["ack", "if_version", "ttl_ms", "keep_ttl"];

    /// Reads them.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn read(asked: &Asked<'_>) -> Result<Self, Problem> {
        let prefers_async = asked.headers.get_all(&PREFER).iter().any(|value| {
            let preferences = value.to_str().unwrap_or_default().split(',');
            preferences.into_iter().any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
        });
        let ack = match asked.query.text("ack")? {
            None if prefers_async => Ack::Accepted,
            None | Some("committed") => Ack::Committed,
            Some("accepted") => Ack::Accepted,
            Some(other) => return Err(Problem::invalid(format!("ack is {other:?}, expected committed or accepted"))),
        };
        let expected = "a version, which is below 2^52, or 0 for a key that must not exist";
        let if_version = asked.query.value("if_version", expected)?;
        if if_version.is_some_and(|version: u64| version > VERSION_MAX) {
            return Err(Problem::invalid(format!("if_version is out of range, expected {expected}")));
        }
        let by_header = number(asked.headers, &TTL, 1..=TTL_MS_MAX)?;
        let by_query = asked.query.value("ttl_ms", "milliseconds")?;
        if by_header.is_some() && by_query.is_some() {
            return Err(Problem::conflicting("ttl_ms and the header Kvorum-Ttl-Ms exclude each other"));
        }
        let keep_ttl = asked.query.flag("keep_ttl")?;
        Ok(Self { ack, if_version, ttl_ms: by_header.or(by_query), keep_ttl, once: None })
    }

    /// The time to live, which may stand in the body instead.
    ///
    /// # Errors
    /// `InvalidArgument` if it is out of range; `ConflictingArguments` if it stands in both, or is to be kept as well.
    pub(super) fn ttl(&self, in_body: Option<u64>, kept_by_body: bool) -> Result<TimeToLive, Problem> {
        let (is_outside, is_inside) = (self.ttl_ms.is_some() || self.keep_ttl, in_body.is_some() || kept_by_body);
        if is_outside && is_inside {
            return Err(Problem::conflicting("the time to live stands in the body and outside of it"));
        }
        time_to_live(self.ttl_ms.or(in_body), self.keep_ttl || kept_by_body)
    }
}

/// The time to live that a put is to give its key.
///
/// # Errors
/// `InvalidArgument` if it is out of range; `ConflictingArguments` if it is told and to be kept.
pub(super) fn time_to_live(ttl_ms: Option<u64>, keep: bool) -> Result<TimeToLive, Problem> {
    match ttl_ms {
        Some(ms) if !(1..=TTL_MS_MAX).contains(&ms) => {
            Err(Problem::invalid(format!("ttl_ms is {ms}, expected a number from 1 to {TTL_MS_MAX}")))
        }
        Some(_) if keep => Err(Problem::conflicting("ttl_ms and keep_ttl exclude each other")),
        Some(ms) => Ok(TimeToLive::Ms(ms)),
        None if keep => Ok(TimeToLive::Keep),
        None => Ok(TimeToLive::Forever),
    }
}

/// What a write asks of what was there before: a put whether it makes a new key, if neither its condition says so nor its answer
/// has another status anyhow.
pub(super) fn previous_of(action: &Action, condition: &Condition, ack: Ack) -> ReturnPrevious {
    match (action, condition, ack) {
        (Action::Put { .. }, Condition::Always | Condition::IfAbsentOrVersion(_), Ack::Committed) => {
            ReturnPrevious::Existence
        }
        _ => ReturnPrevious::Nothing,
    }
}

/// What a write that took effect is answered with: 201 for a put that is committed and made a new key. An answer to a write that was
/// sent again may not tell whether it did.
pub(super) fn status_of_write(action: &Action, condition: &Condition, result: &WriteResult) -> StatusCode {
    let creates = result.existed.map_or(*condition == Condition::IfAbsent, |existed| !existed);
    match status_of(result.ack) {
        StatusCode::OK if creates && matches!(action, Action::Put { .. }) => StatusCode::CREATED,
        status => status,
    }
}

/// What a write that took effect is answered with. One that had to be sent again is committed, whatever was asked for.
pub(super) fn status_of(ack: Ack) -> StatusCode {
    match ack {
        Ack::Committed => StatusCode::OK,
        Ack::Accepted => StatusCode::ACCEPTED,
    }
}
