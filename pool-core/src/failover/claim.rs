//! Who is primary: the judgement over all claims.

use crate::{config::ContestedPolicy, topology::Term};

/// One host's own word that it is primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The host's place in the list of hosts.
    pub(super) host: usize,
    /// The term that it claims.
    pub(super) term: Option<Term>,
    /// Its last probe was answered; an overdue claim can be kept, but never wins anew.
    pub(super) fresh: bool,
    /// It accepts writes.
    pub(super) writable: bool,
    /// Discovery no longer names it.
    pub(super) leaving: bool,
    /// System identifier and start of the server: equal on two addresses of one server.
    pub(super) incarnation: Option<(u64, i64)>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This host is the writer.
    Writer(usize),
    /// No claim is good enough.
    Nobody,
    /// Claims that can't be ordered.
    Contested(Vec<usize>),
}

/// Whether a claim is fenced: a higher term has been seen.
pub(super) fn is_fenced(claim: &Claim, highest: Option<Term>) -> bool {
    matches!((claim.term, highest), (Some(term), Some(highest)) if term < highest)
}

/// Decides among the claims that stand.
///
/// - a claim below the highest term is fenced, whoever makes it;
/// - of what remains, one claim alone wins if it is fresh, or belongs to the writer in use, and
///   accepts writes;
/// - several claims of one server (two names for it) count as one: of a name that discovery still
///   has, else of the one in use;
/// - several claims of different servers are contested: neither wins, unless the policy stays
///   with the writer in use.
///
/// `current` is the writer in use.
pub(super) fn judge(
    claims: &[Claim],
    highest: Option<Term>,
    current: Option<usize>,
    policy: ContestedPolicy,
) -> Verdict {
    let mut standing: Vec<&Claim> = Vec::new();
    let rank = |claim: &Claim| {
        let in_use = Some(claim.host) == current;
        (!claim.leaving && (claim.fresh || in_use), in_use)
    };
    for claim in claims.iter().filter(|claim| !is_fenced(claim, highest)) {
        let twin = standing.iter().position(|other| {
            claim.incarnation.is_some() && claim.incarnation == other.incarnation
        });
        match twin {
            Some(at) if rank(claim) > rank(standing[at]) => standing[at] = claim,
            Some(_) => {}
            None => standing.push(claim),
        }
    }
    let in_use = standing.iter().find(|claim| Some(claim.host) == current);
    match standing.as_slice() {
        [] => Verdict::Nobody,
        [claim] if claim.writable && (claim.fresh || Some(claim.host) == current) => {
            Verdict::Writer(claim.host)
        }
        [_] => Verdict::Nobody,
        _ => match (policy, in_use) {
            (ContestedPolicy::StayWithCurrent, Some(claim)) if claim.writable => {
                Verdict::Writer(claim.host)
            }
            _ => Verdict::Contested(standing.iter().map(|claim| claim.host).collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(host: usize, timeline: u32) -> Claim {
        Claim {
            host,
            term: Some(Term::from_timeline(timeline)),
            fresh: true,
            writable: true,
            leaving: false,
            incarnation: Some((1, host as i64)),
        }
    }

    fn term(timeline: u32) -> Option<Term> {
        Some(Term::from_timeline(timeline))
    }

    #[test]
    fn the_highest_term_wins() {
        let claims = [claim(0, 1), claim(1, 2)];
        let verdict = judge(&claims, term(2), Some(0), ContestedPolicy::Refuse);
        assert_eq!(verdict, Verdict::Writer(1));
    }

    #[test]
    fn a_lone_claim_below_the_highest_term_is_fenced() {
        let verdict = judge(&[claim(0, 1)], term(2), Some(0), ContestedPolicy::Refuse);
        assert_eq!(verdict, Verdict::Nobody);
    }

    #[test]
    fn one_term_twice_is_contested_unless_the_policy_stays() {
        let claims = [claim(0, 2), claim(1, 2)];
        assert_eq!(
            judge(&claims, term(2), Some(1), ContestedPolicy::Refuse),
            Verdict::Contested(vec![0, 1])
        );
        assert_eq!(
            judge(&claims, term(2), Some(1), ContestedPolicy::StayWithCurrent),
            Verdict::Writer(1)
        );
        assert_eq!(
            judge(&claims, term(2), None, ContestedPolicy::StayWithCurrent),
            Verdict::Contested(vec![0, 1])
        );
    }

    #[test]
    fn two_names_of_one_server_are_one_claim() {
        let mut twin = claim(1, 1);
        twin.incarnation = Some((1, 0));
        let claims = [claim(0, 1), twin];
        assert_eq!(
            judge(&claims, term(1), None, ContestedPolicy::Refuse),
            Verdict::Writer(0)
        );
        assert_eq!(
            judge(&claims, term(1), Some(1), ContestedPolicy::Refuse),
            Verdict::Writer(1)
        );
    }

    #[test]
    fn of_two_names_the_one_that_discovery_has_wins() {
        let mut endpoint = claim(0, 1);
        endpoint.leaving = true;
        let mut named = claim(1, 1);
        named.incarnation = endpoint.incarnation;
        let winner = |claims: &[Claim]| judge(claims, term(1), Some(0), ContestedPolicy::Refuse);
        assert_eq!(winner(&[endpoint, named]), Verdict::Writer(1));
        named.fresh = false;
        assert_eq!(winner(&[endpoint, named]), Verdict::Writer(0));
    }

    #[test]
    fn an_overdue_claim_is_kept_but_does_not_win() {
        let mut overdue = claim(0, 1);
        overdue.fresh = false;
        assert_eq!(
            judge(&[overdue], term(1), Some(0), ContestedPolicy::Refuse),
            Verdict::Writer(0)
        );
        assert_eq!(
            judge(&[overdue], term(1), None, ContestedPolicy::Refuse),
            Verdict::Nobody
        );
    }

    #[test]
    fn a_primary_that_refuses_writes_is_no_writer_but_fences() {
        let mut read_only = claim(1, 2);
        read_only.writable = false;
        let claims = [claim(0, 1), read_only];
        assert_eq!(
            judge(&claims, term(2), Some(0), ContestedPolicy::Refuse),
            Verdict::Nobody
        );
    }

    #[test]
    fn claims_without_a_term_can_stand_alone_but_not_be_ordered() {
        let mut termless = claim(0, 1);
        termless.term = None;
        assert_eq!(
            judge(&[termless], term(5), None, ContestedPolicy::Refuse),
            Verdict::Writer(0)
        );
        assert_eq!(
            judge(
                &[termless, claim(1, 5)],
                term(5),
                None,
                ContestedPolicy::Refuse
            ),
            Verdict::Contested(vec![0, 1])
        );
    }
}
