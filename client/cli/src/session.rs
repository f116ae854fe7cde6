//! A session with a cluster: it connects when the first command needs it, runs commands, prints what they say, and turns
//! how they end into exit codes. One-shot commands, scripts and the REPL all run through it.

use crate::args::Tool;
use crate::backlog::{Backlog, Said};
use crate::cluster::find_node;
use crate::commands::Verb;
use crate::console::{complain, print};
use crate::exit::Exit;
use crate::nodes::{self, NodeRequester};
use crate::output::{Format, Output, Printer};
use crate::pager::{Paging, Screen, is_paged};
use crate::parse::{self, Action, Asked, Manner};
use crate::run::{Failure, Settings, is_safe_to_repeat, may_say_much, now_ms, run};
use crate::terminal::{Terminal, Typed};
use crate::text::duration;
use crate::tools::{self, Bench};
use crate::users;
use crate::words;
use kvorum_client::{Client, ConnectionError, Credentials, Error, Outcome, Tls};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A command that took longer says so, in the REPL.
const WORTH_SAYING: Duration = Duration::from_millis(10);

/// What a session is set up with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) url: String,
    /// Who the client is.
    pub(crate) credentials: Option<Credentials>,
    /// How TLS is spoken, if it is.
    pub(crate) tls: Option<Tls>,
    pub(crate) deadline: Duration,
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
    /// Answers yes to what would be asked.
    pub(crate) yes: bool,
    /// A person is typing: commands can be interrupted, and long ones say how long they took.
    pub(crate) is_interactive: bool,
    /// Who starts nodes, if anyone does.
    pub(crate) nodes: Option<NodeRequester>,
}

pub(crate) struct Session {
    setup: Setup,
    runtime: Runtime,
    client: Option<Client>,
    /// The terminal, once a line was read from it.
    terminal: Option<Terminal>,
    was_interrupted: bool,
    /// Somebody has read what the last command says in a pager, which takes its time.
    was_paged: bool,
}

/// A command that runs beside others. What it has to say is kept until it is its turn.
pub(crate) type Running = JoinHandle<(Said, Result<Exit, Failure>)>;

impl Session {
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn new(setup: Setup) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { setup, runtime, client: None, terminal: None, was_interrupted: false, was_paged: false })
    }

    /// The address of the node that the session is connected to.
    pub(crate) fn connected_to(&self) -> Option<String> {
        self.client.as_ref()?.connected_to().map(|(_, address)| address)
    }

    /// Whether someone starts nodes.
    pub(crate) fn has_host(&self) -> bool {
        self.setup.nodes.is_some()
    }

    /// Connects, if that has not happened yet.
    pub(crate) fn connect(&mut self) -> Exit {
        match self.client() {
            Ok(_) => Exit::Ok,
            Err(failure) => self.fail(&failure, true),
        }
    }

    /// Understands one command of a script or the REPL. `None` if there is nothing on the line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn understand(line: &str) -> Option<Result<Action, String>> {
        match words::split(line) {
            Ok(words) if words.is_empty() => None,
            Ok(words) => Some(parse::parse(&words).map_err(|error| error.0)),
            Err((_, error)) => Some(Err(error.to_string())),
        }
    }

    /// Runs one command of a script or the REPL. `None` if there is nothing on the line.
    pub(crate) fn run_line(&mut self, line: &str) -> Option<(Exit, Option<Action>)> {
        self.was_interrupted = false;
        Some(match Self::understand(line)? {
            Ok(action) => (self.run(&action), Some(action)),
            Err(problem) => (self.usage(&problem), None),
        })
    }

    /// Runs one command and prints what it says.
    pub(crate) fn run(&mut self, action: &Action) -> Exit {
        let has_host = self.setup.nodes.is_some();
        if let Some(hint) = nodes::only_with_host(action).filter(|_| !has_host) {
            return self.usage(hint);
        }
        if action.is_local() {
            let Action::Help(spec) = action else { return Exit::Ok };
            let mut text = spec.map_or_else(|| crate::commands::overview(has_host), |spec| spec.full_help());
            if has_host && spec.is_some_and(|spec| spec.verb == Verb::Node) {
                text += &nodes::ADD.full_help();
            }
            let mut screen = self.screen(action);
            let printed = say(&mut self.setup.printer, &mut screen, &Output::Text(text)).and_then(|()| screen.finish());
            return conclude(printed.err(), Ok(Exit::Ok)).unwrap_or_else(|failure| self.fail(&failure, true));
        }
        if self.setup.is_interactive {
            // A window may have another size by now.
            self.setup.printer.width = crate::width();
        }
        let mut began = Instant::now();
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return self.fail(&failure, true),
        };
        if let Action::Shutdown(node) = action {
            if let Err(exit) = self.confirm_shutdown(&client, node) {
                return exit;
            }
            // The time that a person took to answer is not the command's.
            began = Instant::now();
        }
        let mut with_password = None;
        if let Action::Users(asked) = action {
            with_password = match users::with_password(asked) {
                Ok(asked) => asked.map(Action::Users),
                Err(problem) => return self.usage(&problem),
            };
            began = Instant::now();
        }
        let action = with_password.as_ref().unwrap_or(action);
        let result = self.perform(&self.bounded(&client, action, began.elapsed()), action);
        let exit = result.unwrap_or_else(|failure| self.fail(&failure, is_safe_to_repeat(action)));
        let took = began.elapsed();
        if self.setup.is_interactive && took >= WORTH_SAYING && !std::mem::take(&mut self.was_paged) {
            self.remark(&format!("  {}", duration(took)));
        }
        exit
    }

    /// Runs a tool, which may measure a command, and prints what it says. Ctrl-c is the tool's.
    pub(crate) fn use_tool(&mut self, tool: &Tool, action: &Action, typed: &str) -> Exit {
        let mut printer = self.setup.printer.clone();
        let mut broken = None;
        let mut emit = |output: Output| {
            broken = broken.take().or_else(|| print(&printer.render(&output, now_ms())).err());
            broken.is_none()
        };
        let told = self.setup.printer.clone();
        let result = if let Tool::Intrinsic(lasts) = tool {
            Ok(self.runtime.block_on(tools::intrinsic(&told, *lasts, &mut emit)))
        } else {
            let client = match self.client() {
                Ok(client) => client,
                Err(failure) => return self.fail(&failure, true),
            };
            let Setup { settings, deadline, .. } = self.setup;
            let bench = Bench { client: &client, settings, printer: &told, deadline, action, typed };
            self.runtime.block_on(tools::run(bench, tool, &mut emit))
        };
        match conclude(broken, result) {
            Ok(exit) => exit,
            Err(failure) => self.fail(&failure, true),
        }
    }

    /// Begins a command that runs beside others.
    ///
    /// # Errors
    /// How it ends if no node can be reached, which has been told.
    pub(crate) fn begin(&mut self, action: Action, backlog: &Arc<Backlog>) -> Result<Running, Exit> {
        let began = Instant::now();
        let client = self.client().map_err(|failure| self.fail(&failure, true))?;
        let client = self.bounded(&client, &action, began.elapsed());
        let settings = self.setup.settings;
        let mut said = backlog.listen();
        let speaking = may_say_much(&action).then(|| backlog.begin());
        Ok(self.runtime.spawn(async move {
            let mut keep = |output: Output| {
                said.keep(output);
                true
            };
            let result = run(&client, &action, settings, &mut keep).await;
            speaking.into_iter().for_each(|speaking| speaking.end(&said));
            (said, result)
        }))
    }

    /// Waits for something that runs in this session.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Prints what a command has said, and how it ended.
    pub(crate) fn tell(&mut self, outputs: &[Output], result: Result<Exit, Failure>, action: &Action) -> Exit {
        let printer = &mut self.setup.printer;
        let printed = outputs.iter().try_for_each(|output| say(printer, &mut Screen::Straight, output));
        match conclude(printed.err(), result) {
            Ok(exit) => exit,
            Err(failure) => self.fail(&failure, is_safe_to_repeat(action)),
        }
    }

    /// Whether the last command was interrupted from the terminal.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    /// Says something to people beside the output.
    pub(crate) fn remark(&self, text: &str) {
        complain(&format!("{}\n", self.setup.printer.dim(text)));
    }

    /// Prints a mistake of the user's.
    pub(crate) fn usage(&self, problem: &str) -> Exit {
        complain(&self.setup.printer.render_usage(problem));
        Exit::Usage
    }

    /// Tells that this machine refuses something.
    pub(crate) fn refuse(&self, problem: &str) -> Exit {
        complain(&self.setup.printer.render_refusal(problem));
        Exit::Failed
    }

    /// Lets connections end before the process does.
    pub(crate) fn close(self) {
        if let Some(client) = &self.client {
            self.runtime.block_on(client.close(Duration::from_millis(100)));
        }
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }

    /// Waits for something in the name of the person at the terminal, whose ctrl-c ends that. Without one, ctrl-c ends the process.
    fn wait_or_interrupt<T>(
        &mut self,
        what: &'static str,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let is_interactive = self.setup.is_interactive;
        let result = self.runtime.block_on(async {
            if !is_interactive {
                return future.await;
            }
            tokio::select! {
                result = future => result,
                _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(what)),
            }
        });
        self.was_interrupted = matches!(result, Err(Failure::Interrupted(_)));
        result
    }

    /// The next line that a person types at a terminal that edits lines itself.
    ///
    /// # Errors
    /// The terminal can't be read.
    pub(crate) fn read_line(&mut self) -> io::Result<Typed> {
        if !self.setup.is_interactive {
            // Nobody has taken ctrl-c away: it ends the process.
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line)?;
            return Ok(if read == 0 { Typed::End } else { Typed::Line(line) });
        }
        // Once ctrl-c has interrupted a command it ends nothing any more by itself.
        let mut terminal = match self.terminal.take() {
            Some(terminal) => terminal,
            None => Terminal::new(io::stdin().as_fd())?,
        };
        let typed = self.runtime.block_on(terminal.read_line());
        self.terminal = Some(terminal);
        typed
    }

    fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let deadline = self.setup.deadline;
        let builder = Client::builder()
            .url(&self.setup.url)
            .name(format!("kvorum-cli/{}", env!("CARGO_PKG_VERSION")))
            .connect_timeout(deadline.min(kvorum_client::limits::CONNECT_TIMEOUT_DEFAULT))
            .deadline(deadline);
        let builder = match &self.setup.credentials {
            Some(credentials) => builder.credentials(credentials.clone()),
            None => builder,
        };
        let builder = match &self.setup.tls {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        };
        let connecting = async { tokio::time::timeout(deadline, builder.connect()).await };
        let no_answer = ConnectionError::TimedOut { address: self.setup.url.clone(), timeout: deadline };
        let connecting = async {
            let late = |_| Err(Error::Unreachable { outcome: Outcome::NotApplied, source: no_answer });
            Ok(connecting.await.unwrap_or_else(late)?)
        };
        let client = self.wait_or_interrupt("interrupted while connecting", connecting)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The client whose operations end in time for this command. A walk takes as long as there are keys: each of its pages is
    /// bounded by itself.
    fn bounded(&self, client: &Client, action: &Action, taken: Duration) -> Client {
        match action {
            Action::Scan { .. }
            | Action::Monitor(_)
            | Action::Ask(_, Manner { waits: true, .. })
            | Action::Scale(_) => client.clone(),
            _ => client.within(self.setup.deadline.saturating_sub(taken)),
        }
    }

    fn perform(&mut self, client: &Client, action: &Action) -> Result<Exit, Failure> {
        let settings = self.setup.settings;
        let mut printer = self.setup.printer.clone();
        let mut screen = self.screen(action);
        let mut broken = None;
        let mut emit = |output: Output| {
            broken = broken.take().or_else(|| say(&mut printer, &mut screen, &output).err());
            broken.is_none()
        };
        let host = self.setup.nodes.clone();
        let running = async {
            match (&host, action) {
                (Some(host), Action::AddNode(zone)) => nodes::add(host, zone, &mut emit).await,
                (Some(host), Action::Scale(wanted)) => nodes::scale(client, host, *wanted, &mut emit).await,
                _ => run(client, action, settings, &mut emit).await,
            }
        };
        let mut result = self.wait_or_interrupt(interrupted(action), running);
        if matches!((action, &result), (Action::Monitor(_), Err(Failure::Interrupted(_)))) {
            // Nothing else ends it.
            result = Ok(Exit::Ok);
        }
        self.setup.printer = printer;
        self.was_paged = matches!(screen, Screen::Paged(_));
        // Also after an error: what came before it was said.
        let finished = screen.finish();
        conclude(broken.or(finished.err()), result)
    }

    /// Where a command's output goes: long lists to a pager, if people read them.
    fn screen(&self, action: &Action) -> Screen {
        let is_paged = self.setup.is_interactive && self.setup.printer.format == Format::Human && is_paged(action);
        Screen::new(if is_paged && !crate::is_dumb() { Paging::of_terminal() } else { None })
    }

    fn fail(&self, failure: &Failure, repeat_is_safe: bool) -> Exit {
        let printer = &self.setup.printer;
        match failure {
            Failure::Operation(error) => {
                complain(&printer.render_error(error, repeat_is_safe));
                Exit::of(error)
            }
            Failure::Usage(problem) => self.usage(problem),
            Failure::Host(problem) => self.refuse(problem),
            Failure::Interrupted(what) => {
                complain(&printer.render_refusal(what));
                Exit::Failed
            }
            Failure::Output(problem) => {
                complain(&printer.render_refusal(&format!("the output can't be written: {problem}")));
                Exit::Failed
            }
        }
    }

    /// Asks before a node is stopped.
    fn confirm_shutdown(&mut self, client: &Client, wanted: &str) -> Result<(), Exit> {
        let topology = async { Ok(client.topology().await?) };
        let topology = self.wait_or_interrupt("interrupted", topology).map_err(|failure| self.fail(&failure, true))?;
        let node = find_node(&topology, wanted).map_err(|problem| self.usage(&problem))?;
        if self.setup.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || self.setup.printer.format != Format::Human {
            return Err(self.usage("SHUTDOWN stops a node; say --yes to mean it"));
        }
        let info = topology.nodes.iter().find(|info| info.id == node);
        let name = info.map_or_else(String::new, |info| format!("{} at {}", info.name, info.client_address));
        complain(&format!("Stop {name}? [y/N] "));
        match self.read_line() {
            Ok(Typed::Line(answer)) if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") => {
                return Ok(());
            }
            Ok(Typed::Line(_)) => {}
            typed => {
                self.was_interrupted = matches!(typed, Ok(Typed::Interrupt));
                complain("\n");
            }
        }
        complain(&format!("{name} goes on.\n"));
        Err(Exit::Ok)
    }
}

fn interrupted(action: &Action) -> &'static str {
    match action {
        Action::Ask(_, Manner { is_dry_run: true, .. }) => "interrupted",
        Action::AddNode(_) | Action::Scale(_) => "interrupted; what was begun goes on",
        Action::Ask(Asked::Remove { .. } | Asked::Replace { .. }, _) => {
            "interrupted; the node goes on giving what it holds to others, unless you KEEP it"
        }
        Action::Write(_)
        | Action::MultiPut(_)
        | Action::Transfer { .. }
        | Action::Shutdown(_)
        | Action::Token { .. }
        | Action::Ask(..) => "interrupted; it may have taken effect, or may yet",
        _ => "interrupted",
    }
}

/// Prints an output, and what goes to stderr beside it.
fn say(printer: &mut Printer, screen: &mut Screen, output: &Output) -> io::Result<()> {
    screen.print(&printer.render(output, now_ms()))?;
    complain(&printer.render_failures(output));
    Ok(())
}

/// How a command ends whose output could perhaps not be written.
fn conclude(broken: Option<io::Error>, result: Result<Exit, Failure>) -> Result<Exit, Failure> {
    match broken {
        // Whoever read the output has seen enough.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe && result.is_ok() => {
            Err(Failure::Output(error.to_string()))
        }
        // A command that failed says why, whatever became of its output.
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::{CTRL_C, press_ctrl_c};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::signal::unix::{SignalKind, signal};

    #[test]
    fn a_command_that_failed_has_failed_though_nobody_reads_what_it_says() {
        let broken = || Some(io::Error::from(io::ErrorKind::BrokenPipe));
        let full = || Some(io::Error::from(io::ErrorKind::StorageFull));
        let refused = Failure::Usage("there is no such node".to_owned());
        assert_eq!(conclude(broken(), Ok(Exit::Ok)), Ok(Exit::Ok));
        assert_eq!(conclude(broken(), Ok(Exit::NotFound)), Ok(Exit::NotFound));
        assert_eq!(conclude(broken(), Err(refused.clone())), Err(refused.clone()));
        assert_eq!(conclude(full(), Err(refused.clone())), Err(refused));
        assert!(matches!(conclude(full(), Ok(Exit::Ok)), Err(Failure::Output(_))));
    }

    #[test]
    fn ctrl_c_ends_the_attempt_to_connect() {
        let _alone = CTRL_C.lock();
        // The system takes the connection, and nobody says hello.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let setup = Setup {
            credentials: None,
            tls: None,
            url: format!("kv://{}", silent.local_addr().unwrap()),
            deadline: Duration::from_secs(60),
            settings: Settings { ack: kvorum_client::Ack::Committed, stale: false, scan_limit: None, scan_chunk: 1 },
            printer: Printer::new(Format::Raw, false, None),
            yes: false,
            is_interactive: true,
            nodes: None,
        };
        let mut session = Session::new(setup).unwrap();
        let _taken = session.wait(async { signal(SignalKind::interrupt()) }).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // One that comes before the session listens is lost; another one does no harm.
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    press_ctrl_c();
                }
            });
            let exit = session.connect();
            is_over.store(true, Ordering::Release);
            assert_eq!(exit, Exit::Failed);
        });
        assert!(session.was_interrupted());
    }
}
