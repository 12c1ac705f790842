//! What a host is, and how it feels.

use std::fmt;

use serde::Serialize;

/// What a host *is*, as it said itself in its last answer.
///
/// ```
/// use leadpool::topology::Role;
///
/// assert_eq!(Role::Primary.to_string(), "primary");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// It has not answered yet, or not since it was lost.
    #[default]
    Unknown,
    /// Not in recovery. Whether it also is the writer is decided by the term: see
    /// [`HostView::fenced`](super::HostView::fenced).
    Primary,
    /// In recovery: it replays the WAL of another host and refuses writes.
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Standby => "standby",
        })
    }
}

/// Whether a host answers.
///
/// ```
/// use leadpool::topology::Health;
///
/// assert_eq!(Health::Suspect.to_string(), "suspect");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Health {
    /// Nothing has been heard of it yet.
    #[default]
    Unknown,
    /// Its last probe was answered.
    Up,
    /// A probe is overdue or failed in a way that proves nothing. What runs there goes on.
    Suspect,
    /// It refuses connections, or was silent beyond the limit.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        })
    }
}

/// The state of the cluster as a whole.
///
/// ```
/// use leadpool::topology::Phase;
///
/// assert_eq!(Phase::NoPrimary.to_string(), "no-primary");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Not every host has answered yet, and no primary has been accepted.
    #[default]
    Starting,
    /// There is a writer, and it answers.
    Stable,
    /// There is a writer, but it does not answer in time.
    Suspect,
    /// No host is an acceptable primary.
    NoPrimary,
    /// Several hosts claim to be primary and the term can't order them.
    Contested,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Stable => "stable",
            Self::Suspect => "suspect",
            Self::NoPrimary => "no-primary",
            Self::Contested => "contested",
        })
    }
}
