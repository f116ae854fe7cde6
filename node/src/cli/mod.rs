//! The command line of `kvorum`.

pub mod add_node;
pub mod audit;
pub mod cert;
pub mod dev;
pub mod exit;
pub mod health;
pub mod init;
pub mod join;
pub mod let_in;
pub mod recover;
pub mod start;
pub mod stop;
pub mod telemetry;
pub mod verify;

use self::add_node::AddNodeArgs;
use self::audit::AuditVerb;
use self::cert::CertVerb;
use self::dev::DevArgs;
use self::health::HealthArgs;
use self::init::InitArgs;
use self::join::JoinArgs;
use self::recover::RecoverVerb;
use self::start::StartArgs;
use self::verify::VerifyArgs;
use crate::cli::exit::Exit;
use crate::config::{self, FIELDS};
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Kvorum: a sharded, replicated key-value store, linearizable and durable by default.
#[derive(Debug, Parser)]
#[command(name = "kvorum", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole cluster on this machine, with a REPL in front
    Dev(DevArgs),
    /// Run one node
    Start(StartArgs),
    /// Make a cluster's folder: certificates and a configuration per node
    Init(InitArgs),
    /// Make the folder of one more node, to join a cluster that is there
    AddNode(AddNodeArgs),
    /// Have this machine join a cluster by a token
    ///
    /// An operator gets a token with CLUSTER TOKEN. May be run again after an interruption.
    Join(JoinArgs),
    /// Check the data folder of a stopped node, and change nothing
    ///
    /// Ends with 0 if it is sound, 1 if damage was found, 2 if it can't be checked.
    Verify(VerifyArgs),
    /// Recover groups that have lost their quorum for good, with all nodes stopped
    #[command(subcommand)]
    Recover(RecoverVerb),
    /// Ask a node how it is doing
    ///
    /// Ends with 0 if it is well, with 1 if it is not or does not answer.
    Health(HealthArgs),
    /// Make, show and exchange certificates
    #[command(subcommand)]
    Cert(CertVerb),
    /// Check audit logs
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Print what teaches a shell to complete this program's command line
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command
    Man {
        /// The folder, such as /usr/local/share/man/man1; made if it is not there
        folder: PathBuf,
    },
}

impl Cli {
    /// Runs what the command line asks for. What went wrong is the last line on stderr.
    pub fn run(self) -> ExitCode {
        let done = |()| ExitCode::from(Exit::Ok);
        match self.verb {
            Verb::Dev(args) => ended(dev::run(args), dev::DevError::exit),
            Verb::Start(args) => ended(start::run(args).map(done), start::StartError::exit),
            Verb::Init(args) => ended(init::run(args).map(done), init::InitError::exit),
            Verb::AddNode(args) => ended(add_node::run(&args).map(done), add_node::AddNodeError::exit),
            Verb::Join(args) => ended(join::run(args).map(done), join::JoinError::exit),
            Verb::Verify(args) => verify::run(&args).unwrap_or_else(|error| {
                telemetry::last_line(format_args!("kvorum: {error} (exit code {})", verify::CANNOT_CHECK));
                ExitCode::from(verify::CANNOT_CHECK)
            }),
            Verb::Recover(verb) => ended(verb.run().map(done), recover::RecoverError::exit),
            Verb::Health(args) => ended(health::run(args), |_| Exit::Failure),
            Verb::Cert(verb) => ended(verb.run().map(done), cert::CertVerbError::exit),
            Verb::Audit(verb) => verb.run(),
            Verb::Completions { shell } => ended(complete(shell).map(done), |_| Exit::Failure),
            Verb::Man { folder } => ended(write_pages(&folder).map(done), |_| Exit::Failure),
        }
    }
}

fn complete(shell: clap_complete::Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kvorum", &mut script);
    io::stdout().lock().write_all(&script)
}

fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

fn ended<E: Display>(result: Result<ExitCode, E>, exit: impl FnOnce(&E) -> Exit) -> ExitCode {
    result.unwrap_or_else(|error| {
        let exit = exit(&error);
        telemetry::last_line(format_args!("kvorum: {error} (exit code {})", exit.code()));
        exit.into()
    })
}

/// Prints a line for the person at the terminal. A closed stdout is no reason to stop a cluster.
pub fn say(line: impl Display) {
    let _ = print(line);
}

/// Prints a line for whoever reads what the command is there to print, which may be a file.
///
/// # Errors
/// It can't be written, or not all of it.
pub(crate) fn print(line: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())
}

/// One flag per configuration field, made from the table of fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldFlags(pub Vec<(String, String)>);

impl Args for FieldFlags {
    fn augment_args(command: Command) -> Command {
        FIELDS
            .iter()
            .fold(command.next_help_heading("Configuration fields"), |command, field| command.arg(field_flag(field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn field_flag(field: &config::Field) -> Arg {
    let default = field.default.map_or(String::new(), |default| format!(", by default {}", default.trim_matches('"')));
    let flag = Arg::new(field.path)
        .long(field.flag())
        .value_name("VALUE")
        .help(format!("{}: {}{default}", field.help, field.allowed))
        .hide_short_help(field.default.is_some());
    // A switch needs no value on the command line.
    if field.default == Some("false") { flag.num_args(0..=1).default_missing_value("true") } else { flag }
}

impl FromArgMatches for FieldFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FIELDS.iter().filter_map(|field| {
            let value = matches.get_one::<String>(field.path)?;
            Some((field.path.to_owned(), value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::TempDir::new().unwrap();
        write_pages(&folder.path().join("man1")).unwrap();
        for page in ["kvorum.1", "kvorum-start.1", "kvorum-cert-node.1"] {
            let text = fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }

    #[test]
    fn fields_become_flags() {
        let line = ["kvorum", "start", "--config", "x.toml", "--shards", "8", "--fault-hooks", "--tls-ca=ca.pem"];
        let Verb::Start(args) = Cli::try_parse_from(line).unwrap().verb else { panic!("another verb") };
        let expected = [("shards", "8"), ("tls.ca", "ca.pem"), ("fault_hooks", "true")];
        let expected: Vec<_> = expected.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
        assert_eq!(args.fields.0, expected);
    }
}
