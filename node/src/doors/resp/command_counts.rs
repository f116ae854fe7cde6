//! How often commands came and how long they took, for INFO commandstats and LATENCY HISTOGRAM. Of one node, until it ends or
//! CONFIG RESETSTAT says.

use kvorum_resp::ReplyWriter;
use kvorum_resp::table::{self, CommandSpec};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Connections count in so many places, by their numbers: so two of them seldom wait for each other.
const PLACES: usize = 16;
/// The last range of durations begins at 2^22 microseconds, which is more than a command is given.
const RANGES: usize = 24;

/// What the connections of a node have counted.
#[derive(Debug, Default)]
pub(super) struct CommandCounts {
    places: [Mutex<BTreeMap<&'static str, Counts>>; PLACES],
}

/// Of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// How often it was carried out.
    calls: u64,
    /// How long that took in all.
    us: u64,
    /// How often it was refused for the number of its arguments.
    rejected: u64,
    /// How often its reply was an error.
    failed: u64,
    /// How often it took up to 2^n microseconds, and more than of the range before.
    ranges: [u64; RANGES],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.us += other.us;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.ranges.iter_mut().zip(other.ranges).for_each(|(count, more)| *count += more);
    }

    fn add_calls(&mut self, calls: u64, us_each: u64) {
        self.calls += calls;
        self.us += calls * us_each;
        let range = us_each.max(1).next_power_of_two().ilog2() as usize;
        self.ranges[range.min(RANGES - 1)] += calls;
    }
}

impl CommandCounts {
    /// A command came with too few arguments, or too many.
    pub(super) fn reject(&self, connection: u64, name: &'static str) {
        self.place(connection).lock().entry(name).or_default().rejected += 1;
    }

    /// From here on nothing was counted.
    pub(super) fn clear(&self) {
        self.places.iter().for_each(|place| place.lock().clear());
    }

    /// The section of INFO, a line for each command that came.
    pub(super) fn fields(&self) -> String {
        let mut text = String::new();
        for (name, Counts { calls, us, rejected, failed, .. }) in self.sum() {
            let us_each = if calls == 0 { 0.0 } else { us as f64 / calls as f64 };
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "cmdstat_{name}:calls={calls},usec={us},usec_per_call={us_each:.2},rejected_calls={rejected},\
                 failed_calls={failed}\r\n"
            );
        }
        text
    }

    /// Answers LATENCY HISTOGRAM for these commands, with their subcommands; for all without names. Those that were not carried out are
    /// left out, and so is what is no command.
    pub(super) fn answer_histogram<'a>(
        &self,
        names: impl ExactSizeIterator<Item = &'a [u8]>,
        reply: &mut ReplyWriter<'_>,
    ) {
        let is_of = |spec: &CommandSpec, name: &str| {
            name == spec.full_name || spec.subcommands.iter().any(|subcommand| name == subcommand.full_name)
        };
        let is_all = names.len() == 0;
        let wanted: Vec<&CommandSpec> = names.filter_map(table::command_of_full_name).collect();
        let mut told = self.sum();
        told.retain(|name, counts| counts.calls > 0 && (is_all || wanted.iter().any(|spec| is_of(spec, name))));
        reply.map(told.len());
        for (name, counts) in told {
            reply.bulk(name.as_bytes());
            reply.map(2);
            reply.bulk(b"calls");
            reply.integer(counts.calls as i64);
            reply.bulk(b"histogram_usec");
            let mut calls = 0;
            let ranges = counts.ranges.iter().enumerate().filter(|(_, count)| **count > 0);
            reply.map(ranges.clone().count());
            for (range, count) in ranges {
                calls += count;
                reply.integer(1 << range);
                reply.integer(calls as i64);
            }
        }
    }

    fn place(&self, connection: u64) -> &Mutex<BTreeMap<&'static str, Counts>> {
        &self.places[connection as usize % PLACES]
    }

    fn sum(&self) -> BTreeMap<&'static str, Counts> {
        let mut sum: BTreeMap<&'static str, Counts> = BTreeMap::new();
        for place in &self.places {
            place.lock().iter().for_each(|(name, counts)| sum.entry(name).or_default().add(counts));
        }
        sum
    }
}

/// What a connection has counted since it told its node.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: Vec<Calls>,
}

/// Calls of a command that took as long as each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calls {
    name: &'static str,
    /// Nothing if they were answered at once: then they share the time in which all that came with them was handled.
    took_us: Option<u64>,
    count: u64,
    failed: u64,
}

impl Tally {
    /// A command was carried out.
    pub(super) fn note(&mut self, name: &'static str, took_us: Option<u64>, failed: bool) {
        let is_same = |calls: &&mut Calls| calls.name == name && calls.took_us == took_us;
        // Most often it is the same command, or one of two.
        match self.calls.iter_mut().rev().take(2).find(is_same) {
            Some(calls) => {
                calls.count += 1;
                calls.failed += u64::from(failed);
            }
            None => self.calls.push(Calls { name, took_us, count: 1, failed: failed.into() }),
        }
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Tells the node. `handled_ns`: how long it took to handle what was answered at once.
    pub(super) fn tell(&mut self, counts: &CommandCounts, connection: u64, handled_ns: u64) {
        let at_once: u64 = self.calls.iter().filter(|calls| calls.took_us.is_none()).map(|calls| calls.count).sum();
        let share_us = handled_ns / at_once.max(1) / 1_000;
        let mut place = counts.place(connection).lock();
        for Calls { name, took_us, count, failed } in self.calls.drain(..) {
            let of_command = place.entry(name).or_default();
            of_command.add_calls(count, took_us.unwrap_or(share_us));
            of_command.failed += failed;
        }
        drop(place);
        // An idle connection holds little.
        self.calls.shrink_to(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf as _;
    use kvorum_resp::{Output, RespVersion};

    fn histogram(counts: &CommandCounts, names: &[&str]) -> String {
        let mut output = Output::new();
        let mut reply = ReplyWriter::new(&mut output, RespVersion::Two);
        counts.answer_histogram(names.iter().map(|name| name.as_bytes()), &mut reply);
        let length = output.len();
        String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn what_connections_count_is_added_up() {
        let counts = CommandCounts::default();
        let (mut first, mut second) = (Tally::default(), Tally::default());
        first.note("get", None, false);
        first.note("set", Some(100), false);
        first.note("get", None, false);
        first.note("set", Some(100), true);
        first.note("client|id", None, false);
        first.note("client|id", None, false);
        assert_eq!(first.calls.len(), 3);
        first.tell(&counts, 1, 12_000);
        assert!(first.is_empty());
        second.note("get", Some(9), false);
        second.tell(&counts, 2, 0);
        counts.reject(2, "get");
        assert_eq!(
            counts.fields(),
            "cmdstat_client|id:calls=2,usec=6,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n\
             cmdstat_get:calls=3,usec=15,usec_per_call=5.00,rejected_calls=1,failed_calls=0\r\n\
             cmdstat_set:calls=2,usec=200,usec_per_call=100.00,rejected_calls=0,failed_calls=1\r\n"
        );
        counts.clear();
        assert_eq!(counts.fields(), "");
    }

    #[test]
    fn histograms_add_up_and_are_of_those_that_are_named() {
        let counts = CommandCounts::default();
        let mut tally = Tally::default();
        for us in [0, 1, 3, 4, 5, u64::MAX >> 10] {
            tally.note("get", Some(us), false);
        }
        tally.note("client|id", Some(1), false);
        tally.note("client|list", Some(1), false);
        tally.tell(&counts, 7, 0);
        counts.reject(7, "set");
        let get = "$3 get *4 $5 calls :6 $14 histogram_usec *8 :1 :2 :4 :4 :8 :5 :8388608 :6 ";
        assert_eq!(histogram(&counts, &["nosuch", "GET", "set"]), format!("*2 {get}"));
        let one = |name: &str| format!("${} {name} *4 $5 calls :1 $14 histogram_usec *2 :1 :1 ", name.len());
        assert_eq!(histogram(&counts, &["client"]), format!("*4 {}{}", one("client|id"), one("client|list")));
        assert_eq!(histogram(&counts, &["client|id"]), format!("*2 {}", one("client|id")));
        assert_eq!(histogram(&counts, &[]), format!("*6 {}{}{get}", one("client|id"), one("client|list")));
        assert_eq!(histogram(&counts, &["nosuch"]), "*0 ");
    }
}
