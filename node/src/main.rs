//! The binary `kvorum`: reads the command line, runs what it asks for, and ends with a clear last line.

use clap::Parser;
use kvorum_node::cli::Cli;
use std::process::ExitCode;

// Small allocations of many sizes from many threads are what a node does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
