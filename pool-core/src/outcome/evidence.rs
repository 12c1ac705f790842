//! What is noted of a transaction before its COMMIT is sent.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::topology::{HostAddr, Lsn};

/// One life of a server, between two starts or recoveries.
///
/// Neither half is enough: the start time stays when the server resets itself after the crash of
/// one backend, and the positions stay at a clean restart.
///
/// ```
/// use leadpool::outcome::Incarnation;
///
/// let calm = Incarnation { timeline: 1, started_at: 7, ..Incarnation::default() };
/// assert_eq!(calm, calm.clone());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "all that a server tells of its life"
)]
pub struct Incarnation {
    /// The timeline that it writes.
    pub timeline: u32,
    /// `pg_last_wal_replay_lsn()` of a primary: where its last recovery ended. `None` after a
    /// clean start.
    pub replayed: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()` of a primary: set if it was promoted from a streaming standby.
    pub received: Option<Lsn>,
    /// `pg_postmaster_start_time()` in microseconds since 1970.
    pub started_at: i64,
}

/// What is needed to find out later whether a transaction was committed.
///
/// It comes with [`Error::Unknown`](crate::Error::Unknown), and goes to
/// [`Pool::resolve`](crate::Pool::resolve). Its text form survives a restart of the application;
/// a text that was cut or changed is refused when it is read.
///
/// ```
/// use leadpool::outcome::Evidence;
///
/// assert!("leadpool1|gibberish".parse::<Evidence>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// The host that COMMIT was sent to.
    pub host: HostAddr,
    /// The cluster, where its id can be read.
    pub system_identifier: Option<u64>,
    /// The life of the server in which the transaction ran.
    pub incarnation: Incarnation,
    /// The transaction's id (`xid8`). 0 of a transaction that was sent in one go and lost before
    /// its id was told: then the token alone can prove it, and the positions are 0 too.
    pub transaction: u64,
    /// The end of a record that the transaction wrote before COMMIT was sent.
    pub marker: Lsn,
    /// Up to where the server had flushed its log then.
    pub flushed: Lsn,
    /// The process that ran the transaction.
    pub backend: i32,
    /// When the transaction began, or was about to, by the server's clock, in microseconds since
    /// 1970.
    pub began_at: i64,
    /// The row that it left in the table of tokens.
    pub token: Option<Uuid>,
}

/// What every text form begins with; the number changes with the format.
const FORMAT: &str = "leadpool1";

impl Evidence {
    fn body(&self) -> String {
        let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let life = &self.incarnation;
        [
            FORMAT.to_owned(),
            number(self.system_identifier),
            life.timeline.to_string(),
            number(life.replayed.map(Lsn::get)),
            number(life.received.map(Lsn::get)),
            life.started_at.to_string(),
            self.transaction.to_string(),
            self.marker.get().to_string(),
            self.flushed.get().to_string(),
            self.backend.to_string(),
            self.began_at.to_string(),
            self.token
                .map_or_else(String::new, |token| token.to_string()),
            self.host.port().to_string(),
            self.host.name().to_owned(),
        ]
        .join("|")
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}|{:016x}", checksum(&body))
    }
}

/// A text that is no [`Evidence`]: cut, changed, or of another version.
///
/// ```
/// let error = "".parse::<leadpool::outcome::Evidence>().unwrap_err();
/// assert!(error.to_string().contains("cut or changed"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not evidence of a transaction: the text was cut or changed, or is of another version")]
#[non_exhaustive]
pub struct InvalidEvidence;

impl FromStr for Evidence {
    type Err = InvalidEvidence;

    fn from_str(text: &str) -> Result<Self, InvalidEvidence> {
        let (body, sum) = text.trim().rsplit_once('|').ok_or(InvalidEvidence)?;
        if sum != format!("{:016x}", checksum(body)) {
            return Err(InvalidEvidence);
        }
        let mut parts = body.splitn(14, '|');
        let mut next = || parts.next().ok_or(InvalidEvidence);
        fn read<T: FromStr>(text: &str) -> Result<T, InvalidEvidence> {
            text.parse().map_err(|_| InvalidEvidence)
        }
        fn optional(text: &str) -> Result<Option<u64>, InvalidEvidence> {
            match text {
                "" => Ok(None),
                text => read(text).map(Some),
            }
        }
        if next()? != FORMAT {
            return Err(InvalidEvidence);
        }
        let evidence = Self {
            system_identifier: optional(next()?)?,
            incarnation: Incarnation {
                timeline: read(next()?)?,
                replayed: optional(next()?)?.map(Lsn::new),
                received: optional(next()?)?.map(Lsn::new),
                started_at: read(next()?)?,
            },
            transaction: read(next()?)?,
            marker: Lsn::new(read(next()?)?),
            flushed: Lsn::new(read(next()?)?),
            backend: read(next()?)?,
            began_at: read(next()?)?,
            token: match next()? {
                "" => None,
                token => Some(read(token)?),
            },
            host: {
                let port = read(next()?)?;
                HostAddr::new(next()?, port)
            },
        };
        // One text for one value: `007` is not how a number is written.
        if evidence.body() == body {
            Ok(evidence)
        } else {
            Err(InvalidEvidence)
        }
    }
}

/// FNV-1a, 64 bits ([specification](https://datatracker.ietf.org/doc/html/draft-eastlake-fnv)):
/// against accidents, not against an enemy.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        Evidence {
            host: HostAddr::new("fe80::1|x", 6432),
            system_identifier: Some(7_123_456_789),
            incarnation: Incarnation {
                timeline: 3,
                replayed: Some(Lsn::new(5)),
                received: None,
                started_at: -4,
            },
            transaction: u64::MAX,
            marker: Lsn::new(77),
            flushed: Lsn::new(70),
            backend: 4711,
            began_at: 8,
            token: Some(Uuid::from_u128(3)),
        }
    }

    #[test]
    fn its_text_is_read_back() {
        let evidence = evidence();
        assert_eq!(evidence.to_string().parse(), Ok(evidence));
    }

    #[test]
    fn a_text_that_was_cut_or_changed_is_refused() {
        let text = evidence().to_string();
        for at in 0..text.len() {
            assert!(text[..at].parse::<Evidence>().is_err(), "cut at {at}");
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed.parse::<Evidence>().is_err(), "{changed}");
        }
    }
}
