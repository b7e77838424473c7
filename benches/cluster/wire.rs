//! A connection that asks one thing at a time and hears the answer, as far as this program cares for answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(500);

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> Result<Self, Failure> {
        let said = |error: std::io::Error| format!("cannot connect to port {port}: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(said)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and returns the answer: its first line, or all lines of an array of strings.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<String, Failure> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        let said = |error: std::io::Error| format!("{}: {error}", words[0]);
        self.stream
            .get_mut()
            .write_all(command.as_bytes())
            .map_err(said)?;
        self.hear().map_err(said)
    }

    fn hear(&mut self) -> std::io::Result<String> {
        let line = self.line()?;
        let number = |text: &str| text.parse().unwrap_or(0);
        match line.split_at_checked(1) {
            Some(("$", length)) if length != "-1" => self.bulk(number(length)),
            Some(("*", count)) => {
                let lines: Result<Vec<String>, _> =
                    (0..number(count)).map(|_| self.hear()).collect();
                Ok(lines?.join("\n"))
            }
            _ => Ok(line),
        }
    }

    fn bulk(&mut self, length: usize) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        let whole = length as u64 + 2;
        self.stream.by_ref().take(whole).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
