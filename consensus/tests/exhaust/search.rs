//! Visits every state that is within reach, depth first, each once; states are told apart by their fingerprints.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[expect(
    clippy::disallowed_types,
    reason = "nobody iterates over it, and it holds millions"
)]
type Seen = std::collections::HashSet<u64>;

use crate::world::{Action, Bounds, World};

/// What a search has come to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Different states.
    pub(crate) states: u64,
    /// Actions that were tried.
    pub(crate) steps: u64,
    pub(crate) depth: usize,
    /// States by what they show, to see that the bounds let something happen.
    pub(crate) shows: BTreeMap<&'static str, u64>,
    /// What must not be, and how to get there.
    pub(crate) violation: Option<(String, Vec<Action>)>,
    /// Whether all was seen, or the search ended at its limit.
    pub(crate) is_whole: bool,
}

/// A state on the way that is being followed, and what is left to try there.
struct Place {
    world: World,
    actions: Vec<Action>,
    /// What led there.
    by: Option<Action>,
}

impl Place {
    fn new(world: World, by: Option<Action>) -> Self {
        let actions = world.actions();
        Self { world, actions, by }
    }
}

/// Does one thing; a panic is a violation too.
fn act(world: &mut World, action: Action) -> Result<(), String> {
    let acted = catch_unwind(AssertUnwindSafe(|| world.act(action)));
    acted.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_default())
    })
}

/// Searches within bounds, until so many states were seen or something is wrong.
pub(crate) fn search(bounds: &Bounds, states_max: u64) -> Found {
    let (mut seen, mut found) = (Seen::default(), Found::default());
    let first = World::new(bounds);
    seen.insert(first.print());
    let mut way = vec![Place::new(first, None)];
    while let Some(place) = way.last_mut() {
        let Some(action) = place.actions.pop() else {
            way.pop();
            continue;
        };
        let mut world = place.world.clone();
        found.steps += 1;
        if let Err(what) = act(&mut world, action) {
            let by = way.iter().filter_map(|place| place.by);
            found.violation = Some((what, by.chain([action]).collect()));
            return found.ended(&seen);
        }
        if seen.insert(world.print()) {
            if seen.len() as u64 >= states_max {
                return found.ended(&seen);
            }
            found.note(&world);
            way.push(Place::new(world, Some(action)));
            found.depth = found.depth.max(way.len());
        }
    }
    found.is_whole = true;
    found.ended(&seen)
}

impl Found {
    fn ended(mut self, seen: &Seen) -> Self {
        self.states = seen.len() as u64;
        self
    }

    fn note(&mut self, world: &World) {
        for (what, shown) in world.shows() {
            *self.shows.entry(what).or_default() += u64::from(shown);
        }
    }

    /// Tells what was found, for people.
    pub(crate) fn describe(&self) -> String {
        let (states, steps, depth) = (self.states, self.steps, self.depth);
        let mut text = format!("{states} states, {steps} steps, at most {depth} deep");
        for (what, count) in &self.shows {
            write!(text, ", {what} {count}").expect("a string takes all");
        }
        if let Some((what, way)) = &self.violation {
            write!(text, "; {what} after {way:?}").expect("a string takes all");
        }
        text
    }
}
