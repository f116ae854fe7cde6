//! The bodies of the fuzz targets; see the module.

pub use kvorum_cli::fuzz_bodies as bodies;
