//! A request: a command's name and its arguments, in the bytes that the client sent.

use bytes::Bytes;
use std::fmt;

/// Where an argument lies in its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

impl Span {
    /// Of `length` bytes, from `start` on. Both are below the bounds of a command.
    pub(crate) fn new(start: usize, length: usize) -> Self {
        debug_assert!(start <= u32::MAX as usize && length <= u32::MAX as usize);
        Self { start: start as u32, length: length as u32 }
    }
}

/// A command's name and its arguments. Its vector is used again by the next request that is parsed into it, so a door that
/// keeps its requests allocates nothing per command.
#[derive(Clone, Default)]
pub struct Request {
    frame: Bytes,
    spans: Vec<Span>,
}

impl Request {
    /// Without a name: something to parse into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Made of copies of `arguments`, the command's name first.
    pub fn of(arguments: &[&[u8]]) -> Self {
        let mut request = Self { frame: Bytes::from(arguments.concat()), spans: Vec::with_capacity(arguments.len()) };
        let mut start = 0;
        for argument in arguments {
            request.spans.push(Span::new(start, argument.len()));
            start += argument.len();
        }
        request
    }

    /// Takes a frame and the places in it. What was in `spans` is what this request had before.
    pub(crate) fn replace(&mut self, frame: Bytes, spans: &mut Vec<Span>) {
        self.frame = frame;
        std::mem::swap(&mut self.spans, spans);
        spans.clear();
    }

    /// Arguments, the name among them. At least 1 in a request that was parsed.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no name: nothing was parsed into this.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// An argument; the name is number 0.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.spans.get(index).map(|span| self.at(*span))
    }

    /// The command's name as the client wrote it; empty if nothing was parsed into this.
    pub fn name(&self) -> &[u8] {
        self.get(0).unwrap_or_default()
    }

    /// All arguments, the name first.
    pub fn iter(&self) -> Arguments<'_> {
        Arguments { request: self, next: 0, step: 1 }
    }

    /// Every `step`th argument from number `first` on.
    pub(crate) fn every(&self, first: usize, step: usize) -> Arguments<'_> {
        debug_assert!(step > 0);
        Arguments { request: self, next: first, step }
    }

    /// `part` of this request as a value of its own, without a copy. It holds the memory that the request was read into.
    ///
    /// # Panics
    /// If `part` is no slice of this request.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.frame.slice_ref(part)
    }

    /// Lets go of what was sent. The request has no arguments then.
    pub fn forget(&mut self) {
        self.frame = Bytes::new();
        self.spans.clear();
    }

    /// Bytes that this request holds in memory: what was sent, and the places of its arguments.
    pub fn held_bytes(&self) -> usize {
        self.frame.len() + self.spans.capacity() * size_of::<Span>()
    }

    /// Bytes of this request as an array of bulk strings, as clients send it.
    pub fn encoded_bytes(&self) -> usize {
        let head = |number: usize| "*\r\n".len() + number.checked_ilog10().unwrap_or(0) as usize + 1;
        let bulk = |span: &Span| head(span.length as usize) + span.length as usize + "\r\n".len();
        head(self.spans.len()) + self.spans.iter().map(bulk).sum::<usize>()
    }

    fn at(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.frame[start..start + span.length as usize]
    }
}

/// Without the arguments: there may be a password among them.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().escape_ascii().to_string();
        formatter.debug_struct("Request").field("name", &name).field("len", &self.len()).finish()
    }
}

impl<'a> IntoIterator for &'a Request {
    type Item = &'a [u8];
    type IntoIter = Arguments<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Arguments of a request: all from one on, or every second one.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    request: &'a Request,
    next: usize,
    step: usize,
}

impl<'a> Arguments<'a> {
    /// Those that are left, without taking them.
    pub fn rest(&self) -> Self {
        *self
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let argument = self.request.get(self.next)?;
        self.next += self.step;
        Some(argument)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.request.len().saturating_sub(self.next).div_ceil(self.step);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Arguments<'_> {}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.rest().map(|argument| argument.escape_ascii().to_string())).finish()
    }
}

impl PartialEq for Arguments<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rest().eq(other.rest())
    }
}

impl Eq for Arguments<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_a_client_sends_are_counted() {
        assert_eq!(Request::of(&[b"client", b"list"]).encoded_bytes(), "*2\r\n$6\r\nclient\r\n$4\r\nlist\r\n".len());
        assert_eq!(Request::of(&[b"get", b"", &[0; 10]]).encoded_bytes(), 4 + 9 + 6 + 17);
    }
}
