//! What orders claims to be primary, and positions in the write-ahead log.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// What orders claims to be primary: the higher term wins, a lower one is fenced.
///
/// For PostgreSQL itself the term is the timeline id, which grows with every promotion
/// ([PostgreSQL documentation, section 26.3.6][tli]). A provider whose timelines say nothing
/// supplies a counter of its own.
///
/// ```
/// use leadpool::topology::Term;
///
/// assert!(Term::from_timeline(2) > Term::from_timeline(1));
/// assert_eq!(Term::from_timeline(7).get(), 7);
/// ```
///
/// [tli]: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Term(u64);

impl Term {
    /// The term of a PostgreSQL timeline id.
    #[must_use]
    pub fn from_timeline(timeline: u32) -> Self {
        Self(timeline.into())
    }

    /// The term of a provider whose timelines say nothing: a number that grows from one primary to
    /// the next, for instance when each began, in microseconds.
    #[must_use]
    pub fn from_counter(counter: u64) -> Self {
        Self(counter)
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A position in the write-ahead log, in bytes since its beginning: PostgreSQL's `pg_lsn`.
///
/// ```
/// use leadpool::topology::Lsn;
///
/// let lsn: Lsn = "16/B374D848".parse()?;
/// assert_eq!(lsn.get(), 0x16_B374_D848);
/// assert_eq!(lsn.to_string(), "16/B374D848");
/// # Ok::<(), leadpool::topology::InvalidLsn>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// A position given in bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The position in bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// How many bytes `self` is behind `other`; 0 when it is not behind.
    #[must_use]
    pub fn behind(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// As the server writes it.
impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let half = |part: &str| {
            // `from_str_radix` also takes a sign, which no server writes.
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidLsn);
            }
            u32::from_str_radix(part, 16).map_err(|_| InvalidLsn)
        };
        let (high, low) = s.split_once('/').ok_or(InvalidLsn)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// A text that is no position in the write-ahead log.
///
/// ```
/// use leadpool::topology::{InvalidLsn, Lsn};
///
/// assert_eq!("16-B3".parse::<Lsn>(), Err(InvalidLsn));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a WAL position is two hexadecimal numbers of up to 8 digits, joined by a slash")]
#[allow(
    clippy::exhaustive_structs,
    reason = "a unit error says all there is to say"
)]
pub struct InvalidLsn;
