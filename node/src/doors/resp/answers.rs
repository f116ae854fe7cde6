//! Answers of the session as replies, and its errors in words that Redis' clients know.

use super::execute::ReplyForm;
use super::walk::Walk;
use kvorum_protocol::{
    Entry, ErrorCode, Outcome, ResponseBody, Retry, ServerError, ShardId, ShardRole, WriteResult, WriteStatus,
};
use kvorum_resp::ReplyWriter;
use kvorum_resp::command::TtlForm;

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
        _ if error.retry != Retry::No => format!("TRYAGAIN {detail}"),
        _ => format!("ERR {detail}"),
    }
}

/// The error of a command of several writes, if any failed. Where others took effect, it must not look as if none did.
fn failure(bodies: &[ResponseBody], writes: bool) -> Option<String> {
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
            ResponseBody::Batch(results) => {
                results.iter().filter_map(|result| result.as_ref().err()).for_each(&mut note);
                took_effect |= results.iter().any(Result::is_ok);
            }
            ResponseBody::Written(_) => took_effect = true,
            _ => {}
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

/// Whether the number of a write was too low, and from which on the shard takes them.
pub(super) fn sequence_min(body: &ResponseBody) -> Option<u64> {
    match body {
        ResponseBody::Error(error) => error.sequence_min,
        ResponseBody::Batch(results) => results.iter().filter_map(|result| result.as_ref().err()?.sequence_min).max(),
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
        _ => 0,
    }
}

/// Writes the reply of a command whose answers are all there. `now_ms`: the time, in milliseconds since 1970.
pub(super) fn write(
    form: ReplyForm,
    bodies: &[ResponseBody],
    walk: Option<&Walk>,
    writes: bool,
    now_ms: u64,
    reply: &mut ReplyWriter<'_>,
) {
    if let Some(walk) = walk {
        return write_walk(walk, reply);
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
        (ReplyForm::Ok, _) => reply.ok(),
        (form, [ResponseBody::Value(entry)]) => write_entry(form, entry.as_ref(), now_ms, reply),
        (form, [ResponseBody::Written(result)]) => write_result(form, result, reply),
        (ReplyForm::Keys, [ResponseBody::Status(nodes)]) => {
            let shards = nodes
                .iter()
                .flat_map(|node| &node.shards)
                .filter(|shard| shard.role == ShardRole::Leader && shard.shard != ShardId::META);
            reply.count(shards.map(|shard| shard.keys as usize).sum());
        }
        _ => reply.error(b"ERR the node has answered something else"),
    }
}

fn write_walk(walk: &Walk, reply: &mut ReplyWriter<'_>) {
    if let Some(text) = walk.failed() {
        return reply.error(text.as_bytes());
    }
    if walk.flushes() {
        return reply.ok();
    }
    if let Some(cursor) = walk.told() {
        reply.array(2);
        reply.bulk_integer(cursor);
    }
    reply.array(walk.found().len());
    walk.found().iter().for_each(|key| reply.bulk(key));
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
        ResponseBody::Batch(results) => results.iter().flatten().map(is_applied).sum(),
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

fn write_entry(form: ReplyForm, entry: Option<&Entry>, now_ms: u64, reply: &mut ReplyWriter<'_>) {
    match form {
        ReplyForm::Length => reply.count(entry.map_or(0, |entry| entry.value.len())),
        ReplyForm::Range { start, end } => reply.bulk(entry.map_or(&[], |entry| range(&entry.value, start, end))),
        ReplyForm::Type => reply.simple(if entry.is_some() { "string" } else { "none" }),
        ReplyForm::Ttl(form) => reply.integer(ttl(form, entry, now_ms)),
        _ => write_value(entry, reply),
    }
}

fn write_result(form: ReplyForm, result: &WriteResult, reply: &mut ReplyWriter<'_>) {
    match (form, result.number) {
        (ReplyForm::Previous, _) => write_value(result.previous.as_ref(), reply),
        (ReplyForm::Number, Some(number)) => reply.integer(number),
        (ReplyForm::OkOrNull, _) if result.status == WriteStatus::ConditionFailed => reply.null(),
        _ => reply.ok(),
    }
}

/// A part of a value, as GETRANGE counts: negative numbers from the end, the last byte included.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    if start > end { &[] } else { &value[start as usize..=end as usize] }
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
        write(form, bodies, None, writes, 1_000, &mut ReplyWriter::new(&mut output, RespVersion::Two));
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
        let refused = ResponseBody::Batch(vec![Err(error.clone())]);
        assert_eq!(written(ReplyForm::Ok, std::slice::from_ref(&refused), true), "-TRYAGAIN full\r\n");
        let unknown = ResponseBody::Batch(vec![Err(error.with_outcome(Outcome::Unknown))]);
        let text = written(ReplyForm::Ok, &[refused, unknown], true);
        assert_eq!(text, "-ERR outcome unknown: some of the keys may be written: full\r\n");
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
