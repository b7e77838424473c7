//! Time: sleeping, in order and not too short, and giving way to other tasks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::reactor::yield_now;
use ashlar_io::rng::Rng;

use crate::harness::{Env, Kind, both, poll_once};

both!(
    sleepers_wake_in_order_of_their_deadlines,
    no_sleep_is_too_short,
    a_dropped_sleep_wakes_nobody,
    a_sleep_of_nothing_ends_at_once,
    long_sleeps_wait_while_short_ones_end,
    the_turns_time_stands_still,
    tasks_that_yield_take_turns,
);

async fn sleepers_wake_in_order_of_their_deadlines(env: Env) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let sleepers: Vec<_> = [40_u64, 10, 30, 20]
        .into_iter()
        .map(|ms| {
            let (env2, order) = (env.clone(), Rc::clone(&order));
            env.spawn(async move {
                env2.pause(ms).await;
                order.borrow_mut().push(ms);
            })
        })
        .collect();
    for sleeper in sleepers {
        sleeper.await;
    }
    assert_eq!(*order.borrow(), [10, 20, 30, 40]);
}

async fn no_sleep_is_too_short(env: Env) {
    let mut rng = Rng::new(2);
    let sleepers: Vec<_> = (0..300)
        .map(|_| {
            let length = Duration::from_micros(rng.below(200_000));
            let reactor = env.reactor.clone();
            env.spawn(async move {
                let from = reactor.now();
                reactor.sleep(length).await;
                (length, reactor.now().since(from))
            })
        })
        .collect();
    let slack = match env.kind {
        Kind::Simulated => Duration::from_millis(3),
        // Other tests take the CPUs at the same time.
        Kind::Kernel => Duration::from_secs(5),
    };
    for sleeper in sleepers {
        let (asked, slept) = sleeper.await;
        assert!(
            slept >= asked && slept <= asked + slack,
            "asked for {asked:?}, slept {slept:?}"
        );
    }
}

async fn a_dropped_sleep_wakes_nobody(env: Env) {
    for _ in 0..100 {
        assert!(poll_once(env.pause(5)).await.is_none());
    }
    let before = env.reactor.counters().turns;
    env.pause(50).await;
    if env.kind == Kind::Simulated {
        // The wheel may ask for a turn when it passes a cancelled timer's place, not one for each.
        assert!(env.reactor.counters().turns - before < 20);
    }
}

async fn a_sleep_of_nothing_ends_at_once(env: Env) {
    assert!(poll_once(env.reactor.sleep(Duration::ZERO)).await.is_some());
}

async fn long_sleeps_wait_while_short_ones_end(env: Env) {
    let mut day = std::pin::pin!(env.reactor.sleep(Duration::from_secs(86_400)));
    let from = env.reactor.now();
    assert!(poll_once(day.as_mut()).await.is_none());
    env.pause(20).await;
    assert!(poll_once(day.as_mut()).await.is_none());
    if env.kind == Kind::Simulated {
        day.await;
        assert_eq!(env.reactor.now().since(from).as_secs(), 86_400);
        let year = Duration::from_secs(365 * 86_400);
        env.reactor.sleep(year).await;
        assert!(env.reactor.now().since(from) >= year);
    }
}

async fn the_turns_time_stands_still(env: Env) {
    let (now, before) = (env.reactor.now(), env.reactor.read_clock());
    assert!(now <= before);
    std::hint::black_box((0..100_000_u64).sum::<u64>());
    assert_eq!(env.reactor.now(), now);
    assert!(env.reactor.read_clock() >= before);
    env.pause(2).await;
    assert!(env.reactor.now() > now);
    assert!(env.reactor.wall().millis() > 1_700_000_000_000);
    assert_ne!(env.reactor.random(), env.reactor.random());
}

async fn tasks_that_yield_take_turns(env: Env) {
    let counts = Rc::new(RefCell::new([0_u32; 4]));
    for n in 0..4 {
        let counts = Rc::clone(&counts);
        env.reactor.spawn(async move {
            loop {
                counts.borrow_mut()[n] += 1;
                yield_now().await;
            }
        });
    }
    env.pause(5).await;
    assert!(
        counts.borrow().iter().all(|&count| count > 100),
        "{counts:?}"
    );
}
