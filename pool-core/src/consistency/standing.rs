//! What became of a token, and which standbys have what it asks for.

use std::fmt;

use super::ConsistencyToken;
use crate::{outcome::History, topology::Lsn};

/// What became of what a token stands for, as far as has been seen.
///
/// ```
/// use leadpool::consistency::Standing;
///
/// assert_eq!(Standing::Kept.to_string(), "kept");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It belongs to the timeline that is written now.
    Current,
    /// It belongs to an older one, and the present one branched off at or after it: a failover
    /// kept it.
    Kept,
    /// It belongs to an older timeline, which was left before it: a failover lost it. No server
    /// of the cluster has it.
    Lost,
    /// It belongs to another cluster: the system identifiers differ.
    Foreign,
    /// It is beyond what there is: of a timeline that no primary has shown, or of a position that
    /// the writer has not reached.
    Future,
    /// It can't be told: where the present timeline began has not been seen, or no primary has
    /// been, or the token has no position.
    Unknown,
}

impl Standing {
    /// As metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Kept => "kept",
            Self::Lost => "lost",
            Self::Foreign => "foreign",
            Self::Future => "future",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a token is judged from: what is known of the writer.
///
/// ```
/// let vantage = leadpool::consistency::Vantage::default();
/// assert_eq!(vantage.timeline, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the input of a pure function")]
pub struct Vantage {
    /// The cluster, where its id can be read.
    pub system_identifier: Option<u64>,
    /// The highest timeline that a primary has shown.
    pub timeline: Option<u32>,
    /// Where that primary's log ended, if it was asked after the token had been taken.
    pub end: Option<Lsn>,
}

/// Says what became of a token. `history` has where the timelines began.
///
/// ```
/// use leadpool::{
///     consistency::{ConsistencyToken, Standing, Vantage, standing},
///     outcome::History,
///     topology::Lsn,
/// };
///
/// let token = ConsistencyToken::new(Some(7), 1, Lsn::new(100));
/// let now = Vantage { system_identifier: Some(7), timeline: Some(1), end: None };
/// assert_eq!(standing(&token, &now, &History::default()), Standing::Current);
/// ```
#[must_use]
pub fn standing(token: &ConsistencyToken, vantage: &Vantage, history: &History) -> Standing {
    let cluster = vantage.system_identifier;
    if let (Some(theirs), Some(ours)) = (token.system_identifier(), cluster) {
        if theirs != ours {
            return Standing::Foreign;
        }
    }
    let (Some(place), Some(now)) = (token.place(), vantage.timeline) else {
        return Standing::Unknown;
    };
    if place.timeline > now {
        return Standing::Future;
    }
    if place.timeline == now {
        return match vantage.end {
            Some(end) if place.position > end => Standing::Future,
            _ => Standing::Current,
        };
    }
    match history.is_kept(cluster, place.timeline, place.position, now) {
        Some(true) => Standing::Kept,
        Some(false) => Standing::Lost,
        None => Standing::Unknown,
    }
}

/// A position of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) timeline: u32,
    pub(crate) position: Lsn,
}

impl Place {
    /// As [`ConsistencyToken::is_had`].
    pub(crate) fn is_had(
        self,
        replayed: Option<Lsn>,
        shown: Option<u32>,
        now: Option<u32>,
    ) -> bool {
        let shown = shown.unwrap_or(1);
        replayed.is_some_and(|replayed| replayed >= self.position)
            && shown >= self.timeline
            && now.is_some_and(|now| shown <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Incarnation, topology::HostAddr};

    const ID: Option<u64> = Some(7);

    fn token(timeline: u32, position: u64) -> ConsistencyToken {
        ConsistencyToken::new(ID, timeline, Lsn::new(position))
    }

    fn at(timeline: u32) -> Vantage {
        Vantage {
            system_identifier: ID,
            timeline: Some(timeline),
            end: None,
        }
    }

    /// Timelines from 2 on, and where each began.
    fn history(switches: &[(u32, u64)]) -> History {
        let mut history = History::default();
        for (timeline, switch) in switches {
            let life = Incarnation {
                timeline: *timeline,
                replayed: Some(Lsn::new(*switch)),
                received: Some(Lsn::new(*switch)),
                started_at: 1,
            };
            let host = HostAddr::new("a", 1);
            history.saw_primary(&host, ID, &life, None);
        }
        history
    }

    #[test]
    fn each_standing() {
        let seen = history(&[(2, 100), (3, 200)]);
        for (token, vantage, expected) in [
            (token(3, 500), at(3), Standing::Current),
            (token(1, 100), at(3), Standing::Kept),
            (token(1, 101), at(3), Standing::Lost),
            (token(2, 200), at(3), Standing::Kept),
            (token(2, 201), at(3), Standing::Lost),
            (token(4, 1), at(3), Standing::Future),
            // Nobody has seen where 4 began; what 2 left behind is lost all the same.
            (token(3, 1), at(4), Standing::Unknown),
            (token(1, 100), at(4), Standing::Unknown),
            (token(1, 150), at(4), Standing::Lost),
            (token(1, 1), Vantage::default(), Standing::Unknown),
            (ConsistencyToken::of_writer(ID), at(3), Standing::Unknown),
        ] {
            assert_eq!(standing(&token, &vantage, &seen), expected, "{token}");
        }
    }

    #[test]
    fn of_another_cluster_whatever_else() {
        let seen = history(&[(2, 100)]);
        let foreign = ConsistencyToken::new(Some(8), 1, Lsn::new(1));
        assert_eq!(standing(&foreign, &at(2), &seen), Standing::Foreign);
        let foreign = ConsistencyToken::of_writer(Some(8));
        assert_eq!(standing(&foreign, &at(2), &seen), Standing::Foreign);
        // Where one of the two is not told, nothing is known against it.
        let untold = ConsistencyToken::new(None, 1, Lsn::new(100));
        assert_eq!(standing(&untold, &at(2), &seen), Standing::Kept);
    }

    #[test]
    fn beyond_the_end_of_the_log_is_future() {
        let none = History::default();
        let mut now = at(1);
        now.end = Some(Lsn::new(100));
        assert_eq!(standing(&token(1, 100), &now, &none), Standing::Current);
        assert_eq!(standing(&token(1, 101), &now, &none), Standing::Future);
    }

    #[test]
    fn two_promotions_of_one_number_tell_nothing() {
        let seen = history(&[(2, 100), (2, 120)]);
        assert_eq!(standing(&token(1, 90), &at(2), &seen), Standing::Unknown);
    }

    #[test]
    fn a_standby_must_have_come_to_the_timeline() {
        let place = Place {
            timeline: 2,
            position: Lsn::new(100),
        };
        let lsn = |bytes| Some(Lsn::new(bytes));
        assert!(place.is_had(lsn(100), Some(2), Some(2)));
        assert!(place.is_had(lsn(100), Some(3), Some(3)));
        assert!(!place.is_had(lsn(99), Some(2), Some(2)));
        assert!(!place.is_had(None, Some(2), Some(2)));
        // On the branch that was left.
        assert!(!place.is_had(lsn(500), Some(1), Some(2)));
        assert!(!place.is_had(lsn(500), None, Some(2)));
        // It has gone where we have seen nobody go.
        assert!(!place.is_had(lsn(500), Some(3), Some(2)));
        let first = Place {
            timeline: 1,
            position: Lsn::new(100),
        };
        assert!(first.is_had(lsn(100), None, Some(1)));
    }
}
