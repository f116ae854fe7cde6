//! Redis with the same keys and values: what a restart of it costs, and its memory per key.

use super::nodes::START_LIMIT;
use super::watch::{anonymous_bytes, disk_bytes, forget_cached};
use super::{KEY_BYTES, StorageError};
use crate::keys::put_key;
use crate::stop;
use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Commands written before answers are read.
const BATCH: u32 = 1_000;
/// The pause between two attempts to be answered.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How Redis keeps its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Persistence {
    /// A snapshot at its end.
    Rdb,
    /// A log of commands.
    Aof,
}

/// One server, in a folder of its own.
pub(super) struct Redis {
    program: PathBuf,
    port: u16,
    persistence: Persistence,
    child: Option<Child>,
    folder: TempDir,
}

impl Redis {
    /// Prepares a server in a folder below `dir`.
    pub(super) fn new(program: &Path, dir: &Path, port: u16, persistence: Persistence) -> Result<Self, StorageError> {
        let folder = tempfile::Builder::new().prefix("redis-bench-").tempdir_in(dir);
        let folder = folder.map_err(StorageError::system("a temporary folder"))?;
        Ok(Self { program: program.to_owned(), port, persistence, child: None, folder })
    }

    /// Starts it; returns how long it took until it answered a GET of `key` with a value, or with none if `is_new`.
    pub(super) fn start(&mut self, key: u32, is_new: bool) -> Result<Duration, StorageError> {
        let aof = if self.persistence == Persistence::Aof { "yes" } else { "no" };
        let began = Instant::now();
        let child = Command::new(&self.program)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", aof, "--appendfsync", "everysec", "--protected-mode", "yes"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.map_err(StorageError::system(self.program.display().to_string()))?);
        loop {
            match self.get(key) {
                Ok(Some(_)) => return Ok(began.elapsed()),
                Ok(None) if is_new => return Ok(began.elapsed()),
                Ok(None) => return Err(StorageError::Wrong("Redis lost a key".to_owned())),
                // Not there yet, or still loading.
                Err(_) if began.elapsed() < START_LIMIT => stop::sleep(RETRY_PAUSE)?,
                Err(_) => return Err(StorageError::TooLate { what: "Redis answers".into(), limit: START_LIMIT }),
            }
        }
    }

    /// Sets every key, to values that can't be compressed.
    pub(super) fn fill(&self, keys: u32, value_bytes: usize) -> Result<(), StorageError> {
        self.try_fill(keys, value_bytes).map_err(StorageError::system("loading Redis"))
    }

    fn try_fill(&self, keys: u32, value_bytes: usize) -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let mut random = StdRng::seed_from_u64(1);
        let mut block = vec![0u8; value_bytes + 4096];
        random.fill(&mut block[..]);
        let mut batch = Vec::new();
        let mut ok = vec![0u8; 5 * BATCH as usize];
        for first in (0..keys).step_by(BATCH as usize) {
            stop::check().map_err(io::Error::other)?;
            let last = first.saturating_add(BATCH).min(keys);
            batch.clear();
            for key in first..last {
                let start = random.random_range(0..=4096);
                write!(batch, "*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n")?;
                batch.extend_from_slice(&key_bytes(key));
                write!(batch, "\r\n${value_bytes}\r\n")?;
                batch.extend_from_slice(&block[start..start + value_bytes]);
                batch.extend_from_slice(b"\r\n");
            }
            stream.write_all(&batch)?;
            let expected = 5 * (last - first) as usize;
            answers.read_exact(&mut ok[..expected])?;
            if !ok[..expected].chunks(5).all(|answer| answer == b"+OK\r\n") {
                return Err(io::Error::other("a SET was refused"));
            }
        }
        Ok(())
    }

    /// Stops it cleanly, with all data on the disk; returns how long that took.
    pub(super) fn stop(&mut self) -> Result<Duration, StorageError> {
        let began = Instant::now();
        let verb: &[u8] = match self.persistence {
            Persistence::Rdb => b"*2\r\n$8\r\nSHUTDOWN\r\n$4\r\nSAVE\r\n",
            Persistence::Aof => b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n",
        };
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).map_err(StorageError::system("a connection to Redis"))?;
        stream.write_all(verb).map_err(StorageError::system("stopping Redis"))?;
        let mut child = self.child.take().expect("it runs");
        child.wait().map_err(StorageError::system("waiting for Redis"))?;
        Ok(began.elapsed())
    }

    /// How it keeps its data, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.persistence {
            Persistence::Rdb => "RDB",
            Persistence::Aof => "AOF",
        }
    }

    /// Memory that no file backs.
    pub(super) fn anonymous_bytes(&self) -> u64 {
        self.child.as_ref().map_or(0, |child| anonymous_bytes(child.id()))
    }

    /// Bytes of its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        disk_bytes(self.folder.path())
    }

    /// Makes the next start read from the disk.
    pub(super) fn forget_cached(&self) -> Result<(), StorageError> {
        forget_cached(self.folder.path()).map_err(StorageError::system("dropping cached pages"))
    }

    fn get(&self, key: u32) -> io::Result<Option<()>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let mut request = format!("*2\r\n$3\r\nGET\r\n${KEY_BYTES}\r\n").into_bytes();
        request.extend_from_slice(&key_bytes(key));
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request)?;
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        match &head {
            b"$-1\r" => Ok(None),
            [b'$', ..] => Ok(Some(())),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn key_bytes(key: u32) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(KEY_BYTES);
    put_key(&mut bytes, key, KEY_BYTES);
    bytes
}
