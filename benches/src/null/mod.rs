//! A server that does the input and output of a replicated store and keeps nothing: the ceiling for a server of Kvorum's
//! protocol on this machine.
//!
//! A *reader* answers every GET with the same value as soon as it has read it. A *leader* sends the writes that have come to
//! two followers, writes them to its file and syncs it, and answers once its own sync and one of the followers' are done; the
//! next batch is what came meanwhile. Without a file nothing is written, and a follower acknowledges what it has read.

mod follower;
mod leader;
mod session;

use clap::{Args, ValueEnum};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The name of its subcommand.
pub(crate) const COMMAND: &str = "null-server";
/// Bytes of a file, which is written around and around as a journal is: no block of it is ever new.
const FILE_BYTES: u64 = 64 << 20;
/// Batches begin at multiples of this.
const BLOCK_BYTES: u64 = 4096;

/// Serves until its stdin ends.
#[derive(Args, Debug)]
pub struct NullOptions {
    #[arg(long, value_enum)]
    role: Role,
    /// ip:port
    #[arg(long)]
    listen: String,
    /// ip:port of every node, the leader first
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<String>,
    /// Bytes of the value that is read
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// What is written and synced
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Role {
    Reader,
    Leader,
    Follower,
}

/// Serves until stdin ends, so that no server outlives the program that started it.
///
/// # Errors
/// The address or the file can't be used.
pub fn serve(options: &NullOptions) -> io::Result<()> {
    std::thread::spawn(|| {
        // Whatever ends the read, nobody is left.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let file = options.file.as_deref().map(Ring::create).transpose()?;
    match options.role {
        Role::Follower => follower::serve(&options.listen, file),
        Role::Reader => session::serve(options, None),
        Role::Leader => {
            let leader = leader::Leader::start(&options.nodes[1..], file)?;
            session::serve(options, Some(leader))
        }
    }
}

/// A file of fixed size that is written from its front to its end, and again.
struct Ring {
    file: File,
    next: u64,
}

impl Ring {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, next: 0 })
    }

    /// Writes one batch and waits until the disk has it.
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let bytes = batch.len() as u64;
        assert!(bytes <= FILE_BYTES, "a batch is bounded by what clients have in flight");
        if self.next + bytes > FILE_BYTES {
            self.next = 0;
        }
        self.file.write_all_at(batch, self.next)?;
        self.next += bytes.next_multiple_of(BLOCK_BYTES);
        self.file.sync_data()
    }
}
