//! `--pipe`: many writes from stdin, as fast as the cluster takes them.
//!
//! A thread reads and understands the input. Writes go out in batches, of which several are under way at a time, bounded by
//! their number and bytes. A write waits while another one to its key is in a batch or under way, so the writes to one key take
//! effect in their order. The client repeats what fails under the numbers of its session, so each write takes effect at most once.

mod commands;
mod input;

use crate::console::complain;
use crate::exit::Exit;
use crate::live::{bar, thousands};
use crate::output::{Cell, Output, Printer};
use crate::text::{duration, size};
use commands::writes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::ProgressBar;
use input::{Decoder, Place};
use kvorum_client::{Ack, Bytes, Client, Error, Outcome, WriteOp, WriteResult};
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Most writes of a batch, which the client sends as one request per leader.
const BATCH_WRITES: usize = 1024;
/// A batch with so many bytes takes no further write.
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches under way at once.
const BATCHES_UNDER_WAY: usize = 8;
/// With so many bytes under way no further batch begins.
const UNDER_WAY_BYTES: usize = 32 * 1024 * 1024;
/// Bytes that are read from stdin at once.
const READ_BYTES: usize = 256 * 1024;
/// Commands, or bytes of them, that the reader hands over together.
const PIECE_COMMANDS: usize = 1024;
/// See [`PIECE_COMMANDS`].
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces that wait until there is room in batches.
const PIECES_AHEAD: usize = 4;

/// A command that was read: the writes that it asks for.
struct Loaded {
    place: Place,
    bytes: usize,
    writes: Result<Vec<WriteOp>, String>,
}

/// What the reader hands over.
enum Piece {
    Commands(Vec<Loaded>),
    /// Nothing more can be read, for this reason.
    Broken(String),
}

/// What has become of the load so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tally {
    commands: u64,
    bytes: u64,
    applied: u64,
    /// A condition did not hold, or there was nothing to change.
    not_applied: u64,
    failed: u64,
    /// Of the failed ones: those that may have taken effect.
    unknown: u64,
}

/// A write that waits for its batch.
struct Waiting {
    place: Place,
    op: WriteOp,
    bytes: usize,
}

#[derive(Default)]
struct Batch {
    ops: Vec<WriteOp>,
    places: Vec<Place>,
    bytes: usize,
}

/// A batch that was answered.
struct Answered {
    places: Vec<Place>,
    keys: Vec<Bytes>,
    bytes: usize,
    results: Vec<Result<WriteResult, Error>>,
}

enum Event {
    Piece(Option<Piece>),
    Answered(Answered),
    Interrupted,
}

/// Why the load ends before its input does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Interrupted,
    /// The cluster has given no answer in time.
    Unreachable,
}

/// How writes of a load are done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) ack: Ack,
    /// After how long a write is given up.
    pub(crate) deadline: Duration,
}

/// Loads what stdin says. Errors go to stderr as they come, with the line or the command that they are about; the exit is that of
/// the first.
pub(crate) async fn load(
    client: &Client,
    options: LoadOptions,
    printer: &Printer,
    emit: &mut (dyn FnMut(Output) -> bool + Send),
) -> Exit {
    let total = stdin_bytes();
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    // A thread of its own, because nothing can interrupt a read of stdin: it ends with the input or with the process.
    let reader =
        std::thread::Builder::new().name("load".to_owned()).spawn(move || read(&mut io::stdin().lock(), &sender));
    if let Err(error) = reader {
        complain(&printer.render_refusal(&format!("the system refuses another thread: {error}")));
        return Exit::Failed;
    }
    let mut loading = Loading {
        client,
        options,
        printer,
        bar: bar(total),
        began: Instant::now(),
        pieces: Some(pieces),
        waiting: VecDeque::new(),
        batch: Batch::default(),
        under_way: FuturesUnordered::new(),
        writes_under_way: 0,
        bytes_under_way: 0,
        busy: HashSet::new(),
        sent_to: None,
        tally: Tally::default(),
        exit: Exit::Ok,
        stop: None,
        interrupts: signal(SignalKind::interrupt()).ok(),
    };
    loading.run().await;
    loading.bar.finish_and_clear();
    emit(loading.tally.report(loading.began.elapsed()));
    loading.say_where_it_stopped();
    loading.exit
}

/// Bytes that are left of stdin, if it is a file.
fn stdin_bytes() -> Option<u64> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(metadata.len().saturating_sub(file.stream_position().ok()?))
}

/// Reads commands to the end of the input, or until nobody wants any more.
fn read(input: &mut impl Read, sender: &mpsc::Sender<Piece>) {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut piece, mut piece_bytes, mut is_end) = (Vec::new(), 0, false);
    let problem = loop {
        let read = decoder.next(is_end);
        let is_full = piece.len() >= PIECE_COMMANDS || piece_bytes >= PIECE_BYTES;
        // What is there is handed over before more is read, which may wait for long.
        if (is_full || !matches!(read, Ok(Some(_)))) && !piece.is_empty() {
            piece_bytes = 0;
            if sender.blocking_send(Piece::Commands(std::mem::take(&mut piece))).is_err() {
                return;
            }
        }
        match read {
            Ok(Some(read)) => {
                piece_bytes += read.bytes;
                piece.push(Loaded {
                    place: read.place,
                    bytes: read.bytes,
                    writes: read.words.and_then(|words| writes(&words)),
                });
            }
            Ok(None) if is_end => return,
            Ok(None) => match input.read(&mut buffer) {
                Ok(read) => {
                    is_end = read == 0;
                    decoder.feed(&buffer[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break format!("stdin can't be read: {error}"),
            },
            Err(error) => break error.to_string(),
        }
    };
    // Whoever does not listen any more has stopped already.
    let _ = sender.blocking_send(Piece::Broken(problem));
}

struct Loading<'a> {
    client: &'a Client,
    options: LoadOptions,
    printer: &'a Printer,
    bar: ProgressBar,
    began: Instant,
    /// `None` once there is nothing more to read.
    pieces: Option<mpsc::Receiver<Piece>>,
    /// Writes that were read and are in no batch yet.
    waiting: VecDeque<Waiting>,
    batch: Batch,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    writes_under_way: usize,
    bytes_under_way: usize,
    /// The keys of the batch and of all that is under way.
    busy: HashSet<Bytes>,
    /// Where the newest write stands that was sent.
    sent_to: Option<Place>,
    tally: Tally,
    exit: Exit,
    stop: Option<Stop>,
    /// `None` where the system does not let signals be watched: ctrl-c ends the process then.
    interrupts: Option<Signal>,
}

impl Loading<'_> {
    async fn run(&mut self) {
        loop {
            self.fill();
            let is_drained = self.waiting.is_empty() && self.batch.ops.is_empty() && self.under_way.is_empty();
            if is_drained && self.pieces.is_none() {
                return;
            }
            match self.next_event().await {
                Event::Piece(Some(Piece::Commands(commands))) => self.take(commands),
                Event::Piece(Some(Piece::Broken(problem))) => {
                    self.pieces = None;
                    self.complain(Exit::Usage, &self.printer.render_usage(&problem));
                }
                Event::Piece(None) => self.pieces = None,
                Event::Answered(answered) => self.count(answered),
                Event::Interrupted if self.stop.is_some() => {
                    // Nobody waits for what is under way.
                    self.forget();
                    return;
                }
                Event::Interrupted => self.stop(Stop::Interrupted),
            }
            self.show();
        }
    }

    /// Puts what waits into batches, and sends those, as far as there is room and keys are free.
    fn fill(&mut self) {
        loop {
            let next_is_busy = self.waiting.front().is_some_and(|next| self.busy.contains(next.op.key()));
            let is_full = self.batch.ops.len() >= BATCH_WRITES || self.batch.bytes >= BATCH_BYTES;
            if is_full || next_is_busy || self.waiting.is_empty() {
                let has_room = self.under_way.len() < BATCHES_UNDER_WAY && self.bytes_under_way < UNDER_WAY_BYTES;
                // One that is not full waits for more as long as there is more to come at once.
                let may_grow =
                    !is_full && !next_is_busy && self.pieces.as_ref().is_some_and(|pieces| !pieces.is_empty());
                if self.batch.ops.is_empty() || !has_room || may_grow {
                    return;
                }
                self.send();
                continue;
            }
            let Some(next) = self.waiting.pop_front() else { return };
            self.busy.insert(next.op.key().clone());
            self.batch.places.push(next.place);
            self.batch.bytes += next.bytes;
            self.batch.ops.push(next.op);
        }
    }

    fn send(&mut self) {
        let Batch { ops, places, bytes } = std::mem::take(&mut self.batch);
        let keys: Vec<_> = ops.iter().map(|op| op.key().clone()).collect();
        let mut batch = self.client.batch().ack(self.options.ack).deadline(self.options.deadline);
        batch.extend(ops);
        self.sent_to = places.last().copied();
        self.writes_under_way += places.len();
        self.bytes_under_way += bytes;
        self.under_way.push(Box::pin(async move { Answered { places, keys, bytes, results: batch.await } }));
    }

    async fn next_event(&mut self) -> Event {
        let wants_piece = self.waiting.is_empty();
        let (pieces, under_way, interrupts) = (self.pieces.as_mut(), &mut self.under_way, self.interrupts.as_mut());
        let piece = async {
            match pieces {
                Some(pieces) if wants_piece => pieces.recv().await,
                _ => std::future::pending().await,
            }
        };
        let interrupt = async {
            match interrupts {
                Some(interrupts) => interrupts.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(answered) = under_way.next() => Event::Answered(answered),
            piece = piece => Event::Piece(piece),
            _ = interrupt => Event::Interrupted,
        }
    }

    fn take(&mut self, commands: Vec<Loaded>) {
        for Loaded { place, bytes, writes } in commands {
            self.tally.commands += 1;
            self.tally.bytes += bytes as u64;
            match writes {
                Ok(ops) => {
                    let bytes = bytes / ops.len().max(1);
                    self.waiting.extend(ops.into_iter().map(|op| Waiting { place, op, bytes }));
                }
                Err(problem) => {
                    self.tally.failed += 1;
                    self.complain(Exit::Usage, &self.printer.render_usage(&format!("{place}: {problem}")));
                }
            }
        }
    }

    fn count(&mut self, answered: Answered) {
        self.writes_under_way -= answered.places.len();
        self.bytes_under_way -= answered.bytes;
        for key in &answered.keys {
            self.busy.remove(key);
        }
        for (place, result) in answered.places.into_iter().zip(answered.results) {
            match result {
                Ok(result) if result.is_applied() => self.tally.applied += 1,
                Ok(_) => self.tally.not_applied += 1,
                Err(error) => {
                    self.tally.failed += 1;
                    self.tally.unknown += u64::from(error.outcome() == Outcome::Unknown);
                    let exit = Exit::of(&error);
                    self.complain(exit, &self.printer.render_error_at(&place.to_string(), &error));
                    if exit == Exit::Unreachable {
                        self.stop(Stop::Unreachable);
                    }
                }
            }
        }
    }

    /// Sends nothing more. What is under way is waited for.
    fn stop(&mut self, why: Stop) {
        if self.stop.is_none() {
            self.stop = Some(why);
            self.exit = self.exit.and_then(Exit::Failed);
        }
        self.pieces = None;
        let unsent = self.batch.places.drain(..).chain(self.waiting.drain(..).map(|waiting| waiting.place));
        let is_in_part = unsent.into_iter().next().is_some_and(|first| Some(first) == self.sent_to);
        self.batch = Batch::default();
        if let Some(place) = self.sent_to.filter(|_| is_in_part) {
            self.tally.failed += 1;
            let problem = format!("{place}: only the first of its keys were written");
            self.complain(Exit::Failed, &self.printer.render_refusal(&problem));
        }
    }

    /// Gives up what is under way.
    fn forget(&mut self) {
        let left = self.writes_under_way as u64;
        self.under_way.clear();
        self.tally.failed += left;
        self.tally.unknown += left;
        let problem = format!("{} writes were not waited for, and may take effect", thousands(left));
        self.complain(Exit::Failed, &self.printer.render_refusal(&problem));
    }

    /// Tells an error beside the bar.
    fn complain(&mut self, exit: Exit, text: &str) {
        self.exit = self.exit.and_then(exit);
        self.bar.suspend(|| complain(text));
    }

    fn show(&self) {
        self.bar.set_position(self.tally.bytes);
        let written = self.tally.applied + self.tally.not_applied;
        let mut message = format!("{} keys  {}/s", thousands(written), thousands(rate(written, self.began.elapsed())));
        if self.tally.failed > 0 {
            message += &format!("  {} failed", thousands(self.tally.failed));
        }
        self.bar.set_message(message);
    }

    fn say_where_it_stopped(&self) {
        let why = match self.stop {
            None => return,
            Some(Stop::Interrupted) => "interrupted",
            Some(Stop::Unreachable) => "stopped: the cluster gives no answer",
        };
        let hint = match self.sent_to {
            None => "nothing was sent".to_owned(),
            Some(Place::Line(line)) => {
                format!("nothing behind line {line} was sent; tail -n +{} is what is left", line + 1)
            }
            Some(place @ Place::Command(_)) => format!("nothing behind {place} was sent"),
        };
        complain(&self.printer.render_refusal(&format!("{why}; {hint}")));
    }
}

impl Tally {
    fn report(&self, took: Duration) -> Output {
        let count = |number: u64| Cell::shown(number, thousands(number));
        let took_ms = took.as_millis() as u64;
        let written = self.applied + self.not_applied;
        Output::Facts(vec![
            ("commands", count(self.commands)),
            ("applied", count(self.applied)),
            ("not_applied", count(self.not_applied)),
            ("failed", count(self.failed)),
            ("outcome_unknown", count(self.unknown)),
            ("read_bytes", Cell::shown(self.bytes, size(self.bytes))),
            ("elapsed_ms", Cell::shown(took_ms, duration(took))),
            ("keys_per_second", count(rate(written, took))),
        ])
    }
}

fn rate(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64().max(1e-3)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reader hands over: a line per piece.
    fn pieces(input: &[u8]) -> Vec<String> {
        let (sender, mut receiver) = mpsc::channel(1024);
        read(&mut &*input, &sender);
        drop(sender);
        let mut pieces = Vec::new();
        while let Ok(piece) = receiver.try_recv() {
            pieces.push(match piece {
                Piece::Commands(commands) => {
                    let writes: usize = commands.iter().map(|one| one.writes.as_ref().map_or(0, Vec::len)).sum();
                    format!("{} commands, {writes} writes", commands.len())
                }
                Piece::Broken(problem) => problem,
            });
        }
        pieces
    }

    #[test]
    fn commands_are_handed_over_in_bounded_pieces() {
        assert_eq!(pieces(b""), Vec::<String>::new());
        assert_eq!(pieces(b"PUT a 1\nMPUT b 2 c 3\nGET a\n"), ["3 commands, 3 writes"]);
        let many = "PUT a 1\n".repeat(2 * PIECE_COMMANDS + 1);
        assert_eq!(
            pieces(many.as_bytes()),
            ["1024 commands, 1024 writes", "1024 commands, 1024 writes", "1 commands, 1 writes"]
        );
        let large = format!("PUT a {}\n", "x".repeat(PIECE_BYTES)).repeat(2);
        assert_eq!(pieces(large.as_bytes()), ["1 commands, 1 writes", "1 commands, 1 writes"]);
        let cut = "the input ends inside of command 1";
        assert_eq!(pieces(b"PUT a 1\n*1\r\n"), ["1 commands, 1 writes", cut]);
    }

    #[test]
    fn the_report_is_the_same_for_people_and_programs() {
        let tally = Tally { commands: 2000, bytes: 4096, applied: 1997, not_applied: 1, failed: 2, unknown: 1 };
        let Output::Facts(facts) = tally.report(Duration::from_secs(2)) else { panic!("it has names") };
        let text: Vec<_> = facts.iter().map(|(name, cell)| format!("{name} {} {}", cell.value, cell.shown)).collect();
        assert_eq!(
            text,
            [
                "commands 2000 2,000",
                "applied 1997 1,997",
                "not_applied 1 1",
                "failed 2 2",
                "outcome_unknown 1 1",
                "read_bytes 4096 4.0 KiB",
                "elapsed_ms 2000 2.0 s",
                "keys_per_second 999 999",
            ]
        );
    }
}
