//! Each strategy over readers that the test makes.

use std::time::Duration;

use super::*;
use crate::topology::{Health, HostAddr, Role};

struct Made(Vec<(HostView, usize)>);

impl Lookup for Made {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn host(&self, at: usize) -> Option<&HostView> {
        Some(&self.0[at].0)
    }

    fn in_use(&self, at: usize) -> usize {
        self.0[at].1
    }
}

fn made(count: usize, mut change: impl FnMut(usize, &mut HostView, &mut usize)) -> Made {
    let reader = |at| {
        let mut view = HostView::new(HostAddr::new(format!("h{at}"), 5432));
        view.role = Role::Standby;
        view.health = Health::Up;
        let mut in_use = 0;
        change(at, &mut view, &mut in_use);
        (view, in_use)
    };
    Made((0..count).map(reader).collect())
}

fn picks(strategy: &dyn ReaderStrategy, made: &Made, times: usize) -> Vec<usize> {
    (0..times)
        .map(|_| strategy.pick(&Readers::new(made)))
        .collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn round_robin_takes_turns_and_in_order_does_not() {
    let readers = made(3, |_, _, _| {});
    assert_eq!(picks(&RoundRobin::new(), &readers, 5), [0, 1, 2, 0, 1]);
    assert_eq!(picks(&InOrder::new(), &readers, 3), [0, 0, 0]);
}

#[test]
fn random_reaches_everybody() {
    let readers = made(3, |_, _, _| {});
    let picked = picks(&Random::new(), &readers, 3000);
    for at in 0..3 {
        let times = picked.iter().filter(|p| **p == at).count();
        assert!((800..1200).contains(&times), "{at}: {times}");
    }
}

#[test]
fn weights_are_shares() {
    let readers = made(3, |at, view, _| view.weight = [1, 0, 3][at]);
    let picked = picks(&Weighted::new(), &readers, 4000);
    let times = |at| picked.iter().filter(|p| **p == at).count();
    assert!((800..1200).contains(&times(0)), "{}", times(0));
    assert_eq!(times(1), 0);
}

#[test]
fn the_highest_weight_wins_and_equals_take_turns() {
    let readers = made(4, |at, view, _| view.weight = [1, 9, 2, 9][at]);
    let mut picked = picks(&HighestWeight::new(), &readers, 4);
    picked.sort_unstable();
    picked.dedup();
    assert_eq!(picked, [1, 3]);
}

#[test]
fn the_fewest_connections_win() {
    let readers = made(3, |at, _, in_use| *in_use = [4, 1, 2][at]);
    assert_eq!(picks(&LeastConnections::new(), &readers, 3), [1, 1, 1]);
    let equal = made(3, |_, _, in_use| *in_use = 2);
    assert_eq!(picks(&LeastConnections::new(), &equal, 3), [0, 1, 2]);
}

#[test]
fn near_readers_share_and_far_ones_rest() {
    let readers = made(4, |at, view, _| {
        view.latency = [Some(ms(20)), Some(ms(22)), Some(ms(40)), None][at];
    });
    let mut picked = picks(&LowestLatency::new(), &readers, 40);
    picked.sort_unstable();
    picked.dedup();
    assert_eq!(picked, [0, 1]);
    let noise = made(2, |at, view, _| {
        view.latency = Some(ms(0) + Duration::from_micros([50, 400][at]))
    });
    assert_eq!(picks(&LowestLatency::new(), &noise, 2), [0, 1]);
}

#[test]
fn the_freshest_wins() {
    let readers = made(4, |at, view, _| {
        view.staleness = [Some(ms(5)), Some(ms(0)), Some(ms(0)), None][at];
        view.lag = [Some(0), Some(9), Some(7), Some(0)][at];
    });
    let mut picked = picks(&LowestLag::new(), &readers, 20);
    picked.sort_unstable();
    picked.dedup();
    assert_eq!(picked, [1, 2]);
}

#[test]
fn the_own_zone_first() {
    let zoned = made(4, |at, view, _| {
        view.zone = [None, Some("a".into()), Some("b".into()), Some("a".into())][at].clone();
    });
    let strategy = ZoneAffinity::new("a", RoundRobin::new());
    assert_eq!(picks(&strategy, &zoned, 3), [1, 3, 1]);
    let elsewhere = ZoneAffinity::new("c", RoundRobin::new());
    assert_eq!(picks(&elsewhere, &zoned, 5), [0, 1, 2, 3, 0]);
}

#[test]
fn every_name_has_a_strategy() {
    let names = "random round_robin ROUND_ROBIN in_order weighted highest-weight \
                 least_connections lowest_latency lowest_lag";
    for name in names.split_whitespace() {
        assert!(by_name(name).is_some(), "{name}");
    }
    assert!(by_name("best").is_none());
}
