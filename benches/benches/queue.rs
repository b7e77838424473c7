//! What a message between shards costs: putting and taking it, looking at an empty inbox, and a question answered by
//! another thread.
//!
//! Goals: put and take within 30 ns on one core; a look at an empty inbox within 2 ns; a question and its answer
//! within 10 us between two sleeping shards (two wake-ups through the kernel).

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_io::queue::{Inbox, Sender, inbox};
use ashlar_io::{Reactor, Settings};
use criterion::{Criterion, criterion_group, criterion_main};

/// What is sent: as large as a boxed message of a shard.
type Message = [u64; 4];

fn reactor(spin_us_max: u32) -> Reactor {
    let settings = Settings {
        spin_us_max,
        ..Settings::default()
    };
    Reactor::new(&settings).expect("this machine runs io_uring")
}

fn on_one_core(criterion: &mut Criterion) {
    let reactor = reactor(0);
    let (sender, inbox) = inbox::<Message>(reactor.wake_cell(), 1024);
    let mut group = criterion.benchmark_group("queue");
    group.bench_function("push_pop", |bencher| {
        bencher.iter(|| {
            sender.push(black_box([1; 4])).expect("there is room");
            inbox.pop()
        });
    });
    group.bench_function("push_notify_running", |bencher| {
        bencher.iter(|| {
            sender.push(black_box([1; 4])).expect("there is room");
            sender.notify();
            inbox.pop()
        });
    });
    group.bench_function("look_empty", |bencher| {
        bencher.iter(|| black_box(&inbox).is_empty())
    });
    group.finish();
}

/// Turns a shard that answers each message, until it gets one of zeros.
fn answer(reactor: &Reactor, questions: &Inbox<Message>, answers: &Sender<Message>) {
    loop {
        reactor.turn();
        while let Some(message) = questions.pop() {
            if message == [0; 4] {
                return;
            }
            answers.push(message).expect("one question at a time");
            answers.notify();
        }
        reactor.park(None, || !questions.is_empty());
    }
}

fn ask(
    reactor: &Reactor,
    questions: &Sender<Message>,
    answers: &Inbox<Message>,
    rounds: u64,
) -> Duration {
    let from = Instant::now();
    for _ in 0..rounds {
        questions.push([1; 4]).expect("one question at a time");
        questions.notify();
        loop {
            reactor.turn();
            if answers.pop().is_some() {
                break;
            }
            reactor.park(None, || !answers.is_empty());
        }
    }
    from.elapsed()
}

fn between_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_round_trip");
    for spin_us_max in [0, 50] {
        let own = reactor(spin_us_max);
        let (answers, answered) = inbox::<Message>(own.wake_cell(), 16);
        let (hand_over, handed_over) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            // A reactor belongs to the thread that makes it.
            let own = reactor(spin_us_max);
            let (questions, asked) = inbox::<Message>(Arc::clone(&own.wake_cell()), 16);
            hand_over
                .send(questions)
                .expect("the other thread waits for it");
            answer(&own, &asked, &answers);
        });
        let questions = handed_over.recv().expect("the other thread sends it first");
        group.bench_function(format!("spin_{spin_us_max}us"), |bencher| {
            bencher.iter_custom(|rounds| ask(&own, &questions, &answered, rounds));
        });
        questions.push([0; 4]).expect("every question was answered");
        questions.notify();
        other.join().expect("it ends when it is told to");
    }
    group.finish();
}

criterion_group!(benches, on_one_core, between_threads);
criterion_main!(benches);
