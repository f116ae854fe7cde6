//! The bodies of the fuzz targets; see the module.

pub mod bodies;
