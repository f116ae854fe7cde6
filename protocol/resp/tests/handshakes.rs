//! What clients send when they connect, and what it is understood as: a file for each client in `tests/handshakes`.
//!
//! A line with `>` is a request, its words in quotes where they need to be; one with `inline>` is sent as it stands. Below it
//! stands what it is. `KVORUM_BLESS=1` writes these lines anew: look at the difference. Each conversation is cut at every byte,
//! and comes in single bytes, and must be understood the same.

use bytes::BytesMut;
use kvorum_resp::{Command, Progress, Request, RequestParser, table};
use std::fmt::Write as _;
use std::path::Path;

/// Words of a line of a file: the parser's own, which unit tests compare with Redis'.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut input = BytesMut::from(format!("{line}\r\n").as_bytes());
    let mut request = Request::new();
    let progress = RequestParser::new(true).next(&mut input, &mut request);
    assert_eq!(progress, Ok(Progress::Request), "{line}");
    request.iter().map(<[u8]>::to_vec).collect()
}

/// A line of a file as a client sends it.
fn sent(line: &str) -> Option<Vec<u8>> {
    if let Some(inline) = line.strip_prefix("inline>") {
        return Some(format!("{}\r\n", inline.trim_start()).into_bytes());
    }
    let words = words(line.strip_prefix("> ")?);
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(b"\r\n");
    }
    Some(bytes)
}

/// What pieces of a conversation are understood as, a line for each request.
fn understood(pieces: &[&[u8]]) -> Vec<String> {
    let (mut parser, mut input, mut request) = (RequestParser::new(true), BytesMut::new(), Request::new());
    let mut lines = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&mut input, &mut request) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Request) => lines.push(meaning(&request)),
                Ok(Progress::TooLarge) => lines.push("too large".to_owned()),
                Err(error) => {
                    lines.push(format!("closed: {error}"));
                    return lines;
                }
            }
        }
    }
    assert!(parser.is_idle(&input), "a conversation ends with a request");
    lines
}

fn meaning(request: &Request) -> String {
    let command = table::resolve(request).and_then(|spec| Command::parse(spec, request));
    match command {
        Ok(Command::Help(spec)) => format!("help of {}", spec.full_name),
        Ok(command) => readable(&format!("{command:?}")),
        Err(error) => format!("error: {:?}", String::from_utf8_lossy(&error.text())),
    }
}

/// Lists of bytes as text.
fn readable(debug: &str) -> String {
    let (mut text, mut rest) = (String::new(), debug);
    while let Some(open) = rest.find('[') {
        let (before, list) = rest.split_at(open);
        let close = list.find(']').expect("a list ends");
        let bytes: Option<Vec<u8>> = list[1..close].split(", ").map(|byte| byte.parse().ok()).collect();
        text.push_str(before);
        match bytes {
            Some(bytes) => write!(text, "\"{}\"", bytes.escape_ascii()).expect("writing to memory works"),
            None if close == 1 => text.push_str("[]"),
            None => text.push_str(&list[..=close]),
        }
        rest = &list[close + 1..];
    }
    text + rest
}

/// A file with the lines under its requests as they should be.
fn renewed(file: &str) -> String {
    let asked: Vec<&str> = file.lines().filter(|line| !line.starts_with("  ")).collect();
    let bytes: Vec<Vec<u8>> = asked.iter().filter_map(|line| sent(line)).collect();
    let whole = bytes.concat();
    let lines = understood(&[&whole]);
    for cut in 0..=whole.len() {
        assert_eq!(understood(&[&whole[..cut], &whole[cut..]]), lines, "cut at {cut}");
    }
    assert_eq!(understood(&whole.chunks(1).collect::<Vec<_>>()), lines, "in single bytes");

    let (mut text, mut lines) = (String::new(), lines.into_iter());
    for line in asked {
        text.push_str(line);
        text.push('\n');
        // An empty line asks for nothing.
        if sent(line).is_some_and(|bytes| bytes != b"\r\n") {
            writeln!(text, "  {}", lines.next().expect("a meaning for each request")).expect("writing to memory works");
        }
    }
    text
}

#[test]
fn clients_are_understood_however_their_bytes_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handshakes");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "the files were not found");
    for path in paths {
        let file = std::fs::read_to_string(&path).unwrap();
        let renewed = renewed(&file);
        if std::env::var_os("KVORUM_BLESS").is_some() {
            std::fs::write(&path, renewed).unwrap();
        } else {
            assert_eq!(renewed, file, "{}", path.display());
        }
    }
}
