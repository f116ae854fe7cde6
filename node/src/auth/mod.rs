//! Who is who: certificates of nodes, what signs them for nodes that join, the proof of a token, and the logins of clients.

pub mod authorization;
pub mod cert;
pub mod certificates;
pub mod issuer;
pub mod login;
mod password_threads;
pub mod proof;
pub mod user_cert;
