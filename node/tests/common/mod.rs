//! What the scenario tests share: a cluster of real processes, raw connections to it, and clients whose every operation is
//! recorded for the linearizability checker.
//!
//! Nothing here waits for a fixed time in the hope that something has happened by then. [`wait::eventually`] asks again
//! until what it waits for is there, and panics at its deadline; a cluster that goes down in a panic prints its logs.

// The programs that hold one scenario compile this module anew, and use a part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod resp;
pub(crate) mod wait;
pub(crate) mod wire;
pub(crate) mod workload;

pub(crate) use cluster::{ClusterOptions, TestCluster, key_in_shard};
pub(crate) use recorder::Recorder;
pub(crate) use wait::{eventually, let_run};
pub(crate) use wire::RawConnection;
pub(crate) use workload::Workload;
