//! A question to whoever listens for peers at an address: a connection of its own, which takes
//! [`QUESTION_LIMIT`] at most. Not what is asked, nor what follows from the answer.

use std::net::SocketAddr;
use std::time::Duration;

use ashlar_io::{Reactor, Socket};

use super::question::{Answer, Ask, Asker, Introduced, Question};
use crate::peer::connection::{Failed, Talk};
use crate::peer::greeting::{Greeting, Refusal};
use crate::peer::patience::until;

/// How long a question may take, from the call to the answer.
pub(super) const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// What came of a question.
pub(super) enum Asked {
    Answered(Answer),
    Refused(Refusal),
    Lost(String),
}

/// Asks whoever listens at an address.
pub(super) async fn ask_at(reactor: &Reactor, addr: SocketAddr, question: &Question) -> Asked {
    let deadline = reactor.now() + QUESTION_LIMIT;
    let connecting = Socket::connect(reactor, addr);
    let socket = match until(reactor, deadline, connecting).await {
        Some(Ok(socket)) => socket,
        Some(Err(error)) => return Asked::Lost(error.to_string()),
        None => return Asked::Lost("it does not answer in time".to_owned()),
    };
    let mut talk = Talk::new(socket, deadline);
    talk.say(&Greeting::Question(question.encode()));
    match talk.hear(reactor).await {
        Ok(Greeting::Answer(bytes)) => match Answer::decode(&bytes) {
            Some(answer) => Asked::Answered(answer),
            None => Asked::Lost("its answer cannot be understood".to_owned()),
        },
        Ok(Greeting::Refused(refusal)) => Asked::Refused(refusal),
        Ok(_) => Asked::Lost("it does not answer questions".to_owned()),
        Err(Failed::Lost(text) | Failed::Refused(text)) => Asked::Lost(text),
    }
}

/// Asks who waits at an address to be made a member.
///
/// # Errors
/// Nobody does; one line says what was found instead.
pub async fn introduce(
    reactor: &Reactor,
    addr: SocketAddr,
    asker: Asker,
) -> Result<Introduced, String> {
    let ask = Ask::Introduce;
    let question = Question { asker, ask };
    match ask_at(reactor, addr, &question).await {
        Asked::Answered(Answer::Introduced(introduced)) => Ok(introduced),
        Asked::Answered(_) => Err(format!("what listens at {addr} does not introduce itself")),
        Asked::Refused(refusal) => Err(format!("refused at {addr}: {}", refusal.text)),
        Asked::Lost(text) => Err(format!(
            "nobody waits at {addr} to be a member: {text}; start the new node first, with --peers that list it"
        )),
    }
}
