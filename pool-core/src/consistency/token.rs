//! What a read must have seen.

use std::{fmt, str::FromStr};

use super::Place;
use crate::topology::Lsn;

/// What a read must have seen: a position in the write-ahead log of one timeline of one cluster,
/// at or after the end of a COMMIT.
///
/// It is taken after a write ([`Pool::token`](crate::Pool::token),
/// [`TxBuilder::run_with_token`](crate::TxBuilder::run_with_token)) and given to the reads that
/// should see it ([`Pool::reader_at`](crate::Pool::reader_at)), in the same process or another one.
/// It grants nothing and holds no secret, but it does tell how much the cluster writes. What
/// strangers hand back should be [signed](super::SigningKeys).
///
/// Its text form has letters, digits and dots only, 64 bytes at most. One token has one text.
///
/// ```
/// use leadpool::{consistency::ConsistencyToken, topology::Lsn};
///
/// let token = ConsistencyToken::new(Some(7_123_456_789), 3, Lsn::new(0x16_B374_D848));
/// assert_eq!(token.to_string(), "lp1.7123456789.3.16B374D848");
/// assert_eq!(token.to_string().parse(), Ok(token));
/// assert!("lp1.7123456789.3.".parse::<ConsistencyToken>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsistencyToken {
    system_identifier: Option<u64>,
    place: Option<Place>,
}

/// What every text form begins with; the number changes with the format.
const FORMAT: &str = "lp1";
/// Longer than any text form.
const LONGEST: usize = 64;

/// The header of a page of the log, and of the first page of a segment
/// (PostgreSQL's `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`).
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;
const PAGE: u64 = 8192;
/// The smallest; every other one is a multiple of it.
const SEGMENT: u64 = 1 << 20;

impl ConsistencyToken {
    /// What has been written up to `position` of `timeline`. The system identifier is that of
    /// `pg_control_system()`; `None` where it can't be read.
    #[must_use]
    pub fn new(system_identifier: Option<u64>, timeline: u32, position: Lsn) -> Self {
        Self {
            system_identifier,
            place: Some(Place { timeline, position }),
        }
    }

    /// What has been written, wherever that ended: no standby can show that it has it, so reads go
    /// to the writer. It stands in where no position could be had.
    #[must_use]
    pub fn of_writer(system_identifier: Option<u64>) -> Self {
        Self {
            system_identifier,
            place: None,
        }
    }

    /// The same from what a primary says of itself: where it would insert next.
    ///
    /// If its last record ends with a page of the log, it names the place behind the header of the
    /// next one, which no standby reaches before something else is written. The end of the page
    /// is meant then. Where pages have another size than usual this is at most a position inside
    /// of the last record; a standby replays whole records, so it has that one if it is beyond.
    pub(crate) fn of_insert(system_identifier: Option<u64>, timeline: u32, insert: Lsn) -> Self {
        let bytes = insert.get();
        let header = match (bytes % SEGMENT, bytes % PAGE) {
            (SEGMENT_HEADER, _) => SEGMENT_HEADER,
            (_, PAGE_HEADER) => PAGE_HEADER,
            _ => 0,
        };
        Self::new(system_identifier, timeline, Lsn::new(bytes - header))
    }

    /// The cluster, if it told its identifier.
    #[must_use]
    pub fn system_identifier(&self) -> Option<u64> {
        self.system_identifier
    }

    /// The timeline that the position belongs to; `None` for a token [of the
    /// writer](Self::of_writer).
    #[must_use]
    pub fn timeline(&self) -> Option<u32> {
        Some(self.place?.timeline)
    }

    /// The position; `None` for a token [of the writer](Self::of_writer).
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        Some(self.place?.position)
    }

    /// Whether a standby has what the token stands for, where [`standing`](super::standing()) calls
    /// it current or kept. `now` is the timeline that is written.
    ///
    /// How far it has `replayed` (`pg_last_wal_replay_lsn()`) says nothing of the history that it
    /// replays: a standby that follows a former primary, or has more of its log than was promoted,
    /// may be beyond the position on another branch. So it must have `shown` itself that it has
    /// come to the token's timeline. It is on the first one at least. One that is beyond `now`
    /// knows of a promotion that nobody here has seen.
    ///
    /// ```
    /// use leadpool::{consistency::ConsistencyToken, topology::Lsn};
    ///
    /// let token = ConsistencyToken::new(Some(7), 2, Lsn::new(100));
    /// assert!(token.is_had(Some(Lsn::new(100)), Some(2), 2));
    /// assert!(!token.is_had(Some(Lsn::new(500)), Some(1), 2));
    /// ```
    #[must_use]
    pub fn is_had(&self, replayed: Option<Lsn>, shown: Option<u32>, now: u32) -> bool {
        self.place
            .is_some_and(|place| place.is_had(replayed, shown, Some(now)))
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.place
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}.")?;
        if let Some(id) = self.system_identifier {
            write!(f, "{id}")?;
        }
        match self.place {
            Some(Place { timeline, position }) => write!(f, ".{timeline}.{:X}", position.get()),
            None => f.write_str(".."),
        }
    }
}

/// A text that is no [`ConsistencyToken`]. It is not repeated here: anybody may have sent it.
///
/// ```
/// use leadpool::consistency::{ConsistencyToken, InvalidToken};
///
/// assert_eq!("lp9.1.1.1".parse::<ConsistencyToken>(), Err(InvalidToken::OtherFormat));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// It is longer than any token.
    #[error("not a consistency token: longer than 64 bytes")]
    TooLong,
    /// It begins otherwise: something else, or of another version of leadpool.
    #[error("not a consistency token of this version: it does not begin with `lp1.`")]
    OtherFormat,
    /// It was cut or changed.
    #[error("not a consistency token: cut, or changed")]
    Malformed,
}

impl FromStr for ConsistencyToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.len() > LONGEST {
            return Err(InvalidToken::TooLong);
        }
        let mut parts = text.split('.');
        if parts.next() != Some(FORMAT) {
            return Err(InvalidToken::OtherFormat);
        }
        let token = read(parts).ok_or(InvalidToken::Malformed)?;
        // One text for one token: `007` and `+7` are not how a number is written.
        if token.to_string() == text {
            Ok(token)
        } else {
            Err(InvalidToken::Malformed)
        }
    }
}

fn read<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<ConsistencyToken> {
    let (id, timeline, position) = (parts.next()?, parts.next()?, parts.next()?);
    let system_identifier = match id {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    let token = match (timeline, position) {
        ("", "") => ConsistencyToken::of_writer(system_identifier),
        (timeline, position) => {
            let timeline = timeline.parse().ok().filter(|timeline| *timeline > 0)?;
            let position = u64::from_str_radix(position, 16).ok()?;
            ConsistencyToken::new(system_identifier, timeline, Lsn::new(position))
        }
    };
    parts.next().is_none().then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ConsistencyToken {
        ConsistencyToken::new(Some(u64::MAX), u32::MAX, Lsn::new(u64::MAX))
    }

    #[test]
    fn the_longest_is_short_enough() {
        let text = token().to_string();
        assert!(text.len() <= LONGEST, "{text}");
        assert_eq!(text.parse(), Ok(token()));
        let without = ConsistencyToken::of_writer(None);
        assert_eq!(without.to_string(), "lp1...");
        assert_eq!("lp1...".parse(), Ok(without));
    }

    #[test]
    fn one_text_for_one_token() {
        for text in [
            "",
            "lp1",
            "lp1.",
            "lp1..",
            "lp1....",
            "lp1...1",
            "lp1..1.",
            "lp1.7.1",
            "lp1.7.0.1",
            "lp1.7.1.1.1",
            "lp1.07.1.1",
            "lp1.+7.1.1",
            "lp1.7.1.a",
            "lp1.7.1.+A",
            "lp1.7.1.0A",
            "lp1.7.1. A",
            " lp1.7.1.A",
            "lp1.7.1.A\n",
            "lp1.-7.1.A",
            "LP1.7.1.A",
            "lp1.7.١.A",
            "lp1.7.4294967296.A",
            "lp1.7.1.10000000000000000",
            "lp1.18446744073709551616.1.1",
        ] {
            assert!(text.parse::<ConsistencyToken>().is_err(), "{text:?}");
        }
        let long = format!("lp1.7.1.{}", "A".repeat(1_000_000));
        let read: Result<ConsistencyToken, _> = long.parse();
        assert_eq!(read, Err(InvalidToken::TooLong));
    }

    #[test]
    fn the_header_of_a_page_is_nobodys() {
        for (insert, expected) in [
            (0x300_2018, 0x300_2000),
            (0x300_0028, 0x300_0000),
            (0x300_2028, 0x300_2028),
            (0x300_2020, 0x300_2020),
            (0x300_0000, 0x300_0000),
        ] {
            let token = ConsistencyToken::of_insert(None, 1, Lsn::new(insert));
            assert_eq!(token.position(), Some(Lsn::new(expected)), "{insert:X}");
        }
    }
}
