//! When a single statement may be sent again.

use std::{io, sync::Arc, time::Duration};

use leadpool::{
    adapter::{Budget, Generation},
    error::{Disposition, TxPhase},
    failover::Report,
};

use crate::{
    Error,
    error::{Interrupted, disposition},
};

/// How long to wait for a look at the host before the next attempt.
const LOOK: Duration = Duration::from_millis(250);
/// How often a statement is sent again, at most; waiting for a writer is part of one checkout.
const REPEATS: u32 = 5;

/// One statement on the pool, as far as it has got.
pub(crate) struct Sending {
    generation: Arc<Generation>,
    /// Whether its host was the writer when it was sent.
    on_writer: bool,
    /// All or nothing: it does not end transactions in its midst.
    is_atomic: bool,
    /// Whether it does no harm if it runs once more: a standby can't be written to.
    may_run_twice: bool,
}

/// What to do after an error: send the statement again, if it has not been sent too often.
pub(crate) struct Verdict {
    pub(crate) may_repeat: bool,
    pub(crate) error: sqlx::Error,
}

impl Sending {
    /// `is_repeatable` if the application says that it may run twice.
    pub(crate) fn new(generation: Arc<Generation>, is_atomic: bool, is_repeatable: bool) -> Self {
        let on_writer = generation.is_writer();
        Self {
            on_writer,
            generation,
            is_atomic,
            may_run_twice: is_repeatable || !on_writer,
        }
    }

    /// Ends when the host is invalidated.
    pub(crate) async fn aborted(&self) {
        self.generation.aborted().await;
    }

    /// Something was answered.
    pub(crate) fn heard(&self) {
        self.generation.heard();
    }

    /// The host was invalidated while the statement was in flight.
    pub(crate) fn cut_off(&self, is_answered: bool) -> Verdict {
        Verdict {
            may_repeat: self.may_run_twice && !is_answered,
            error: self.interrupted(None),
        }
    }

    /// The statement failed; `is_answered` if some of its rows have been passed on already.
    pub(crate) async fn failed(&self, error: sqlx::Error, is_answered: bool) -> Verdict {
        let is_unwritten =
            matches!(&error, sqlx::Error::Io(io) if io.kind() == io::ErrorKind::BrokenPipe);
        let (may_repeat, error) = match disposition(&error, TxPhase::CommitInFlight) {
            // What could not be written to its end is not run: the server waits for the rest.
            Disposition::Resolve if is_unwritten => (true, error),
            // No answer.
            Disposition::Resolve => (self.may_run_twice, self.interrupted(Some(error))),
            // The server answered that it is going, so the statement was not committed.
            Disposition::WaitTopology => (self.is_atomic || self.may_run_twice, error),
            // As a standby would answer: one that was the writer a moment ago?
            Disposition::CheckRole if self.is_atomic && self.on_writer => {
                look(&self.generation, Report::WriteRefused).await;
                let is_demoted = self.generation.is_retired() || !self.generation.is_writer();
                return Verdict {
                    may_repeat: is_demoted && !is_answered,
                    error,
                };
            }
            _ => {
                return Verdict {
                    may_repeat: false,
                    error,
                };
            }
        };
        look(&self.generation, Report::ConnectionLost).await;
        Verdict {
            may_repeat: may_repeat && !is_answered,
            error,
        }
    }

    fn interrupted(&self, source: Option<sqlx::Error>) -> sqlx::Error {
        let host = self.generation.host().clone();
        Error::Interrupted(Box::new(Interrupted { host, source })).into()
    }
}

/// Counts the repeats of one statement; they go on the budget of the pool.
pub(crate) struct Repeats<'a> {
    budget: &'a Budget,
    done: u32,
}

impl<'a> Repeats<'a> {
    pub(crate) fn new(budget: &'a Budget) -> Self {
        Self { budget, done: 0 }
    }

    pub(crate) fn may_repeat(&mut self) -> bool {
        self.done += 1;
        self.done <= REPEATS && self.budget.withdraw()
    }
}

/// Whether the connection is of no more use.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    matches!(disposition(error, TxPhase::Open), Disposition::WaitTopology)
}

/// Has a host looked at, unless it has been judged already.
pub(crate) async fn look(generation: &Generation, report: Report) {
    tokio::select! {
        biased;
        () = generation.retired() => {}
        () = generation.verify(report, LOOK) => {}
    }
}
