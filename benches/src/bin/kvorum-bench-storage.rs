//! kvorum-bench-storage: see `kvorum_benches::storage`. Exit codes: 0 done, 1 not, also because a signal came.

use clap::Parser;
use kvorum_benches::stop;
use kvorum_benches::storage::{StorageOptions, run_storage};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = StorageOptions::parse();
    if let Err(error) = stop::on_signals() {
        eprintln!("kvorum-bench-storage: {error}");
        return ExitCode::FAILURE;
    }
    let table = match run_storage(&options, &mut |line| eprintln!("  {line}")) {
        Ok(table) => table,
        Err(error) => {
            eprintln!("kvorum-bench-storage: {error}");
            return ExitCode::FAILURE;
        }
    };
    let text = if options.json {
        serde_json::to_string_pretty(&table).expect("a table has no keys but texts") + "\n"
    } else {
        table.to_string()
    };
    // A reader that went away, such as `head`, is no reason to panic.
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
