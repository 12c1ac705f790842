//! What may be done to the servers and the network.

use leadpool_testkit::Moment;

/// How the primary is lost, so that another host is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Kill,
    KillPostmaster,
    StopFast,
    StopImmediate,
    /// It wakes up later and does not know.
    Freeze,
    /// No client reaches it any more; it goes on.
    Partition,
    /// Somebody promotes a standby while it works. Loses commits also on a synchronous cluster.
    Usurped,
}

impl Loss {
    pub(super) const SAFE: [Self; 6] = [
        Self::Kill,
        Self::KillPostmaster,
        Self::StopFast,
        Self::StopImmediate,
        Self::Freeze,
        Self::Partition,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "failover: kill",
            Self::KillPostmaster => "failover: kill of the postmaster",
            Self::StopFast => "failover: stop fast",
            Self::StopImmediate => "failover: stop immediate",
            Self::Freeze => "failover: freeze",
            Self::Partition => "failover: partition",
            Self::Usurped => "failover: promoted beside it",
        }
    }
}

/// What hits the primary, which stays the primary.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blow {
    Restart,
    RestartImmediate,
    CrashBackend,
    Terminate,
    Freeze,
}

impl Blow {
    pub(super) const ALL: [Self; 5] = [
        Self::Restart,
        Self::RestartImmediate,
        Self::CrashBackend,
        Self::Terminate,
        Self::Freeze,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Restart => "primary killed and restarted",
            Self::RestartImmediate => "primary stopped and restarted",
            Self::CrashBackend => "a backend crashed",
            Self::Terminate => "all sessions terminated",
            Self::Freeze => "primary frozen for a moment",
        }
    }
}

/// What the network does to one host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    Cut,
    Refuse,
    Delay,
    BlackHole,
}

impl Weather {
    pub(super) const ALL: [Self; 4] = [Self::Cut, Self::Refuse, Self::Delay, Self::BlackHole];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cut => "network: cut",
            Self::Refuse => "network: refused",
            Self::Delay => "network: slow",
            Self::BlackHole => "network: silent",
        }
    }
}

/// The moments at which a COMMIT is caught.
pub(super) const MOMENTS: [Moment; 6] = [
    Moment::BeforeForward,
    Moment::AfterForward,
    Moment::BeforeAnswer,
    Moment::Stranded,
    Moment::SilentBefore,
    Moment::SilentAfter,
];

/// What happens to a standby.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Stop,
    Freeze,
    /// A third one comes, and goes.
    Guest,
}

impl Trouble {
    pub(super) const ALL: [Self; 3] = [Self::Stop, Self::Freeze, Self::Guest];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "standby stopped",
            Self::Freeze => "standby frozen",
            Self::Guest => "standby added and removed",
        }
    }
}
