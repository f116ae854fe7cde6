//! Golden bytes: the frozen encoding of every message, and what becomes of every truncation and every damage of it.
//!
//! `KVORUM_BLESS=1 cargo test -p kvorum-protocol --test golden` rewrites the files. A change of them is a change of the
//! protocol: it needs a new version, and docs/PROTOCOL.md in the same commit.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

#[path = "../fuzz/src/bodies.rs"]
#[allow(unreachable_pub, dead_code, reason = "the fuzz targets use all of it")]
mod bodies;
mod dump;
mod samples;

use bytes::{Bytes, BytesMut};
use kvorum_protocol::frame;
use kvorum_protocol::limits::PEER_FRAME_BYTES_MAX;
use samples::{Family, families};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Once;

const HEAD: &str = "\
# Golden bytes: one frame per name. Checked and, with KVORUM_BLESS=1, rewritten by protocol/tests/golden.rs.
# A change here is a change of the protocol; see docs/PROTOCOL.md.
";

fn golden_file(family: &Family) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.txt", family.name))
}

fn encoded(family: &Family) -> String {
    let shown = family.samples.iter().map(|sample| format!("\n{}\n{}", sample.name, dump::show(&sample.frame())));
    HEAD.to_owned() + &shown.collect::<String>()
}

/// The family's golden file, written anew first if that is asked for.
fn golden(family: &Family) -> String {
    static BLESS: Once = Once::new();
    BLESS.call_once(|| {
        if std::env::var_os("KVORUM_BLESS").is_some() {
            families().iter().for_each(|family| std::fs::write(golden_file(family), encoded(family)).unwrap());
        }
    });
    std::fs::read_to_string(golden_file(family)).unwrap()
}

/// The names and bytes of a golden file: a name stands at the start of a line, its bytes are indented below it.
fn read(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => all.push((line.to_owned(), Vec::new())),
            Some(row) => {
                let (hex, _) = row[6..].split_once('|').expect("a row ends with its text");
                let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"));
                all.last_mut().expect("rows stand below a name").1.extend(bytes);
            }
        }
    }
    all
}

/// The function that a decoder's fuzz target calls.
fn decoder(family: &Family) -> fn(&[u8]) -> bool {
    match family.name {
        "requests" => bodies::request,
        "responses" => bodies::response,
        "peer_messages" => bodies::peer_message,
        "join_requests" => bodies::join_request,
        "join_replies" => bodies::join_reply,
        "node_statuses" => bodies::node_status,
        other => panic!("{other} has no decoder"),
    }
}

#[test]
fn encoding_gives_the_golden_bytes() {
    for family in families() {
        let (text, golden) = (encoded(&family), golden(&family));
        for (number, (is, should)) in text.lines().zip(golden.lines()).enumerate() {
            assert_eq!(is, should, "{}.txt, line {}", family.name, number + 1);
        }
        assert_eq!(text, golden, "{}.txt", family.name);
    }
}

#[test]
fn decoding_the_golden_bytes_gives_the_value_back() {
    for family in families() {
        // The file, not the encoder, says what the bytes are.
        let golden = read(&golden(&family));
        assert_eq!(golden.len(), family.samples.len());
        for (sample, (name, frame)) in family.samples.iter().zip(golden) {
            assert_eq!(sample.name, name);
            let mut stream = BytesMut::from(&frame[..]);
            let body = frame::decode(&mut stream, PEER_FRAME_BYTES_MAX).unwrap().expect("a golden frame is whole");
            assert!(stream.is_empty());
            assert!((sample.is_decoded_from)(body), "{} {name}", family.name);
        }
    }
}

#[test]
fn names_are_unique() {
    for family in families() {
        let names: BTreeSet<_> = family.samples.iter().map(|sample| &sample.name).collect();
        assert_eq!(names.len(), family.samples.len());
    }
}

#[test]
fn every_truncated_frame_waits_for_the_rest() {
    for sample in families().into_iter().flat_map(|family| family.samples) {
        let whole = sample.frame();
        for end in 0..whole.len() {
            let mut stream = BytesMut::from(&whole[..end]);
            assert_eq!(frame::decode(&mut stream, PEER_FRAME_BYTES_MAX), Ok(None), "{} cut at {end}", sample.name);
            assert_eq!(stream, whole[..end], "what came is kept");
        }
    }
}

/// The length of the sample report without what comes, which older programs do not tell.
const OLDER_REPORT_BYTES: usize = 121;

#[test]
fn every_truncated_or_longer_body_is_refused() {
    for family in families() {
        let decodes = decoder(&family);
        for sample in &family.samples {
            assert!(decodes(&sample.body));
            // An older program's report ends earlier.
            let ends_earlier = (sample.name == "report with what comes").then_some(OLDER_REPORT_BYTES);
            for end in 0..sample.body.len() {
                let is_whole = ends_earlier == Some(end);
                assert_eq!(decodes(&sample.body[..end]), is_whole, "{} {} cut at {end}", family.name, sample.name);
            }
            let longer = [&sample.body[..], &[0]].concat();
            // A newer version may add to a hello or a report.
            let grows = sample.name.starts_with("hello") || ends_earlier.is_some();
            let may_be_longer = family.name == "peer_messages" && grows;
            assert_eq!(decodes(&longer), may_be_longer, "{} {} with a byte behind it", family.name, sample.name);
        }
    }
}

/// Calls `check` with every copy of `whole` in which one byte has another value.
fn for_every_damage(whole: &Bytes, mut check: impl FnMut(&[u8], usize)) {
    let mut damaged = whole.to_vec();
    for position in 0..whole.len() {
        for change in 1..=u8::MAX {
            damaged[position] = whole[position] ^ change;
            check(&damaged, position);
        }
        damaged[position] = whole[position];
    }
}

#[test]
fn every_damaged_byte_of_a_frame_is_noticed() {
    for sample in families().into_iter().flat_map(|family| family.samples) {
        let whole = sample.frame();
        for_every_damage(&whole, |damaged, position| {
            let decoded = frame::decode(&mut BytesMut::from(damaged), PEER_FRAME_BYTES_MAX);
            let waits_or_fails = !matches!(decoded, Ok(Some(_)));
            assert!(waits_or_fails, "{}: byte {position} is {:#04x}", sample.name, damaged[position]);
        });
    }
}

#[test]
fn every_damaged_byte_of_a_body_is_refused_or_means_one_other_value() {
    // Without the checksum nothing says that a value was changed. The decoders must not panic, and what they accept must
    // be a value that is encoded as exactly these bytes; the decoder's function asserts it.
    let mut accepted = 0u64;
    for family in families() {
        let decodes = decoder(&family);
        for sample in &family.samples {
            for_every_damage(&sample.body, |damaged, _| accepted += u64::from(decodes(damaged)));
        }
    }
    assert!(accepted > 0, "most bytes of keys, values and numbers may have any value");
}
