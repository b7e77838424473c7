//! A connection and a partition without any IO: command lines in, reply bytes out. Nothing is
//! applied, so all replies come from what is in flight.

use ashlar_consensus::{Clock, PartitionId};
use ashlar_partition::key::KeyBuf;
use ashlar_partition::{KeyRange, Partition};

use crate::command::spread::Plan;
use crate::command::{
    Chance, DataCall, Run, Session, SessionCall, check_keys, table, unknown_command, wrong_arity,
};
use crate::config::Config;
use crate::format::Format;
use crate::pubsub::notice::Notices;
use crate::resp::decode::{Decoder, Limits};
use crate::resp::encode::Encoder;
use crate::resp::{Spans, Words};
use crate::shared::{Facts, Shared};

/// A client and the partition that it talks to.
pub(super) struct Client {
    /// What the shards share.
    pub(super) shared: Shared,
    /// The connection.
    pub(super) session: Session,
    /// The partition of all keys.
    pub(super) partition: Partition,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
    /// Keys found and not found by the last command.
    pub(super) reads: (u32, u32),
    /// What the last command plans to ask all partitions.
    pub(super) plan: Option<Plan>,
    clock: Clock,
    key: KeyBuf,
}

impl Client {
    /// Connects to an empty partition at a fixed time.
    pub(super) fn new() -> Self {
        let shared = shared();
        let id = shared
            .clients
            .connect("127.0.0.1:5000".to_owned(), 0, 1_000_000, 10)
            .expect("there is room")
            .id;
        let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
        partition.admission.value_bytes_max = 64 << 20;
        Self {
            shared,
            session: Session {
                id,
                is_authenticated: true,
                ..Session::default()
            },
            partition,
            now_ms: 1_000_000,
            reads: (0, 0),
            plan: None,
            clock: Clock::default(),
            key: KeyBuf::default(),
        }
    }

    /// Runs a line of words parted by blanks; `''` is the empty word.
    pub(super) fn line(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line
            .split(' ')
            .map(|word| if word == "''" { b"" } else { word.as_bytes() })
            .collect();
        String::from_utf8_lossy(&self.run(&words)).into_owned()
    }

    /// Runs a command and returns the bytes of its reply.
    pub(super) fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, crate::resp::Version::Resp2);
        encoder.array(words.len());
        words.iter().for_each(|word| encoder.bulk(word));
        let mut spans = Spans::new();
        Decoder::new(Limits::authenticated(64 << 20))
            .decode(&bytes, &mut spans)
            .expect("well formed");
        let mut out = Vec::new();
        self.execute(spans.words(&bytes), &mut out);
        out
    }

    fn execute(&mut self, words: Words<'_>, out: &mut Vec<u8>) {
        let mut encoder = Encoder::new(out, self.session.version);
        let Some(command) = table::resolve(&words[0], words.get(1)) else {
            return unknown_command(&mut encoder, words);
        };
        if !command.takes(words.len()) {
            return wrong_arity(&mut encoder, command.name);
        }
        if let Err(error) = check_keys(command, words) {
            return encoder.error(error.as_bytes());
        }
        self.plan = None;
        match command.run {
            Run::Session(run) => run(&mut self.session_call(words, out)),
            Run::Spread(plan) => self.plan = plan(&mut self.session_call(words, out)),
            Run::Data(run) => self.run_data(run, words, out),
            Run::Exec => unreachable!("a connection makes another command of it"),
        }
    }

    fn session_call<'a>(&'a mut self, words: Words<'a>, out: &'a mut Vec<u8>) -> SessionCall<'a> {
        let now_ms = self.now_ms;
        SessionCall {
            words,
            session: &mut self.session,
            shared: &self.shared,
            now_ms,
            now_us: now_ms * 1000 + 7,
            out,
        }
    }

    pub(super) fn run_data(
        &mut self,
        run: fn(&mut DataCall<'_>),
        words: Words<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut call = DataCall {
            words,
            database: self.session.database,
            version: self.session.version,
            partition: &mut self.partition,
            clock: &mut self.clock,
            now_ms: self.now_ms,
            now_us: self.now_ms * 1000,
            key: &mut self.key,
            shared: &self.shared,
            chance: Chance(&|| 7),
            out,
            wait: None,
            hits: 0,
            misses: 0,
            log_is_full: false,
            failed: None,
            notices: Notices::default(),
            is_read: false,
            waits: None,
            ready: None,
        };
        call.run(run);
        self.reads = (call.hits, call.misses);
    }

    /// Runs lines and compares each reply with what is expected. In a reply that is not an error
    /// `|` stands for the end of a line.
    ///
    /// # Panics
    /// When a reply is another one.
    pub(super) fn expect(&mut self, table: &[(&str, &str)]) {
        for (line, expected) in table {
            let end = if expected.starts_with('-') {
                "|"
            } else {
                "\r\n"
            };
            let expected = match *expected {
                // It goes on over all partitions.
                "" => String::new(),
                expected => expected.replace('|', end) + "\r\n",
            };
            assert_eq!(self.line(line), expected, "{line}");
        }
    }
}

pub(crate) fn shared() -> Shared {
    let format = "version = 1\nnode_id = 7\nshards = 2\nsegment_bytes = 1048576\ndurability = \"none\"\nsplit_at = []";
    let format: Format = toml::from_str(format).expect("a format");
    Shared::new(Facts {
        format,
        config: Config::defaults(),
        started_ms: 10_000,
        run_id: "0123456789012345678901234567890123456789".to_owned(),
        listen: "127.0.0.1:6379".parse().expect("an address"),
        memory_bytes: 1 << 30,
        machine_bytes: 1 << 33,
        process_id: 42,
    })
}
