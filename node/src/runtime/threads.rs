//! What the threads of this process do, as the system tells.

use kvorum_core::clock::Nanos;
use std::collections::BTreeMap;

/// Threads of one name.
#[derive(Clone, PartialEq, Debug)]
pub struct ThreadsUse {
    /// The name.
    pub name: String,
    /// How many have it.
    pub count: u32,
    /// Processors that they took, between this look and the one before; `None` at the first look.
    pub processors: Option<f64>,
}

/// One look at all threads: ticks of processor time by thread, with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadsSeen {
    at: Nanos,
    threads: BTreeMap<u32, (String, u64)>,
}

impl ThreadsSeen {
    /// Looks at the threads of this process. Reads a file of `/proc` for each: some microseconds a thread. Empty where there is no
    /// `/proc`.
    pub fn look(at: Nanos) -> Self {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may have ended meanwhile.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some(thread) = read(&stat) {
                threads.insert(id, thread);
            }
        }
        Self { at, threads }
    }

    /// What the threads have done since an earlier look, the busiest first. `ticks_per_second`: of the system's clock for this.
    pub fn since(&self, earlier: Option<&Self>, ticks_per_second: u64) -> Vec<ThreadsUse> {
        let mut by_name: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
        for (id, (name, ticks)) in &self.threads {
            let before = earlier.and_then(|seen| seen.threads.get(id)).filter(|(was, _)| was == name);
            // A thread that is new has done all of it since then.
            let since = ticks.saturating_sub(before.map_or(0, |(_, ticks)| *ticks));
            let of_name = by_name.entry(name).or_default();
            *of_name = (of_name.0 + 1, of_name.1 + since);
        }
        let past_ms = earlier.map(|seen| self.at.ms_since(seen.at)).filter(|ms| *ms > 0);
        let per_tick_ms = 1_000.0 / ticks_per_second.max(1) as f64;
        let as_use = |(name, (count, ticks)): (&str, (u32, u64))| ThreadsUse {
            name: name.to_owned(),
            count,
            processors: past_ms.map(|past_ms| ticks as f64 * per_tick_ms / past_ms as f64),
        };
        let mut all: Vec<_> = by_name.into_iter().map(as_use).collect();
        let busy = |threads: &ThreadsUse| threads.processors.unwrap_or(0.0);
        all.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
        all
    }
}

/// A thread's name, and the ticks that it and the system for it have taken: proc(5).
fn read(stat: &str) -> Option<(String, u64)> {
    // The name stands in brackets and may hold anything.
    let (begin, rest) = stat.rsplit_once(')')?;
    let (_, name) = begin.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some((name.to_owned(), ticks(11)? + ticks(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, user: u64, system: u64) -> String {
        format!("7 ({name}) S 1 1 1 0 -1 4194304 1 0 0 0 {user} {system} 0 0 20 0 7 0 1 1 1")
    }

    fn seen(at_ms: u64, threads: &[(u32, &str, u64)]) -> ThreadsSeen {
        let threads = threads.iter().map(|(id, name, ticks)| (*id, read(&stat(name, *ticks, 0)).expect("a thread")));
        ThreadsSeen { at: Nanos(1).after_ms(at_ms), threads: threads.collect() }
    }

    #[test]
    fn a_thread_is_read_whatever_its_name() {
        assert_eq!(read(&stat("a) b (c", 150, 50)), Some(("a) b (c".to_owned(), 200)));
        assert_eq!(read("7 (x) S 1"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn threads_of_a_name_are_one_and_the_busiest_come_first() {
        let before = seen(0, &[(1, "kvorum", 100), (2, "kvorum", 100), (3, "journal", 10)]);
        let now = seen(2_000, &[(1, "kvorum", 110), (2, "kvorum", 120), (3, "journal", 110), (4, "log", 0)]);
        let first = before.since(None, 100);
        assert!(first.iter().all(|threads| threads.processors.is_none()));
        let told: Vec<_> = now.since(Some(&before), 100).into_iter().map(|t| (t.name, t.count, t.processors)).collect();
        let expected = [("journal", 1, Some(0.5)), ("kvorum", 2, Some(0.15)), ("log", 1, Some(0.0))];
        assert_eq!(told, expected.map(|(name, count, processors)| (name.to_owned(), count, processors)));
    }

    #[test]
    fn the_threads_of_this_process_are_seen() {
        assert!(!ThreadsSeen::look(Nanos(1)).threads.is_empty());
    }
}
