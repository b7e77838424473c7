//! A request over HTTP, as far as the admin port takes one: GET or HEAD of a path. Pure.

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Without what follows a `?`.
    pub(super) path: String,
    /// What follows it.
    pub(super) query: String,
    /// Only the head of the answer is wanted.
    pub(super) is_head: bool,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) text: &'static str,
}

/// A request that does not end.
pub(super) const TOO_LONG: Refusal = Refusal {
    status: 431,
    text: "the request is longer than 8 KiB\n",
};

/// Headers that a request may have.
const HEADERS_MAX: usize = 64;

/// Parses a request, of which more may have to come.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Request>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => {
            return Err(Refusal {
                status: 400,
                text: "this is not a request of HTTP/1.1\n",
            });
        }
    }
    let is_head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => {
            return Err(Refusal {
                status: 405,
                text: "only GET and HEAD are answered: this port changes nothing\n",
            });
        }
    };
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Request {
        path: path.to_owned(),
        query: query.to_owned(),
        is_head,
    }))
}
