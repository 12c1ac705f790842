//! What leadpool sets out to reach, and whether the figures say so.

use super::lines::Line;

pub(super) const OURS: &str = "leadpool";
/// The pool that leadpool stands on.
pub(super) const BARE: &str = "deadpool-postgres Fast";
const SINGLE_SHOT: &str = "leadpool, single shot";
const NETWORK: &str = "1 insert, 500µs each way, 1 at once";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Met,
    Missed,
    NotMeasured,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) aim: &'static str,
    pub(super) state: State,
    /// What the figures say.
    pub(super) found: String,
}

impl Goal {
    /// `found` is None if what it takes was not measured.
    fn new(aim: &'static str, found: Option<(bool, String)>) -> Self {
        let (state, found) = match found {
            None => (State::NotMeasured, String::new()),
            Some((true, found)) => (State::Met, found),
            Some((false, found)) => (State::Missed, found),
        };
        Self { aim, state, found }
    }
}

/// All of them.
pub(super) fn judge(lines: &[Line]) -> Vec<Goal> {
    let figures = Figures(lines);
    vec![
        Goal::new(
            "checkout of an idle connection: at most 1.05 times bare deadpool-postgres",
            figures.checkout(),
        ),
        Goal::new(
            "contention: more checkouts than every other peer, in every case",
            figures.contention(),
        ),
        Goal::new(
            "a transaction of one statement, 0.5 ms each way: 2 round trips, at least 1.40 times as fast as by hand on deadpool-postgres",
            figures.transaction(OURS, 2.0, 1.40),
        ),
        Goal::new(
            "the same as a single shot: 1 round trip, at least 2.7 times as fast",
            figures.transaction(SINGLE_SHOT, 1.0, 2.7),
        ),
        Goal::new(
            "failover: first write after the new primary is ready within a tenth of the best peer's time, however the old one was lost",
            figures.failover(),
        ),
        Goal::new("failover: no errors", figures.errors()),
        Goal::new(
            "an idle connection: at most 1 KiB more than the driver's own",
            figures.memory(),
        ),
    ]
}

/// Whether a rival is somebody else's pool.
pub(super) fn is_peer(rival: &str) -> bool {
    !rival.starts_with(OURS) && !rival.starts_with("sketch") && rival != "no pool"
}

struct Figures<'a>(&'a [Line]);

impl<'a> Figures<'a> {
    fn all(self, question: &'a str, measure: &'a str) -> impl Iterator<Item = &'a Line> + Clone {
        self.0
            .iter()
            .filter(move |line| line.question == question && line.measure == measure)
    }

    fn line(&self, question: &str, case: &str, measure: &str, rival: &str) -> Option<&'a Line> {
        self.0.iter().find(|line| {
            line.question == question
                && line.case == case
                && line.measure == measure
                && line.rival == rival
        })
    }

    fn checkout(&self) -> Option<(bool, String)> {
        let of = |rival| self.line("checkout", "idle, 1 task", "checkout and return", rival);
        let ratio = of(OURS)?.ratio_to(of(BARE)?)?;
        Some((ratio <= 1.05, format!("{ratio:.3} times")))
    }

    fn contention(&self) -> Option<(bool, String)> {
        let all = Self(self.0).all("contention", "throughput");
        let ours: Vec<&Line> = all.clone().filter(|line| line.rival == OURS).collect();
        if ours.is_empty() {
            return None;
        }
        let mut ahead = Vec::new();
        for own in &ours {
            let peers = all.clone().filter(|line| {
                line.case == own.case
                    && is_peer(&line.rival)
                    && !line.rival.starts_with("deadpool-postgres")
            });
            for peer in peers {
                // As the rounds went: whoever is faster in most of them.
                let ratio = own.ratio_to(peer)?;
                if ratio <= 1.0 {
                    ahead.push(format!("{} ({}): {ratio:.2} times", peer.rival, own.case));
                }
            }
        }
        let found = match ahead.as_slice() {
            [] => format!("ahead in all of {} cases", ours.len()),
            behind => format!("behind {}", behind.join("; ")),
        };
        Some((ahead.is_empty(), found))
    }

    fn transaction(&self, rival: &str, turns: f64, faster: f64) -> Option<(bool, String)> {
        let of = |measure, rival| self.line("transactions", NETWORK, measure, rival);
        let taken = of("round trips", rival)?.median();
        let by_hand = of("time of each", BARE)?;
        let ratio = by_hand.ratio_to(of("time of each", rival)?)?;
        let found = format!("{taken:.1} round trips, {ratio:.2} times as fast");
        // A probe may pass between them.
        Some((taken < turns + 0.5 && ratio >= faster, found))
    }

    fn failover(&self) -> Option<(bool, String)> {
        let all = Self(self.0).all("failover", "first write after ready");
        let mut found = Vec::new();
        let mut met = true;
        for line in all.clone().filter(|line| line.rival == OURS) {
            let own = line.median();
            let peers = all
                .clone()
                .filter(|peer| peer.case == line.case && is_peer(&peer.rival));
            let best = peers.min_by(|one, other| one.median().total_cmp(&other.median()))?;
            let theirs = best.median();
            met &= own <= theirs / 10.0;
            let case = &line.case;
            let peer = &best.rival;
            found.push(format!("{own:.1} ms, {peer} {theirs:.1} ms ({case})"));
        }
        (!found.is_empty()).then(|| (met, found.join("; ")))
    }

    fn errors(&self) -> Option<(bool, String)> {
        let all = Self(self.0).all("failover", "errors");
        let own: f64 = all
            .clone()
            .filter(|line| line.rival == OURS)
            .map(|line| line.range().1)
            .reduce(f64::max)?;
        let peers = all.filter(|line| is_peer(&line.rival));
        let least = peers.map(Line::median).reduce(f64::min)?;
        let found = format!("{own:.0} at most in a round; the best peer {least:.0}");
        Some((own == 0.0, found))
    }

    fn memory(&self) -> Option<(bool, String)> {
        let of = |rival| self.line("memory", "16 idle", "each connection", rival);
        let (own, bare) = (of(OURS)?.median(), of("no pool")?.median());
        let found = format!("{:+.0} bytes", own - bare);
        Some((own <= bare + 1024.0, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(question: &str, case: &str, rival: &str, measure: &str, values: &[f64]) -> Line {
        Line {
            question: question.into(),
            case: case.into(),
            rival: rival.into(),
            measure: measure.into(),
            unit: String::new(),
            values: values.into(),
        }
    }

    fn states(lines: &[Line]) -> Vec<State> {
        judge(lines).into_iter().map(|goal| goal.state).collect()
    }

    fn good() -> Vec<Line> {
        let idle = "idle, 1 task";
        let mut lines = vec![
            line(
                "checkout",
                idle,
                BARE,
                "checkout and return",
                &[100.0, 200.0],
            ),
            line(
                "checkout",
                idle,
                OURS,
                "checkout and return",
                &[104.0, 204.0],
            ),
            line("transactions", NETWORK, BARE, "time of each", &[3000.0]),
            line("transactions", NETWORK, OURS, "time of each", &[2100.0]),
            line("transactions", NETWORK, OURS, "round trips", &[2.0]),
            line(
                "transactions",
                NETWORK,
                SINGLE_SHOT,
                "time of each",
                &[1050.0],
            ),
            line("transactions", NETWORK, SINGLE_SHOT, "round trips", &[1.0]),
            line(
                "memory",
                "16 idle",
                "no pool",
                "each connection",
                &[20_000.0],
            ),
            line("memory", "16 idle", OURS, "each connection", &[21_000.0]),
        ];
        for case in ["8 tasks on 8, yield", "64 tasks on 8, SELECT 1"] {
            let of = |rival, value| line("contention", case, rival, "throughput", &[value]);
            // Only bare deadpool-postgres may be ahead.
            lines.extend([of(BARE, 120.0), of(OURS, 100.0), of("bb8", 90.0)]);
            // And what is no pool.
            lines.push(of("sketch, no deadline", 150.0));
        }
        for failover in ["kill", "freeze"] {
            for (rival, ms, errors) in
                [("bb8", 100.0, 50.0), ("mobc", 95.0, 60.0), (OURS, 9.0, 0.0)]
            {
                let of = |measure, value| line("failover", failover, rival, measure, &[value]);
                lines.extend([of("first write after ready", ms), of("errors", errors)]);
            }
        }
        lines
    }

    /// The lines with other values in one of them.
    fn with(question: &str, rival: &str, measure: &str, values: &[f64]) -> Vec<Line> {
        let mut lines = good();
        let mut found = lines.iter_mut().filter(|line| {
            line.question == question && line.rival == rival && line.measure == measure
        });
        found.next_back().unwrap().values = values.into();
        lines
    }

    #[test]
    fn all_are_met() {
        assert_eq!(states(&good()), [State::Met; 7]);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(states(&[]), [State::NotMeasured; 7]);
    }

    #[test]
    fn each_can_be_missed() {
        let missed = [
            (
                0,
                with("checkout", OURS, "checkout and return", &[106.0, 212.0]),
            ),
            (1, with("contention", "bb8", "throughput", &[101.0])),
            (2, with("transactions", OURS, "round trips", &[3.0])),
            (2, with("transactions", OURS, "time of each", &[2200.0])),
            (
                3,
                with("transactions", SINGLE_SHOT, "time of each", &[1200.0]),
            ),
            (4, with("failover", OURS, "first write after ready", &[9.6])),
            (5, with("failover", OURS, "errors", &[0.0, 1.0])),
            (6, with("memory", OURS, "each connection", &[21_025.0])),
        ];
        for (which, lines) in missed {
            let mut expected = [State::Met; 7];
            expected[which] = State::Missed;
            assert_eq!(states(&lines), expected, "goal {which}");
        }
    }

    #[test]
    fn who_is_ahead_is_named() {
        let lines = with("contention", "bb8", "throughput", &[125.0]);
        let found = &judge(&lines)[1].found;
        assert_eq!(found, "behind bb8 (64 tasks on 8, SELECT 1): 0.80 times");
    }
}
