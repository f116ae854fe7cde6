//! Messages from client to client.

use super::args::Args;
use super::{Command, CommandError};

pub(crate) fn publish(args: Args<'_>) -> Result<Command<'_>, CommandError> {
    Ok(Command::Publish { channel: args.at(1), message: args.at(2) })
}
