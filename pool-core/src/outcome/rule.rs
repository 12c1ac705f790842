//! What may be concluded from evidence and a primary's testimony.

use std::fmt;

use super::{Evidence, History, Incarnation};
use crate::topology::Lsn;

/// How sure a verdict has to be.
///
/// ```
/// assert_eq!(leadpool::outcome::Proof::default(), leadpool::outcome::Proof::Strict);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// May say unknown, is never wrong.
    #[default]
    Strict,
    /// Takes for granted that the server recovered at most once since. It errs in two cases, and
    /// says "committed" of a transaction that was lost: after two crashes in a row, and after a
    /// crash followed by a failover, each with the log not flushed and the id handed out again.
    OneRecovery,
}

/// The status of a transaction id, by `pg_xact_status`.
///
/// ```
/// assert_ne!(leadpool::outcome::Status::Future, leadpool::outcome::Status::Forgotten);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// `committed`.
    Committed,
    /// `aborted`.
    Aborted,
    /// `in progress`.
    InProgress,
    /// The id has not been handed out yet (22023).
    Future,
    /// Too old to be known (NULL).
    Forgotten,
}

/// What a host says, asked for the transaction.
///
/// ```
/// use leadpool::outcome::{Incarnation, Status, Testimony};
///
/// let testimony = Testimony {
///     system_identifier: None,
///     recovering: false,
///     incarnation: Incarnation::default(),
///     status: Status::Committed,
///     inserted: None,
///     fork: None,
/// };
/// assert!(!testimony.recovering);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the input of a pure function")]
pub struct Testimony {
    /// The cluster that it belongs to.
    pub system_identifier: Option<u64>,
    /// Whether it is in recovery: then it is the wrong one to ask.
    pub recovering: bool,
    /// The life that it is in.
    pub incarnation: Incarnation,
    /// The status of the transaction id, in its history.
    pub status: Status,
    /// Up to where it has inserted its log.
    pub inserted: Option<Lsn>,
    /// Where its history left the evidence's timeline, if it may be read.
    pub fork: Option<Lsn>,
}

/// What became of a transaction, proved.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool, noted: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use leadpool::outcome::Outcome;
///
/// match pool.resolve(&noted.parse()?, std::time::Duration::from_secs(5)).await? {
///     Outcome::Committed => println!("it happened"),
///     Outcome::NotCommitted => println!("it did not, and will not"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Outcome {
    /// It happened.
    Committed,
    /// It did not happen, and will not.
    NotCommitted,
}

/// What may be concluded of a transaction.
///
/// ```
/// use leadpool::outcome::{Doubt, Verdict};
///
/// assert_ne!(Verdict::Unknown(Doubt::SplitBrain), Verdict::NotCommitted);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It happened.
    Committed,
    /// It did not happen, and will not.
    NotCommitted,
    /// It still runs: ask again.
    InProgress,
    /// This host can't know: ask the primary of the highest timeline.
    AskElsewhere,
    /// It can't be proved.
    Unknown(Doubt),
}

/// Why an outcome can't be proved.
///
/// ```
/// let text = leadpool::outcome::Doubt::SplitBrain.to_string();
/// assert!(text.contains("same timeline"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// Evidence is switched off.
    NoEvidence,
    /// The connection was lost before the server had told the transaction's id: it went out
    /// together with COMMIT, without a token.
    Untold,
    /// The host asked belongs to another cluster.
    OtherCluster,
    /// Two servers have taken the same timeline.
    SplitBrain,
    /// The server no longer knows the transaction.
    Forgotten,
    /// The server has recovered or was replaced since, and its log had not been seen on disk up to
    /// the transaction's marker.
    NotFlushed,
    /// Where the new primary left the old one's history is not known.
    SwitchUnseen,
    /// The evidence can't be true of the server that it names.
    Contradiction,
    /// The time ran out before the transaction ended: it waits for a synchronous standby, or for
    /// its second phase.
    StillRunning,
    /// It was committed on one server, and the time ran out before the synchronous standbys had
    /// it: a failover may lose it.
    NotReplicated,
    /// The time ran out before a primary answered.
    OutOfTime,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEvidence => "evidence is switched off",
            Self::Untold => {
                "the connection was lost before the transaction's id was told; a table of tokens \
                 would tell"
            }
            Self::OtherCluster => "the evidence is of another cluster",
            Self::SplitBrain => "two servers have taken the same timeline",
            Self::Forgotten => "the server no longer knows the transaction's status",
            Self::NotFlushed => {
                "the server has recovered or was replaced since, and the transaction had not been \
                 seen on disk; a table of tokens would tell"
            }
            Self::SwitchUnseen => "where the new primary left the old history was not seen",
            Self::Contradiction => "the evidence can't be true of the server that it names",
            Self::StillRunning => "the transaction has not ended yet: ask again later",
            Self::NotReplicated => {
                "it was committed on one server and has not reached the synchronous standbys"
            }
            Self::OutOfTime => "no primary answered in time: ask again later",
        })
    }
}

/// Decides what became of a transaction.
///
/// The record of its end comes after its marker. A history that ends before the marker holds no
/// commit of it. A history that holds the marker has handed out the transaction's id, so it is
/// not handed out again there, and the status is the transaction's own.
#[must_use]
pub fn judge(
    evidence: &Evidence,
    testimony: &Testimony,
    history: &History,
    proof: Proof,
) -> Verdict {
    let (then, now) = (&evidence.incarnation, &testimony.incarnation);
    let cluster = evidence.system_identifier;
    if let (Some(ours), Some(theirs)) = (cluster, testimony.system_identifier) {
        if ours != theirs {
            return Verdict::Unknown(Doubt::OtherCluster);
        }
    }
    if testimony.recovering || now.timeline < then.timeline {
        return Verdict::AskElsewhere;
    }
    let own_status = match testimony.status {
        Status::Committed => Verdict::Committed,
        Status::Aborted => Verdict::NotCommitted,
        Status::InProgress => Verdict::InProgress,
        Status::Future | Status::Forgotten => Verdict::Unknown(Doubt::Forgotten),
    };
    // The same life: nothing can have been lost.
    if now == then {
        let beyond = testimony.inserted.is_some_and(|end| evidence.marker > end);
        return if beyond || testimony.status == Status::Future {
            Verdict::Unknown(Doubt::Contradiction)
        } else {
            own_status
        };
    }
    if now.timeline == then.timeline && now.received.is_some() {
        return Verdict::Unknown(Doubt::SplitBrain);
    }
    // Before anything else is asked or waited for: this history ended before the marker once.
    if now.replayed.is_some_and(|end| evidence.marker > end) {
        return Verdict::NotCommitted;
    }
    match testimony.status {
        Status::Aborted | Status::Future => return Verdict::NotCommitted,
        Status::Forgotten => return Verdict::Unknown(Doubt::Forgotten),
        Status::Committed | Status::InProgress => {}
    }
    // Where an older history has held the marker, this one may have lost it in a crash before it
    // was left, and have filled its place since. What was on disk is not lost.
    let on_disk = proof == Proof::OneRecovery
        || history
            .flushed(cluster, then)
            .max(Some(evidence.flushed))
            .is_some_and(|flushed| flushed >= evidence.marker);
    let own_status = if on_disk {
        own_status
    } else {
        Verdict::Unknown(Doubt::NotFlushed)
    };
    if now.timeline == then.timeline {
        return own_status;
    }
    after_promotion(evidence, testimony, history, own_status)
}

/// Later timelines: each of them must have begun behind the marker.
fn after_promotion(
    evidence: &Evidence,
    testimony: &Testimony,
    history: &History,
    own_status: Verdict,
) -> Verdict {
    let (then, now) = (&evidence.incarnation, &testimony.incarnation);
    if let Some(fork) = testimony.fork {
        return if evidence.marker <= fork {
            own_status
        } else {
            Verdict::NotCommitted
        };
    }
    // A primary that was promoted in its present life tells itself where.
    let told = now.received.and(now.replayed);
    let mut unseen = false;
    for timeline in then.timeline + 1..=now.timeline {
        let remembered = history.switch(evidence.system_identifier, timeline);
        let switch = if timeline == now.timeline {
            told.or(remembered)
        } else {
            remembered
        };
        match switch {
            Some(switch) if evidence.marker > switch => return Verdict::NotCommitted,
            Some(_) => {}
            None => unseen = true,
        }
    }
    if unseen {
        Verdict::Unknown(Doubt::SwitchUnseen)
    } else {
        own_status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::HostAddr;

    const MARKER: u64 = 100;

    fn life(
        timeline: u32,
        replayed: Option<u64>,
        received: Option<u64>,
        started_at: i64,
    ) -> Incarnation {
        Incarnation {
            timeline,
            replayed: replayed.map(Lsn::new),
            received: received.map(Lsn::new),
            started_at,
        }
    }

    fn evidence() -> Evidence {
        Evidence {
            host: HostAddr::new("a", 1),
            system_identifier: Some(7),
            incarnation: life(1, None, None, 1),
            transaction: 700,
            marker: Lsn::new(MARKER),
            flushed: Lsn::new(MARKER - 1),
            backend: 1,
            began_at: 0,
            token: None,
        }
    }

    fn asked(incarnation: Incarnation, status: Status) -> Testimony {
        Testimony {
            system_identifier: Some(7),
            recovering: false,
            incarnation,
            status,
            inserted: None,
            fork: None,
        }
    }

    fn strict(testimony: &Testimony, history: &History) -> Verdict {
        judge(&evidence(), testimony, history, Proof::Strict)
    }

    #[test]
    fn in_the_same_life_the_status_is_the_truth() {
        for (status, verdict) in [
            (Status::Committed, Verdict::Committed),
            (Status::Aborted, Verdict::NotCommitted),
            (Status::InProgress, Verdict::InProgress),
            (Status::Forgotten, Verdict::Unknown(Doubt::Forgotten)),
            (Status::Future, Verdict::Unknown(Doubt::Contradiction)),
        ] {
            let same = asked(life(1, None, None, 1), status);
            assert_eq!(strict(&same, &History::default()), verdict);
        }
    }

    #[test]
    fn a_marker_beyond_the_end_of_the_log_is_forged() {
        let mut same = asked(life(1, None, None, 1), Status::Committed);
        same.inserted = Some(Lsn::new(MARKER - 1));
        let verdict = Verdict::Unknown(Doubt::Contradiction);
        assert_eq!(strict(&same, &History::default()), verdict);
    }

    #[test]
    fn a_reused_id_is_not_believed() {
        let history = History::default();
        // A crash that lost the marker, and a promotion without it: the status is another's.
        for incarnation in [
            life(1, Some(MARKER - 1), None, 2),
            life(2, Some(MARKER - 1), Some(MARKER - 1), 2),
        ] {
            for status in [Status::Committed, Status::InProgress] {
                let reused = asked(incarnation.clone(), status);
                assert_eq!(strict(&reused, &history), Verdict::NotCommitted);
            }
        }
    }

    #[test]
    fn a_restart_needs_proof_that_the_marker_was_flushed() {
        let restarted = asked(life(1, Some(MARKER + 50), None, 2), Status::Committed);
        let mut history = History::default();
        let doubt = Verdict::Unknown(Doubt::NotFlushed);
        assert_eq!(strict(&restarted, &history), doubt);
        let lax = judge(&evidence(), &restarted, &history, Proof::OneRecovery);
        assert_eq!(lax, Verdict::Committed);
        history.saw_flush(Some(7), &life(1, None, None, 1), Lsn::new(MARKER));
        assert_eq!(strict(&restarted, &history), Verdict::Committed);
    }

    /// The marker was seen on disk.
    fn flushed() -> History {
        let mut history = History::default();
        history.saw_flush(Some(7), &life(1, None, None, 1), Lsn::new(MARKER));
        history
    }

    #[test]
    fn a_promotion_behind_the_marker_tells_the_truth_if_it_was_on_disk() {
        let promoted = life(2, Some(MARKER), Some(MARKER), 2);
        let testimony = asked(promoted, Status::Committed);
        assert_eq!(strict(&testimony, &flushed()), Verdict::Committed);
        // A crash before the promotion may have lost it, and another have taken its place.
        let history = History::default();
        let doubt = Verdict::Unknown(Doubt::NotFlushed);
        assert_eq!(strict(&testimony, &history), doubt);
        let lax = judge(&evidence(), &testimony, &history, Proof::OneRecovery);
        assert_eq!(lax, Verdict::Committed);
    }

    #[test]
    fn every_promotion_in_between_must_have_been_seen() {
        let third = asked(life(3, Some(300), Some(300), 3), Status::Committed);
        let mut history = flushed();
        let doubt = Verdict::Unknown(Doubt::SwitchUnseen);
        assert_eq!(strict(&third, &history), doubt);
        let host = HostAddr::new("b", 1);
        history.saw_primary(&host, Some(7), &life(2, Some(150), Some(150), 2), None);
        assert_eq!(strict(&third, &history), Verdict::Committed);
        let mut early = flushed();
        early.saw_primary(&host, Some(7), &life(2, Some(99), Some(99), 2), None);
        assert_eq!(strict(&third, &early), Verdict::NotCommitted);
        // Or the history itself says where it left.
        let mut told = third;
        told.fork = Some(Lsn::new(MARKER));
        assert_eq!(strict(&told, &flushed()), Verdict::Committed);
        told.fork = Some(Lsn::new(MARKER - 1));
        assert_eq!(strict(&told, &History::default()), Verdict::NotCommitted);
    }

    #[test]
    fn who_can_not_know_is_not_believed() {
        let history = History::default();
        let mut stranger = asked(life(1, None, None, 1), Status::Committed);
        stranger.system_identifier = Some(8);
        assert_eq!(
            strict(&stranger, &history),
            Verdict::Unknown(Doubt::OtherCluster)
        );
        let mut standby = asked(life(1, None, None, 1), Status::Committed);
        standby.recovering = true;
        assert_eq!(strict(&standby, &history), Verdict::AskElsewhere);
        let older = Evidence {
            incarnation: life(2, Some(50), Some(50), 1),
            ..evidence()
        };
        let stale = asked(life(1, None, None, 1), Status::Aborted);
        assert_eq!(
            judge(&older, &stale, &history, Proof::Strict),
            Verdict::AskElsewhere
        );
        let twin = asked(life(2, Some(60), Some(60), 2), Status::Aborted);
        let verdict = judge(&older, &twin, &history, Proof::Strict);
        assert_eq!(verdict, Verdict::Unknown(Doubt::SplitBrain));
    }
}
