//! The command line of Kvorum.

fn main() -> std::process::ExitCode {
    kvorum_cli::main(std::env::args_os())
}
