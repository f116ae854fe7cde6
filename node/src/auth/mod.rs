//! Who is who: certificates of nodes, what signs them for nodes that join, and the proof of a token.

pub mod cert;
pub mod issuer;
pub mod proof;
