//! Kvorum's node: the server behind the binary `kvorum`.

pub mod cert;
pub mod control;
pub mod peers;
pub mod supervisor;
