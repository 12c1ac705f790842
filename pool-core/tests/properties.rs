//! Arbitrary inputs, also senseless ones, against the state machine. What fails is shrunk to the
//! few inputs that matter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashMap, time::Duration};

use leadpool::{
    Config, Event, HostAddr,
    discovery::{Found, FoundHost},
    failover::{Action, Answer, Failure, Input, Machine, Report},
    topology::{Health, Lsn, Phase, Role, Term, Topology},
};
use proptest::{collection::vec, option, prelude::*};

/// Four names, of which the machine knows three at the start.
fn host() -> impl Strategy<Value = HostAddr> {
    (0..4_u8).prop_map(|n| HostAddr::new(format!("h{n}"), 5432))
}

prop_compose! {
    fn answer()(
        recovering: bool,
        read_only in prop::bool::weighted(0.1),
        term in option::weighted(0.9, 1..5_u32),
        position in option::of(any::<u64>()),
        system_identifier in option::weighted(0.9, prop_oneof![9 => Just(7_u64), 1 => Just(8)]),
        started_at in option::of(0..3_i64),
        stamp in option::weighted(0.1, 0..9_u64),
        staleness in option::weighted(0.1, 0..5_000_u64),
        instance in option::weighted(0.2, 0..4_u8),
        writer in option::weighted(0.2, 0..4_u8),
    ) -> Answer {
        let mut answer = Answer::default();
        answer.recovering = recovering;
        answer.read_only = read_only || recovering;
        answer.term = term.map(Term::from_timeline);
        answer.position = position.map(Lsn::new);
        answer.system_identifier = system_identifier;
        answer.started_at = started_at;
        answer.stamp = stamp;
        answer.instance = instance.map(|n| format!("i{n}"));
        answer.writer = writer.map(|n| format!("i{n}"));
        answer.staleness = staleness.map(Duration::from_millis);
        answer
    }
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Refused),
        Just(Failure::Silent),
        Just(Failure::NotAccepting("starting".into())),
        Just(Failure::Unreachable("reset".into())),
        Just(Failure::Denied("no".into())),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => (host(), answer()).prop_map(|(host, answer)| Input::Answered { host, answer }),
        4 => (host(), failure()).prop_map(|(host, failure)| Input::Failed { host, failure }),
        2 => (host(), 0..6_u64).prop_map(|(host, generation)| Input::Reported {
            host,
            generation,
            report: Report::WriteRefused,
        }),
        1 => (vec((host(), option::of(0..3_u32)), 0..4), option::of(host())).prop_map(
            |(hosts, primary)| {
                let mut found = Found::new(hosts.into_iter().map(|(host, weight)| {
                    let mut found = FoundHost::new(host);
                    found.weight = weight;
                    found
                }));
                found.primary = primary;
                Input::Discovered(found)
            }
        ),
        2 => (vec(host(), 0..4), vec(host(), 0..3))
            .prop_map(|(in_use, heard)| Input::Looked { in_use, heard }),
        1 => (0..3_000_u64).prop_map(|ms| Input::Stalled(Duration::from_millis(ms))),
        1 => any::<bool>().prop_map(Input::Writing),
        1 => Just(Input::ForgetTerm),
        2 => Just(Input::Tick),
    ]
}

/// Inputs with their times, which may go backwards.
fn history() -> impl Strategy<Value = Vec<(u64, Input)>> {
    vec((0..8_000_u64, input()), 0..60)
}

fn machine(forget: bool) -> Machine {
    let config = Config::builder("postgres://h0,h1,h2/x")
        .forget_term_after(forget.then_some(Duration::from_secs(2)))
        .max_lag(Some(Duration::from_secs(1)))
        .max_lag_bytes(Some(1 << 40))
        .build()
        .unwrap();
    Machine::new(config.hosts(), config.monitor().clone())
}

fn events(actions: &[Action]) -> impl Iterator<Item = &Event> {
    actions.iter().filter_map(|action| match action {
        Action::Emit(event) => Some(event),
        _ => None,
    })
}

/// What a picture must be by itself.
fn check_picture(topology: &Topology, told: &HashMap<HostAddr, Answer>) {
    if let Some(writer) = &topology.writer {
        let view = topology
            .host(writer)
            .expect("the writer is one of the hosts");
        assert_eq!(view.role, Role::Primary);
        assert!(matches!(view.health, Health::Up | Health::Suspect));
        assert!(!view.fenced && !view.read_only && view.foreign.is_none());
        assert!(
            view.term <= topology.term.or(view.term),
            "no lower term than one seen"
        );
        assert!(view.term.is_none() || view.term == topology.term);
        let told = &told[writer];
        assert!(!told.recovering && !told.read_only, "by its own word");
        assert!(matches!(topology.phase, Phase::Stable | Phase::Suspect));
    } else {
        assert!(!matches!(topology.phase, Phase::Stable | Phase::Suspect));
    }
    for view in topology.hosts() {
        assert!(view.aborted < view.generation);
        assert!(!view.is_reader() || view.foreign.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_picture_is_sound(history in history(), forget: bool) {
        let mut machine = machine(forget);
        let mut told = HashMap::new();
        let mut now = Duration::ZERO;
        for (ms, input) in history {
            now = now.max(Duration::from_millis(ms));
            if let Input::Answered { host, answer } = &input {
                told.insert(host.clone(), answer.clone());
            }
            let before = machine.topology();
            let actions = machine.handle(Duration::from_millis(ms), input);
            let after = machine.topology();
            check_picture(&after, &told);
            prop_assert!(after.epoch == before.epoch || after.epoch == before.epoch + 1);
            if before.writer != after.writer {
                prop_assert!(after.epoch > before.epoch);
                let is_news = |event: &Event| {
                    matches!(event, Event::WriterChanged { to, .. } if *to == after.writer)
                };
                prop_assert!(events(&actions).any(is_news), "the change is told");
            }
            for view in after.hosts() {
                let Some(old) = before.host(&view.addr) else { continue };
                prop_assert!(view.generation >= old.generation);
                let invalidated = events(&actions).filter(|event| matches!(event,
                    Event::Invalidated { host, .. } if *host == view.addr)).count() as u64;
                prop_assert_eq!(view.generation - old.generation, invalidated);
            }
            // Whoever sleeps until the next tick is not kept awake by one that is due already.
            if let Some(tick) = machine.next_tick() {
                prop_assert!(tick > now, "tick {tick:?} at {now:?}");
            }
        }
    }

    /// Reports, failures and hints never make a writer of a host that has not said so.
    #[test]
    fn without_an_answer_there_is_no_writer(history in history()) {
        let mut machine = machine(false);
        for (ms, input) in history {
            if matches!(&input, Input::Answered { answer, .. } if !answer.recovering) {
                continue;
            }
            machine.handle(Duration::from_millis(ms), input);
            prop_assert_eq!(machine.topology().writer, None);
        }
    }

    #[test]
    fn a_report_changes_no_picture(history in history(), at in host(), generation in 0..6_u64) {
        let mut machine = machine(false);
        let mut now = Duration::ZERO;
        for (ms, input) in history {
            now = now.max(Duration::from_millis(ms));
            machine.handle(now, input);
        }
        let before = machine.topology();
        let report = Report::ConnectionLost;
        let actions = machine.handle(now, Input::Reported { host: at.clone(), generation, report });
        prop_assert_eq!(machine.topology().epoch, before.epoch);
        let current = before.host(&at).is_some_and(|view| view.generation == generation);
        prop_assert_eq!(actions, if current { vec![Action::Probe(at)] } else { vec![] });
    }

    /// Nor does what the application's connections show: it is a reason to look, and time to give
    /// somebody up sooner, but that is the silence's work.
    #[test]
    fn a_sign_of_life_ends_no_host(history in history(), at in host(), later in 0..5_000_u64) {
        let mut machine = machine(false);
        let mut now = Duration::ZERO;
        for (ms, input) in history {
            now = now.max(Duration::from_millis(ms));
            machine.handle(now, input);
        }
        let heard = |at: &HostAddr| Input::Looked { in_use: vec![at.clone()], heard: vec![at.clone()] };
        // Whoever is to be given up by then is given up now.
        machine.handle(now, heard(&at));
        let before = machine.topology().host(&at).map(|view| (view.health, view.generation));
        for step in 0..later / 100 {
            let now = now + Duration::from_millis(step * 100);
            machine.handle(now, Input::Failed { host: at.clone(), failure: Failure::Silent });
            machine.handle(now, heard(&at));
        }
        let after = machine.topology().host(&at).map(|view| view.generation);
        if let (Some((health, generation)), Some(after)) = (before, after) {
            prop_assert!(health == Health::Down || generation == after);
        }
    }

    /// The same answer again is no news.
    #[test]
    fn what_is_known_already_wakes_nobody(history in history(), at in host(), answer in answer()) {
        let mut machine = machine(false);
        let mut now = Duration::ZERO;
        for (ms, input) in history {
            now = now.max(Duration::from_millis(ms));
            machine.handle(now, input);
        }
        let again = Input::Answered { host: at, answer };
        machine.handle(now, again.clone());
        let before = machine.topology().epoch;
        let actions = machine.handle(now, again);
        prop_assert_eq!(machine.topology().epoch, before);
        prop_assert_eq!(actions, vec![]);
    }

    #[test]
    fn the_pace_stays_between_its_limits(history in history(), later in 0..600_000_u64) {
        let mut machine = machine(false);
        let config = Config::from_url("host=h0").unwrap();
        let settings = config.monitor();
        let mut now = Duration::ZERO;
        for (ms, input) in history {
            now = now.max(Duration::from_millis(ms));
            machine.handle(now, input);
        }
        let now = now + Duration::from_millis(later);
        let interval = machine.pace(now).interval(now, settings);
        prop_assert!(interval >= settings.fast_interval_min);
        prop_assert!(interval <= settings.idle_interval);
        if machine.topology().writer.is_none() {
            prop_assert!(interval <= settings.active_interval);
        }
    }
}
