//! Connections to RESP doors: byte by byte, and as a client that follows MOVED.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a reply may take. Generous: nothing is measured by it.
pub(crate) const REPLY_DEADLINE: Duration = Duration::from_secs(20);

/// A connection that sends bytes and reads as many as it expects.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the door is open"))
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.expect("the connection is open");
    }

    /// Reads exactly as many bytes as are expected, and compares them.
    pub(crate) async fn expect(&mut self, expected: &str) {
        let mut reply = vec![0; expected.len()];
        let mut length = 0;
        while length < reply.len() && String::from_utf8_lossy(&reply[..length]) == expected[..length] {
            let read = timeout(REPLY_DEADLINE, self.0.read(&mut reply[length..])).await;
            match read.unwrap_or_else(|_| panic!("only {:?}", String::from_utf8_lossy(&reply[..length]))) {
                Ok(read @ 1..) => length += read,
                end => panic!("{end:?} behind {:?}", String::from_utf8_lossy(&reply[..length])),
            }
        }
        assert_eq!(String::from_utf8_lossy(&reply[..length]), expected);
    }

    /// Reads a line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = timeout(REPLY_DEADLINE, self.0.read_u8()).await.expect("in time");
            line.push(byte.unwrap_or_else(|error| panic!("{error} behind {:?}", String::from_utf8_lossy(&line))));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("text")
    }

    /// Waits until the node has ended the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while let Ok(1..) = self.0.read(&mut rest).await {}
    }

    /// Sends commands as clients do, each on a line of words here, and expects their replies.
    pub(crate) async fn exchange(&mut self, commands: &str, replies: &str) {
        self.send(&encoded(commands)).await;
        self.expect(replies).await;
    }

    /// Reads an array of so many values, each `v` or null, and says how many are not null.
    pub(crate) async fn values(&mut self, count: usize) -> usize {
        let head = format!("*{count}\r\n");
        let mut text = String::new();
        loop {
            let values = text.strip_prefix(&head).unwrap_or_default();
            let found = values.matches("$1\r\nv\r\n").count();
            if found + values.matches("$-1\r\n").count() == count {
                return found;
            }
            let mut piece = vec![0; 64 * 1024];
            let read = timeout(REPLY_DEADLINE, self.0.read(&mut piece)).await.expect("in time").expect("open");
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
        }
    }

    /// Reads up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(REPLY_DEADLINE, self.0.read_to_end(&mut rest)).await;
        read.expect("the connection ends").expect("and is not reset");
        String::from_utf8(rest).expect("replies are text here")
    }

    /// Whether the connection still answers, and has nothing else to say.
    pub(crate) async fn ping(&mut self) {
        self.exchange("PING here", "$4\r\nhere\r\n").await;
    }
}

/// Each line a command of words; `""` is an empty word.
pub(crate) fn encoded(commands: &str) -> String {
    let command = |line: &str| {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "\"\"" { "" } else { word }).collect();
        let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{bulks}", words.len())
    };
    commands.lines().map(str::trim).filter(|line| !line.is_empty()).map(command).collect()
}

/// A reply, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Integer(i64),
    Null,
    Array(Vec<Self>),
}

impl Reply {
    /// # Panics
    /// If it is no array.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            other => panic!("{other:?}"),
        }
    }

    /// # Panics
    /// If it is no number.
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    /// # Panics
    /// If it is no text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

/// A connection that reads replies.
pub(crate) struct Caller {
    wire: Wire,
    input: Vec<u8>,
}

impl Caller {
    /// # Errors
    /// Nobody listens.
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { wire: Wire(TcpStream::connect(address).await?), input: Vec::new() })
    }

    /// Sends a command of words, and waits for its reply.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) async fn call(&mut self, command: &str) -> std::io::Result<Reply> {
        self.wire.0.write_all(encoded(command).as_bytes()).await?;
        loop {
            if let Some((reply, length)) = parsed(&self.input) {
                self.input.drain(..length);
                return Ok(reply);
            }
            let mut piece = vec![0; 64 * 1024];
            let read = timeout(REPLY_DEADLINE, self.wire.0.read(&mut piece)).await.expect("a reply comes in time")?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&piece[..read]);
        }
    }
}

/// The reply at the beginning, and its bytes; nothing if it is not whole.
fn parsed(input: &[u8]) -> Option<(Reply, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(input.get(1..end)?).into_owned();
    let begin = end + 2;
    let number = || line.parse::<i64>().expect("a number");
    Some(match input[0] {
        b'+' => (Reply::Text(line), begin),
        b'-' => (Reply::Error(line), begin),
        b':' => (Reply::Integer(number()), begin),
        b'$' | b'*' if number() < 0 => (Reply::Null, begin),
        b'$' => {
            let length = usize::try_from(number()).expect("not negative");
            let text = input.get(begin..begin + length)?;
            input.get(begin + length + 1)?;
            (Reply::Text(String::from_utf8_lossy(text).into_owned()), begin + length + 2)
        }
        b'*' => {
            let (mut items, mut at) = (Vec::new(), begin);
            for _ in 0..number() {
                let (item, length) = parsed(&input[at..])?;
                items.push(item);
                at += length;
            }
            (Reply::Array(items), at)
        }
        other => panic!("no reply begins with {other}"),
    })
}

/// A client that follows MOVED, and knows nothing else of slots.
pub(crate) struct Follower {
    doors: Vec<SocketAddr>,
    /// Of each slot that was asked for, who answered last.
    known: HashMap<u16, SocketAddr>,
    open: HashMap<SocketAddr, Caller>,
    next: usize,
    /// How often it was sent elsewhere.
    pub(crate) moved: usize,
}

impl Follower {
    pub(crate) fn new(doors: Vec<SocketAddr>) -> Self {
        Self { doors, known: Default::default(), open: Default::default(), next: 0, moved: 0 }
    }

    /// Sends a command of one key to whoever has its slot.
    ///
    /// # Errors
    /// A connection was lost: nobody knows what became of the command.
    pub(crate) async fn call(&mut self, key: &str, command: &str) -> std::io::Result<Reply> {
        let slot = kvorum_protocol::hash::slot(key.as_bytes());
        let mut asked = Vec::new();
        loop {
            let door = self.known.get(&slot).copied().unwrap_or(self.doors[self.next % self.doors.len()]);
            let caller = match self.open.entry(door) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => match Caller::open(door).await {
                    Ok(caller) => place.insert(caller),
                    Err(_) => {
                        // Nothing was sent. Until another leader is elected all nodes name the one that is gone: as clients do,
                        // this one asks less often than it could.
                        super::let_run(Duration::from_millis(5)).await;
                        self.known.remove(&slot);
                        self.next += 1;
                        assert!(self.next < 100_000, "some node is there");
                        continue;
                    }
                },
            };
            let reply = caller.call(command).await;
            if reply.is_err() {
                self.open.remove(&door);
                self.known.remove(&slot);
                self.next += 1;
            }
            match reply? {
                Reply::Error(text) if text.starts_with("MOVED ") => {
                    let words: Vec<&str> = text.split(' ').collect();
                    assert_eq!(words[1], slot.to_string(), "{text}");
                    let to: SocketAddr = words[2].parse().expect("an address");
                    assert_ne!(to, door, "nobody is sent where it came from");
                    asked.push(door);
                    assert!(asked.len() < 1_000, "it is sent round in circles: {asked:?}");
                    self.known.insert(slot, to);
                    self.moved += 1;
                }
                reply => {
                    self.known.insert(slot, door);
                    return Ok(reply);
                }
            }
        }
    }
}
