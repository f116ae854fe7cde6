//! Who holds what and who leads it, the requests that were passed on, and what peers say of themselves.

mod forwards;
pub mod map_news;
pub mod network;
pub mod peer_desk;
pub mod peer_table;
pub mod router;
pub mod topology_news;
