//! Facts about this process and its machine that are asked for once, at start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Wall;

/// What a process knows of itself.
#[derive(Clone, Debug)]
pub struct ProcessFacts {
    /// The wall clock's time.
    pub wall: Wall,
    /// Its number.
    pub process_id: u32,
    /// Forty hexadecimal digits of randomness.
    pub random_hex: String,
}

impl ProcessFacts {
    /// Asks for them.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub fn gather() -> io::Result<Self> {
        let mut random = [0; 20];
        crate::sys::random_bytes(&mut random)?;
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            wall: Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
            process_id: std::process::id(),
            random_hex: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// Checks that nobody listens on `addr`, and returns it with its port chosen when that was 0. The
/// shards then share it (`SO_REUSEPORT`), which by itself would let a second node join them
/// unnoticed.
///
/// # Errors
/// What the operating system said: in use, not permitted, not an address of this machine.
pub fn check_address(addr: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(addr)?.local_addr()
}
