//! The command line of Kvorum.

fn main() -> std::process::ExitCode {
    kvorum_client::cli::main(std::env::args_os())
}
