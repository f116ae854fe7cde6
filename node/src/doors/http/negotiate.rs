//! Representations, conditions and ranges, as RFC 9110 has them. Pure.

use super::problem::{NOT_ACCEPTABLE, Problem};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use kvorum_protocol::{Condition, Version};
use std::ops::Range;

/// How an entry is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As JSON, with its metadata.
    Json,
    /// The value's bytes, with their metadata in headers, as this content type.
    Raw(&'static str),
}

/// The form that a request accepts most; JSON, if it does not say.
///
/// # Errors
/// `NotAcceptable`.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    const FORMS: [(&str, Form); 3] = [
        ("application/json", Form::Json),
        ("application/octet-stream", Form::Raw("application/octet-stream")),
        ("text/plain", Form::Raw("text/plain; charset=utf-8")),
    ];
    let accepted = header_text(headers, &ACCEPT)?;
    let Some(accepted) = accepted.filter(|text| !text.trim().is_empty() && *text != "*/*") else {
        return Ok(Form::Json);
    };
    if let Some((_, form)) = FORMS.iter().find(|(name, _)| *name == accepted) {
        return Ok(*form);
    }
    // Of each form the weight of the most specific range that covers it.
    let weight_of = |name: &str| {
        let (group, _) = name.split_once('/').unwrap_or((name, ""));
        let ranges = accepted.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next()?.to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let specific = match media.as_str() {
                "*/*" => 0,
                _ if media == format!("{group}/*") => 1,
                _ if media == name => 2,
                _ => return None,
            };
            Some((specific, weight))
        });
        ranges.max_by_key(|(specific, _)| *specific).map_or(0.0_f32, |(_, weight)| weight)
    };
    let mut best: Option<(Form, f32)> = None;
    for (name, form) in FORMS {
        let weight = weight_of(name);
        if weight > 0.0 && best.is_none_or(|(_, most)| weight > most) {
            best = Some((form, weight));
        }
    }
    let none = || Problem::new(&NOT_ACCEPTABLE, format!("Accept is {accepted:?}"));
    best.map(|(form, _)| form).ok_or_else(none)
}

/// Whether a body is JSON. Any other type means that the body is the value.
///
/// # Errors
/// `Malformed`, if the header is no text.
pub(super) fn is_json(headers: &HeaderMap) -> Result<bool, Problem> {
    let kind = header_text(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    Ok(media.eq_ignore_ascii_case("application/json"))
}

/// Whether the body is JSON, a value per line.
///
/// # Errors
/// `Malformed`, if the header is no text.
pub(super) fn is_ndjson(headers: &HeaderMap) -> Result<bool, Problem> {
    let kind = header_text(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    Ok(["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .iter()
        .any(|name| media.eq_ignore_ascii_case(name)))
}

/// What `If-Match` or `If-None-Match` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tags {
    /// Anything.
    Any,
    /// These versions; tags that are none of ours match nothing.
    Versions(Vec<Version>),
}

impl Tags {
    /// Whether a key with this version, if it exists, is among them.
    pub(super) fn match_entry(&self, version: Option<Version>) -> bool {
        match (self, version) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Versions(versions), Some(version)) => versions.contains(&version),
        }
    }

    /// Reads a header. An empty one names nothing.
    fn read(headers: &HeaderMap, name: &http::HeaderName) -> Result<Option<Self>, Problem> {
        let mut versions = Vec::new();
        let mut is_there = false;
        for value in headers.get_all(name) {
            is_there = true;
            let text = value.to_str().map_err(|_| Problem::malformed(format!("the header {name} is no text")))?;
            if text.trim() == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                let quoted = tag.strip_prefix("W/").unwrap_or(tag);
                let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let inner = inner.ok_or_else(|| {
                    Problem::malformed(format!(
                        "the header {name} holds {tag:?}, expected \"<version>\" in quotes, or *"
                    ))
                })?;
                versions.extend(inner.parse().ok().map(Version));
            }
        }
        Ok(is_there.then_some(Self::Versions(versions)))
    }
}

/// The conditions of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Preconditions {
    /// The key's version must be among them.
    pub(super) matches: Option<Tags>,
    /// The key's version must not be among them.
    pub(super) matches_none: Option<Tags>,
}

impl Preconditions {
    /// Reads them out of the headers.
    ///
    /// # Errors
    /// `Malformed`.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let (matches, matches_none) = (Tags::read(headers, &IF_MATCH)?, Tags::read(headers, &IF_NONE_MATCH)?);
        Ok(Self { matches, matches_none })
    }

    /// The condition of a write that says the same, or `None` if only a look at the key can tell, which has to come first.
    pub(super) fn as_condition(&self) -> Option<Condition> {
        match (&self.matches, &self.matches_none) {
            (None, None) => Some(Condition::Always),
            (Some(Tags::Any), None) => Some(Condition::IfPresent),
            (Some(Tags::Versions(versions)), None) => match versions[..] {
                [version] => Some(Condition::IfVersion(version)),
                _ => None,
            },
            (None, Some(Tags::Any)) => Some(Condition::IfAbsent),
            _ => None,
        }
    }

    /// The condition of a write that holds for this state of the key and no other, if the conditions hold for it.
    pub(super) fn condition_for(&self, version: Option<Version>) -> Option<Condition> {
        let holds = self.matches.as_ref().is_none_or(|tags| tags.match_entry(version))
            && !self.matches_none.as_ref().is_some_and(|tags| tags.match_entry(version));
        holds.then(|| version.map_or(Condition::IfAbsent, Condition::IfVersion))
    }
}

/// What a conditional read comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Selected {
    /// The whole value.
    All,
    /// A part of it, in bytes.
    Part(Range<usize>),
    /// The client has it.
    NotModified,
}

/// What of a value of so many bytes, with this version, a read asks for.
///
/// # Errors
/// `PreconditionFailed`, `RangeNotSatisfiable`, `Malformed`.
pub(super) fn select(
    headers: &HeaderMap,
    preconditions: &Preconditions,
    version: Version,
    length: usize,
) -> Result<Selected, Problem> {
    if preconditions.matches.as_ref().is_some_and(|tags| !tags.match_entry(Some(version))) {
        return Err(Problem::condition_failed(version));
    }
    if preconditions.matches_none.as_ref().is_some_and(|tags| tags.match_entry(Some(version))) {
        return Ok(Selected::NotModified);
    }
    let Some(range) = header_text(headers, &RANGE)? else { return Ok(Selected::All) };
    if let Some(tag) = header_text(headers, &IF_RANGE)?
        && tag.trim() != etag(version)
    {
        return Ok(Selected::All);
    }
    // Other units, several ranges, and what is no range at all are ignored, as RFC 9110 14.2 allows.
    let Some(range) = range.trim().strip_prefix("bytes=").filter(|range| !range.contains(',')) else {
        return Ok(Selected::All);
    };
    let Some((first, last)) = range.split_once('-') else { return Ok(Selected::All) };
    let number = |text: &str| (!text.trim().is_empty()).then(|| text.trim().parse::<usize>().ok());
    let part = match (number(first), number(last)) {
        (Some(Some(first)), None) => first..length,
        (Some(Some(first)), Some(Some(last))) if first <= last => first..length.min(last.saturating_add(1)),
        (None, Some(Some(count))) => length.saturating_sub(count)..length,
        _ => return Ok(Selected::All),
    };
    if part.is_empty() { Err(Problem::out_of_range(length)) } else { Ok(Selected::Part(part)) }
}

/// The entity tag of a version.
pub(super) fn etag(version: Version) -> String {
    format!("\"{}\"", version.0)
}

/// A header as text.
///
/// # Errors
/// `Malformed`, if it is none.
pub(super) fn header_text<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Problem::malformed(format!("the header {name} is no text")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    #[test]
    fn the_form_is_the_one_that_is_accepted_most() {
        let form_of = |accept: &str| form(&headers(&[(ACCEPT, accept)])).map_err(|problem| problem.status());
        assert_eq!(form(&HeaderMap::new()).expect("no header"), Form::Json);
        for accept in ["*/*", "", "application/json", "application/*", "text/html, */*;q=0.1", "text/*;q=0.5, */*"] {
            assert_eq!(form_of(accept), Ok(Form::Json), "{accept}");
        }
        assert_eq!(form_of("text/plain"), Ok(Form::Raw("text/plain; charset=utf-8")));
        assert_eq!(
            form_of("application/json;q=0.1, application/octet-stream"),
            Ok(Form::Raw("application/octet-stream"))
        );
        assert_eq!(form_of("application/json;q=0, */*"), Ok(Form::Raw("application/octet-stream")));
        assert_eq!(form_of("image/png"), Err(406));
        assert_eq!(form_of("application/json;q=0"), Err(406));
    }

    #[test]
    fn conditions_become_those_of_a_write() {
        let read = |pairs: &[(HeaderName, &str)]| Preconditions::read(&headers(pairs)).expect("conditions");
        let condition = |pairs: &[(HeaderName, &str)]| read(pairs).as_condition();
        assert_eq!(condition(&[]), Some(Condition::Always));
        assert_eq!(condition(&[(IF_MATCH, "*")]), Some(Condition::IfPresent));
        assert_eq!(condition(&[(IF_MATCH, "\"7\"")]), Some(Condition::IfVersion(Version(7))));
        assert_eq!(condition(&[(IF_NONE_MATCH, "*")]), Some(Condition::IfAbsent));
        let several = read(&[(IF_MATCH, "\"7\", \"8\"")]);
        assert_eq!(several.as_condition(), None);
        assert_eq!(several.condition_for(Some(Version(8))), Some(Condition::IfVersion(Version(8))));
        assert_eq!(several.condition_for(Some(Version(9))), None);
        assert_eq!(several.condition_for(None), None);
        let none = read(&[(IF_NONE_MATCH, "W/\"7\"")]);
        assert_eq!(none.condition_for(None), Some(Condition::IfAbsent));
        assert_eq!(none.condition_for(Some(Version(7))), None);
        // A tag that is none of ours matches nothing.
        assert_eq!(read(&[(IF_MATCH, "\"abc\"")]).condition_for(Some(Version(1))), None);
        assert!(Preconditions::read(&headers(&[(IF_MATCH, "7")])).is_err());
    }

    #[test]
    fn a_read_selects_all_a_part_or_nothing() {
        let selected = |pairs: &[(HeaderName, &str)]| {
            let headers = headers(pairs);
            let preconditions = Preconditions::read(&headers).expect("conditions");
            select(&headers, &preconditions, Version(7), 10).map_err(|problem| problem.status())
        };
        assert_eq!(selected(&[]), Ok(Selected::All));
        assert_eq!(selected(&[(IF_NONE_MATCH, "\"7\"")]), Ok(Selected::NotModified));
        assert_eq!(selected(&[(IF_NONE_MATCH, "\"8\"")]), Ok(Selected::All));
        assert_eq!(selected(&[(IF_MATCH, "\"8\"")]), Err(412));
        for (range, part) in
            [("0-0", 0..1), ("2-4", 2..5), ("8-99", 8..10), ("3-", 3..10), ("-4", 6..10), ("-99", 0..10)]
        {
            assert_eq!(selected(&[(RANGE, &format!("bytes={range}"))]), Ok(Selected::Part(part)), "{range}");
        }
        for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
            assert_eq!(selected(&[(RANGE, range)]), Err(416), "{range}");
        }
        for range in ["bytes=0-1,3-4", "lines=1-2", "bytes=4-2", "bytes=x-", "bytes"] {
            assert_eq!(selected(&[(RANGE, range)]), Ok(Selected::All), "{range}");
        }
        assert_eq!(selected(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"7\"")]), Ok(Selected::Part(0..1)));
        assert_eq!(selected(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"6\"")]), Ok(Selected::All));
    }
}
