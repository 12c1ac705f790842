//! The task that asks one host.
//!
//! Each host has a prober of its own, so a host that is slow or silent delays no other. It keeps
//! one connection open: a probe is then one round trip, and the end of the connection is noticed
//! at once, also when nothing is due.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};

use super::{login::Logins, probe::Probe};
use crate::{
    config::Config,
    connect::Login,
    credentials::CredentialError,
    failover::{Answer, Failure, Pace, Rhythm},
    topology::HostAddr,
};

/// What a prober found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) host: HostAddr,
    /// Counts the probes of this host.
    pub(super) number: u64,
    /// When this one began.
    pub(super) begun: Instant,
    pub(super) result: Result<Answer, Failure>,
    /// The probe is over; a silent one goes on.
    pub(super) over: bool,
}

/// What the worker and a prober share.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Rung to have the host probed at once.
    pub(super) ring: Notify,
    /// The number of the last probe that was begun.
    pub(super) begun: AtomicU64,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) host: HostAddr,
    pub(super) config: Arc<Config>,
    pub(super) pace: watch::Receiver<(Pace, Instant)>,
    pub(super) bell: Arc<Bell>,
    pub(super) findings: mpsc::Sender<Finding>,
}

/// What a fresh connection logs in with.
#[derive(Clone, Copy)]
struct Access<'a> {
    login: Result<&'a Login, &'a CredentialError>,
    /// Set when the host refuses it.
    refused: &'a AtomicBool,
}

impl Prober {
    /// Probes the host until the worker is gone.
    pub(super) async fn run(mut self) {
        let mut session = None;
        let mut logins = Logins::default();
        let mut number = 0;
        let mut rhythm = Rhythm::new(self.config.pool().connect_timeout);
        loop {
            number += 1;
            let begun = Instant::now();
            self.bell.begun.store(number, Ordering::Release);
            let result = self.probe(&mut session, &mut logins, number, rhythm).await;
            let spacing = rhythm.ended(result.as_ref().err(), self.config.monitor());
            let finding = Finding {
                host: self.host.clone(),
                number,
                begun,
                result,
                over: true,
            };
            if self.findings.send(finding).await.is_err() {
                return;
            }
            let Some(spacing) = spacing else {
                continue;
            };
            let resting = self.rest(&mut session, &mut logins, begun, spacing);
            if resting.await.is_err() {
                return;
            }
        }
    }

    /// One probe: over the open connection if there is one, else over a new one. Reports silence
    /// while it lasts.
    async fn probe(
        &self,
        session: &mut Option<Probe>,
        logins: &mut Logins,
        number: u64,
        rhythm: Rhythm,
    ) -> Result<Answer, Failure> {
        let (pace, start) = *self.pace.borrow();
        let is_old = |old: &Probe| old.is_old(pace, start.elapsed());
        let renew = session.as_ref().is_none_or(is_old);
        // Before the probe: a provider that keeps us waiting is no silence of the host.
        let login = match renew {
            true => {
                let must = session.is_none();
                logins.get(&self.config, &self.host, must).await
            }
            false => logins.last().ok_or_else(Logins::none),
        };
        let refused = AtomicBool::new(false);
        let access = Access {
            login: login.as_ref(),
            refused: &refused,
        };
        let asked = self.ask(session, renew, access, number, rhythm).await;
        if let (true, Ok(login)) = (refused.into_inner(), login) {
            logins.refused(login);
        }
        asked
    }

    async fn ask(
        &self,
        session: &mut Option<Probe>,
        renew: bool,
        access: Access<'_>,
        number: u64,
        rhythm: Rhythm,
    ) -> Result<Answer, Failure> {
        let open = session.take();
        let patience = rhythm.patience(open.is_some());
        let asking = async {
            match open {
                Some(old) if renew => self.renew(old, access, rhythm).await,
                Some(old) => self.ask_again(old, access, rhythm).await,
                None => self.ask_anew(access).await,
            }
        };
        let mut asking = pin!(asking);
        let overdue = self.config.monitor().suspect_after;
        let mut silence = interval_at(Instant::now() + overdue, overdue);
        // Counted, and not measured: a time in which nothing ran here was no silence.
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waited = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                asked = &mut asking => {
                    let (used, answer) = asked?;
                    *session = Some(used);
                    return Ok(answer);
                }
                _ = silence.tick() => {
                    waited += overdue;
                    if waited >= patience {
                        return Err(Failure::Silent);
                    }
                    let finding = Finding {
                        host: self.host.clone(),
                        number,
                        begun: Instant::now(),
                        result: Err(Failure::Silent),
                        over: false,
                    };
                    // A full channel holds enough to keep the worker busy; silence will be
                    // reported again.
                    drop(self.findings.try_send(finding));
                }
            }
        }
    }

    /// Asks over the open connection. If that is silent for long, also over a fresh one: a
    /// connection that was cut off by the network never answers again, while a slow host may need
    /// longer for a fresh one than for the answer that it owes.
    async fn ask_again(
        &self,
        mut old: Probe,
        access: Access<'_>,
        rhythm: Rhythm,
    ) -> Result<(Probe, Answer), Failure> {
        let fresh = async {
            sleep(rhythm.second_try()).await;
            self.ask_anew(access).await
        };
        let asked = tokio::select! {
            biased;
            asked = old.ask() => asked,
            asked = fresh => return asked,
        };
        match asked {
            Ok(answer) => Ok((old, answer)),
            Err(denied @ Failure::Denied(_)) => Err(denied),
            // The connection broke; whether the host did, only a new one can tell.
            Err(_) => self.ask_anew(access).await,
        }
    }

    /// Asks over a fresh connection. Where none can be had, because the name is not resolved for
    /// instance, the server that the open one leads to is still the one that the pools' connections
    /// lead to, and as long as it answers there is no reason to give it up.
    async fn renew(
        &self,
        mut old: Probe,
        access: Access<'_>,
        rhythm: Rhythm,
    ) -> Result<(Probe, Answer), Failure> {
        old.is_being_renewed();
        let mut fresh = pin!(self.ask_anew(access));
        let enough = rhythm.head_start(self.config.monitor());
        let problem = match timeout(enough, fresh.as_mut()).await {
            Ok(Err(problem @ (Failure::Denied(_) | Failure::Unreachable(_)))) => Some(problem),
            Ok(asked) => return asked,
            Err(_) => None,
        };
        let Some(problem) = problem else {
            return tokio::select! {
                biased;
                asked = &mut fresh => asked,
                Ok(answer) = old.ask() => Ok((old, answer)),
            };
        };
        match old.ask().await {
            Ok(answer) => Ok((old, answer)),
            Err(denied @ Failure::Denied(_)) => Err(denied),
            Err(_) => Err(problem),
        }
    }

    async fn ask_anew(&self, access: Access<'_>) -> Result<(Probe, Answer), Failure> {
        let limit = self.config.pool().connect_timeout;
        let login = access
            .login
            .map_err(|error| Failure::Denied(error.to_string()))?;
        let opened = Probe::open(&self.config, &self.host, login, limit).await;
        let mut new = opened.map_err(|not| {
            access.refused.fetch_or(not.is_rejection, Ordering::Relaxed);
            not.failure
        })?;
        let answer = new.ask().await?;
        Ok((new, answer))
    }

    /// Waits until the next probe is due: by the pace, by the bell, or because the connection
    /// ended.
    async fn rest(
        &mut self,
        session: &mut Option<Probe>,
        logins: &mut Logins,
        begun: Instant,
        spacing: Duration,
    ) -> Result<(), watch::error::RecvError> {
        let jitter = jitter(&self.host, begun);
        loop {
            let (pace, start) = *self.pace.borrow_and_update();
            let pause = pace.pause(start.elapsed(), self.config.monitor(), jitter);
            let due = begun + pause.max(spacing);
            let ended = async {
                match session.as_mut() {
                    Some(session) => session.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = ended => *session = None,
                () = logins.proceed() => continue,
                () = self.bell.ring.notified() => {}
                () = sleep_until(due) => return Ok(()),
                changed = self.pace.changed() => {
                    changed?;
                    continue;
                }
            }
            sleep_until(begun + spacing).await;
            return Ok(());
        }
    }
}

/// A number in 0..1 that differs between hosts, processes and moments.
fn jitter(host: &HostAddr, at: Instant) -> f64 {
    use std::hash::{BuildHasher, RandomState};

    let hash = RandomState::new().hash_one((host, at));
    f64::from((hash % 1000) as u16) / 1000.0
}
