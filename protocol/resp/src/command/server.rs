//! Commands of the server as a whole, and looking into it.

use super::args::Args;
use super::introspection::IntrospectionCommand;
use super::strings::Pairs;
use super::{Command, CommandError};
use crate::request::Arguments;
use crate::table;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// A subcommand of CONFIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigCommand<'a> {
    /// The settings that match any of these patterns, in any case.
    Get(Arguments<'a>),
    /// Names and values.
    Set(Pairs<'a>),
    /// Sets counters to 0.
    ResetStat,
    /// Writes settings into their file, of which there is none.
    Rewrite,
}

/// A subcommand of OBJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectQuestion {
    /// How Redis would keep the value: `int`, `embstr` or `raw`.
    Encoding,
    /// How often the key is used, which nobody counts.
    Frequency,
    /// How long the key was not used, which nobody notes.
    IdleTime,
    /// How often the value is referred to.
    ReferenceCount,
}

/// A subcommand of SLOWLOG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowlogCommand {
    /// The newest; all without a number.
    Get(Option<u64>),
    /// How many there are.
    Len,
    /// Forgets them.
    Reset,
}

/// A subcommand of LATENCY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyCommand<'a> {
    /// A report for people.
    Doctor,
    /// A drawing of an event.
    Graph(&'a [u8]),
    /// How long these commands took; all if none is named.
    Histogram(Arguments<'a>),
    /// When an event took long.
    History(&'a [u8]),
    /// The newest of each event.
    Latest,
    /// Forgets these events; all if none is named.
    Reset(Arguments<'a>),
}

/// Newest entries that SLOWLOG GET gives if the client doesn't say.
const SLOWLOG_COUNT: u64 = 10;

/// What a command with subcommands stands for without one. Its arity refuses that.
pub(crate) fn no_subcommand(args: Args<'_>) -> Parsed<'_> {
    Err(args.wrong_number())
}

pub(crate) fn help(args: Args<'_>) -> Parsed<'_> {
    let command = args.spec.full_name.split_once('|').and_then(|(name, _)| table::command(name.as_bytes()));
    command.map(Command::Help).ok_or(args.wrong_number())
}

pub(crate) fn command_all(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::Info(args.from(1))))
}

pub(crate) fn dbsize(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::DbSize)
}

pub(crate) fn time(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Time)
}

pub(crate) fn role(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Role)
}

pub(crate) fn monitor(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Monitor)
}

pub(crate) fn info(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Info(args.from(1)))
}

pub(crate) fn flushall(args: Args<'_>) -> Parsed<'_> {
    flush(args, true)
}

pub(crate) fn flushdb(args: Args<'_>) -> Parsed<'_> {
    flush(args, false)
}

fn flush(args: Args<'_>, all_databases: bool) -> Parsed<'_> {
    match args.len() {
        1 => Ok(Command::Flush { all_databases }),
        2 if is_flush_mode(args, 1) => Ok(Command::Flush { all_databases }),
        _ => Err(CommandError::Syntax),
    }
}

/// SYNC and ASYNC mean the same here.
fn is_flush_mode(args: Args<'_>, at: usize) -> bool {
    args.is(at, "sync") || args.is(at, "async")
}

pub(crate) fn function_flush(args: Args<'_>) -> Parsed<'_> {
    match args.len() {
        2 => Ok(Command::FunctionFlush),
        3 if is_flush_mode(args, 2) => Ok(Command::FunctionFlush),
        3 => Err(CommandError::FunctionFlushOption),
        _ => Err(args.subcommand_syntax()),
    }
}

pub(crate) fn config_get(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Config(ConfigCommand::Get(args.from(2))))
}

pub(crate) fn config_set(args: Args<'_>) -> Parsed<'_> {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    Ok(Command::Config(ConfigCommand::Set(Pairs::new(args.from(2)))))
}

pub(crate) fn config_resetstat(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Config(ConfigCommand::ResetStat))
}

pub(crate) fn config_rewrite(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Config(ConfigCommand::Rewrite))
}

pub(crate) fn module_list(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::ModuleList)
}

pub(crate) fn object_encoding(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Object { key: args.key(2)?, question: ObjectQuestion::Encoding })
}

pub(crate) fn object_freq(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Object { key: args.key(2)?, question: ObjectQuestion::Frequency })
}

pub(crate) fn object_idletime(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Object { key: args.key(2)?, question: ObjectQuestion::IdleTime })
}

pub(crate) fn object_refcount(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Object { key: args.key(2)?, question: ObjectQuestion::ReferenceCount })
}

pub(crate) fn memory_usage(args: Args<'_>) -> Parsed<'_> {
    let mut at = 3;
    while at < args.len() {
        // The number is looked at, and means nothing for strings.
        if !args.is(at, "samples") || at + 1 == args.len() || args.integer(at + 1)? < 0 {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    Ok(Command::MemoryUsage(args.key(2)?))
}

pub(crate) fn slowlog_get(args: Args<'_>) -> Parsed<'_> {
    let count = match args.len() {
        2 => Some(SLOWLOG_COUNT),
        3 => match args.integer_or(2, CommandError::SlowlogCount)? {
            -1 => None,
            count => Some(u64::try_from(count).map_err(|_| CommandError::SlowlogCount)?),
        },
        _ => return Err(args.subcommand_syntax()),
    };
    Ok(Command::Slowlog(SlowlogCommand::Get(count)))
}

pub(crate) fn slowlog_len(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Slowlog(SlowlogCommand::Len))
}

pub(crate) fn slowlog_reset(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Slowlog(SlowlogCommand::Reset))
}

pub(crate) fn latency_doctor(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::Doctor))
}

pub(crate) fn latency_graph(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::Graph(args.at(2))))
}

pub(crate) fn latency_histogram(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::Histogram(args.from(2))))
}

pub(crate) fn latency_history(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::History(args.at(2))))
}

pub(crate) fn latency_latest(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::Latest))
}

pub(crate) fn latency_reset(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Latency(LatencyCommand::Reset(args.from(2))))
}
