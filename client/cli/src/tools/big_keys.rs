//! `--bigkeys`: the largest values, and how large values are. It reads every value once, page by page, so it costs what a scan with
//! values costs: the bytes of all values on the network, and the nodes' reading of them. Its memory is a page and the list.

use super::Bench;
use crate::cluster::keys;
use crate::exit::Exit;
use crate::live::{bar, thousands};
use crate::output::{Cell, Output, key_cells};
use crate::run::{Emit, Failure, now_ms};
use crate::text::{duration, size};
use kvorum_client::{Bytes, Entry};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Keys that are listed.
const LISTED: usize = 20;
/// Bytes of a key that are kept.
const KEY_BYTES_SHOWN: usize = 256;
/// Entries of a page. A page of large values has fewer: it ends at 1 MiB.
const PAGE_ENTRIES: u32 = 1024;
/// The upper ends of the rows of sizes, in bytes; 16 MiB is the largest value.
const SIZES: [u64; 9] = [16, 64, 256, 1024, 4096, 16_384, 65_536, 1_048_576, 16_777_217];
/// Between two lines that say how far it is, in keys.
const REDRAW_KEYS: u64 = 512;

/// A key among the largest, ordered by its value's size; of equal ones, the first in the alphabet comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Large {
    bytes: u64,
    key: Reverse<Bytes>,
    key_bytes: u64,
    expires_at_ms: Option<u64>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
struct Seen {
    keys: u64,
    key_bytes: u64,
    value_bytes: u64,
    expiring: u64,
    sizes: [(u64, u64); SIZES.len()],
    /// The largest ones, the smallest of them on top.
    largest: BinaryHeap<Reverse<Large>>,
}

/// Walks all keys with the prefix.
///
/// # Errors
/// Of the first page that could not be read; what was found until then is told.
pub(super) async fn big_keys(
    bench: Bench<'_>,
    prefix: &Bytes,
    pause: Duration,
    emit: Emit<'_>,
) -> Result<Exit, Failure> {
    let total = if prefix.is_empty() { count(&bench).await } else { None };
    let mut walk = bench.client.scan(prefix).values(true).page(PAGE_ENTRIES).deadline(bench.deadline);
    if bench.settings.stale {
        walk = walk.stale();
    }
    let (line, began) = (bar(total), Instant::now());
    let mut seen = Seen::default();
    let walking = async {
        while let Some(entry) = walk.try_next().await? {
            seen.note(&entry);
            if seen.keys.is_multiple_of(REDRAW_KEYS) {
                line.set_position(seen.keys);
                line.set_message(format!("{} keys  {}", thousands(seen.keys), size(seen.value_bytes)));
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Ok(Exit::Ok)
    };
    let result = tokio::select! {
        result = walking => result,
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Interrupted("interrupted; these are the keys that were seen until then")),
    };
    line.finish_and_clear();
    emit(seen.table());
    seen.notes(began.elapsed()).into_iter().for_each(|note| {
        emit(Output::Note(note));
    });
    result
}

/// How many keys there are, for the bar. Who may read keys need not be allowed to ask for that.
async fn count(bench: &Bench<'_>) -> Option<u64> {
    let topology = bench.client.topology().await.ok()?;
    keys(&topology, &bench.client.status().await.ok()?).value.as_u64()
}

impl Seen {
    fn note(&mut self, entry: &Entry) {
        let bytes = entry.value.len() as u64;
        self.keys += 1;
        self.key_bytes += entry.key.len() as u64;
        self.value_bytes += bytes;
        self.expiring += u64::from(entry.expires_at_ms.is_some());
        let row = SIZES.iter().position(|end| bytes < *end).unwrap_or(SIZES.len() - 1);
        self.sizes[row].0 += 1;
        self.sizes[row].1 += bytes;
        let is_listed = self.largest.len() < LISTED || self.largest.peek().is_some_and(|least| least.0.bytes <= bytes);
        if is_listed {
            // A copy: the entry's key holds on to its page.
            let key = Bytes::copy_from_slice(&entry.key[..entry.key.len().min(KEY_BYTES_SHOWN)]);
            let key_bytes = entry.key.len() as u64;
            self.largest.push(Reverse(Large {
                bytes,
                key: Reverse(key),
                key_bytes,
                expires_at_ms: entry.expires_at_ms,
            }));
            if self.largest.len() > LISTED {
                self.largest.pop();
            }
        }
    }

    fn table(&self) -> Output {
        let largest = self.largest.clone().into_sorted_vec();
        let row = |Reverse(large): Reverse<Large>| {
            let [key, key_base64, key_bytes] = key_cells(&large.key.0, large.key_bytes);
            let expiry = match large.expires_at_ms {
                None => "never".to_owned(),
                Some(at) => format!("in {}", duration(Duration::from_millis(at.saturating_sub(now_ms())))),
            };
            vec![
                Cell::shown(large.bytes, size(large.bytes)),
                Cell::shown(large.expires_at_ms, expiry),
                key,
                key_base64,
                key_bytes,
            ]
        };
        Output::Table {
            columns: &["value_bytes", "expires_at_ms", "key", "key_base64", "key_bytes"],
            rows: largest.into_iter().map(row).collect(),
        }
    }

    /// For people: how large values are, and what they come to.
    fn notes(&self, took: Duration) -> Vec<String> {
        let of = |bytes: u64, count: u64| size(bytes / count.max(1));
        let mut notes = vec![format!(
            "{} keys in {}: values {} (mean {}), keys {} (mean {}), {} expire",
            thousands(self.keys),
            duration(took),
            size(self.value_bytes),
            of(self.value_bytes, self.keys),
            size(self.key_bytes),
            of(self.key_bytes, self.keys),
            thousands(self.expiring),
        )];
        for ((count, bytes), end) in self.sizes.iter().zip(SIZES).filter(|((count, _), _)| *count > 0) {
            let below = if end > 1 << 24 { "at most 16.0 MiB".to_owned() } else { format!("below {}", size(end)) };
            let share = *bytes as f64 * 100.0 / self.value_bytes.max(1) as f64;
            notes.push(format!(
                "  {below:<16}  {:>12} values  {:>10}  {share:>5.1} % of the bytes",
                thousands(*count),
                size(*bytes)
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::Version;
    use serde_json::Value;

    fn seen(values: impl IntoIterator<Item = (String, usize)>) -> Seen {
        let mut seen = Seen::default();
        for (key, bytes) in values {
            seen.note(&Entry::new(key, vec![b'x'; bytes], Version(1)));
        }
        seen
    }

    #[test]
    fn the_largest_are_listed_the_largest_first() {
        let seen = seen((0..100).map(|number| (format!("key-{number}"), number % 50 * 10)));
        let Output::Table { rows, .. } = seen.table() else { panic!("it is a table") };
        let shown: Vec<_> = rows.iter().map(|row| (row[0].value.as_u64().unwrap(), row[2].shown.as_str())).collect();
        assert_eq!(shown.len(), LISTED);
        assert_eq!(shown[..4], [(490, "key-49"), (490, "key-99"), (480, "key-48"), (480, "key-98")]);
        assert_eq!(shown.last(), Some(&(400, "key-90")));
    }

    #[test]
    fn sizes_are_told_for_people() {
        let seen = seen([("a".to_owned(), 10), ("b".to_owned(), 100), ("c".repeat(300), 2_000_000)]);
        assert_eq!(
            seen.notes(Duration::from_secs(2)),
            [
                "3 keys in 2.0 s: values 1.9 MiB (mean 651.1 KiB), keys 302 B (mean 100 B), 0 expire",
                "  below 16 B                   1 values        10 B    0.0 % of the bytes",
                "  below 256 B                  1 values       100 B    0.0 % of the bytes",
                "  at most 16.0 MiB             1 values     1.9 MiB  100.0 % of the bytes",
            ]
        );
        let Output::Table { rows, .. } = seen.table() else { panic!("it is a table") };
        assert!(rows[0][2].shown.ends_with("c… (300 bytes)"), "{}", rows[0][2].shown);
        let values: Vec<_> = rows[0][2..].iter().map(|cell| cell.value.clone()).collect();
        assert_eq!(values, [Value::from("c".repeat(256)), Value::Null, Value::from(300)]);
    }
}
