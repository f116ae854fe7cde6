//! Answers of the session as replies, and its errors in words that Redis' clients know.

use super::execute::ReplyForm;
use super::values;
use kvorum_protocol::{
    AtomicResult, Entry, ErrorCode, NodeStatus, Outcome, ResponseBody, Retry, ServerError, ShardId, ShardRole,
    TransactionReply, TransactionResult, WriteResult, WriteStatus,
};
use kvorum_resp::ReplyWriter;
use kvorum_resp::command::{ObjectQuestion, TtlForm};

/// What a record takes beside its key and its value, in the log and in the index, about.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The text of an error. Its prefix is one upon which clients try again only if the command certainly had no effect.
pub(super) fn error_text(error: &ServerError, writes: bool) -> String {
    let detail = &error.detail;
    if writes && error.outcome != Outcome::NotApplied {
        return format!(
            "ERR outcome {}: {detail}",
            if error.outcome == Outcome::Applied { "applied" } else { "unknown" }
        );
    }
    match error.code {
        ErrorCode::Overloaded | ErrorCode::SequenceTooLow => format!("TRYAGAIN {detail}"),
        ErrorCode::Unavailable | ErrorCode::NotLeader | ErrorCode::DeadlineExceeded | ErrorCode::ShuttingDown => {
            format!("CLUSTERDOWN {detail}")
        }
        ErrorCode::DiskFull => format!("OOM {detail}"),
        ErrorCode::TooLarge => "ERR string exceeds maximum allowed size (proto-max-bulk-len)".to_owned(),
        ErrorCode::CrossShard => "CROSSSLOT Keys in request don't hash to the same slot".to_owned(),
        ErrorCode::NotAnInteger => "ERR value is not an integer or out of range".to_owned(),
        ErrorCode::IntegerOverflow => "ERR increment or decrement would overflow".to_owned(),
        ErrorCode::Unauthenticated => "NOAUTH Authentication required.".to_owned(),
        ErrorCode::PermissionDenied => format!("NOPERM {}", error.detail),
        ErrorCode::NotADecimal => "ERR value is not a valid float".to_owned(),
        _ if error.retry != Retry::No => format!("TRYAGAIN {detail}"),
        _ => format!("ERR {detail}"),
    }
}

/// The error of a command of several writes, if any failed. Where others took effect, it must not look as if none did.
pub(super) fn failure(bodies: &[ResponseBody], writes: bool) -> Option<String> {
    let (mut first, mut is_mixed) = (None, false);
    let mut took_effect = false;
    let mut note = |error: &ServerError| {
        is_mixed |= error.outcome != Outcome::NotApplied;
        first.get_or_insert_with(|| error.clone());
    };
    for body in bodies {
        match body {
            ResponseBody::Error(error) => note(error),
            ResponseBody::Values(values) => values.iter().filter_map(|value| value.as_ref().err()).for_each(&mut note),
            _ => took_effect |= is_effect(body),
        }
    }
    let first = first?;
    if writes && (took_effect || is_mixed) {
        let how = if took_effect { "some of the keys were written" } else { "some of the keys may be written" };
        return Some(match bodies {
            [ResponseBody::Error(error)] => error_text(error, true),
            _ => format!("ERR outcome unknown: {how}: {}", first.detail),
        });
    }
    Some(error_text(&first, writes))
}

/// Whether a request took effect, by its answer.
pub(super) fn is_effect(body: &ResponseBody) -> bool {
    matches!(body, ResponseBody::Written(_) | ResponseBody::Atomic(AtomicResult::Applied(_)))
        || matches!(body, ResponseBody::Transaction(TransactionResult::Done(results)) if results.iter().any(is_written))
}

fn is_written(result: &TransactionReply) -> bool {
    matches!(result, TransactionReply::Written(_))
}

/// Whether a request took effect, or nobody knows.
pub(super) fn may_be_effect(body: &ResponseBody) -> bool {
    is_effect(body) || matches!(body, ResponseBody::Error(error) if error.outcome != Outcome::NotApplied)
}

/// The failure that an answer tells of; of several reads, one that may pass by.
pub(super) fn failure_of(body: &ResponseBody) -> Option<&ServerError> {
    match body {
        ResponseBody::Error(error) => Some(error),
        ResponseBody::Values(values) => {
            let mut failed = values.iter().filter_map(|value| value.as_ref().err());
            failed.find(|error| error.retry != Retry::No)
        }
        _ => None,
    }
}

/// Whether the number of a write was too low, and from which on the shard takes them.
pub(super) fn sequence_min(body: &ResponseBody) -> Option<u64> {
    match body {
        ResponseBody::Error(error) => error.sequence_min,
        _ => None,
    }
}

/// Bytes of values in an answer.
pub(super) fn value_bytes(body: &ResponseBody) -> usize {
    let of = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
    match body {
        ResponseBody::Value(entry) => of(entry),
        ResponseBody::Values(values) => values.iter().filter_map(|value| value.as_ref().ok()).map(of).sum(),
        ResponseBody::Written(result) => of(&result.previous),
        ResponseBody::Transaction(TransactionResult::Done(results)) => {
            let bytes = |result: &TransactionReply| match result {
                TransactionReply::Value(entry) => of(entry),
                TransactionReply::Written(result) => of(&result.previous),
                TransactionReply::Failed(_) => 0,
            };
            results.iter().map(bytes).sum()
        }
        _ => 0,
    }
}

/// Writes the reply of a command whose answers are all there. `now_ms`: the time, in milliseconds since 1970.
pub(super) fn write(form: ReplyForm, bodies: &[ResponseBody], writes: bool, now_ms: u64, reply: &mut ReplyWriter<'_>) {
    if let (ReplyForm::Decimal, [ResponseBody::Error(error)]) = (form, bodies)
        && error.code == ErrorCode::IntegerOverflow
    {
        return reply.error(b"ERR increment would produce NaN or Infinity");
    }
    if let Some(text) = failure(bodies, writes) {
        return reply.error(text.as_bytes());
    }
    match (form, bodies) {
        (ReplyForm::Values, bodies) => {
            let entries = || bodies.iter().flat_map(entries_of);
            reply.array(entries().count());
            entries().for_each(|entry| write_value(entry, reply));
        }
        (ReplyForm::Present, bodies) => reply.count(bodies.iter().flat_map(entries_of).flatten().count()),
        (ReplyForm::Applied, bodies) => reply.count(bodies.iter().map(applied).sum()),
        (ReplyForm::Ok | ReplyForm::Watch, _) => reply.ok(),
        (ReplyForm::AllOrNothing, [body]) => reply.count(usize::from(is_effect(body))),
        (ReplyForm::Lcs(form), [ResponseBody::Values(values)]) => {
            let value = |at: usize| match values.get(at) {
                Some(Ok(Some(entry))) => &entry.value[..],
                _ => &[],
            };
            values::write_lcs(value(0), value(1), form, reply);
        }
        (form, [ResponseBody::Value(entry)]) => write_entry(form, entry.as_ref(), &|| now_ms, reply),
        (form, [ResponseBody::Written(result)]) => write_result(form, result, reply),
        (ReplyForm::Keys, [ResponseBody::Status(nodes)]) => reply.integer(led_keys(nodes) as i64),
        _ => reply.error(b"ERR the node has answered something else"),
    }
}

/// Keys that the leaders hold, by the status of their nodes.
pub(super) fn led_keys(nodes: &[NodeStatus]) -> u64 {
    let shards = nodes.iter().flat_map(|node| &node.shards);
    let led = shards.filter(|shard| shard.role == ShardRole::Leader && shard.shard != ShardId::META);
    led.map(|shard| shard.keys).sum()
}

fn entries_of(body: &ResponseBody) -> Vec<Option<&Entry>> {
    match body {
        ResponseBody::Values(values) => values.iter().map(|value| value.as_ref().ok()?.as_ref()).collect(),
        _ => Vec::new(),
    }
}

fn applied(body: &ResponseBody) -> usize {
    let is_applied = |result: &WriteResult| usize::from(result.status == WriteStatus::Applied);
    match body {
        ResponseBody::Written(result) => is_applied(result),
        ResponseBody::Atomic(AtomicResult::Applied(results)) => results.iter().map(is_applied).sum(),
        _ => 0,
    }
}

/// Copies the value. Where it lies, it may be lost before it is written to the client, and it was verified just now.
fn write_value(entry: Option<&Entry>, reply: &mut ReplyWriter<'_>) {
    match entry {
        Some(entry) => reply.bulk(&entry.value),
        None => reply.null(),
    }
}

/// Writes what a reply tells of an entry, or that there is none.
pub(super) fn write_entry(
    form: ReplyForm,
    entry: Option<&Entry>,
    now_ms: &dyn Fn() -> u64,
    reply: &mut ReplyWriter<'_>,
) {
    match form {
        ReplyForm::Length => reply.count(entry.map_or(0, |entry| entry.value.len())),
        ReplyForm::Range { start, end } => reply.bulk(entry.map_or(&[], |entry| range(&entry.value, start, end))),
        ReplyForm::Type => reply.simple(if entry.is_some() { "string" } else { "none" }),
        ReplyForm::Ttl(form) => reply.integer(ttl(form, entry, now_ms())),
        ReplyForm::Bit(offset) => {
            reply.integer(entry.is_some_and(|entry| values::bit(&entry.value, offset)).into());
        }
        ReplyForm::BitCount(range) => {
            reply.count(entry.map_or(0, |entry| values::count_bits(&entry.value, range)));
        }
        ReplyForm::BitPosition { bit, range } => reply.integer(match entry {
            Some(entry) => values::find_bit(&entry.value, bit, range).map_or(-1, |place| place as i64),
            // It stands for a value of zeros without end.
            None if bit => -1,
            None => 0,
        }),
        ReplyForm::Object(question) => match (entry, question) {
            (None, _) => reply.null(),
            (Some(entry), ObjectQuestion::Encoding) => reply.bulk(values::encoding(&entry.value).as_bytes()),
            (Some(_), ObjectQuestion::Frequency) => reply.error(
                b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                  switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ),
            (Some(_), ObjectQuestion::IdleTime) => reply.integer(0),
            (Some(_), ObjectQuestion::ReferenceCount) => reply.integer(1),
        },
        ReplyForm::MemoryUsage { key_bytes } => match entry {
            Some(entry) => reply.count(key_bytes + entry.value.len() + RECORD_OVERHEAD_BYTES),
            None => reply.null(),
        },
        _ => write_value(entry, reply),
    }
}

fn write_result(form: ReplyForm, result: &WriteResult, reply: &mut ReplyWriter<'_>) {
    match (form, result.number) {
        (ReplyForm::Decimal, _) => reply.bulk(result.decimal.as_deref().unwrap_or_default()),
        (ReplyForm::Renamed { .. }, _) if result.status == WriteStatus::Missing => reply.error(b"ERR no such key"),
        (ReplyForm::Renamed { only_if_absent: true }, _) => {
            reply.count(usize::from(result.status == WriteStatus::Applied));
        }
        (ReplyForm::Previous, _) => write_value(result.previous.as_ref(), reply),
        (ReplyForm::Number, Some(number)) => reply.integer(number),
        (ReplyForm::OkOrNull, _) if result.status == WriteStatus::ConditionFailed => reply.null(),
        _ => reply.ok(),
    }
}

/// A part of a value, as GETRANGE counts.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    values::part(value.len(), start, end).map_or(&[], |(first, last)| &value[first..=last])
}

fn ttl(form: TtlForm, entry: Option<&Entry>, now_ms: u64) -> i64 {
    let Some(entry) = entry else { return -2 };
    let Some(at_ms) = entry.expires_at_ms else { return -1 };
    let ms = if form.is_absolute { at_ms } else { at_ms.saturating_sub(now_ms) };
    let told = if form.in_seconds { ms.saturating_add(500) / 1000 } else { ms };
    i64::try_from(told).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf as _, Bytes};
    use kvorum_protocol::Version;
    use kvorum_resp::{Output, RespVersion};

    fn written(form: ReplyForm, bodies: &[ResponseBody], writes: bool) -> String {
        let mut output = Output::new();
        write(form, bodies, writes, 1_000, &mut ReplyWriter::new(&mut output, RespVersion::Two));
        let length = output.len();
        String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap()
    }

    #[test]
    fn a_prefix_to_try_again_upon_needs_a_write_that_had_no_effect() {
        for &code in ErrorCode::ALL {
            for outcome in [Outcome::Unknown, Outcome::Applied] {
                let error = ServerError::new(code, "because").with_outcome(outcome);
                let text = error_text(&error, true);
                assert!(text.starts_with("ERR outcome "), "{text}");
                assert!(written(ReplyForm::Ok, &[ResponseBody::Error(error)], true).starts_with("-ERR outcome "));
            }
        }
        let overloaded = ServerError::new(ErrorCode::Overloaded, "the queue is full");
        assert_eq!(error_text(&overloaded, true), "TRYAGAIN the queue is full");
        let late = ServerError::new(ErrorCode::DeadlineExceeded, "late");
        assert_eq!(error_text(&late, false), "CLUSTERDOWN late", "a read has no outcome");
    }

    #[test]
    fn a_command_of_which_a_part_took_effect_does_not_look_as_if_none_did() {
        let error = ServerError::new(ErrorCode::Overloaded, "full");
        let refused = ResponseBody::Error(error.clone());
        assert_eq!(written(ReplyForm::Ok, std::slice::from_ref(&refused), true), "-TRYAGAIN full\r\n");
        let unknown = ResponseBody::Error(error.with_outcome(Outcome::Unknown));
        let text = written(ReplyForm::Ok, &[refused.clone(), unknown], true);
        assert_eq!(text, "-ERR outcome unknown: some of the keys may be written: full\r\n");
        let applied = ResponseBody::Atomic(AtomicResult::Applied(Vec::new()));
        let text = written(ReplyForm::Ok, &[refused, applied], true);
        assert_eq!(text, "-ERR outcome unknown: some of the keys were written: full\r\n");
    }

    #[test]
    fn parts_of_values_are_those_of_redis() {
        let value = b"This is a string";
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-1, -5, ""),
            (-100, -99, "T"),
            (16, 20, ""),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(range(value, start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }

    #[test]
    fn times_to_live_are_rounded_and_have_their_two_special_numbers() {
        let entry = |expires_at_ms| Entry { value: Bytes::new(), version: Version(1), expires_at_ms };
        let form = |in_seconds, is_absolute| ReplyForm::Ttl(TtlForm { in_seconds, is_absolute });
        let told = |form, entry| written(form, &[ResponseBody::Value(entry)], false);
        assert_eq!(told(form(true, false), None), ":-2\r\n");
        assert_eq!(told(form(true, false), Some(entry(None))), ":-1\r\n");
        assert_eq!(told(form(true, false), Some(entry(Some(2_499)))), ":1\r\n");
        assert_eq!(told(form(true, false), Some(entry(Some(2_500)))), ":2\r\n");
        assert_eq!(told(form(false, false), Some(entry(Some(2_499)))), ":1499\r\n");
        assert_eq!(told(form(false, false), Some(entry(Some(999)))), ":0\r\n");
        assert_eq!(told(form(false, true), Some(entry(Some(2_499)))), ":2499\r\n");
    }
}
