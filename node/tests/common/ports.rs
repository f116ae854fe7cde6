//! Free ports. A node must come back on the port it had, so the system can't choose one at each start.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports that one cluster may use above its base port: five doors of ten nodes.
const BLOCK: u16 = 50;
/// The range that blocks are taken from. It lies below the ports that Linux gives to outgoing connections (from 32768 on),
/// so that nothing else is likely to take a port while its node is down.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 240;

/// A base port such that the binary doors (base + i, TCP), the peer doors (base + 10 + i, UDP) and the HTTP doors (base + 20 + i,
/// TCP), the RESP doors (base + 30 + i, TCP) and those of clusters (base + 40 + i, TCP) of nodes 1 to 9 are free.
///
/// # Panics
/// If no block of ports is free.
pub(crate) fn free_base_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different blocks.
    let start = std::process::id() as u16 % BLOCKS;
    for _ in 0..BLOCKS {
        let block = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
        let base = FIRST + block * BLOCK;
        let is_free = |node: u16| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, base + node)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, base + 10 + node)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, base + 20 + node)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, base + 30 + node)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, base + 40 + node)).is_ok()
        };
        if (1..=9).all(is_free) {
            return base;
        }
    }
    panic!("no block of {BLOCK} ports from {FIRST} on is free");
}
