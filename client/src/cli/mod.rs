//! `kvorum-cli`, as a module, since `kvorum dev` puts the same REPL in front.

mod args;
mod cluster;
mod commands;
mod editor;
mod exit;
mod output;
mod parse;
mod repl;
mod run;
mod session;
mod text;
mod words;

pub use repl::Notifier;

use crate::limits::DEADLINE_DEFAULT;
use args::Args;
use clap::{CommandFactory, Parser};
use exit::Exit;
use output::{Format, Printer};
use repl::Notices;
use run::Settings;
use session::{Session, Setup};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

/// Keys that a SCAN without LIMIT shows to people; scripts get all of them.
const HUMAN_SCAN_LIMIT: u64 = 1000;
/// Keys of a SCAN that are printed together.
const SCAN_CHUNK: usize = 1024;
/// Most bytes that `-x` reads from stdin: one more than the largest value, so that a larger one is refused and not cut.
const STDIN_BYTES_MAX: u64 = kvorum_protocol::limits::VALUE_BYTES_MAX as u64 + 1;

/// How the REPL runs.
#[derive(Debug)]
pub struct ReplOptions {
    url: String,
    notices: Option<Notices>,
}

impl ReplOptions {
    /// A REPL in front of the cluster of this address.
    pub fn new(url: String) -> Self {
        ReplOptions { url, notices: None }
    }

    /// Lets someone say things while the REPL runs. `None` if it will be no terminal that it reads, so that nothing gets
    /// in the way of plain output.
    pub fn notifier(&mut self) -> Option<Notifier> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let (notices, notifier) = Notices::new();
        self.notices = Some(notices);
        Some(notifier)
    }
}

/// Runs `kvorum-cli` with these arguments, the program's name first. Blocks; must not be called on an async worker, but may
/// be called on a blocking thread of a runtime.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help goes to stdout with exit code 0, errors to stderr with 2. If neither can be written, the code still tells.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    if let Some(shell) = args.completions {
        clap_complete::generate(shell, &mut Args::command(), "kvorum-cli", &mut io::stdout());
        return Exit::Ok.into();
    }
    with_session(setup(&args), |session, colors| match args.command.is_empty() {
        true => read_commands(session, colors, None),
        false => run_command(session, args),
    })
}

/// Reads commands from the terminal (or from stdin, line by line, when it is none) until the end of input or QUIT. Blocks;
/// must not be called on an async worker, but may be called on a blocking thread of a runtime.
pub fn repl(options: ReplOptions) -> ExitCode {
    let is_terminal = io::stdout().is_terminal();
    let format = if is_terminal { Format::Human } else { Format::Raw };
    let setup = Setup {
        url: options.url,
        deadline: DEADLINE_DEFAULT,
        settings: settings(format),
        printer: printer(format),
        yes: false,
        is_interactive: io::stdin().is_terminal(),
    };
    with_session(setup, |session, colors| read_commands(session, colors, options.notices))
}

fn with_session(setup: Setup, work: impl FnOnce(&mut Session, bool) -> Exit) -> ExitCode {
    let colors = setup.printer.colors;
    let mut session = match Session::new(setup) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("error: the system refuses another thread: {error}");
            return Exit::ServerError.into();
        }
    };
    let exit = work(&mut session, colors);
    session.close();
    exit.into()
}

fn setup(args: &Args) -> Setup {
    let format = args.format(io::stdout().is_terminal());
    let is_shell = args.command.is_empty();
    let mut printer = printer(format);
    // A single value can be taken as it is; of several, each needs a line.
    printer.exact = !is_shell && args.repeat == 1;
    Setup {
        url: args.url.clone(),
        deadline: Duration::from_millis(args.timeout.into()),
        settings: Settings { ack: args.ack.into(), stale: args.stale, ..settings(format) },
        printer,
        yes: args.yes,
        is_interactive: is_shell && io::stdin().is_terminal(),
    }
}

fn settings(format: Format) -> Settings {
    let scan_limit = (format == Format::Human).then_some(HUMAN_SCAN_LIMIT);
    Settings { ack: crate::Ack::Committed, stale: false, scan_limit, scan_chunk: SCAN_CHUNK }
}

fn printer(format: Format) -> Printer {
    let is_terminal = io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = comfy_table::Table::new().set_content_arrangement(comfy_table::ContentArrangement::Dynamic).width();
    Printer::new(format, is_terminal && !no_color, width.filter(|_| is_terminal))
}

fn read_commands(session: &mut Session, colors: bool, notices: Option<Notices>) -> Exit {
    if io::stdin().is_terminal() {
        repl::interact(session, colors, notices)
    } else {
        repl::run_script(session, io::stdin().lock())
    }
}

/// Runs the command of the command line, as often as asked.
fn run_command(session: &mut Session, args: Args) -> Exit {
    let mut words: Vec<Vec<u8>> = args.command.into_iter().map(OsString::into_vec).collect();
    if args.last_from_stdin {
        let mut last = Vec::new();
        if let Err(error) = io::stdin().lock().take(STDIN_BYTES_MAX).read_to_end(&mut last) {
            return session.usage(&format!("stdin can't be read: {error}"));
        }
        words.push(last);
    }
    let action = match parse::parse(&words) {
        Ok(action) => action,
        Err(error) => return session.usage(&error.0),
    };
    let mut exit = Exit::Ok;
    for run in 0..args.repeat {
        if run > 0 && args.interval > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(args.interval));
        }
        exit = exit.and_then(session.run(&action));
    }
    exit
}
