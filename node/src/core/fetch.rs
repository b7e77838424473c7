//! Brings what commands want into memory, and keeps it there until they have run.

use ashlar_partition::Want;
use ashlar_partition::lsm::Pin;

use super::Core;

/// What was brought into memory for a command, kept there until it has run.
#[derive(Debug, Default)]
pub struct Fetched {
    pins: Vec<Pin>,
}

impl Fetched {
    /// Keeps what another fetch has brought as well: what one attempt found must still be there when
    /// a later one finds the rest.
    pub(crate) fn add(&mut self, other: Self) {
        self.pins.extend(other.pins);
    }
}

impl Core {
    /// Fetches what a command wants. Starts fetching what later ones may want as well, without
    /// waiting for it.
    ///
    /// # Errors
    /// The error that the command is to be answered with. A damaged file ends the service of its
    /// partition.
    pub(crate) async fn fetch(
        &self,
        partition: usize,
        wants: &[Want],
        ahead: &[Want],
    ) -> Result<Fetched, String> {
        // All are asked for before the first is waited for; the store reads a block once.
        for want in wants.iter().skip(1).chain(ahead) {
            if matches!(want, Want::Applied(_)) {
                continue;
            }
            let (ground, want) = (self.ground.clone(), *want);
            self.reactor.spawn(async move {
                // Who needs it asks again, and is told of the error then.
                drop(ground.fetch(want).await);
            });
        }
        let mut fetched = Fetched::default();
        for want in wants {
            if let Want::Applied(index) = want {
                self.applied(partition, *index).await;
                continue;
            }
            match self.ground.fetch(*want).await {
                Ok(pin) => fetched.pins.push(pin),
                Err(_) if !self.still_wants(partition, want) => {}
                Err(error) if error.is_damage => {
                    self.quarantine(partition, &error.to_string());
                    return Err(format!(
                        "DAMAGED partition {partition} is not served: {error}"
                    ));
                }
                Err(error) => return Err(format!("IOERR {error}")),
            }
        }
        Ok(fetched)
    }

    fn still_wants(&self, partition: usize, want: &Want) -> bool {
        let mut data = self.data.borrow_mut();
        data.owned_mut(partition).partition.still_wants(want)
    }

    fn quarantine(&self, partition: usize, what: &str) {
        let mut data = self.data.borrow_mut();
        data.owned_mut(partition).partition.quarantine(what);
    }
}
