//! One modelled server: what it is at which time, and what it is asked to do.

use std::{collections::VecDeque, time::Duration};

use leadpool::{
    failover::{Answer, Failure},
    topology::Term,
};

use super::{
    clock::Time,
    scenario::{Fault, Model},
};

/// The system identifier of all of them.
const SYSTEM: u64 = 1;

/// Who asks for a connection, and for which attempt it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) client: u32,
    pub(super) purpose: Purpose,
    pub(super) attempt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The client's pool, for one of its checkouts.
    Pool,
    /// The client's monitor, to probe this host.
    Monitor(u8),
}

/// One host.
#[derive(Debug)]
pub(super) struct Server {
    started: i64,
    was_primary: bool,
    promoted_at: Option<Time>,
    lost: Option<(Time, Fault)>,
    /// What the kernel keeps until the server takes it.
    pub(super) backlog: VecDeque<Caller>,
    /// It is busy with the first of them.
    pub(super) is_forking: bool,
    pub(super) sessions: usize,
    /// Until when its cores are busy with probes.
    busy_until: Time,
}

impl Server {
    pub(super) fn new(number: u8) -> Self {
        Self {
            started: i64::from(number),
            was_primary: number == 0,
            promoted_at: None,
            lost: None,
            backlog: VecDeque::new(),
            is_forking: false,
            sessions: 0,
            busy_until: Time::default(),
        }
    }

    pub(super) fn lose(&mut self, at: Time, fault: Fault) {
        self.lost = Some((at, fault));
    }

    pub(super) fn promote(&mut self, at: Time) {
        self.promoted_at = Some(at);
    }

    /// How it has been lost by then.
    pub(super) fn lost(&self, at: Time) -> Option<Fault> {
        self.lost.filter(|lost| lost.0 <= at).map(|lost| lost.1)
    }

    /// When it has done with a probe that arrives then: one after the other, as fast as its cores
    /// allow.
    pub(super) fn probe(&mut self, arrives: Time, model: &Model) -> Time {
        let done = self.busy_until.max(arrives) + model.probe_cost / model.cores;
        self.busy_until = done;
        done
    }

    /// What it says of itself at that time.
    pub(super) fn answer(&self, at: Time, took: Duration) -> Answer {
        let promoted = self.promoted_at.is_some_and(|promoted| promoted <= at);
        let mut answer = match promoted || self.was_primary {
            true => Answer::primary(Term::from_timeline(1 + u32::from(promoted))),
            false => Answer::standby(),
        };
        answer.system_identifier = Some(SYSTEM);
        answer.started_at = Some(self.started);
        answer.round_trip = Some(took);
        answer
    }
}

/// 53300.
pub(super) fn too_many() -> Failure {
    Failure::Denied("sorry, too many clients already".to_owned())
}
