#![doc = include_str!("../README.md")]

pub mod error;
pub mod limits;
pub mod retry;
pub mod routing;
pub mod session;
pub mod url;

pub use error::{CloseReason, ConnectionError, Error};
