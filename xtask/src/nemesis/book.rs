//! What the workers were told, transaction by transaction.

use std::sync::{Mutex, MutexGuard, PoisonError};

use leadpool::outcome::{Doubt, Evidence, Outcome};

/// What became of one transaction, as its caller was told.
#[derive(Debug)]
pub(super) enum Told {
    /// Which attempt was committed, and where.
    Acknowledged { attempt: u32, place: Place },
    /// An error that says that nothing was committed.
    Refused(String),
    /// Committed on one server, which was kept from waiting for a standby.
    NotReplicated,
    /// Not known, with what there is to find out later.
    Unknown(Option<Box<Evidence>>, Doubt),
}

/// Where in which history a transaction wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) timeline: u32,
    /// The log's end when it wrote: its commit is behind that.
    pub(super) after: u64,
    /// The log's end when its commit had been answered, if the same history could still be asked.
    pub(super) before: Option<u64>,
}

/// What `run_tx` found out by itself.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) attempt: u32,
    pub(super) outcome: Result<Outcome, Doubt>,
    /// What was being done to the servers.
    pub(super) fault: &'static str,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) told: Vec<(i64, Told)>,
    pub(super) found: Vec<Found>,
    /// Sums that did not add up, and other lies.
    pub(super) bad_reads: Vec<String>,
    pub(super) reads: u64,
    /// What is being done to the servers.
    pub(super) fault: &'static str,
}

impl Book {
    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, id: i64, told: Told) {
        self.pages().told.push((id, told));
    }

    pub(super) fn find(&self, id: i64, attempt: u32, outcome: Result<Outcome, Doubt>) {
        let mut pages = self.pages();
        let fault = pages.fault;
        pages.found.push(Found {
            id,
            attempt,
            outcome,
            fault,
        });
    }
}
