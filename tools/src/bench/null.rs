//! `ashlar bench null`: a server that does nothing. It finds where commands end and answers each with the shortest
//! reply that its kind may have, so that what is measured against it is the client. It keeps nothing: reads find no
//! value.

use std::net::SocketAddr;

use ashlar_io::{Listener, Reactor, Settings, Socket, topology};

/// Bytes of one receive buffer.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of replies that may wait on a connection; it is not read from while there are more.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Largest word of a command.
const WORD_BYTES_MAX: usize = 512 << 20;

/// Flags of `ashlar bench null`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port for clients
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6379")]
    listen: SocketAddr,
    /// CPU to run on [default: any]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

/// Serves until it is killed.
///
/// # Errors
/// One line: the address is taken, the CPU not allowed, or there is no ring.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    if let Some(cpu) = args.cpu
        && !topology::pin(cpu)
    {
        return Err(format!("--cpu {cpu}: this process may not run there"));
    }
    let settings = Settings {
        chunk_bytes: CHUNK_BYTES,
        registered_blocks: 0,
        ..Settings::default()
    };
    let reactor = Reactor::new(&settings).map_err(|error| error.to_string())?;
    let listener = Listener::bind(&reactor, args.listen);
    let mut listener = listener.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    println!(
        "null server listens on {}",
        listener.local_addr().unwrap_or(args.listen)
    );
    let inner = reactor.clone();
    reactor.block_on(async move {
        loop {
            match listener.accept().await {
                Ok(socket) => inner.spawn(serve(socket)),
                Err(error) => break Err(format!("cannot accept: {error}")),
            }
        }
    })
}

async fn serve(mut socket: Socket) {
    let sender = socket.sender();
    let (mut commands, mut replies) = (Commands::default(), Vec::new());
    while let Ok(chunk) = socket.receive().await {
        if chunk.is_empty() || commands.take_in(&chunk, &mut replies).is_none() {
            return;
        }
        sender.send_vec(&mut replies);
        sender.drained(UNSENT_BYTES_MAX).await;
    }
}

/// Where in a command the received bytes end.
#[derive(Debug, Default)]
struct Commands {
    /// Words of the command that have not come.
    words: usize,
    /// Bytes of the word that have not come, with its end of line.
    left: usize,
    /// Whether the next word is the command's name.
    is_first: bool,
    /// A line, or a name, that has not come whole.
    partial: Vec<u8>,
}

impl Commands {
    /// Takes bytes in and appends a reply for each command that is whole; `None` when they are no commands.
    fn take_in(&mut self, bytes: &[u8], replies: &mut Vec<u8>) -> Option<()> {
        if self.partial.is_empty() {
            let used = self.take_whole(bytes, replies)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Some(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let used = self.take_whole(&whole, replies)?;
        whole.drain(..used);
        self.partial = whole;
        Some(())
    }

    fn take_whole(&mut self, bytes: &[u8], replies: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        loop {
            let skipped = self.left.min(bytes.len() - at);
            (self.left, at) = (self.left - skipped, at + skipped);
            if self.left > 0 || at == bytes.len() {
                return Some(at);
            }
            let Some((mark, number, used)) = line(&bytes[at..])? else {
                return Some(at);
            };
            if self.words == 0 {
                (self.words, self.is_first, at) = (number, true, at + used);
                if mark != b'*' || number == 0 {
                    return None;
                }
                continue;
            }
            if self.is_first {
                let Some(name) = bytes.get(at + used..at + used + number) else {
                    return Some(at);
                };
                replies.extend_from_slice(reply(name));
            }
            self.is_first = false;
            self.words -= 1;
            (self.left, at) = (number + 2, at + used);
        }
    }
}

/// Reads a line: its mark, its number, its size with the end.
fn line(bytes: &[u8]) -> Option<Option<(u8, usize, usize)>> {
    let mut number = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            b'0'..=b'9' if number <= WORD_BYTES_MAX => {
                number = number * 10 + usize::from(byte - b'0')
            }
            b'\r' if at + 1 < bytes.len() => return Some(Some((bytes[0], number, at + 2))),
            b'\r' => return Some(None),
            _ => return None,
        }
    }
    Some(None)
}

/// Returns the reply to a command.
fn reply(name: &[u8]) -> &'static [u8] {
    match name {
        [b'G' | b'g', ..] => b"$-1\r\n",
        [b'I' | b'i', b'N' | b'n', b'C' | b'c', ..] | [b'D' | b'd' | b'Z' | b'z', ..] => b":1\r\n",
        [b'H' | b'h', b'S' | b's', ..] => b":1\r\n",
        [b'H' | b'h', ..] | [b'C' | b'c', ..] => b"*0\r\n",
        [b'I' | b'i', ..] => b"$0\r\n\r\n",
        [b'K' | b'k', ..] => b"*2\r\n$-1\r\n*0\r\n",
        _ => b"+OK\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_one_reply_wherever_the_bytes_are_cut() {
        let stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n1\r\n2\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n";
        for cut in 0..stream.len() {
            let (mut commands, mut replies) = (Commands::default(), Vec::new());
            for piece in [&stream[..cut], &stream[cut..]] {
                commands.take_in(piece, &mut replies).unwrap();
            }
            assert_eq!(replies, b"+OK\r\n$-1\r\n:1\r\n+OK\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_command_ends_the_connection() {
        for bytes in [
            &b"PING\r\n"[..],
            b"*0\r\n",
            b"$3\r\n",
            b"*1\r\n$99999999999999\r\n",
        ] {
            assert!(
                Commands::default()
                    .take_in(bytes, &mut Vec::new())
                    .is_none(),
                "{bytes:?}"
            );
        }
    }
}
