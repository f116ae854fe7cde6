//! Which arguments of a request are keys.

use super::{CommandSpec, KeyAccess, KeySpec};
use crate::request::Request;

/// A key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The key.
    pub name: &'a [u8],
    /// What the command does to it.
    pub access: KeyAccess,
}

/// The keys of a request, in the order of its arguments.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    request: &'a Request,
    specs: &'static [KeySpec],
    /// How far behind the first key of the first of `specs`.
    next: usize,
}

impl CommandSpec {
    /// The keys of a request for this command.
    pub fn keys<'a>(&self, request: &'a Request) -> Keys<'a> {
        Keys { request, specs: self.key_specs, next: 0 }
    }

    /// First key, last key and step as COMMAND INFO says them; zeros without keys. The last one counts from the end if it is
    /// negative.
    pub fn key_range(&self) -> (i64, i64, i64) {
        let (Some(first), Some(last)) = (self.key_specs.first(), self.key_specs.last()) else { return (0, 0, 0) };
        let end = if last.last < 0 { 0 } else { i64::from(last.first) };
        (i64::from(first.first), end + i64::from(last.last), i64::from(first.step))
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = Key<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let spec = self.specs.first()?;
            let at = usize::from(spec.first) + self.next;
            let is_within = usize::try_from(spec.last).map_or(true, |last| self.next <= last);
            match self.request.get(at).filter(|_| is_within) {
                Some(name) => {
                    self.next += usize::from(spec.step);
                    return Some(Key { name, access: access(spec, self.request) });
                }
                None => (self.specs, self.next) = (&self.specs[1..], 0),
            }
        }
    }
}

/// What is done to a key. SET reads it as well if it has the option GET.
fn access(spec: &KeySpec, request: &Request) -> KeyAccess {
    if !spec.access.has(KeyAccess::VARIABLE) {
        return spec.access;
    }
    if request.every(3, 1).any(|option| option.eq_ignore_ascii_case(b"get")) {
        KeyAccess::MODIFY.and(KeyAccess::ACCESS).and(KeyAccess::UPDATE)
    } else {
        KeyAccess::OVERWRITE.and(KeyAccess::UPDATE)
    }
}
