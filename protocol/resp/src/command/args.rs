//! Reading a command's arguments.

use super::error::{CommandError, Excerpt, database};
use crate::limits::{KEY_BYTES_MAX, PATTERN_BYTES_MAX};
use crate::number::parse_integer;
use crate::request::{Arguments, Request};
use crate::table::CommandSpec;

/// The arguments of a request, and the command that it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    pub(crate) spec: &'static CommandSpec,
    pub(crate) request: &'a Request,
}

impl<'a> Args<'a> {
    /// Arguments, the name among them.
    pub(super) fn len(self) -> usize {
        self.request.len()
    }

    /// An argument. The command's arity says that it is there.
    pub(super) fn at(self, index: usize) -> &'a [u8] {
        debug_assert!(index < self.len());
        self.request.get(index).unwrap_or_default()
    }

    /// An argument that may be missing.
    pub(super) fn get(self, index: usize) -> Option<&'a [u8]> {
        self.request.get(index)
    }

    /// All arguments from one on.
    pub(super) fn from(self, first: usize) -> Arguments<'a> {
        self.request.every(first, 1)
    }

    /// Whether an argument is this word, in any case.
    pub(super) fn is(self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// A key.
    pub(super) fn key(self, index: usize) -> Result<&'a [u8], CommandError> {
        checked_key(self.at(index))
    }

    /// Keys: every `step`th argument from one on.
    pub(super) fn pattern(self, at: usize) -> Result<&'a [u8], CommandError> {
        let pattern = self.at(at);
        if pattern.len() > PATTERN_BYTES_MAX { Err(CommandError::StringTooLong) } else { Ok(pattern) }
    }

    pub(super) fn keys(self, first: usize, step: usize) -> Result<Arguments<'a>, CommandError> {
        let keys = self.request.every(first, step);
        keys.rest().try_for_each(|key| checked_key(key).map(|_| ()))?;
        Ok(keys)
    }

    /// A whole number.
    pub(super) fn integer(self, index: usize) -> Result<i64, CommandError> {
        self.integer_or(index, CommandError::NotAnInteger)
    }

    /// A whole number, or this error.
    pub(super) fn integer_or(self, index: usize, error: CommandError) -> Result<i64, CommandError> {
        parse_integer(self.at(index)).ok_or(error)
    }

    /// A database's number.
    pub(super) fn database(self, index: usize) -> Result<u32, CommandError> {
        database(self.integer(index)?)
    }

    /// Milliseconds to wait; 0 for ever.
    pub(super) fn timeout_ms(self, index: usize) -> Result<u64, CommandError> {
        let timeout = self.integer_or(index, CommandError::TimeoutNotAnInteger)?;
        u64::try_from(timeout).map_err(|_| CommandError::TimeoutNegative)
    }

    /// ON or OFF.
    pub(super) fn switch(self, index: usize) -> Result<bool, CommandError> {
        match () {
            () if self.is(index, "on") => Ok(true),
            () if self.is(index, "off") => Ok(false),
            () => Err(CommandError::Syntax),
        }
    }

    /// An error for what a subcommand's arity does not say.
    pub(super) fn subcommand_syntax(self) -> CommandError {
        let command = self.spec.full_name.split_once('|').map_or(self.spec.full_name, |(command, _)| command);
        CommandError::SubcommandSyntax { command, subcommand: Excerpt::of(self.at(1)) }
    }

    /// An error for what the arity does not say.
    pub(super) fn wrong_number(self) -> CommandError {
        CommandError::WrongNumberOfArguments(self.spec.full_name)
    }
}

fn checked_key(key: &[u8]) -> Result<&[u8], CommandError> {
    match key.len() {
        0 => Err(CommandError::EmptyKey),
        1..=KEY_BYTES_MAX => Ok(key),
        _ => Err(CommandError::KeyTooLong),
    }
}
