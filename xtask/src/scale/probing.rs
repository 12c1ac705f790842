//! The probes of each host, as the monitor's prober makes them: over a connection that stays open,
//! or a fresh one, or both.

use std::time::Duration;

use leadpool::{
    Config,
    failover::{Answer, Failure, Input, Pace, Renewal, Rhythm},
};

use super::{
    clock::Time,
    server::{Caller, Purpose},
    world::{Event, World},
};

/// What probes one host for one client.
#[derive(Debug)]
pub(super) struct Prober {
    session: Option<Session>,
    rhythm: Rhythm,
    /// Rung while it was busy.
    is_rung: bool,
    /// Tells what was planned for another probe, or another pause.
    turn: u32,
    asking: Option<Asking>,
    begun: Time,
    /// How soon after the beginning of the last probe the next may follow.
    spacing: Duration,
    /// By how much this pause is stretched.
    share: f64,
}

/// An open connection.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// When it was opened, or last tried to be replaced.
    tried: Time,
    renewal: Renewal,
    is_writable: bool,
}

/// A probe that goes on.
#[derive(Debug)]
struct Asking {
    old: Option<Session>,
    is_old_asked: bool,
    renews: bool,
    has_waited_for_fresh: bool,
    fresh: Option<Fresh>,
    waited: Duration,
    patience: Duration,
}

/// A connection that is being opened.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    attempt: u64,
    /// The server has a session for it.
    is_taken: bool,
    opened: Option<Time>,
}

impl Prober {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            session: None,
            rhythm: Rhythm::new(config.pool().connect_timeout),
            is_rung: false,
            turn: 0,
            asking: None,
            begun: Time::default(),
            spacing: Duration::ZERO,
            share: 0.0,
        }
    }
}

/// For how long a connection is used while all is well.
fn lifetime(renewal: &Renewal) -> Duration {
    let is_due = |age: &Duration| renewal.is_due(Pace::Idle, Duration::ZERO, *age, false);
    let mut ages = (1..).map(Duration::from_secs);
    ages.find(is_due).unwrap_or_default()
}

impl World<'_> {
    fn prober(&mut self, client: u32, host: u8) -> &mut Prober {
        &mut self.clients[client as usize].probers[usize::from(host)]
    }

    /// The state at the beginning: somewhere in the middle of a pause, with a session of any age.
    pub(super) fn settle_in_prober(&mut self, client: u32, host: u8) {
        let now = self.agenda.now();
        let settings = self.scenario.config.monitor();
        let one = &self.clients[client as usize];
        let pause = one.pace.pause(now.since_start(), settings, 0.5);
        let is_writable = host == super::world::OLD;
        let renewal = Renewal::new(self.dice.f64());
        let age = lifetime(&renewal).mul_f64(self.dice.f64());
        let since = pause.mul_f64(self.dice.f64());
        let prober = self.prober(client, host);
        prober.session = Some(Session {
            tried: Time::from(now.since_start().saturating_sub(age)),
            renewal,
            is_writable,
        });
        prober.begun = Time::from(now.since_start().saturating_sub(since));
        self.rest(client, host);
    }

    /// Plans the next probe.
    fn rest(&mut self, client: u32, host: u8) {
        self.prober(client, host).share = self.dice.f64();
        if std::mem::take(&mut self.prober(client, host).is_rung) {
            self.soon(client, host);
        } else {
            self.pace_changed(client, host);
        }
    }

    /// While it rests, it keeps to the pace of now.
    pub(super) fn pace_changed(&mut self, client: u32, host: u8) {
        let now = self.agenda.now().since_start();
        let settings = self.scenario.config.monitor();
        let pace = self.clients[client as usize].pace;
        let prober = self.prober(client, host);
        if prober.asking.is_some() {
            return;
        }
        let pause = pace.pause(now, settings, prober.share);
        let at = prober.begun + pause.max(prober.spacing);
        self.plan(client, host, at);
    }

    /// Plans it as soon as may be.
    fn soon(&mut self, client: u32, host: u8) {
        let prober = self.prober(client, host);
        let at = prober.begun + prober.spacing;
        self.plan(client, host, at);
    }

    fn plan(&mut self, client: u32, host: u8, at: Time) {
        let prober = self.prober(client, host);
        prober.turn += 1;
        let turn = prober.turn;
        self.agenda.at(at, Event::Due { client, host, turn });
    }

    /// The machine wants to know at once.
    pub(super) fn ring(&mut self, client: u32, host: u8) {
        let prober = self.prober(client, host);
        if prober.asking.is_some() {
            prober.is_rung = true;
        } else {
            self.soon(client, host);
        }
    }

    pub(super) fn due(&mut self, client: u32, host: u8, turn: u32) {
        let prober = self.prober(client, host);
        if prober.turn == turn && prober.asking.is_none() {
            self.begin(client, host);
        }
    }

    fn begin(&mut self, client: u32, host: u8) {
        let now = self.agenda.now();
        let overdue = self.scenario.config.monitor().suspect_after;
        let pace = self.clients[client as usize].pace;
        self.tally.probed(now, host);
        let prober = self.prober(client, host);
        let mut old = prober.session.take();
        let is_old = |old: &&mut Session| {
            let age = now.since(old.tried);
            let is_writable = old.is_writable;
            old.renewal
                .is_due(pace, now.since_start(), age, is_writable)
        };
        let renewed = old.as_mut().filter(is_old);
        let renews = renewed.is_some();
        if let Some(old) = renewed {
            old.tried = now;
            old.renewal.put_off();
        }
        let rhythm = prober.rhythm;
        let patience = rhythm.patience(old.is_some());
        let second_try = rhythm.second_try();
        let head_start = rhythm.head_start(self.scenario.config.monitor());
        let prober = self.prober(client, host);
        prober.begun = now;
        prober.turn += 1;
        let turn = prober.turn;
        prober.asking = Some(Asking {
            old,
            is_old_asked: false,
            renews,
            has_waited_for_fresh: false,
            fresh: None,
            waited: Duration::ZERO,
            patience,
        });
        let answered = match (old, renews) {
            (Some(_), false) => self.ask_old(client, host),
            (Some(_), true) => {
                self.agenda
                    .after(head_start, Event::HeadStartOver { client, host, turn });
                self.open_fresh(client, host);
                None
            }
            (None, _) => {
                self.open_fresh(client, host);
                None
            }
        };
        // What is answered in time needs nobody who waits for it.
        if answered.is_none_or(|at| at.since(now) >= overdue) {
            self.agenda
                .after(overdue, Event::Overdue { client, host, turn });
        }
        let asks_old = old.is_some() && !renews;
        if asks_old && answered.is_none_or(|at| at.since(now) >= second_try) {
            self.agenda
                .after(second_try, Event::SecondTry { client, host, turn });
        }
    }

    /// Asks over the open connection; says when the answer will be here.
    fn ask_old(&mut self, client: u32, host: u8) -> Option<Time> {
        let asking = self.prober(client, host).asking.as_mut()?;
        asking.old?;
        asking.is_old_asked = true;
        self.ask(client, host, false)
    }

    fn ask(&mut self, client: u32, host: u8, is_fresh: bool) -> Option<Time> {
        let sent = self.agenda.now();
        let arrives = sent + self.way();
        let back = self.way();
        let turn = self.prober(client, host).turn;
        let server = &mut self.servers[usize::from(host)];
        if server.lost(arrives).is_some() {
            return None;
        }
        let done = server.probe(arrives, &self.scenario.model);
        let event = Event::Answered {
            client,
            host,
            turn,
            is_fresh,
            sent,
            done,
        };
        self.agenda.at(done + back, event);
        Some(done + back)
    }

    fn open_fresh(&mut self, client: u32, host: u8) {
        let attempt = self.attempt(client);
        if let Some(asking) = &mut self.prober(client, host).asking {
            asking.fresh = Some(Fresh {
                attempt,
                is_taken: false,
                opened: None,
            });
        }
        let caller = Caller {
            client,
            purpose: Purpose::Monitor(host),
            attempt,
        };
        self.connect(host, caller);
    }

    pub(super) fn is_asking(&mut self, client: u32, host: u8, turn: u32) -> bool {
        let prober = self.prober(client, host);
        prober.turn == turn && prober.asking.is_some()
    }

    pub(super) fn overdue(&mut self, client: u32, host: u8, turn: u32) {
        if !self.is_asking(client, host, turn) {
            return;
        }
        let overdue = self.scenario.config.monitor().suspect_after;
        let Some(asking) = &mut self.prober(client, host).asking else {
            return;
        };
        asking.waited += overdue;
        if asking.waited >= asking.patience {
            return self.ended(client, host, None, Err(Failure::Silent));
        }
        self.agenda
            .after(overdue, Event::Overdue { client, host, turn });
        let name = self.names[usize::from(host)].clone();
        let silent = Input::Failed {
            host: name,
            failure: Failure::Silent,
        };
        self.handle(client, silent);
    }

    pub(super) fn head_start_over(&mut self, client: u32, host: u8, turn: u32) {
        if !self.is_asking(client, host, turn) {
            return;
        }
        if let Some(asking) = &mut self.prober(client, host).asking {
            asking.has_waited_for_fresh = true;
            if asking.is_old_asked {
                return;
            }
        }
        self.ask_old(client, host);
    }

    pub(super) fn second_try(&mut self, client: u32, host: u8, turn: u32) {
        if self.is_asking(client, host, turn) && !self.has_fresh(client, host) {
            self.open_fresh(client, host);
        }
    }

    fn has_fresh(&mut self, client: u32, host: u8) -> bool {
        let asking = &self.prober(client, host).asking;
        asking.as_ref().is_some_and(|asking| asking.fresh.is_some())
    }

    /// The server's end breaks the open connection.
    pub(super) fn session_lost(&mut self, client: u32, host: u8) {
        let prober = self.prober(client, host);
        let Some(asking) = &mut prober.asking else {
            prober.session = None;
            return self.soon(client, host);
        };
        let was_asked = asking.old.take().is_some() && asking.is_old_asked;
        if was_asked && !asking.renews && asking.fresh.is_none() {
            self.open_fresh(client, host);
        }
    }

    /// Whether a probe waits for this connection.
    pub(super) fn wants_fresh(&self, host: u8, caller: &Caller) -> bool {
        let prober = &self.clients[caller.client as usize].probers[usize::from(host)];
        let fresh = prober.asking.as_ref().and_then(|asking| asking.fresh);
        fresh.is_some_and(|fresh| fresh.attempt == caller.attempt)
    }

    pub(super) fn fresh_taken(&mut self, host: u8, caller: &Caller) {
        let asking = &mut self.prober(caller.client, host).asking;
        if let Some(fresh) = asking.as_mut().and_then(|asking| asking.fresh.as_mut()) {
            fresh.is_taken = true;
        }
    }

    pub(super) fn fresh_opened(&mut self, host: u8, caller: &Caller) {
        let now = self.agenda.now();
        let asking = &mut self.prober(caller.client, host).asking;
        if let Some(fresh) = asking.as_mut().and_then(|asking| asking.fresh.as_mut()) {
            fresh.opened = Some(now);
        }
        self.ask(caller.client, host, true);
    }

    /// No connection can be had. Where an open one is to be replaced, that one is asked.
    pub(super) fn fresh_failed(&mut self, host: u8, caller: &Caller, failure: Failure) {
        let client = caller.client;
        let Some(asking) = &mut self.prober(client, host).asking else {
            return;
        };
        let keeps_old = asking.renews
            && !asking.has_waited_for_fresh
            && asking.old.is_some()
            && matches!(failure, Failure::Denied(_) | Failure::Unreachable(_));
        asking.fresh = None;
        if keeps_old {
            self.ask_old(client, host);
        } else {
            self.ended(client, host, None, Err(failure));
        }
    }

    pub(super) fn answered(&mut self, client: u32, host: u8, is_fresh: bool, answer: Answer) {
        let share = self.dice.f64();
        let Some(asking) = &self.prober(client, host).asking else {
            return;
        };
        let used = match is_fresh {
            true => {
                let opened = asking.fresh.and_then(|fresh| fresh.opened);
                opened.map(|opened| (opened, Renewal::new(share)))
            }
            // Of one that broke meanwhile, or was given up.
            false => asking.old.map(|old| (old.tried, old.renewal)),
        };
        let Some((tried, renewal)) = used else {
            return;
        };
        let session = Session {
            tried,
            renewal,
            is_writable: !answer.recovering && !answer.read_only,
        };
        self.ended(client, host, Some((session, is_fresh)), Ok(answer));
    }

    /// A probe is over; `used` is the connection that stays, and whether it is the fresh one.
    fn ended(
        &mut self,
        client: u32,
        host: u8,
        used: Option<(Session, bool)>,
        result: Result<Answer, Failure>,
    ) {
        let settings = self.scenario.config.monitor();
        let prober = self.prober(client, host);
        let Some(asking) = prober.asking.take() else {
            return;
        };
        let keeps_fresh = matches!(used, Some((_, true)));
        let keeps_old = matches!(used, Some((_, false)));
        prober.session = used.map(|(session, _)| session);
        let closes_old = asking.old.is_some() && !keeps_old;
        let closes_fresh = asking.fresh.is_some_and(|fresh| fresh.is_taken) && !keeps_fresh;
        let spacing = prober.rhythm.ended(result.as_ref().err(), settings);
        prober.spacing = spacing.unwrap_or_default();
        self.servers[usize::from(host)].sessions -=
            usize::from(closes_old) + usize::from(closes_fresh);
        if spacing.is_some() {
            self.rest(client, host);
        }
        let name = self.names[usize::from(host)].clone();
        let input = match result {
            Ok(answer) => Input::Answered { host: name, answer },
            Err(failure) => Input::Failed {
                host: name,
                failure,
            },
        };
        self.handle(client, input);
        if spacing.is_none() && self.prober(client, host).asking.is_none() {
            self.begin(client, host);
        }
    }
}
