//! How long a host has shown no life, and when that is too long.

use std::time::Duration;

use crate::config::MonitorSettings;

/// By how many of the host's own answering times the watchdog's patience is longer: what answers
/// slowly by custom is not gone when it is a little slower.
const ALLOWANCE: u32 = 4;

/// What is known of one host's silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    /// Since when no probe has proved that the host lives.
    unproven_since: Option<Duration>,
    /// Since when nothing at all has come from it, while a probe waited for its answer.
    mute_since: Option<Duration>,
    /// When something last came from it.
    last_sign: Option<Duration>,
    /// Connections to it are checked out.
    in_use: bool,
}

impl Silence {
    /// A probe waits for its answer, for `waited` by now.
    pub(super) fn waiting(&mut self, now: Duration, waited: Duration) {
        self.unproven(now);
        let heard = self.last_sign.unwrap_or_default();
        let since = now.saturating_sub(waited).max(heard);
        self.mute_since.get_or_insert(since);
    }

    /// A probe failed on the way: it proves neither life nor death, and did not wait either.
    pub(super) fn unproven(&mut self, now: Duration) {
        self.unproven_since.get_or_insert(now);
    }

    /// The server itself has said something to the monitor.
    pub(super) fn broken(&mut self, now: Duration) {
        self.last_sign = Some(now);
        self.forget();
    }

    /// It has been judged.
    pub(super) fn forget(&mut self) {
        self.unproven_since = None;
        self.mute_since = None;
    }

    /// Something came over a connection of the application: as long as that goes on the host is
    /// not gone, whatever becomes of the probe.
    pub(super) fn heard(&mut self, now: Duration) {
        self.last_sign = Some(now);
        self.unproven_since = self.unproven_since.and(Some(now));
        self.mute_since = self.mute_since.and(Some(now));
    }

    pub(super) fn set_in_use(&mut self, in_use: bool) {
        self.in_use = in_use;
    }

    /// Nobody listened for that long: it was no silence of the host's.
    pub(super) fn discount(&mut self, now: Duration, by: Duration) {
        for since in [&mut self.unproven_since, &mut self.mute_since] {
            *since = since.map(|since| (since + by).min(now));
        }
    }

    /// Whether a look is due at a host that is in use and was last heard of at that time.
    pub(super) fn wants_look(&self, now: Duration, settings: &MonitorSettings) -> bool {
        let quiet_for = self
            .last_sign
            .map_or(Duration::MAX, |sign| now.saturating_sub(sign));
        self.in_use && quiet_for >= settings.watchdog_interval / 2
    }

    /// When the host is given up if it goes on like this.
    pub(super) fn ends(
        &self,
        latency: Option<Duration>,
        settings: &MonitorSettings,
    ) -> Option<Duration> {
        let patience = settings.watchdog_limit.map(|limit| {
            let usual = latency.unwrap_or_default();
            limit
                .saturating_add(usual.saturating_mul(ALLOWANCE))
                .min(settings.silence_limit)
        });
        let at_use = self
            .mute_since
            .filter(|_| self.in_use)
            .zip(patience)
            .map(|(since, patience)| since.saturating_add(patience));
        let at_any_rate = self
            .unproven_since
            .map(|since| since.saturating_add(settings.silence_limit));
        at_use.into_iter().chain(at_any_rate).min()
    }
}
