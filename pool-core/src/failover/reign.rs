//! Since when a host has been primary, where only the provider's clock tells.

use super::record::Record;
use crate::topology::{Health, Role, Term};

/// System identifier (0 if the host does not tell) and start time of a server.
type Incarnation = (u64, i64);

/// A claim that came with a stamp instead of a timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reign {
    /// The stamp that it was first seen with.
    pub(super) term: Term,
    /// The one that it was last seen with.
    latest: Term,
    /// The server that began it, and the one that goes on with it.
    began: Option<Incarnation>,
    now: Option<Incarnation>,
}

impl Reign {
    /// What a host's own word makes of its reign.
    pub(super) fn after(
        before: Option<Self>,
        stamp: Option<u64>,
        incarnation: Option<Incarnation>,
    ) -> Option<Self> {
        let latest = stamp.map(Term::from_counter);
        match (before, latest) {
            (Some(before), latest) => Some(Self {
                latest: latest.unwrap_or(before.latest),
                now: incarnation,
                ..before
            }),
            (None, Some(latest)) => Some(Self {
                term: latest,
                latest,
                began: incarnation,
                now: incarnation,
            }),
            (None, None) => None,
        }
    }

    fn was_interrupted(&self) -> bool {
        self.began.is_some() && self.now.is_some() && self.began != self.now
    }
}

/// Lets the reign of a fenced host begin anew that was primary, then was not, and is again, where
/// nobody saw it in between: it was away, and its stamp is still that of its first reign.
///
/// Its own word does not do, or a stale primary that comes back would be taken for a new one. It
/// must have restarted, as Aurora's instances do when they change roles; nobody may claim a later
/// reign; and the standbys that answer must name it, and nobody else.
pub(super) fn renew(records: &mut [Record], highest: Option<Term>) {
    let claims = |record: &Record| record.view.role == Role::Primary;
    let anew = records.iter().enumerate().find_map(|(at, record)| {
        let reign = record.reign.filter(|_| claims(record))?;
        let instance = record.instance.as_deref()?;
        let later = |other: &Record| claims(other) && other.view.term > Some(reign.term);
        let mut named = records
            .iter()
            .filter(|other| other.view.health == Health::Up && other.view.role == Role::Standby)
            .filter_map(|other| other.names.as_deref())
            .peekable();
        let sound = Some(reign.term) < highest
            && reign.was_interrupted()
            && Some(reign.latest) > highest
            && !records.iter().any(later)
            && named.peek().is_some()
            && named.all(|name| name == instance);
        sound.then_some((at, reign))
    });
    if let Some((at, reign)) = anew {
        let record = &mut records[at];
        record.reign = Some(Reign {
            term: reign.latest,
            began: reign.now,
            ..reign
        });
        record.view.term = Some(reign.latest);
        record.claimed = record.claimed.max(record.view.term);
    }
}
