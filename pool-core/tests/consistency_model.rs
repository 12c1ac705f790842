//! What is said of tokens, held against the log itself: random histories of commits, promotions
//! that keep them or lose them, and standbys on all branches.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leadpool::{
    HostAddr,
    consistency::{ConsistencyToken, Standing, Vantage, standing},
    outcome::{History, Incarnation},
    topology::Lsn,
};
use proptest::prelude::*;

const ID: Option<u64> = Some(7);

#[derive(Clone, Debug)]
enum Step {
    /// A commit, its record so many bytes long.
    Commit(u64),
    /// A promotion that loses so many of the timeline's last commits, seen by the monitor or not.
    Promote { lost: usize, seen: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commit = (1..200_u64).prop_map(Step::Commit);
    let promote = (0..4_usize, prop::bool::weighted(0.8))
        .prop_map(|(lost, seen)| Step::Promote { lost, seen });
    prop::collection::vec(prop_oneof![4 => commit, 1 => promote], 1..60)
}

/// The records of one history: who is in it, and where each ends.
type Log = Vec<(usize, u64)>;

/// All that happened.
struct World {
    /// The log of each timeline at its end, from 1 on.
    timelines: Vec<Log>,
    /// Of each commit, by its number: its token.
    tokens: Vec<ConsistencyToken>,
    history: History,
}

impl World {
    fn of(steps: &[Step]) -> Self {
        let mut world = Self {
            timelines: vec![Log::new()],
            tokens: Vec::new(),
            history: History::default(),
        };
        // Where the present timeline began.
        let mut begun = 0;
        for step in steps {
            let timeline = u32::try_from(world.timelines.len()).unwrap();
            let log = world.timelines.last_mut().unwrap();
            let end = log.last().map_or(100, |(_, end)| *end);
            match *step {
                Step::Commit(bytes) => {
                    log.push((world.tokens.len(), end + bytes));
                    let position = Lsn::new(end + bytes);
                    let token = ConsistencyToken::new(ID, timeline, position);
                    world.tokens.push(token);
                }
                Step::Promote { lost, seen } => {
                    // Who was promoted had come to the present timeline.
                    let left = log.len().saturating_sub(lost).max(begun);
                    let log: Log = log[..left].to_vec();
                    let switch = Lsn::new(log.last().map_or(100, |(_, end)| *end));
                    begun = log.len();
                    world.timelines.push(log);
                    let life = Incarnation {
                        timeline: timeline + 1,
                        replayed: Some(switch),
                        received: Some(switch).filter(|_| seen),
                        started_at: 1,
                    };
                    let host = HostAddr::new("a", 1);
                    world.history.saw_primary(&host, ID, &life, None);
                }
            }
        }
        world
    }

    fn now(&self) -> u32 {
        u32::try_from(self.timelines.len()).unwrap()
    }

    fn says(&self, token: &ConsistencyToken) -> Standing {
        let vantage = Vantage {
            system_identifier: ID,
            timeline: Some(self.now()),
            end: None,
        };
        standing(token, &vantage, &self.history)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn nothing_lost_is_called_kept_and_nothing_kept_lost(steps in steps()) {
        let world = World::of(&steps);
        let all_seen = steps.iter().all(|step| !matches!(step, Step::Promote { seen: false, .. }));
        let present = world.timelines.last().unwrap();
        for (number, token) in world.tokens.iter().enumerate() {
            let is_there = present.iter().any(|(record, _)| *record == number);
            match world.says(token) {
                Standing::Current => {
                    prop_assert!(is_there);
                    prop_assert_eq!(token.timeline(), Some(world.now()));
                }
                Standing::Kept => prop_assert!(is_there, "{} is lost", token),
                Standing::Lost => prop_assert!(!is_there, "{} is kept", token),
                Standing::Unknown => prop_assert!(!all_seen, "{} can be told", token),
                other => prop_assert!(false, "{} is {}", token, other),
            }
        }
    }

    /// Each standby has replayed a part of some timeline's log, and has shown that it has come to
    /// that one, or to one before.
    #[test]
    fn who_is_read_has_it(
        steps in steps(),
        standbys in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3_u32), 1..20),
    ) {
        let world = World::of(&steps);
        for (branch, replayed, behind) in &standbys {
            let timeline = branch.index(world.timelines.len());
            let log = &world.timelines[timeline];
            let replayed = &log[..replayed.index(log.len() + 1)];
            let position = replayed.last().map(|(_, end)| Lsn::new(*end));
            let shown = u32::try_from(timeline + 1).unwrap().saturating_sub(*behind);
            for (number, token) in world.tokens.iter().enumerate() {
                if !matches!(world.says(token), Standing::Current | Standing::Kept) {
                    continue;
                }
                let shown = Some(shown).filter(|shown| *shown > 0);
                if token.is_had(position, shown, world.now()) {
                    let has = replayed.iter().any(|(record, _)| *record == number);
                    prop_assert!(has, "{} is read on a branch without it", token);
                }
            }
        }
    }
}
