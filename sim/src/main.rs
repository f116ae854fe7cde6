//! Runs simulations by the thousand, and shows single ones.

mod cli;

/// A run is made of small allocations: a sixth of its time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
