//! Scripts: commands from stdin, a line each. One after the other, or several at a time.

use crate::backlog::{Backlog, Said};
use crate::exit::{Ended, Exit};
use crate::parse::Action;
use crate::run::{Failure, may_say_much};
use crate::session::{Running, Session};
use kvorum_client::{Bytes, WriteOp};
use std::collections::{HashSet, VecDeque};
use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Longest line of a script, in bytes: the largest value, written with every byte escaped, and some.
const LINE_BYTES_MAX: u64 = 72 * 1024 * 1024;
/// Lines that are read before there is room for their commands.
const LINES_AHEAD_MAX: usize = 16;
/// Most bytes of lines whose commands are under way at once, beside the one that exceeds it.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a script.
struct Script<R> {
    input: R,
    is_begun: bool,
}

/// Why a line can't be run.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("a line is not UTF-8; write other bytes as \\xHH")]
    NotText,
    #[error("a line is too long")]
    TooLong,
    #[error("stdin can't be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl LineError {
    /// Whether the next line can't be found either.
    fn is_the_end(&self) -> bool {
        !matches!(self, Self::NotText)
    }
}

impl<R: BufRead> Script<R> {
    fn new(input: R) -> Self {
        Self { input, is_begun: false }
    }

    /// The next line, without its end; `None` at the end of the script.
    fn next(&mut self) -> Option<Result<String, LineError>> {
        let mut line = Vec::new();
        match Read::take(&mut self.input, LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(read) if read as u64 == LINE_BYTES_MAX => return Some(Err(LineError::TooLong)),
            Ok(_) => {}
            Err(error) => return Some(Err(error.into())),
        }
        if !std::mem::replace(&mut self.is_begun, true) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Some(String::from_utf8(line).map_err(|_| LineError::NotText))
    }
}

/// Reads commands line by line until the end of input or QUIT. A command that fails does not stop the ones behind it; the
/// exit is that of the first that failed.
pub(crate) fn run_script(session: &mut Session, input: impl BufRead) -> Ended {
    let mut script = Script::new(input);
    let mut exit = Exit::Ok;
    while let Some(line) = script.next() {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                exit = exit.and_then(session.usage(&error.to_string()));
                if error.is_the_end() {
                    break;
                }
                continue;
            }
        };
        match session.run_line(&line) {
            Some((_, Some(Action::Quit))) => return Ended::by_quit(exit),
            Some((next, _)) => exit = exit.and_then(next),
            None => {}
        }
    }
    Ended::by_input(exit)
}

/// Runs the script that stdin is, with up to `most` commands at once. Commands on one key take effect in their order, and
/// a command that is not about single keys has the cluster to itself. What they say is printed in their order.
pub(crate) fn run_script_pipelined(session: &mut Session, most: usize) -> Ended {
    let (sender, lines) = mpsc::channel(LINES_AHEAD_MAX);
    // A thread of its own, because nothing can interrupt a read of stdin: it ends with the script or with the process.
    let reader = std::thread::Builder::new().name("script".to_owned()).spawn(move || {
        let mut script = Script::new(io::stdin().lock());
        while let Some(line) = script.next() {
            let is_the_end = line.as_ref().is_err_and(LineError::is_the_end);
            if sender.blocking_send(line).is_err() || is_the_end {
                return;
            }
        }
    });
    if let Err(error) = reader {
        return Ended::by_input(session.refuse(&format!("the system refuses another thread: {error}")));
    }
    let (backlog, under_way, keys) = (Arc::default(), VecDeque::new(), HashSet::new());
    Pipeline { session, lines, most, next: None, under_way, keys, bytes: 0, backlog }.run()
}

struct Pipeline<'a> {
    session: &'a mut Session,
    lines: mpsc::Receiver<Result<String, LineError>>,
    most: usize,
    /// A command that waits until it may begin, and the bytes of its line.
    next: Option<(Action, usize)>,
    under_way: VecDeque<UnderWay>,
    /// The keys of all commands that are under way.
    keys: HashSet<Bytes>,
    /// The bytes of their lines.
    bytes: usize,
    /// What they have said.
    backlog: Arc<Backlog>,
}

struct UnderWay {
    action: Action,
    running: Running,
    bytes: usize,
}

enum Event {
    Line(Result<String, LineError>),
    NoMoreLines,
    Done(Said, Result<Exit, Failure>),
    Panicked(String),
    /// There may be room by now.
    Room,
}

impl Pipeline<'_> {
    fn run(mut self) -> Ended {
        let mut exit = Exit::Ok;
        loop {
            let step = match self.take_event() {
                Event::Line(Ok(line)) => self.take_line(&line),
                Event::Line(Err(error)) => ControlFlow::Continue(self.usage(&error.to_string())),
                Event::NoMoreLines => return Ended::by_input(exit.and_then(self.drain())),
                Event::Done(said, result) => ControlFlow::Continue(self.finish(&said, result)),
                Event::Room => ControlFlow::Continue(Exit::Ok),
                Event::Panicked(problem) => ControlFlow::Continue(self.session.refuse(&problem)),
            };
            match step {
                ControlFlow::Continue(next) => exit = exit.and_then(next),
                ControlFlow::Break(()) => return Ended::by_quit(exit.and_then(self.drain())),
            }
            if let Some((action, bytes)) = self.next.take() {
                exit = exit.and_then(self.begin(action, bytes));
            }
        }
    }

    /// The next line if there is room for it, or the end of the oldest command.
    fn take_event(&mut self) -> Event {
        let takes_line = self.next.is_none() && self.under_way.len() < self.most && self.bytes < UNDER_WAY_BYTES_MAX;
        let waits = self.next.is_some();
        let (lines, backlog, oldest) = (&mut self.lines, &self.backlog, self.under_way.front_mut());
        let event = self.session.wait(async {
            let oldest = async {
                match oldest {
                    Some(oldest) => (&mut oldest.running).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = oldest => ended.map(|(said, result)| Event::Done(said, result)),
                line = lines.recv(), if takes_line => Ok(line.map_or(Event::NoMoreLines, Event::Line)),
                () = backlog.changed(), if waits => Ok(Event::Room),
            }
        });
        event.unwrap_or_else(|error| {
            self.forget_oldest();
            Event::Panicked(format!("a command was given up: {error}"))
        })
    }

    fn take_line(&mut self, line: &str) -> ControlFlow<(), Exit> {
        match Session::understand(line) {
            None => ControlFlow::Continue(Exit::Ok),
            Some(Err(problem)) => ControlFlow::Continue(self.usage(&problem)),
            Some(Ok(Action::Quit)) => ControlFlow::Break(()),
            Some(Ok(action)) => {
                self.next = Some((action, line.len()));
                ControlFlow::Continue(Exit::Ok)
            }
        }
    }

    /// Begins a command if none under way stands against it, and there is room for what it says; else it waits.
    fn begin(&mut self, action: Action, bytes: usize) -> Exit {
        let Some(keys) = keys(&action) else {
            let exit = self.drain();
            return exit.and_then(self.session.run(&action));
        };
        let has_room = self.backlog.has_room() || !may_say_much(&action);
        if !has_room || keys.iter().any(|key| self.keys.contains(key)) {
            self.next = Some((action, bytes));
            return Exit::Ok;
        }
        match self.session.begin(action.clone(), &self.backlog) {
            Ok(running) => {
                self.keys.extend(keys);
                self.bytes += bytes;
                self.under_way.push_back(UnderWay { action, running, bytes });
                Exit::Ok
            }
            Err(exit) => exit,
        }
    }

    /// Says what the oldest command has to say.
    fn finish(&mut self, said: &Said, result: Result<Exit, Failure>) -> Exit {
        match self.forget_oldest() {
            Some(action) => self.session.tell(said.outputs(), result, &action),
            None => Exit::Ok,
        }
    }

    fn forget_oldest(&mut self) -> Option<Action> {
        let oldest = self.under_way.pop_front()?;
        keys(&oldest.action).into_iter().flatten().for_each(|key| {
            self.keys.remove(&key);
        });
        self.bytes -= oldest.bytes;
        Some(oldest.action)
    }

    /// Waits for all that is under way.
    fn drain(&mut self) -> Exit {
        let mut exit = Exit::Ok;
        while let Some(oldest) = self.under_way.front_mut() {
            let ended = self.session.wait(&mut oldest.running);
            exit = exit.and_then(match ended {
                Ok((said, result)) => self.finish(&said, result),
                Err(error) => {
                    self.forget_oldest();
                    self.session.refuse(&format!("a command was given up: {error}"))
                }
            });
        }
        exit
    }

    /// A mistake is told when what stands before it has been told.
    fn usage(&mut self, problem: &str) -> Exit {
        let exit = self.drain();
        exit.and_then(self.session.usage(problem))
    }
}

/// The keys that a command is about; `None` if it is about more than single keys, or about something else.
fn keys(action: &Action) -> Option<Vec<Bytes>> {
    match action {
        Action::Get(key) | Action::Ttl(key) | Action::Explain(key) => Some(vec![key.clone()]),
        Action::Write(op) => Some(vec![WriteOp::key(op).clone()]),
        Action::Exists(keys) | Action::MultiGet(keys) => Some(keys.clone()),
        Action::MultiPut(pairs) => Some(pairs.iter().map(|(key, _)| key.clone()).collect()),
        Action::Scan { .. }
        | Action::Await { .. }
        | Action::Ping(_)
        | Action::Cluster(_)
        | Action::Status(_)
        | Action::SlowLog(_)
        | Action::Monitor(_)
        | Action::LogLevel(..)
        | Action::Transfer { .. }
        | Action::Ask(..)
        | Action::Users(_)
        | Action::Token { .. }
        | Action::AddNode(_)
        | Action::Scale(_)
        | Action::Shutdown(_)
        | Action::Help(_)
        | Action::Clear
        | Action::Quit => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_the_first_its_byte_order_mark() {
        let mut script = Script::new(&b"\xef\xbb\xbfPUT a 1\r\n\n\xff\n\xef\xbb\xbfGET a"[..]);
        let mut lines = Vec::new();
        while let Some(line) = script.next() {
            lines.push(line.map_err(|error| error.to_string()));
        }
        let not_text = Err("a line is not UTF-8; write other bytes as \\xHH".to_owned());
        let line = |text: &str| Ok(text.to_owned());
        assert_eq!(lines, [line("PUT a 1\r"), line(""), not_text, line("\u{feff}GET a")]);
    }
}
