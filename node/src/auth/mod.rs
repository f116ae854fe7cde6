//! Who is who: certificates of nodes.

pub mod cert;
