//! What a checkout that waits has with it.

use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Driver, Purpose, SubPools,
    ask::Ask,
    clock::{Clock, Trouble},
    gate::{Place, Turn, Waiting},
};
use crate::error::{Error, Overloaded};

/// A checkout that waits.
pub(super) struct Wait<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) clock: Clock,
    pub(super) trouble: Trouble,
    /// It has been let in, so that a pool that is drained serves it.
    pub(super) is_accepted: bool,
    /// It is the next one to get a host.
    pub(super) turn: Option<Turn<'a>>,
    waiting: &'a Waiting,
    place: Option<Place<'a>>,
    /// A pool that is drained waits for it; if it is refused, that is at once.
    _busy: TaskTrackerToken,
}

impl<'a> Wait<'a> {
    pub(super) fn new<D: Driver>(pools: &'a SubPools<D>, ask: Ask<'a>, timeout: Duration) -> Self {
        Self {
            ask,
            clock: Clock::new(timeout),
            trouble: Trouble::default(),
            is_accepted: ask.is_accepted,
            waiting: &pools.waiting,
            turn: None,
            place: None,
            _busy: pools.busy.token(),
        }
    }

    /// Counts it among those who wait; fails if too many do.
    pub(super) fn count(&mut self) -> Result<(), Error> {
        if self.place.is_none() {
            let always = self.ask.purpose != Purpose::New;
            let entered = self.waiting.enter(always);
            self.place = Some(entered.map_err(|(waiting, max_waiting)| {
                Error::Overloaded(Box::new(Overloaded {
                    target: self.ask.target,
                    waiting,
                    max_waiting,
                }))
            })?);
        }
        Ok(())
    }
}
