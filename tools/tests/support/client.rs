//! A client for tests: commands out, replies in, each whole. It never reconnects and hides nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::{PATIENCE, encode};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`, or the null of either version.
    Bulk(Option<Vec<u8>>),
    /// `*`
    Array(Vec<Self>),
    /// `%`, keys and values in turn.
    Map(Vec<Self>),
    /// `>`
    Push(Vec<Self>),
}

impl Reply {
    /// Makes the reply `+OK`.
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// Makes a bulk reply.
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bulk(Some(bytes.as_ref().to_vec()))
    }

    /// Returns the text of an error; panics when it is none.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// Returns the elements of an array or a map; panics when it is neither.
    #[track_caller]
    pub(crate) fn elements(self) -> Vec<Self> {
        match self {
            Self::Array(elements) | Self::Map(elements) | Self::Push(elements) => elements,
            other => panic!("expected an array or a map, got {other:?}"),
        }
    }
}

/// A connection to a node.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap()
    }

    /// Connects, if anybody listens there.
    pub(crate) fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, stream),
        })
    }

    /// Returns a second handle of the connection, to send on while this one reads.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Ends the sending side.
    pub(crate) fn finish(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads one reply.
    pub(crate) fn read(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        let number = || {
            text.parse::<i64>()
                .map_err(|_| io::Error::other(format!("not a number: {text:?}")))
        };
        Ok(match line[0] {
            b'+' => Reply::Simple(text),
            b'-' => Reply::Error(text),
            b':' => Reply::Integer(number()?),
            b'$' => Reply::Bulk(self.bytes(number()?)?),
            b'_' => Reply::Bulk(None),
            b'*' => Reply::Array(self.many(number()?)?),
            b'%' => Reply::Map(self.many(number()? * 2)?),
            b'>' => Reply::Push(self.many(number()?)?),
            other => {
                return Err(io::Error::other(format!(
                    "a reply begins with byte {other}"
                )));
            }
        })
    }

    /// Reads so many bytes as they come.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes)
    }

    fn bytes(&mut self, length: i64) -> io::Result<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        assert_eq!(
            bytes.split_off(length),
            b"\r\n",
            "a bulk ends with its line"
        );
        Ok(Some(bytes))
    }

    fn many(&mut self, count: i64) -> io::Result<Vec<Reply>> {
        (0..count).map(|_| self.read()).collect()
    }

    /// Runs one command; panics when the connection fails.
    #[track_caller]
    pub(crate) fn call(&mut self, words: &[&str]) -> Reply {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        self.call_bytes(&words)
    }

    /// Runs one command given as bytes; panics when the connection fails.
    #[track_caller]
    pub(crate) fn call_bytes(&mut self, words: &[&[u8]]) -> Reply {
        let mut command = Vec::new();
        encode(&mut command, words);
        self.send(&command)
            .and_then(|()| self.read())
            .unwrap_or_else(|error| panic!("{:?}: {error}", words[0]))
    }

    /// Reads until the node closes the connection; panics when it does not.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                panic!("it is not closed: {error}")
            }
            _ => bytes,
        }
    }
}
