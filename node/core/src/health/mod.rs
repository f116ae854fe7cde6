//! Whether a node is well, and what follows from it: its disk, its memory, its clock, its cold data, and parts that fail.

pub mod disk_watch;
pub mod fitness;
pub mod pressure;
pub mod restart_policy;
pub mod scrub;
pub mod wall_clocks;
