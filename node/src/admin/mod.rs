//! The admin port: what the node tells of itself over HTTP, to people, probes and Prometheus. It listens only when
//! `admin.listen` is set, on shard 0, and changes nothing.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 as long as the process turns |
//! | `/readyz` | 200 when it can serve every key and take writes, else 503; a line for each check |
//! | `/metrics` | counters of all shards, in the text format of Prometheus |
//! | `/status` | the same facts and the cluster, as JSON |
//! | `/profile` | where the shards' threads spend their time, as a flame graph; `?seconds=` and `&hz=` |
//! | `/` | a page that shows them, live |
//!
//! Invariants:
//! 1. At most [`CALLERS_MAX`] are answered at once, each with one request of at most [`REQUEST_BYTES_MAX`] bytes in
//!    [`PATIENCE`].
//! 2. One profile is taken at a time, by a thread of its own.
//! 3. An answer is made of what the shards have published: no shard is asked, and none waits.

mod facts;
mod metrics;
mod request;
mod response;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::{Listener, Monotonic, Reactor, Socket};

use self::request::{Request, parse};
use self::response::{Answer, Kind};
use crate::core::Core;
use crate::peer::patience::until;
use crate::profiler::Span;
use crate::shared::Shared;

/// Callers that are answered at once; more are sent away.
const CALLERS_MAX: u32 = 32;
/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long a caller may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often whoever waits for a profile looks whether it is there.
const PROFILE_STEP: Duration = Duration::from_millis(50);

/// The page.
const PAGE: &str = include_str!("page.html");

/// Answers callers until the shard stops.
pub(crate) async fn listen(core: Rc<Core>, mut listener: Listener) {
    let callers = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok(_) if core.is_stopping() => return,
            Ok(socket) if callers.get() < CALLERS_MAX => {
                let (core, callers) = (Rc::clone(&core), Rc::clone(&callers));
                let reactor = core.reactor.clone();
                callers.set(callers.get() + 1);
                reactor.spawn(async move {
                    serve(&core, socket).await;
                    callers.set(callers.get() - 1);
                });
            }
            Ok(_) => tracing::warn!("too many callers at once on the admin port"),
            Err(error) => {
                tracing::warn!("cannot accept a caller on the admin port: {error}");
                core.reactor.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one caller.
async fn serve(core: &Core, mut socket: Socket) {
    let deadline = core.reactor.now() + PATIENCE;
    let Some(asked) = hear(&core.reactor, &mut socket, deadline).await else {
        return;
    };
    let answer = match &asked {
        Ok(request) if request.path == "/profile" => profile(core, &request.query).await,
        Ok(request) => answer(&core.shared, &request.path, core.now()),
        Err(refusal) => Answer::text(refusal.status, refusal.text),
    };
    let is_head = asked.is_ok_and(|request| request.is_head);
    let sender = socket.sender();
    sender.send(&answer.encode(is_head));
    let deadline = core.reactor.now() + PATIENCE;
    let _ = until(&core.reactor, deadline, sender.drained(0)).await;
    sender.shut_down();
}

/// Receives a request; nothing when the caller went away or took too long.
async fn hear(
    reactor: &Reactor,
    socket: &mut Socket,
    deadline: Monotonic,
) -> Option<Result<Request, request::Refusal>> {
    let mut received = Vec::new();
    loop {
        let chunk = until(reactor, deadline, socket.receive()).await?.ok()?;
        if chunk.is_empty() {
            return None;
        }
        received.extend_from_slice(&chunk);
        match parse(&received) {
            Ok(Some(request)) => return Some(Ok(request)),
            Err(refusal) => return Some(Err(refusal)),
            Ok(None) if received.len() > REQUEST_BYTES_MAX => {
                return Some(Err(request::TOO_LONG));
            }
            Ok(None) => {}
        }
    }
}

/// Has a profile taken, and waits for it.
async fn profile(core: &Core, query: &str) -> Answer {
    let span = match Span::parse(query) {
        Ok(span) => span,
        Err(error) => return Answer::text(400, &error),
    };
    let profiler = &core.shared.profiler;
    if let Err(refused) = profiler.begin(span) {
        return Answer::text(409, &refused.to_string());
    }
    loop {
        core.reactor.sleep(PROFILE_STEP).await;
        match profiler.take() {
            None => {}
            Some(Ok(picture)) => return Answer::new(200, Kind::Svg, picture),
            Some(Err(error)) => return Answer::text(500, &format!("{error}\n")),
        }
    }
}

/// Answers a path.
fn answer(shared: &Shared, path: &str, (now_ms, _): (u64, u64)) -> Answer {
    match path {
        "/" => Answer::new(200, Kind::Html, PAGE.to_owned()),
        "/livez" => Answer::text(200, "ok\n"),
        "/readyz" => {
            let checks = facts::checks(shared);
            let ready = checks.iter().all(|check| check.is_ok);
            let lines = checks.iter().map(ToString::to_string).collect();
            Answer::new(if ready { 200 } else { 503 }, Kind::Text, lines)
        }
        "/metrics" => Answer::new(200, Kind::Metrics, metrics::text(shared, now_ms)),
        "/status" => match serde_json::to_string_pretty(&facts::facts(shared, now_ms)) {
            Ok(json) => Answer::new(200, Kind::Json, json),
            Err(error) => Answer::new(500, Kind::Text, format!("{error}\n")),
        },
        _ => Answer::text(
            404,
            "there are / /livez /readyz /metrics /status /profile\n",
        ),
    }
}

#[cfg(test)]
mod tests;
