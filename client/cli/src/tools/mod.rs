//! What the program does in place of commands: tools that load, measure and watch, each until it is done or ctrl-c ends it.

mod big_keys;
mod intrinsic;
mod latency;
mod spans;
mod stat;

pub(crate) use intrinsic::intrinsic;

use crate::args::Tool;
use crate::exit::Exit;
use crate::load::{self, LoadOptions};
use crate::output::{Format, Printer};
use crate::parse::Action;
use crate::run::{Emit, Failure, Settings};
use kvorum_client::Client;
use std::time::Duration;

/// What a tool is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) client: &'a Client,
    pub(crate) settings: Settings,
    pub(crate) printer: &'a Printer,
    /// How long a command may take.
    pub(crate) deadline: Duration,
    /// What --latency measures.
    pub(crate) action: &'a Action,
    /// The same as it was typed.
    pub(crate) typed: &'a str,
}

impl Bench<'_> {
    /// Whether people read what is printed.
    fn is_for_people(&self) -> bool {
        self.printer.format == Format::Human
    }
}

/// Runs a tool. What it says goes to `emit`.
///
/// # Errors
/// Why it failed.
pub(crate) async fn run(bench: Bench<'_>, tool: &Tool, emit: Emit<'_>) -> Result<Exit, Failure> {
    match tool {
        Tool::Pipe => {
            let options = LoadOptions { ack: bench.settings.ack, deadline: bench.deadline };
            Ok(load::load(bench.client, options, bench.printer, emit).await)
        }
        Tool::BigKeys { prefix, pause } => big_keys::big_keys(bench, prefix, *pause, emit).await,
        Tool::Latency(pace) => latency::latency(bench, *pace, emit).await,
        Tool::Stat(pace) => stat::stat(bench, *pace, emit).await,
        Tool::Intrinsic(lasts) => Ok(intrinsic(bench.printer, *lasts, emit).await),
    }
}
