//! A session with a cluster: it connects when the first command needs it, runs commands, prints what they say, and turns
//! how they end into exit codes. One-shot commands, scripts and the REPL all run through it.

use crate::cli::cluster::find_node;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, Output, Printer};
use crate::cli::parse::{self, Action};
use crate::cli::run::{Failure, Settings, is_safe_to_repeat, now_ms, run};
use crate::cli::words;
use crate::{Client, Error};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A command that took longer says so, in the REPL.
const WORTH_SAYING: Duration = Duration::from_millis(10);

/// What a session is set up with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) url: String,
    pub(crate) deadline: Duration,
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
    /// Answers yes to what would be asked.
    pub(crate) yes: bool,
    /// A person is typing: commands can be interrupted, and long ones say how long they took.
    pub(crate) is_interactive: bool,
}

pub(crate) struct Session {
    setup: Setup,
    runtime: Runtime,
    client: Option<Client>,
}

impl Session {
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn new(setup: Setup) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Session { setup, runtime, client: None })
    }

    /// The address of the node that the session is connected to.
    pub(crate) fn connected_to(&self) -> Option<String> {
        self.client.as_ref()?.connected_to().map(|(_, address)| address)
    }

    /// Connects, if that has not happened yet.
    pub(crate) fn connect(&mut self) -> Exit {
        match self.client() {
            Ok(_) => Exit::Ok,
            Err(error) => self.fail(&Failure::Operation(error), true),
        }
    }

    /// Runs one line of a script or the REPL. `None` if there is nothing on it.
    pub(crate) fn run_line(&mut self, line: &str) -> Option<(Exit, Option<Action>)> {
        let words = match words::split(line) {
            Ok(words) if words.is_empty() => return None,
            Ok(words) => words.into_iter().map(|word| word.bytes).collect::<Vec<_>>(),
            Err((_, error)) => return Some((self.usage(&error.to_string()), None)),
        };
        Some(match parse::parse(&words) {
            Ok(action) => (self.run(&action), Some(action)),
            Err(error) => (self.usage(&error.0), None),
        })
    }

    /// Runs one command and prints what it says.
    pub(crate) fn run(&mut self, action: &Action) -> Exit {
        if action.is_local() {
            if let Action::Help(spec) = action {
                let text = spec.map_or_else(crate::cli::commands::overview, |spec| spec.full_help());
                return self.print(&Output::Text(text)).map_or(Exit::ServerError, |()| Exit::Ok);
            }
            return Exit::Ok;
        }
        let began = Instant::now();
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return self.fail(&Failure::Operation(error), true),
        };
        if let Action::Shutdown(node) = action
            && let Err(exit) = self.confirm_shutdown(&client, node)
        {
            return exit;
        }
        let result = self.perform(&client, action);
        let exit = result.unwrap_or_else(|failure| self.fail(&failure, is_safe_to_repeat(action)));
        let took = began.elapsed();
        if self.setup.is_interactive && took >= WORTH_SAYING {
            eprintln!("{}", self.setup.printer.dim(&format!("  {}", crate::cli::text::duration(took))));
        }
        exit
    }

    /// Prints a mistake of the user's.
    pub(crate) fn usage(&self, problem: &str) -> Exit {
        eprint!("{}", self.setup.printer.render_usage(problem));
        Exit::Usage
    }

    /// Lets connections end before the process does.
    pub(crate) fn close(self) {
        if let Some(client) = &self.client {
            self.runtime.block_on(client.close(Duration::from_millis(100)));
        }
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }

    fn client(&mut self) -> Result<Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let builder = Client::builder()
            .url(&self.setup.url)
            .name(format!("kvorum-cli/{}", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.setup.deadline.min(crate::limits::CONNECT_TIMEOUT_DEFAULT))
            .deadline(self.setup.deadline);
        let client = self.runtime.block_on(builder.connect())?;
        self.client = Some(client.clone());
        Ok(client)
    }

    fn perform(&mut self, client: &Client, action: &Action) -> Result<Exit, Failure> {
        let (settings, is_interactive) = (self.setup.settings, self.setup.is_interactive);
        let printer = &mut self.setup.printer;
        let mut broken = None;
        let mut emit = |output: Output| {
            if broken.is_none() {
                broken = write_out(&printer.render(&output, now_ms())).err();
            }
        };
        let result = self.runtime.block_on(async {
            let running = run(client, action, settings, &mut emit);
            if !is_interactive {
                return running.await;
            }
            tokio::select! {
                result = running => result,
                _ = tokio::signal::ctrl_c() => Err(Failure::Usage(interrupted(action).to_owned())),
            }
        });
        match broken {
            // Whoever read the output has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
            Some(error) => Err(Failure::Usage(format!("the output can't be written: {error}"))),
            None => result,
        }
    }

    fn print(&mut self, output: &Output) -> io::Result<()> {
        write_out(&self.setup.printer.render(output, now_ms()))
    }

    fn fail(&self, failure: &Failure, repeat_is_safe: bool) -> Exit {
        match failure {
            Failure::Operation(error) => {
                eprint!("{}", self.setup.printer.render_error(error, repeat_is_safe));
                Exit::of(error)
            }
            Failure::Usage(problem) => self.usage(problem),
        }
    }

    /// Asks before a node is stopped.
    fn confirm_shutdown(&self, client: &Client, wanted: &str) -> Result<(), Exit> {
        let topology = self.runtime.block_on(client.topology());
        let topology = topology.map_err(|error| self.fail(&Failure::Operation(error), true))?;
        let node = find_node(&topology, wanted).map_err(|problem| self.usage(&problem))?;
        if self.setup.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || self.setup.printer.format != Format::Human {
            return Err(self.usage("SHUTDOWN stops a node; say --yes to mean it"));
        }
        let info = topology.nodes.iter().find(|info| info.id == node);
        let name = info.map_or_else(String::new, |info| format!("{} at {}", info.name, info.client_address));
        eprint!("Stop {name}? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        match (read, answer.trim().to_ascii_lowercase().as_str()) {
            (Ok(_), "y" | "yes") => Ok(()),
            _ => {
                eprintln!("{name} goes on.");
                Err(Exit::Ok)
            }
        }
    }
}

fn interrupted(action: &Action) -> &'static str {
    match action {
        Action::Write(_) | Action::MultiPut(_) | Action::Transfer { .. } | Action::Shutdown(_) => {
            "interrupted; it may have taken effect, or may yet"
        }
        _ => "interrupted",
    }
}

fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
