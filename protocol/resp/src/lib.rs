//! What the RESP doors read and write: the protocol of Redis, so that its clients can talk to Kvorum.
//!
//! This crate is pure: it performs no I/O, reads no clock and draws no random numbers. A door reads bytes from a connection and
//! gives them to a [`RequestParser`], which takes [`Request`]s off them. [`table::resolve`] tells the command that a request
//! asks for, and [`Command::parse`] what exactly. The door carries the command out, and adds the answer to its [`Output`]
//! through a [`ReplyWriter`].
//!
//! ```
//! use bytes::{Buf, BytesMut};
//! use kvorum_resp::{Command, Output, Progress, ReplyWriter, Request, RequestParser, RespVersion, table};
//!
//! let mut input = BytesMut::from("*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$3\r\nGE");
//! let (mut parser, mut request, mut output) = (RequestParser::new(true), Request::new(), Output::new());
//! while let Progress::Request = parser.next(&mut input, &mut request)? {
//!     let spec = table::resolve(&request)?;
//!     let mut reply = ReplyWriter::new(&mut output, RespVersion::Three);
//!     match Command::parse(spec, &request)? {
//!         Command::Get(_) => reply.null(),
//!         Command::Ping(None) => reply.simple("PONG"),
//!         _ => unreachable!("nothing else was sent"),
//!     }
//! }
//! assert_eq!(output.copy_to_bytes(output.len()), "_\r\n+PONG\r\n");
//! assert_eq!(input, "*1\r\n$3\r\nGE");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Bytes are treated as sent by an enemy. What a client announces sets no memory aside; all is bounded ([`limits`]), and no
//! input makes a parser panic. After a [`ProtocolError`] nothing more is parsed.
//!
//! # Where it differs from Redis 7.2
//!
//! - An argument that does not end with an end of a line is a protocol error. Redis takes any two bytes for one.
//! - A line that is too long is refused at the same byte however it was cut, not when it happens to be looked at.
//! - Keys have 1 to 65,536 bytes; arguments of over 16 MiB are refused, and close the connection from 64 MiB on.
//! - INCRBYFLOAT adds exactly, see [`number::decimal`].
//! - A pattern may use a bounded number of steps, see [`glob::Pattern::matches`].
//! - HELP and COMMAND DOCS have texts of their own, and COMMAND DOCS describes no arguments.

pub mod command;
pub mod glob;
mod inline;
pub mod limits;
pub mod number;
mod output;
mod parser;
mod peek;
mod reply;
mod request;
pub mod table;

pub use command::{Command, CommandError};
pub use output::Output;
pub use parser::{Progress, ProtocolError, RequestParser};
pub use peek::peek_gets;
pub use reply::{ReplyWriter, RespVersion};
pub use request::{Arguments, Request};
