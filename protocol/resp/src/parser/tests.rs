use super::*;
use proptest::prelude::*;

/// What a parser made of some input: requests, `None` for one that was too large, and how it ended.
type Outcome = (Vec<Option<Vec<Vec<u8>>>>, Result<usize, ProtocolError>);

fn parse(pieces: &[&[u8]], is_authenticated: bool) -> Outcome {
    let (mut parser, mut input, mut request) = (RequestParser::new(is_authenticated), BytesMut::new(), Request::new());
    let mut requests = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&mut input, &mut request) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Request) => requests.push(Some(request.iter().map(<[u8]>::to_vec).collect())),
                Ok(Progress::TooLarge) => requests.push(None),
                Err(error) => {
                    assert_eq!(parser.next(&mut input, &mut request), Err(error), "nothing more is parsed");
                    return (requests, Err(error));
                }
            }
        }
    }
    // Of what is read past, it makes no difference what is still in the input.
    let kept = if parser.is_skipped && parser.state != State::Begin { 0 } else { input.len() };
    (requests, Ok(kept))
}

fn at_once(input: &[u8]) -> Outcome {
    parse(&[input], true)
}

fn bytewise(input: &[u8], is_authenticated: bool) -> Outcome {
    let pieces: Vec<&[u8]> = input.chunks(1).collect();
    parse(&pieces, is_authenticated)
}

fn error_of(input: &[u8], is_authenticated: bool) -> Option<ProtocolError> {
    let outcome = parse(&[input], is_authenticated);
    if input.len() < 1 << 20 {
        assert_eq!(outcome, bytewise(input, is_authenticated));
    }
    outcome.1.err()
}

fn array(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn arrays_and_inline_commands_follow_each_other() {
    let input =
        [&array(&[b"SET", b"k", b"a\r\nb"])[..], b"PING\r\n", &array(&[b""]), b"get \"a b\"\n", b"*2\r\n$1\r\n"]
            .concat();
    let (requests, end) = at_once(&input);
    let expected: [&[&[u8]]; 4] = [&[b"SET", b"k", b"a\r\nb"], &[b"PING"], &[b""], &[b"get", b"a b"]];
    assert_eq!(requests.len(), expected.len());
    for (request, expected) in requests.iter().zip(expected) {
        assert_eq!(request.as_deref().unwrap(), expected);
    }
    assert_eq!(end, Ok(8));
}

#[test]
fn empty_arrays_and_empty_lines_are_nothing() {
    let (requests, end) = at_once(b"*0\r\n*-1\r\n\r\n  \n*-9223372036854775808\r\nPING\r\n");
    assert_eq!(requests, [Some(vec![b"PING".to_vec()])]);
    assert_eq!(end, Ok(0));
}

#[test]
fn errors_are_those_of_redis() {
    let long = "0".repeat(LINE_BYTES_MAX + 1);
    for (input, text) in [
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1073741825\r\n".to_owned(), "invalid bulk length"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n".to_owned(), "expected '$', got 'f'"),
        ("*1\r\n\r\n".to_owned(), "expected '$', got '\r'"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$a\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$01\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$+1\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$1\rx".to_owned(), "invalid bulk length"),
        ("*3000000000\r\n".to_owned(), "invalid multibulk length"),
        ("*1048577\r\n".to_owned(), "invalid multibulk length"),
        ("*a\r\n".to_owned(), "invalid multibulk length"),
        ("*\r\n".to_owned(), "invalid multibulk length"),
        ("*1\rx".to_owned(), "invalid multibulk length"),
        (format!("*{long}"), "too big mbulk count string"),
        (format!("*1\r\n${long}"), "too big bulk count string"),
        (long.clone(), "too big inline request"),
        ("set \"k\r\n".to_owned(), "unbalanced quotes in request"),
        ("*1\r\n$1\r\nxyz".to_owned(), "an argument does not end where it should"),
        ("POST / HTTP/1.1\r\n".to_owned(), "this port does not speak HTTP"),
        ("host: 127.0.0.1\r\n".to_owned(), "this port does not speak HTTP"),
    ] {
        let error = error_of(input.as_bytes(), true).unwrap_or_else(|| panic!("{input:.40} is no error"));
        assert_eq!(String::from_utf8_lossy(&error.text()), format!("ERR Protocol error: {text}"), "{input:.40}");
    }
}

#[test]
fn lines_may_be_as_long_as_they_may() {
    let word = "x".repeat(LINE_BYTES_MAX);
    assert_eq!(error_of(word.as_bytes(), true), None);
    assert_eq!(error_of(format!("{word}\n").as_bytes(), true), None);
    assert_eq!(error_of(format!("{word}x\n").as_bytes(), true), Some(ProtocolError::LongInlineRequest));
}

#[test]
fn an_unauthenticated_client_has_narrow_bounds() {
    let many: Vec<&[u8]> = vec![b"x"; 11];
    let long = vec![b'x'; UNAUTHENTICATED_ARGUMENT_BYTES_MAX + 1];
    assert_eq!(error_of(&array(&many), false), Some(ProtocolError::UnauthenticatedCount));
    assert_eq!(error_of(&array(&many[1..]), false), None);
    assert_eq!(error_of(&array(&[&long]), false), Some(ProtocolError::UnauthenticatedLength));
    assert_eq!(error_of(&array(&[&long[1..]]), false), None);
    assert_eq!((error_of(&array(&many), true), error_of(&array(&[&long]), true)), (None, None));
}

#[test]
fn a_client_is_authenticated_between_two_requests() {
    let long = vec![b'x'; UNAUTHENTICATED_ARGUMENT_BYTES_MAX + 1];
    let mut input = BytesMut::from(&[&array(&[b"AUTH", b"p"])[..], &array(&[b"SET", b"k", &long])].concat()[..]);
    let (mut parser, mut request) = (RequestParser::new(false), Request::new());
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    parser.set_authenticated(true);
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    assert_eq!(request.get(2), Some(&long[..]));
}

#[test]
fn what_is_too_large_is_read_past_and_keeps_no_memory() {
    let large = vec![b'x'; VALUE_BYTES_MAX + 1];
    let bytes = [&array(&[b"MSET", b"k", &large, b"l", b"v"])[..], b"PING\r\n"].concat();
    let expected: Outcome = (vec![None, Some(vec![b"PING".to_vec()])], Ok(0));
    assert_eq!(at_once(&bytes), expected);

    let (mut parser, mut input, mut request) = (RequestParser::new(true), BytesMut::new(), Request::new());
    let mut progress = Vec::new();
    for piece in bytes.chunks(10_000) {
        input.extend_from_slice(piece);
        while let Ok(step @ (Progress::Request | Progress::TooLarge)) = parser.next(&mut input, &mut request) {
            progress.push(step);
        }
        assert!(input.len() < 2 * 10_000 && parser.held_bytes() < 1024);
    }
    assert_eq!(progress, [Progress::TooLarge, Progress::Request]);
    assert!(parser.is_idle(&input));
}

#[test]
fn the_longest_value_is_taken_and_the_longest_argument_read_past() {
    let value = vec![b'x'; VALUE_BYTES_MAX];
    assert_eq!(at_once(&array(&[b"SET", b"k", &value])).0[0].as_ref().unwrap()[2], value);
    let most = format!("*1\r\n${ARGUMENT_BYTES_MAX}\r\n");
    assert_eq!(error_of(most.as_bytes(), true), None);
    let more = format!("*1\r\n${}\r\n", ARGUMENT_BYTES_MAX + 1);
    assert_eq!(error_of(more.as_bytes(), true), Some(ProtocolError::BadLength));
}

#[test]
fn a_command_has_a_bound_as_a_whole() {
    let value = vec![b'x'; VALUE_BYTES_MAX];
    let four = array(&[&value, &value, &value, &value]);
    assert_eq!(at_once(&four).0.len(), 1);
    assert_eq!(error_of(&array(&[&value, &value, &value, &value, b"x"]), true), Some(ProtocolError::LongCommand));
}

#[test]
fn announcements_set_no_memory_aside() {
    let (mut parser, mut request) = (RequestParser::new(true), Request::new());
    let mut input = BytesMut::from(&b"*1048576\r\n$16777216\r\n"[..]);
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Incomplete));
    assert_eq!(parser.held_bytes(), 0);
    assert_eq!(parser.read_bytes(&input), READ_BYTES_MIN);
    input.extend_from_slice(&vec![b'x'; 1 << 20]);
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Incomplete));
    assert!((1 << 20..1 << 21).contains(&parser.read_bytes(&input)), "as much again as has come");
}

#[test]
fn the_most_arguments_are_taken() {
    let mut bytes = format!("*{ARGUMENTS_MAX}\r\n").into_bytes();
    bytes.extend_from_slice(&b"$0\r\n\r\n".repeat(ARGUMENTS_MAX));
    let (mut parser, mut request) = (RequestParser::new(true), Request::new());
    let mut input = BytesMut::from(&bytes[..]);
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    assert_eq!(request.len(), ARGUMENTS_MAX);
    assert!(request.held_bytes() <= 3 * bytes.len());
    let mut input = BytesMut::from("PING\r\n");
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    let mut input = BytesMut::from("PING\r\n");
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    assert!(parser.held_bytes() + request.held_bytes() < 32 << 10, "one large request leaves nothing behind");
}

#[test]
fn values_are_shared_with_the_input() {
    let mut input = BytesMut::from(&array(&[b"SET", b"key", b"value"])[..]);
    let memory = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    let (mut parser, mut request) = (RequestParser::new(true), Request::new());
    assert_eq!(parser.next(&mut input, &mut request), Ok(Progress::Request));
    let value = request.share(request.get(2).unwrap());
    drop(request);
    assert_eq!(value, "value");
    assert!(memory.contains(&(value.as_ptr() as usize)));
}

/// Requests, and what is none.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let argument =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..20), "[a-z$*\r\n]{0,6}".prop_map(String::into_bytes)];
    let request = proptest::collection::vec(argument, 1..6)
        .prop_map(|arguments| array(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let piece = prop_oneof![
        6 => request,
        2 => "[ a-z\"']{0,10}\r?\n".prop_map(String::into_bytes),
        1 => "[*$][-0-9]{0,3}\r\n".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..8)
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        pieces in pieces(), cuts in proptest::collection::vec(0.0..1.0f64, 0..6), is_authenticated: bool,
    ) {
        let input = pieces.concat();
        let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * input.len() as f64) as usize).collect();
        places.extend([0, input.len()]);
        places.sort_unstable();
        let parts: Vec<&[u8]> = places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let whole = parse(&[&input], is_authenticated);
        prop_assert_eq!(&parse(&parts, is_authenticated), &whole);
        prop_assert_eq!(&bytewise(&input, is_authenticated), &whole);
    }

    #[test]
    fn what_is_sent_arrives(requests in proptest::collection::vec(
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..8), 0..6)) {
        let mut input = Vec::new();
        for request in &requests {
            input.extend(array(&request.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        }
        let (parsed, end) = at_once(&input);
        prop_assert_eq!(parsed.into_iter().map(Option::unwrap).collect::<Vec<_>>(), requests);
        prop_assert_eq!(end, Ok(0));
    }
}
