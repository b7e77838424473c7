//! The server that is loaded: its address, what it says of itself, and how durable its replies are. Not the load.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::asked::Node;

/// A server to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is called in reports.
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, spelled) = match text.split_once('=') {
            Some((name, spelled)) => (name, spelled),
            None => ("", text),
        };
        let wrong = |why: String| {
            format!("{text}: {why}; allowed is [NAME=]HOST:PORT, such as 127.0.0.1:6379")
        };
        let mut addrs = spelled
            .to_socket_addrs()
            .map_err(|error| wrong(error.to_string()))?;
        let addr = addrs
            .next()
            .ok_or_else(|| wrong("the name has no address".to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            addr,
        })
    }
}

/// Who is asked for, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
}

impl Login {
    /// Returns the commands that a connection begins with.
    pub(crate) fn commands(&self) -> Vec<Vec<&str>> {
        let mut commands = Vec::new();
        if let Some(password) = &self.password {
            let mut auth = vec!["AUTH"];
            auth.extend(self.user.as_deref());
            auth.push(password);
            commands.push(auth);
        }
        commands
    }

    /// Returns their bytes, with that for the database, and how many they are.
    pub(crate) fn greeting(&self) -> (Vec<u8>, usize) {
        let mut pipeline = super::pipeline::Pipeline::default();
        let mut commands = self.commands();
        let database = self.database.to_string();
        if self.database > 0 {
            commands.push(vec!["SELECT", &database]);
        }
        for words in &commands {
            pipeline.words(words.len());
            words.iter().for_each(|word| pipeline.word(word.as_bytes()));
        }
        (pipeline.out, commands.len())
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Server {
    /// Name and version.
    pub(crate) version: String,
    /// The settings that say how durable its replies are, and what that means.
    pub(crate) durability: String,
    /// Whether a write is on disk before its reply; nothing when it does not say.
    pub(crate) is_durable: Option<bool>,
}

/// The numbers that a server keeps, at some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Returns how much a number has grown since an earlier time.
    pub(crate) fn since(&self, earlier: &Self, name: &str) -> Option<f64> {
        Some(self.0.get(name)? - earlier.0.get(name)?)
    }
}

impl Target {
    fn connect(&self, login: &Login) -> Result<Node, String> {
        let mut node = Node::connect_for(self.addr, "--target")?;
        for words in login.commands() {
            node.ask(&words)
                .map_err(|error| format!("{}: {error}", self.addr))?;
        }
        Ok(node)
    }

    /// Asks the server what it is.
    ///
    /// # Errors
    /// One line: it cannot be reached, or refuses the password.
    pub(crate) fn ask(&self, login: &Login) -> Result<Server, String> {
        let mut node = self.connect(login)?;
        // What a server does not know is not told; it is loaded all the same.
        let info = node.ask(&["INFO"]).unwrap_or_default().concat();
        let mut setting = |name| {
            let answer = node.ask(&["CONFIG", "GET", name]).ok()?;
            answer.into_iter().nth(1)
        };
        let settings = (setting("appendonly"), setting("appendfsync"));
        Ok(describe(&info, settings))
    }

    /// Asks the server whether it knows a command.
    pub(crate) fn knows(&self, login: &Login, command: &str) -> bool {
        let answer = self
            .connect(login)
            .and_then(|mut node| node.ask(&[command]));
        // Without its words a command that is known is refused in another way.
        !answer.is_err_and(|error| error.contains("unknown command"))
    }

    /// Asks the server for its counters.
    ///
    /// # Errors
    /// One line: it cannot be reached.
    pub(crate) fn counters(&self, login: &Login) -> Result<Counters, String> {
        let info = self.connect(login)?.ask(&["INFO", "everything"])?.concat();
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        let number = |(name, value): (&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        Ok(Counters(fields.filter_map(number).collect()))
    }
}

/// Says what a server is, from its INFO and the settings `appendonly` and `appendfsync`.
fn describe(info: &str, settings: (Option<String>, Option<String>)) -> Server {
    let field = |name: &str| {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(found, _)| *found == name);
        values.next().map(|(_, value)| value.trim())
    };
    let versions = ["ashlar", "valkey", "dragonfly", "garnet", "kvrocks"];
    let known = versions.iter().find_map(|name| {
        let version = field(&format!("{name}_version"))?;
        Some(format!("{name} {version}"))
    });
    let redis = field("redis_version").map(|version| format!("redis {version}"));
    let version = known
        .or(redis)
        .unwrap_or_else(|| "unknown server".to_owned());
    let (durability, is_durable) = match settings {
        _ if version.starts_with("ashlar ") => (
            "durable: every reply comes after its write is on disk",
            Some(true),
        ),
        (Some(only), Some(sync)) if only == "yes" => match sync.as_str() {
            "always" => (
                "appendfsync always: a reply comes after its write is on disk",
                Some(true),
            ),
            "everysec" => (
                "appendfsync everysec: a power cut loses a second of acknowledged writes, or two",
                Some(false),
            ),
            _ => (
                "appendfsync no: a power cut loses what the kernel has not written yet",
                Some(false),
            ),
        },
        (Some(only), _) if only == "no" => (
            "appendonly no: a crash loses all since the last snapshot",
            Some(false),
        ),
        _ => ("it does not say how durable it is", None),
    };
    Server {
        version,
        durability: durability.to_owned(),
        is_durable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_told_from_the_settings() {
        let yes = || Some("yes".to_owned());
        let redis = |only: Option<String>, sync: &str| {
            describe("redis_version:7.0.15\r\n", (only, Some(sync.to_owned())))
        };
        assert_eq!(redis(yes(), "always").is_durable, Some(true));
        assert_eq!(redis(yes(), "everysec").is_durable, Some(false));
        assert_eq!(
            redis(Some("no".to_owned()), "always").is_durable,
            Some(false)
        );
        assert_eq!(describe("", (None, None)).is_durable, None);
        let ashlar = describe(
            "redis_version:7.2.0\r\nashlar_version:0.1.0\r\n",
            (None, None),
        );
        assert_eq!(
            (ashlar.version.as_str(), ashlar.is_durable),
            ("ashlar 0.1.0", Some(true))
        );
        assert_eq!(redis(None, "x").version, "redis 7.0.15");
    }

    #[test]
    fn targets_have_names() {
        let target: Target = "r1=127.0.0.1:6379".parse().unwrap();
        assert_eq!((target.name.as_str(), target.addr.port()), ("r1", 6379));
        assert!("here".parse::<Target>().unwrap_err().contains("HOST:PORT"));
        assert!("127.0.0.1:99999".parse::<Target>().is_err());
    }

    #[test]
    fn a_login_becomes_the_first_commands() {
        let login = Login {
            user: None,
            password: Some("p w".to_owned()),
            database: 3,
        };
        let expected = "*2\r\n$4\r\nAUTH\r\n$3\r\np w\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
        assert_eq!(login.greeting(), (expected.as_bytes().to_vec(), 2));
        assert_eq!(Login::default().greeting(), (Vec::new(), 0));
    }
}
