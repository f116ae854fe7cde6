//! How long writes are interrupted: writers of every shard, and the arithmetic of the gaps between their answers.

pub(crate) mod gaps;
pub(crate) mod writers;
