//! `kvorum-cli`, as a library, since `kvorum dev` puts the same REPL in front.

/// What the project's front page shows of the client library, compiled. It stands here since that page is no part of the
/// library's package.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod front_page {}

mod args;
mod backlog;
mod cluster;
mod commands;
mod console;
mod editor;
mod exit;
#[cfg(any(test, feature = "testing"))]
#[path = "../fuzz/src/bodies.rs"]
pub mod fuzz_bodies;
mod history;
mod live;
mod load;
mod log_level;
mod manual;
mod monitor;
mod nodes;
mod operate;
mod output;
mod pager;
mod parse;
mod records;
mod repl;
mod run;
mod script;
mod session;
mod slow_log;
mod standing;
mod terminal;
mod text;
mod tools;
mod users;
mod words;

pub use nodes::{NodeAnswer, NodeRequest, NodeRequester, NodeRequests, NodeWish, node_requests};
pub use repl::Notifier;

use args::{Args, Tool};
use console::complain;
use exit::{Ended, Exit};
use kvorum_client::limits::DEADLINE_DEFAULT;
use kvorum_client::{Credentials, Tls};
use output::{Format, Printer};
use parse::Action;
use repl::Notices;
use run::Settings;
use session::{Session, Setup};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::Duration;
use words::Word;

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
    nodes: Option<NodeRequester>,
    tls: Option<Tls>,
}

impl ReplOptions {
    /// A REPL in front of the cluster of this address.
    pub fn new(url: String) -> Self {
        Self { url, notices: None, nodes: None, tls: None }
    }

    /// Speaks TLS with the cluster.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Has NODE ADD and SCALE ask for nodes there. Without it they say that they work in `kvorum dev` only.
    #[must_use]
    pub fn with_nodes(self, nodes: NodeRequester) -> Self {
        Self { nodes: Some(nodes), ..self }
    }

    /// Lets someone say things while the REPL runs. `None` if it will not edit lines on a terminal, so that nothing gets in
    /// the way of plain output.
    pub fn notifier(&mut self) -> Option<Notifier> {
        if !io::stdin().is_terminal() || is_dumb() {
            return None;
        }
        let (notices, notifier) = Notices::new();
        self.notices = Some(notices);
        Some(notifier)
    }
}

/// How the REPL ended.
#[derive(Clone, Copy, Debug)]
pub struct ReplEnd {
    /// How the process should end.
    pub code: ExitCode,
    /// Its input has ended, and nobody said QUIT.
    pub input_ended: bool,
}

/// Runs `kvorum-cli` with these arguments, the program's name first. Blocks; must not be called on an async worker, but may
/// be called on a blocking thread of a runtime.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::parse_all(args) {
        Ok(args) => args,
        Err(error) => {
            // Help goes to stdout with exit code 0, errors to stderr with 2. If those can't be written, the code still tells.
            let printed = error.print();
            return if error.use_stderr() { ExitCode::from(error.exit_code() as u8) } else { written(printed).into() };
        }
    };
    if let Some(done) = manual::write(&args) {
        return done.unwrap_or_else(|problem| refuse_usage(&problem)).into();
    }
    let tool = match args.tool(io::stdout().is_terminal()) {
        Ok(tool) => tool,
        Err(problem) => return refuse_usage(&problem).into(),
    };
    let setup = match setup(&args) {
        Ok(setup) => setup,
        Err(failure) => return refuse_usage(&failure).into(),
    };
    with_session(setup, |session, colors| match tool {
        Some(tool) => use_tool(session, &tool, &args),
        None if args.is_shell() => read_commands(session, colors, None, args.pipeline).exit,
        None => run_command(session, &args),
    })
}

/// Tells a mistake that is known before there is a session.
fn refuse_usage(problem: &str) -> Exit {
    complain(&format!("error: {problem}\n"));
    Exit::Usage
}

/// How a process ends all of whose work it was to write this.
pub(crate) fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            complain(&format!("error: the output can't be written: {error}\n"));
            Exit::Failed
        }
    }
}

/// Reads commands from the terminal (or from stdin, line by line, when it is none) until the end of input or QUIT. Blocks;
/// must not be called on an async worker, but may be called on a blocking thread of a runtime.
pub fn repl(options: ReplOptions) -> ReplEnd {
    let is_terminal = io::stdout().is_terminal();
    let format = if is_terminal { Format::Human } else { Format::Raw };
    let setup = Setup {
        url: options.url,
        deadline: DEADLINE_DEFAULT,
        settings: settings(format),
        printer: printer(format),
        yes: false,
        is_interactive: io::stdin().is_terminal(),
        credentials: None,
        tls: options.tls,
        nodes: options.nodes,
    };
    let mut input_ended = false;
    let code = with_session(setup, |session, colors| {
        let ended = read_commands(session, colors, options.notices, 1);
        input_ended = ended.input_ended;
        ended.exit
    });
    ReplEnd { code, input_ended }
}

fn with_session(setup: Setup, work: impl FnOnce(&mut Session, bool) -> Exit) -> ExitCode {
    let colors = setup.printer.colors;
    let mut session = match Session::new(setup) {
        Ok(session) => session,
        Err(error) => {
            complain(&format!("error: the system refuses another thread: {error}\n"));
            return Exit::Failed.into();
        }
    };
    let exit = work(&mut session, colors);
    session.close();
    exit.into()
}

fn setup(args: &Args) -> Result<Setup, String> {
    let format = args.format(io::stdout().is_terminal());
    let is_shell = args.is_shell();
    let mut printer = printer(format);
    // A single value can be taken as it is; of several, each needs a line.
    printer.exact = !is_shell && args.repeat.unwrap_or(1) == 1;
    Ok(Setup {
        url: args.url.clone(),
        credentials: credentials(args)?,
        tls: tls(args)?,
        deadline: args.deadline(),
        settings: Settings { ack: args.ack.into(), stale: args.stale, ..settings(format) },
        printer,
        yes: args.yes,
        is_interactive: is_shell && io::stdin().is_terminal(),
        nodes: None,
    })
}

/// A variable of the environment; an empty one says nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Who the client is, as `KVORUM_USER` with `KVORUM_PASSWORD` or `KVORUM_PASSWORD_FILE`, or `KVORUM_TOKEN` or
/// `KVORUM_TOKEN_FILE`, say; `None` if they say nothing that can be used. Nobody is asked.
pub fn credentials_from_environment() -> Option<Credentials> {
    let secret = |name: &str, file: &str| {
        let read = || users::read_file(&variable(file)?).ok();
        variable(name).or_else(read)
    };
    match variable("KVORUM_USER") {
        Some(user) => {
            let password = secret("KVORUM_PASSWORD", "KVORUM_PASSWORD_FILE")?;
            Some(Credentials::Password { user, password })
        }
        None => secret("KVORUM_TOKEN", "KVORUM_TOKEN_FILE").map(Credentials::Token),
    }
}

/// How TLS is spoken, if it is.
fn tls(args: &Args) -> Result<Option<Tls>, String> {
    let Some(ca) = &args.ca else {
        let wanted = args.tls.then(|| "--tls needs the cluster's authority: --ca ca.pem".to_owned());
        return wanted.map_or(Ok(None), Err);
    };
    let said = |error: kvorum_client::Error| error.to_string();
    let mut tls = Tls::from_file(ca).map_err(said)?;
    if let (Some(certificate), Some(key)) = (&args.cert, &args.key) {
        tls = tls.certificate_files(certificate, key).map_err(said)?;
    }
    if let Some(name) = &args.server_name {
        tls = tls.server_name(name).map_err(said)?;
    }
    Ok(Some(tls))
}

/// Who the client is. What is secret comes from the environment, a file, or whoever sits at the terminal.
fn credentials(args: &Args) -> Result<Option<Credentials>, String> {
    if let Some(user) = &args.user {
        let password = match (&args.password_file, variable("KVORUM_PASSWORD").filter(|_| !args.is_another)) {
            (Some(path), _) => users::read_file(path)?,
            (None, Some(password)) => password,
            (None, None) => users::ask(&format!("password of {user}: "))?,
        };
        return Ok(Some(Credentials::Password { user: user.clone(), password }));
    }
    let token = match &args.token_file {
        Some(path) => Some(users::read_file(path)?),
        None => variable("KVORUM_TOKEN"),
    };
    Ok(token.map(Credentials::Token))
}

fn settings(format: Format) -> Settings {
    let scan_limit = (format == Format::Human).then_some(HUMAN_SCAN_LIMIT);
    Settings { ack: kvorum_client::Ack::Committed, stale: false, scan_limit, scan_chunk: SCAN_CHUNK }
}

fn printer(format: Format) -> Printer {
    let is_terminal = io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Printer::new(format, is_terminal && !no_color && !is_dumb(), width())
}

/// The columns of the terminal, if stdout is one.
fn width() -> Option<u16> {
    let table = || {
        let mut table = comfy_table::Table::new();
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table
    };
    io::stdout().is_terminal().then(table).and_then(|table| table.width())
}

/// Whether the terminal shows text and obeys nothing, such as that of an editor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Reads commands until there are no more.
fn read_commands(session: &mut Session, colors: bool, notices: Option<Notices>, at_once: usize) -> Ended {
    match (io::stdin().is_terminal(), at_once) {
        (true, _) if is_dumb() => repl::interact_plainly(session),
        (true, _) => repl::interact(session, colors, notices),
        (false, 1) => script::run_script(session, io::stdin().lock()),
        (false, most) => script::run_script_pipelined(session, most),
    }
}

/// Does what stands in place of a command.
fn use_tool(session: &mut Session, tool: &Tool, args: &Args) -> Exit {
    if *tool == Tool::Pipe && io::stdin().is_terminal() {
        return session
            .usage("--pipe loads what comes on stdin, and here is a terminal: kvorum-cli --pipe < commands.txt");
    }
    let words = args.words();
    let action = if words.is_empty() { Ok(Action::Ping(None)) } else { parse::parse(&words) };
    let typed = words.iter().map(|word| text::word(&word.bytes)).collect::<Vec<_>>().join(" ");
    match action {
        Ok(action) => session.use_tool(tool, &action, if typed.is_empty() { "PING" } else { &typed }),
        Err(error) => session.usage(&error.0),
    }
}

/// Runs the command of the command line, as often as asked.
fn run_command(session: &mut Session, args: &Args) -> Exit {
    if args.pipeline > 1 {
        return session.usage("--pipeline is for a script on stdin, and here is a COMMAND");
    }
    let mut words = args.words();
    if args.last_from_stdin {
        match read_stdin() {
            // What comes from stdin is never an option of the command.
            Ok(bytes) => words.push(Word { is_quoted: true, ..Word::bare(bytes) }),
            Err(problem) => return session.usage(&problem),
        }
    }
    let action = match parse::parse(&words) {
        Ok(action) => action,
        Err(error) => return session.usage(&error.0),
    };
    let mut exit = Exit::Ok;
    let pause = Duration::from_secs_f64(args.interval.unwrap_or(0.0));
    for run in 0..args.repeat.unwrap_or(1) {
        if run > 0 && !pause.is_zero() {
            std::thread::sleep(pause);
        }
        exit = exit.and_then(session.run(&action));
    }
    exit
}

/// All of stdin, up to one byte more than the largest value.
///
/// # Errors
/// Why there is nothing to read, in words. A process whose stdin was closed finds the null device there, as does one that a
/// service starts: an empty value is not what either meant.
fn read_stdin() -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("stdin can't be read: {error}");
    let stdin = io::stdin();
    let opened = File::from(stdin.as_fd().try_clone_to_owned().map_err(unreadable)?);
    let device = |metadata: fs::Metadata| metadata.rdev();
    let null = fs::metadata("/dev/null").map(device).ok();
    if opened.metadata().map(device).ok() == null {
        return Err("-x reads stdin, which is closed or /dev/null; an empty argument is written \"\"".to_owned());
    }
    let mut bytes = Vec::new();
    stdin.lock().take(STDIN_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
