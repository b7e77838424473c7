//! Many clients that do nothing: what memory a server takes for them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::report::{Measure, Report};
use crate::server::Server;

/// How many there are.
pub(crate) const CLIENTS: u32 = 10_000;

/// How long a server may take to answer one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects them all, lets each ask once, and looks at the server's memory before and after.
pub(crate) fn measure(server: &Server, report: &mut Report) -> Result<(), Failure> {
    let limit = ashlar_io::raise_open_files();
    if limit < u64::from(CLIENTS) + 64 {
        return Err(format!(
            "{CLIENTS} clients need more open files than {limit} (ulimit -n)"
        ));
    }
    let before = server.resident_mib()?;
    let clients: Result<Vec<TcpStream>, Failure> = (0..CLIENTS)
        .map(|number| connect(server.port, number))
        .collect();
    let clients = clients?;
    thread::sleep(Duration::from_secs(1));
    let after = server.resident_mib()?;
    drop(clients);
    report.add(server.kind, Measure::ClientsMemory, after);
    let each = (after - before) * 1024.0 / f64::from(CLIENTS);
    report.add(server.kind, Measure::ClientMemory, each);
    Ok(())
}

/// Connects one client, which asks once and is answered.
fn connect(port: u16, number: u32) -> Result<TcpStream, Failure> {
    let said = |error| format!("client {number} of {CLIENTS}: {error}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(said)?;
    let mut answer = [0_u8; 7];
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(b"*1\r\n$4\r\nPING\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.map_err(said)?;
    match &answer {
        b"+PONG\r\n" => Ok(stream),
        other => Err(format!(
            "client {number} was told {}",
            String::from_utf8_lossy(other)
        )),
    }
}
