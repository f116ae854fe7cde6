//! Keys by prefix, page by page, over all shards.

use super::Api;
use super::call::check_pages;
use super::entry::EntryJson;
use super::kv::{hold, json_response, unexpected};
use super::problem::{INVALID_CURSOR, Problem};
use super::query::BASE64;
use super::request::Asked;
use axum::response::Response;
use base64::Engine as _;
use http::StatusCode;
use kvorum_core::disk::lost_pages;
use kvorum_protocol::limits::SCAN_ENTRIES_MAX;
use kvorum_protocol::{RequestBody, ResponseBody, ScanCursor, ScanRequest, ShardId, Version};
use serde::Serialize;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// Entries of a page, if the request does not say how many.
const LIMIT_DEFAULT: u32 = 100;
/// A page is answered after this, even if nothing was found.
const EMPTY_WITHIN: Duration = Duration::from_secs(1);
/// The form of cursors.
const CURSOR_FORM: u8 = 1;

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(super) struct PageJson {
    /// The entries, in an order of their own. May be fewer than asked for, and none, while there are more.
    entries: Vec<EntryJson>,
    /// What to ask for next; `null` once all shards were looked through.
    cursor: Option<String>,
    /// How many entries this page has.
    scanned: usize,
    /// So many shards were looked through to their end, those of earlier pages among them.
    shards_done: u16,
    /// So many shards there are.
    shards: u16,
}

/// Where a scan goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    shard: ShardId,
    cursor: ScanCursor,
}

impl Place {
    const START: Self = Self { shard: ShardId(0), cursor: ScanCursor { order: 0, version: Version(0) } };

    fn encode(self) -> String {
        let mut bytes = vec![CURSOR_FORM];
        bytes.extend(self.shard.0.to_be_bytes());
        bytes.extend(self.cursor.order.to_be_bytes());
        bytes.extend(self.cursor.version.0.to_be_bytes());
        BASE64.encode(bytes)
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let (form, rest) = bytes.split_first()?;
        let (shard, rest) = rest.split_first_chunk::<2>()?;
        let (order, rest) = rest.split_first_chunk::<8>()?;
        let version = <[u8; 8]>::try_from(rest).ok()?;
        let cursor = ScanCursor { order: u64::from_be_bytes(*order), version: Version(u64::from_be_bytes(version)) };
        (*form == CURSOR_FORM).then_some(Self { shard: ShardId(u16::from_be_bytes(*shard)), cursor })
    }
}

/// A page of the keys that begin with `prefix`.
///
/// # Errors
/// `InvalidArgument` for parameters that make no sense, a cursor of another cluster among them; what the shard answers.
pub(super) async fn page(api: &Api, asked: &Asked<'_>) -> Result<Response, Problem> {
    let prefix = asked.query.either("prefix", "prefix_base64")?;
    let cursor = asked.query.bytes("cursor");
    if prefix.is_none() && cursor.is_none() {
        return Err(Problem::conflicting(
            "a parameter is missing: key or key_base64 for one key, prefix or prefix_base64 for many",
        ));
    }
    let limit = asked.query.value("limit", "a number")?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=SCAN_ENTRIES_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("limit is {limit}, expected a number from 1 to {SCAN_ENTRIES_MAX}")));
    }
    let values = !asked.query.flag("keys_only")?;
    let shards = api.caller.context().router.shards();
    let start = match cursor {
        None => Some(Place::START),
        Some(text) => Place::decode(text),
    };
    let start = start.filter(|place| place.shard.0 < shards);
    let mut place = start.ok_or_else(|| Problem::new(&INVALID_CURSOR, "begin the scan anew"))?;
    let (mode, within) = (asked.mode()?, asked.within);
    let prefix = prefix.unwrap_or_default();
    // One page of one shard, or the first that has something: an empty answer for each empty shard would cost a round trip each. But
    // whoever looks on is to see that it goes on, and may stop it.
    let began = Instant::now();
    loop {
        let before = lost_pages();
        let scan =
            ScanRequest { shard: place.shard, cursor: place.cursor, prefix: prefix.clone(), limit, values, mode };
        let reply = api.caller.read(&asked.whose, RequestBody::Scan(scan), within).await?;
        let ResponseBody::Page(page) = reply.body else { return Err(unexpected()) };
        let bytes = page.entries.iter().map(|(_, entry)| entry.value.len()).sum();
        let held = api.outflow.reserve(bytes, within).await?;
        let entries: Vec<_> = page.entries.iter().map(|(key, entry)| EntryJson::new(key, entry, values)).collect();
        check_pages(before)?;
        let next = match page.next {
            Some(cursor) => Some(Place { shard: place.shard, cursor }),
            None if place.shard.0 + 1 < shards => Some(Place { shard: ShardId(place.shard.0 + 1), ..Place::START }),
            None => None,
        };
        match next {
            Some(next) if entries.is_empty() && page.next.is_none() && began.elapsed() < EMPTY_WITHIN => place = next,
            next => {
                let scanned = entries.len();
                let shards_done = next.map_or(shards, |next| next.shard.0);
                let page = PageJson { entries, cursor: next.map(Place::encode), scanned, shards_done, shards };
                let mut response = json_response(StatusCode::OK, &page);
                hold(&mut response, held);
                return Ok(response);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_go_out_and_come_back() {
        let place = Place { shard: ShardId(7), cursor: ScanCursor { order: u64::MAX, version: Version(9) } };
        assert_eq!(Place::decode(place.encode().as_bytes()), Some(place));
        for text in ["", "AA", "!!", "AgAHAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(Place::decode(text.as_bytes()), None, "{text}");
        }
        let longer = format!("{}AAAA", place.encode());
        assert_eq!(Place::decode(longer.as_bytes()), None);
    }
}
