//! What each fuzz target does with its bytes. `tests/fuzz_smoke.rs` runs the very same functions over mutations of requests, so
//! that a plain `cargo test` covers some of what a fuzzer would.
//!
//! Each function takes any bytes, must not panic, and says whether they meant anything.

use bytes::{Bytes, BytesMut};
use kvorum_resp::command::Credentials;
use kvorum_resp::glob::Pattern;
use kvorum_resp::number::decimal::Decimal;
use kvorum_resp::number::{IntegerText, parse_cursor, parse_integer};
use kvorum_resp::{Command, Progress, ProtocolError, Request, RequestParser, table};
use resp_rs::resp2;

/// What a parser made of some bytes: requests, empty for one that was too large, and what ended them.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    requests: Vec<Vec<Bytes>>,
    error: Option<ProtocolError>,
}

/// Memory that a parser may have beside its input: 12 bytes for an argument, of which the shortest has 6.
const MEMORY_FACTOR: usize = 2;

/// Memory that a parser keeps in any case.
const SPARE_BYTES: usize = 8 * 1024;

fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_authenticated: bool) -> Parsed {
    let (mut parser, mut input, mut request) = (RequestParser::new(is_authenticated), BytesMut::new(), Request::new());
    let (mut parsed, mut taken) = (Parsed { requests: Vec::new(), error: None }, 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        taken += piece.len();
        loop {
            match parser.next(&mut input, &mut request) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Request) => {
                    parsed.requests.push(request.iter().map(Bytes::copy_from_slice).collect());
                    understand(&request);
                }
                Ok(Progress::TooLarge) => parsed.requests.push(Vec::new()),
                Err(error) => {
                    assert_eq!(parser.next(&mut input, &mut request), Err(error));
                    parsed.error = Some(error);
                    return parsed;
                }
            }
        }
        assert!(parser.held_bytes() <= MEMORY_FACTOR * taken + SPARE_BYTES);
    }
    parsed
}

/// A request is a command or an error, and both can be told.
fn understand(request: &Request) {
    let error = match table::resolve(request) {
        Ok(spec) => {
            let within = |key: &[u8]| request.iter().any(|argument| std::ptr::eq(argument, key));
            assert!(spec.keys(request).all(|key| within(key.name)));
            Command::parse(spec, request).err()
        }
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        let text = error.text();
        assert!(text.len() < 512 && text.iter().take_while(|byte| byte.is_ascii_uppercase()).count() >= 3);
    }
}

/// Bytes of a connection. They are understood the same however they are cut, and as another parser does where they are arrays.
pub fn request(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    let is_authenticated = first % 2 == 0;
    let whole = parse(std::iter::once(data), is_authenticated);
    assert_eq!(parse(data.chunks(1), is_authenticated), whole);
    assert_eq!(parse(data.chunks(1 + usize::from(first / 2)), is_authenticated), whole);
    if let Some(theirs) = arrays(data).filter(|_| is_authenticated) {
        let ours = Parsed { requests: theirs, error: None };
        assert_eq!(whole, ours);
    }
    !whole.requests.is_empty()
}

/// The requests of the other parser, if all bytes are arrays of bulk strings.
fn arrays(data: &[u8]) -> Option<Vec<Vec<Bytes>>> {
    let (mut requests, mut rest) = (Vec::new(), Bytes::copy_from_slice(data));
    while !rest.is_empty() {
        let (frame, behind) = resp2::parse_frame(rest).ok()?;
        let resp2::Frame::Array(Some(items)) = frame else { return None };
        let argument = |item: resp2::Frame| match item {
            resp2::Frame::BulkString(bytes) => bytes,
            _ => None,
        };
        let request: Vec<Bytes> = items.into_iter().map(argument).collect::<Option<_>>()?;
        requests.push(request);
        rest = behind;
    }
    if !is_plain(data, &requests) {
        return None;
    }
    // An empty array asks for nothing.
    requests.retain(|request| !request.is_empty());
    Some(requests)
}

/// Whether the bytes are the usual encoding of these requests: the other parser takes numbers that Redis does not, such as `+1`.
fn is_plain(data: &[u8], requests: &[Vec<Bytes>]) -> bool {
    let argument = |argument: &Bytes| resp2::Frame::BulkString(Some(argument.clone()));
    let frame = |request: &Vec<Bytes>| resp2::Frame::Array(Some(request.iter().map(argument).collect()));
    let encoded: Vec<u8> = requests.iter().flat_map(|request| resp2::frame_to_bytes(&frame(request))).collect();
    encoded == data
}

/// AUTH or HELLO, whose arguments line ends part. Who a client says that it is stands there word for word, and what is secret is not
/// shown.
pub fn login(data: &[u8]) -> bool {
    let words: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let mut input = BytesMut::from(format!("*{}\r\n", words.len()).as_bytes());
    for word in &words {
        input.extend_from_slice(&[format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
    }
    let mut request = Request::new();
    if RequestParser::new(true).next(&mut input, &mut request) != Ok(Progress::Request) {
        return false;
    }
    let Ok(spec) = table::resolve(&request) else { return false };
    let Ok(command) = Command::parse(spec, &request) else { return false };
    let shown = format!("{command:?}");
    let (credentials, name) = match command {
        Command::Auth(credentials) => {
            let user = (words.len() == 3).then(|| words[1]);
            assert_eq!((credentials.user, words.last()), (user, Some(&credentials.password.0)));
            (Some(credentials), None)
        }
        Command::Hello(hello) => {
            let places = words.windows(3).filter(|three| three[0].eq_ignore_ascii_case(b"auth"));
            let is_there = |said: &Credentials<'_>| {
                places.clone().any(|three| said.user == Some(three[1]) && said.password.0 == three[2])
            };
            assert!(hello.credentials.as_ref().is_none_or(is_there));
            (hello.credentials, hello.client_name)
        }
        _ => return false,
    };
    let Some(Credentials { user, password }) = credentials else { return true };
    let is_said_elsewhere = [user, name].contains(&Some(password.0));
    assert!(is_said_elsewhere || !shown.contains(&format!("{:?}", password.0)), "{shown}");
    true
}

/// A pattern and a text, which the first byte parts. They are compared in no more steps than there can be.
pub fn pattern(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    let (pattern, text) = data.split_at(usize::from(*first).min(data.len()));
    let mut steps = ((pattern.len() + 2) * (text.len() + 2)) as u64;
    let compiled = Pattern::new(pattern, false);
    let is_match = compiled.matches(text, &mut steps).expect("the steps suffice");
    if let Some(literal) = compiled.literal() {
        assert_eq!(is_match, literal == text);
    }
    if is_match {
        let behind_any = Pattern::new(&[b"*", pattern].concat(), false);
        assert_eq!(behind_any.matches(text, &mut u64::MAX.clone()), Ok(true));
    }
    is_match
}

/// A number. What is written is read as the same.
pub fn number(data: &[u8]) -> bool {
    let integer = parse_integer(data);
    if let Some(integer) = integer {
        assert_eq!(IntegerText::of(integer).as_bytes(), data);
        assert_eq!(parse_cursor(data), u64::try_from(integer).ok());
        let decimal = Decimal::parse(data).expect("a whole number is a number");
        assert_eq!(decimal.to_text().as_bytes(), data);
    }
    let Some(decimal) = Decimal::parse(data) else { return false };
    if let Some(sum) = decimal.checked_add(&Decimal::parse(b"0").expect("zero is a number")) {
        let text = sum.to_text();
        assert_eq!(text, decimal.to_text());
        assert_eq!(Decimal::parse(text.as_bytes()).map(|again| again.to_text()), Some(text));
    }
    true
}
