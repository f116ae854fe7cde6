#![doc = include_str!("../README.md")]
#![warn(clippy::use_self, rustdoc::broken_intra_doc_links, unused_qualifications)]

pub mod error;
pub mod limits;
pub mod retry;
pub mod routing;
pub mod session;
pub mod url;

pub use error::{CloseReason, ConnectionError, Error};
