//! What small fleets do, reckoned by hand; and what holds of all.

use std::{sync::Arc, time::Duration};

use leadpool::Config;

use super::{
    Args, files,
    scenario::{Fault, Model, Scenario},
    tally::Tally,
    world::play,
};

const MS: Duration = Duration::from_millis(1);

/// One client on servers whose every way takes half a millisecond, and every fork one.
fn plain(config: Config) -> Scenario {
    Scenario {
        number: 0,
        seed: 1,
        clients: 1,
        config: Arc::new(config),
        is_capped: true,
        is_writing: true,
        checkouts: 3,
        use_for: MS * 20,
        fault: Some(Fault::Kill),
        promoted_after: MS * 500,
        model: Model {
            round_trip: MS,
            jitter: Duration::ZERO,
            connects_per_second: 1_000,
            backlog: 4_096,
            max_connections: 1_000,
            probe_cost: Duration::from_micros(20),
            cores: 1,
        },
    }
}

fn config(of: &str) -> Config {
    Config::from_url(&format!("postgres://db1,db2,db3/shop?{of}")).unwrap()
}

/// When each checkout was served, after the client saw the new writer.
fn served(tally: &Tally) -> Vec<Duration> {
    let found = *tally.found.last().unwrap();
    tally.served.iter().map(|at| at.since(found)).collect()
}

fn ms(of: &[u32]) -> Vec<Duration> {
    of.iter().map(|ms| MS * *ms).collect()
}

#[test]
fn connects_of_one_client_by_hand() {
    // There 0.5 ms, a fork of 1 ms, back 0.5 ms, a login of three round trips: 5 ms.
    let one_by_one = play(&plain(config("max_concurrent_connects=1")));
    assert_eq!(served(&one_by_one), ms(&[5, 10, 15]));
    // Forks come one after the other, the rest is done at the same time.
    let together = play(&plain(config("max_concurrent_connects=3")));
    assert_eq!(served(&together), ms(&[5, 6, 7]));
    // With room for one the others wait until it comes back: after 20 ms each.
    let one_place = play(&plain(config("writer_size=1")));
    assert_eq!(served(&one_place), ms(&[5, 25, 45]));
    // What is open needs no connect.
    let kept = play(&plain(config("reader_min_size=2")));
    assert_eq!(served(&kept), ms(&[0, 0, 5]));
}

#[test]
fn a_full_backlog_is_tried_again_after_one_second_and_two() {
    let mut scenario = plain(config(""));
    scenario.model.backlog = 1;
    let tally = play(&scenario);
    assert_eq!(served(&tally), ms(&[5, 1_005, 3_005]));
    assert_eq!(tally.new_primary().dropped, 3);
}

#[test]
fn a_server_without_room_serves_who_fits_in() {
    let mut scenario = plain(config("checkout_timeout=2s"));
    // The monitor's own, and two.
    scenario.model.max_connections = 3;
    scenario.use_for = Duration::from_secs(60);
    let tally = play(&scenario);
    assert_eq!((tally.served.len(), tally.failed), (2, 1));
    assert!(tally.new_primary().denied > 1, "it is tried again");
    assert_eq!(tally.new_primary().most_sessions, 3);
}

#[test]
fn a_killed_primary_is_noticed_at_once_and_a_frozen_one_after_the_watchdogs_limit() {
    let killed = play(&plain(config("")));
    let waited = |tally: &Tally| tally.found[0].since(tally.promoted_at);
    // At 1 % of the outage so far, and up to a tenth more.
    assert!(waited(&killed) <= MS * 8, "{:?}", waited(&killed));
    let mut frozen = plain(config(""));
    frozen.fault = Some(Fault::Freeze);
    frozen.promoted_after = Duration::from_secs(5);
    let frozen = play(&frozen);
    assert_eq!(frozen.waiting, 3);
    assert!(waited(&frozen) <= MS * 60, "{:?}", waited(&frozen));
}

#[test]
fn probes_while_all_is_well_by_hand() {
    let fleet = |is_writing| Scenario {
        clients: 200,
        fault: None,
        is_writing,
        ..plain(config(""))
    };
    // One in `idle_interval` = 10 s, or in `active_interval` = 1 s, and up to a tenth more rarely.
    let idle = play(&fleet(false)).calm_probes();
    assert!((18.0..=20.0).contains(&idle), "{idle}");
    let writing = play(&fleet(true)).calm_probes();
    assert!((180.0..=200.0).contains(&writing), "{writing}");
}

#[test]
fn nobody_is_forgotten_and_the_cap_is_kept() {
    for fault in [Fault::Kill, Fault::Freeze] {
        for is_capped in [true, false] {
            let scenario = Scenario {
                clients: 40,
                checkouts: 12,
                fault: Some(fault),
                is_capped,
                ..plain(config("max_concurrent_connects=4"))
            };
            let tally = play(&scenario);
            assert_eq!(tally.waiting, 40 * 12);
            assert_eq!(tally.served.len() as u64 + tally.failed, tally.waiting);
            assert_eq!(tally.first_served.len(), 40);
            assert_eq!(tally.most_of_one, if is_capped { 4 } else { 12 });
            assert_eq!(tally.most_of_all <= 40 * 4, is_capped);
            assert!(tally.served.is_sorted());
        }
    }
}

#[test]
fn a_server_that_never_gets_done_leaves_checkouts_to_their_deadline() {
    let mut scenario = plain(config("checkout_timeout=3s"));
    scenario.clients = 30;
    scenario.model.connects_per_second = 5;
    let tally = play(&scenario);
    assert_eq!(tally.waiting, 90);
    assert!(tally.failed > 0);
    assert_eq!(tally.served.len() as u64 + tally.failed, 90);
    let left_out = tally.clients_left_out as usize;
    assert_eq!(tally.first_served.len() + left_out, 30);
}

#[test]
fn one_seed_one_result() {
    let args = |seed| Args {
        seed,
        clients: 20,
        promotion_ms: 600,
        ..Args::default()
    };
    let (once, again, other) = (args(7), args(7), args(8));
    let (once, again, other) = (
        files(&once).unwrap(),
        files(&again).unwrap(),
        files(&other).unwrap(),
    );
    assert_eq!(once, again);
    assert_eq!(once.len(), 5);
    for (mine, others) in once.iter().zip(&other) {
        assert_eq!(mine.0, others.0);
        assert_ne!(mine.1, others.1, "{}", mine.0);
    }
}

#[test]
fn the_command_names_what_differs() {
    assert_eq!(Args::default().command(), "cargo xtask scale --seed 1");
    let args = Args {
        checkouts: 3,
        cores: 2,
        ..Args::default()
    };
    let command = "cargo xtask scale --seed 1 --checkouts 3 --cores 2";
    assert_eq!(args.command(), command);
}
