//! Where the nodes of a storm live: each in a network namespace of its own, joined by a bridge, with its data on a
//! small file system of its own; or, where that is not allowed, all on loopback.
//!
//! A way from one host to another is cut by telling the first a wrong hardware address of the second: what it sends
//! vanishes, and nobody is told. So ways are cut in one direction, silently, and in the middle of a frame.
//!
//! Invariant: everything that is made here is made in namespaces that the kernel takes back when the run is over.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Port for clients, and the first of those for other nodes, of a node with an address of its own.
const CLIENT_PORT: u16 = 6379;
const PEER_PORT: u16 = 7400;
/// The network of the nodes, which nobody outside sees; its last host is where the clients are.
const NETWORK: &str = "10.77.0";
const CLIENTS_HOST: u32 = 254;
/// Rate of a slow way, in the words of `tc`.
const SLOW: &str = "root tbf rate 2mbit burst 4kb latency 300ms";
/// Bytes that are written at once to fill a disk.
const BLOCK_BYTES: usize = 64 << 10;

/// What of the kernel the nodes may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Namespaces: ways can be cut, and disks filled.
    Spaces,
    /// Loopback, and a directory.
    Loopback,
}

/// The nodes' world.
#[derive(Debug)]
pub(super) struct Place {
    ground: Ground,
    nodes: u32,
    dir: PathBuf,
    /// First port on loopback.
    port: u16,
}

impl Place {
    /// Makes the place of so many nodes, whose data lie below `dir`.
    ///
    /// # Errors
    /// A tool of the system is missing, or refused; a line says which.
    pub(super) fn make(
        ground: Ground,
        nodes: u32,
        dir: &Path,
        disk_mib: u64,
    ) -> Result<Self, String> {
        let place = Self {
            ground,
            nodes,
            dir: dir.to_owned(),
            port: 20_000 + u16::try_from(std::process::id() % 400).expect("small") * 100,
        };
        for node in 0..nodes {
            let path = place.disk(node);
            std::fs::create_dir_all(&path)
                .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        }
        if ground == Ground::Spaces {
            place.make_bridge()?;
            (0..nodes).try_for_each(|node| place.make_space(node, disk_mib))?;
            let all: Vec<_> = place.ways().collect();
            all.into_iter()
                .try_for_each(|(from, to)| place.mend(from, to))?;
        }
        Ok(place)
    }

    fn make_bridge(&self) -> Result<(), String> {
        // Names of namespaces are files there, and other runs have theirs.
        run("mount", "-t tmpfs tmpfs /run")?;
        run("ip", "link set lo up")?;
        run("ip", "link add br0 type bridge")?;
        run(
            "ip",
            &format!("addr add {NETWORK}.{CLIENTS_HOST}/24 dev br0"),
        )?;
        run(
            "ip",
            &format!("link set br0 address {} up", hardware(self.nodes)),
        )
    }

    fn make_space(&self, node: u32, disk_mib: u64) -> Result<(), String> {
        let (name, host) = (space(node), node + 1);
        run("ip", &format!("netns add {name}"))?;
        run(
            "ip",
            &format!("link add v{host} type veth peer name eth0 netns {name}"),
        )?;
        run("ip", &format!("link set v{host} master br0 up"))?;
        run(
            "ip",
            &format!("-n {name} addr add {NETWORK}.{host}/24 dev eth0"),
        )?;
        run(
            "ip",
            &format!("-n {name} link set eth0 address {} up", hardware(node)),
        )?;
        run("ip", &format!("-n {name} link set lo up"))?;
        let disk = self.disk(node);
        run(
            "mount",
            &format!("-t tmpfs -o size={disk_mib}m tmpfs {}", disk.display()),
        )
    }

    /// Takes everything back, as far as it was made; the kernel does the rest when the namespaces end.
    fn unmake(&self) {
        for node in 0..self.nodes {
            // Some of it may never have been made; and a namespace takes its time to go.
            let _ = run("ip", &format!("link del v{}", node + 1));
            let _ = run("umount", &self.disk(node).display().to_string());
            let _ = run("ip", &format!("netns del {}", space(node)));
        }
        let _ = run("ip", "link del br0");
        let _ = run("umount", "/run");
    }

    /// Says whether ways can be cut and disks filled.
    pub(super) fn has_spaces(&self) -> bool {
        self.ground == Ground::Spaces
    }

    /// Returns all ways between hosts; that of the clients has the number behind the last node.
    pub(super) fn ways(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let hosts = self.nodes + 1;
        (0..hosts * hosts)
            .map(move |n| (n / hosts, n % hosts))
            .filter(|(from, to)| from != to)
    }

    /// Returns where a node listens for clients.
    pub(super) fn listen(&self, node: u32) -> SocketAddr {
        self.address(node, CLIENT_PORT, 0)
    }

    /// Returns where a node listens for other nodes.
    pub(super) fn peer_listen(&self, node: u32) -> SocketAddr {
        self.address(node, PEER_PORT, 50)
    }

    fn address(&self, node: u32, port: u16, above: u16) -> SocketAddr {
        let small = u16::try_from(node).expect("few nodes");
        let text = match self.ground {
            Ground::Spaces => format!("{NETWORK}.{}:{port}", node + 1),
            // Peers talk on one port for each shard.
            Ground::Loopback => format!("127.0.0.1:{}", self.port + above + small * 8),
        };
        text.parse().expect("it is an address")
    }

    /// Returns the file system that a node has.
    fn disk(&self, node: u32) -> PathBuf {
        self.dir.join(space(node))
    }

    /// Returns the data directory of a node.
    pub(super) fn data(&self, node: u32) -> PathBuf {
        self.disk(node).join("data")
    }

    /// Returns where a node's output goes.
    pub(super) fn log(&self, node: u32) -> PathBuf {
        self.dir.join(format!("{}.log", space(node)))
    }

    /// Returns a command that runs `program` where a node lives.
    pub(super) fn command(&self, node: u32, program: &Path) -> Command {
        match self.ground {
            Ground::Loopback => Command::new(program),
            Ground::Spaces => {
                // It becomes the program: the process is the node.
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{}", space(node)))
                    .arg(program);
                command
            }
        }
    }

    /// Cuts the way from one host to another: what is sent vanishes.
    pub(super) fn cut(&self, from: u32, to: u32) -> Result<(), String> {
        self.point(from, to, "02:00:00:00:dd:dd")
    }

    /// Mends it.
    pub(super) fn mend(&self, from: u32, to: u32) -> Result<(), String> {
        self.point(from, to, &hardware(to))
    }

    /// Tells a host where to send what is for another.
    fn point(&self, from: u32, to: u32, hardware: &str) -> Result<(), String> {
        let host = |n: u32| if n == self.nodes { CLIENTS_HOST } else { n + 1 };
        let (space, device) = match from == self.nodes {
            true => (String::new(), "br0"),
            false => (format!("-n {} ", space(from)), "eth0"),
        };
        let to = host(to);
        run(
            "ip",
            &format!(
                "{space}neigh replace {NETWORK}.{to} lladdr {hardware} dev {device} nud permanent"
            ),
        )
    }

    /// Makes everything slow that a node sends.
    pub(super) fn slow(&self, node: u32) -> Result<(), String> {
        run(
            "tc",
            &format!("-n {} qdisc replace dev eth0 {SLOW}", space(node)),
        )
    }

    /// Makes it quick again.
    pub(super) fn quicken(&self, node: u32) -> Result<(), String> {
        run("tc", &format!("-n {} qdisc del dev eth0 root", space(node)))
    }

    /// Takes all space that is left of a node's disk.
    pub(super) fn fill(&self, node: u32) -> Result<(), String> {
        let path = self.ballast(node);
        let file = File::create(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let (block, mut at) = (vec![0xAB; BLOCK_BYTES], 0);
        while let Ok(written) = file.write_at(&block, at) {
            at += written as u64;
        }
        Ok(())
    }

    /// Gives it back.
    pub(super) fn empty(&self, node: u32) -> Result<(), String> {
        let path = self.ballast(node);
        std::fs::remove_file(&path)
            .map_err(|error| format!("cannot remove {}: {error}", path.display()))
    }

    fn ballast(&self, node: u32) -> PathBuf {
        self.disk(node).join("ballast")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.has_spaces() {
            self.unmake();
        }
    }
}

/// Returns the name of a node and its namespace.
pub(super) fn space(node: u32) -> String {
    format!("n{}", node + 1)
}

fn hardware(host: u32) -> String {
    format!("02:00:00:00:77:{host:02x}")
}

/// Runs a tool of the system with words that hold no spaces.
///
/// # Errors
/// It is not there, or it failed: a line says so.
pub(super) fn run(program: &str, words: &str) -> Result<(), String> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {words}: {}", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_on_loopback_have_ports_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::make(Ground::Loopback, 3, dir.path(), 0).expect("nothing is needed");
        let mut all: Vec<_> = (0..3)
            .flat_map(|node| [place.listen(node), place.peer_listen(node)])
            .collect();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert_eq!(place.ways().count(), 12);
    }

    #[test]
    fn a_tool_that_fails_is_named() {
        let error = run("false", "now").expect_err("it always fails");
        assert!(error.starts_with("false now:"), "{error}");
    }
}
