//! What a checkout asks for.

use super::Generation;
use crate::topology::Target;

/// What a checkout is for: what has begun goes on while nothing new may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Something new.
    New,
    /// Another attempt of a transaction: a pool that is drained, or in which too many wait, serves
    /// it all the same.
    Retry,
    /// To find out what became of a COMMIT: it waits neither for the end of a pause nor for others.
    Outcome,
}

/// What a checkout asks for.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) purpose: Purpose,
    pub(super) target: Target,
    /// This reader, as long as it is one.
    pub(super) only: Option<&'a Generation>,
    /// It has been let in already.
    pub(super) is_accepted: bool,
}

impl Ask<'_> {
    pub(super) fn new(purpose: Purpose, target: Target) -> Self {
        Self {
            purpose,
            target,
            only: None,
            is_accepted: purpose != Purpose::New,
        }
    }

    /// Whether neither a pause nor a queue holds it up.
    pub(super) fn may_pass(self) -> bool {
        self.purpose == Purpose::Outcome
    }
}
