//! Takes what a leader sends, writes it down, and says how many bytes it has.

use super::Ring;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Most bytes of one batch.
const BATCH_BYTES: usize = 1 << 20;

/// Serves one leader after the other.
pub(super) fn serve(listen: &str, mut file: Option<Ring>) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    loop {
        let (leader, _) = listener.accept()?;
        // A leader that is gone is followed by the next.
        if let Err(error) = follow(leader, file.as_mut()) {
            eprintln!("null follower: {error}");
        }
    }
}

fn follow(mut leader: TcpStream, mut file: Option<&mut Ring>) -> io::Result<()> {
    leader.set_nodelay(true)?;
    let mut batch = vec![0; BATCH_BYTES];
    let mut position = 0u64;
    loop {
        let bytes = leader.read(&mut batch)?;
        if bytes == 0 {
            return Ok(());
        }
        if let Some(file) = file.as_mut() {
            file.append(&batch[..bytes])?;
        }
        position += bytes as u64;
        leader.write_all(&position.to_le_bytes())?;
    }
}
