//! The state machine against the case files in `tests/cases`: one file a scenario, given inputs
//! and the picture expected after each. Every bug found in the machine adds a file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use leadpool::{
    Config, Event, HostAddr,
    config::ContestedPolicy,
    discovery::Found,
    failover::{Action, Answer, Failure, Input, Machine, Report},
    topology::{HostView, Lsn, Term},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the scenario shows.
    description: String,
    hosts: Vec<String>,
    #[serde(default)]
    stay_with_current: bool,
    forget_term_after_ms: Option<u64>,
    max_lag_ms: Option<u64>,
    max_lag_bytes: Option<u64>,
    #[serde(default)]
    watchdog_off: bool,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Milliseconds since the start.
    at: u64,
    primary: Option<Primary>,
    standby: Option<Standby>,
    fail: Option<Fail>,
    report: Option<Reported>,
    discovered: Option<Vec<String>>,
    /// Whom the discovery takes for the primary.
    hint: Option<String>,
    /// What the application's connections show.
    look: Option<Look>,
    /// For how long the monitor itself did not run.
    stalled_ms: Option<u64>,
    #[serde(default)]
    forget_term: bool,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Primary {
    host: String,
    term: Option<u32>,
    system: Option<u64>,
    started: Option<i64>,
    round_trip_ms: Option<u64>,
    stamp: Option<u64>,
    /// Whom its listing names as the primary.
    names: Option<String>,
    position: Option<u64>,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Standby {
    host: String,
    system: Option<u64>,
    started: Option<i64>,
    position: Option<u64>,
    received: Option<u64>,
    staleness_ms: Option<u64>,
    /// Whom its listing names as the primary.
    names: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    host: String,
    how: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reported {
    host: String,
    generation: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    #[serde(default)]
    in_use: Vec<String>,
    #[serde(default)]
    heard: Vec<String>,
}

/// What is not named is not looked at, but for events: those named must come, in this order, and
/// no others.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// "" means none.
    writer: Option<String>,
    phase: Option<String>,
    term: Option<u64>,
    readers: Option<Vec<String>>,
    fenced: Option<Vec<String>>,
    foreign: Option<Vec<String>>,
    health: Option<BTreeMap<String, String>>,
    generation: Option<BTreeMap<String, u64>>,
    aborted: Option<BTreeMap<String, u64>>,
    probe: Option<Vec<String>>,
    events: Option<Vec<String>>,
}

fn host(name: &str) -> HostAddr {
    HostAddr::new(name, 5432)
}

fn event_name(event: &Event) -> String {
    match event {
        Event::WriterChanged { to, .. } => {
            format!("writer {}", to.as_ref().map_or("none", HostAddr::name))
        }
        Event::Demoted { host, .. } => format!("demoted {}", host.name()),
        Event::Fenced { host, .. } => format!("fenced {}", host.name()),
        Event::Contested { hosts, .. } => {
            let names: Vec<&str> = hosts.iter().map(HostAddr::name).collect();
            format!("contested {}", names.join(" "))
        }
        Event::HostUp { host, .. } => format!("up {}", host.name()),
        Event::HostSuspect { host, .. } => format!("suspect {}", host.name()),
        Event::HostDown { host, .. } => format!("down {}", host.name()),
        Event::PrimaryReadOnly { host, .. } => format!("read-only {}", host.name()),
        Event::Invalidated {
            host,
            generation,
            aborted,
            reason,
            ..
        } => {
            let how = if *aborted { "aborted" } else { "drained" };
            format!("{how} {} {generation} {reason}", host.name())
        }
        Event::ForeignHost { host, .. } => format!("foreign {}", host.name()),
        Event::HostAdded { host, .. } => format!("added {}", host.name()),
        Event::HostRemoved { host, .. } => format!("removed {}", host.name()),
        Event::TermForgotten { term, .. } => format!("forgot {term}"),
        Event::HostLagging { host, .. } => format!("lagging {}", host.name()),
        Event::HostCaughtUp { host, .. } => format!("caught up {}", host.name()),
        Event::DiscoveryContradicted { .. } => "contradicted".to_owned(),
        other => panic!("an event that the machine never emits: {other:?}"),
    }
}

fn input(step: &Step) -> Input {
    if let Some(primary) = &step.primary {
        let mut answer = Answer::default();
        answer.term = primary.term.map(Term::from_timeline);
        answer.system_identifier = primary.system;
        answer.started_at = primary.started;
        answer.read_only = primary.read_only;
        answer.stamp = primary.stamp;
        answer.instance = Some(primary.host.clone());
        answer.writer.clone_from(&primary.names);
        answer.round_trip = primary.round_trip_ms.map(Duration::from_millis);
        answer.position = primary.position.map(Lsn::new);
        return Input::Answered {
            host: host(&primary.host),
            answer,
        };
    }
    if let Some(standby) = &step.standby {
        let mut answer = Answer::standby();
        answer.system_identifier = standby.system;
        answer.started_at = standby.started;
        answer.position = standby.position.map(Lsn::new);
        answer.received = standby.received.map(Lsn::new);
        answer.instance = Some(standby.host.clone());
        answer.writer.clone_from(&standby.names);
        answer.staleness = standby.staleness_ms.map(Duration::from_millis);
        return Input::Answered {
            host: host(&standby.host),
            answer,
        };
    }
    if let Some(fail) = &step.fail {
        let failure = match fail.how.as_str() {
            "refused" => Failure::Refused,
            "starting" => Failure::NotAccepting("the database system is starting up".into()),
            "silent" => Failure::Silent,
            "unreachable" => Failure::Unreachable("no route".into()),
            "denied" => Failure::Denied("too many connections".into()),
            how => panic!("unknown failure {how}"),
        };
        return Input::Failed {
            host: host(&fail.host),
            failure,
        };
    }
    if let Some(report) = &step.report {
        return Input::Reported {
            host: host(&report.host),
            generation: report.generation,
            report: Report::ConnectionLost,
        };
    }
    if let Some(hosts) = &step.discovered {
        let mut found: Found = hosts.iter().map(|name| host(name)).collect();
        found.primary = step.hint.as_deref().map(host);
        return Input::Discovered(found);
    }
    if let Some(look) = &step.look {
        let hosts = |names: &[String]| names.iter().map(|name| host(name)).collect();
        return Input::Looked {
            in_use: hosts(&look.in_use),
            heard: hosts(&look.heard),
        };
    }
    if let Some(ms) = step.stalled_ms {
        return Input::Stalled(Duration::from_millis(ms));
    }
    if step.forget_term {
        return Input::ForgetTerm;
    }
    Input::Tick
}

fn run(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let case: Case = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let names: Vec<HostAddr> = case.hosts.iter().map(|name| host(name)).collect();
    let url = format!("postgres://{}/x", case.hosts.join(","));
    let mut config = Config::builder(&url)
        .forget_term_after(case.forget_term_after_ms.map(Duration::from_millis))
        .max_lag(case.max_lag_ms.map(Duration::from_millis))
        .max_lag_bytes(case.max_lag_bytes);
    if case.watchdog_off {
        config = config.watchdog_limit(None);
    }
    if case.stay_with_current {
        config = config.contested(ContestedPolicy::StayWithCurrent);
    }
    let config = config.build().unwrap();
    let mut machine = Machine::new(&names, config.monitor().clone());

    for (number, step) in case.step.iter().enumerate() {
        let at = format!(
            "{}: {} (step {}, at {} ms)",
            path.file_name().unwrap().to_string_lossy(),
            case.description,
            number + 1,
            step.at
        );
        let actions = machine.handle(Duration::from_millis(step.at), input(step));
        check(&at, &machine, &actions, &step.expect);
    }
}

fn check(at: &str, machine: &Machine, actions: &[Action], expect: &Expect) {
    let topology = machine.topology();
    let names = |test: fn(&HostView) -> bool| -> Vec<String> {
        let hosts = topology.hosts().iter().filter(|host| test(host));
        hosts.map(|host| host.addr.name().to_owned()).collect()
    };
    if let Some(writer) = &expect.writer {
        let now = topology.writer.as_ref().map_or("", HostAddr::name);
        assert_eq!(now, writer, "{at}: writer");
    }
    if let Some(phase) = &expect.phase {
        assert_eq!(topology.phase.to_string(), *phase, "{at}: phase");
    }
    if let Some(term) = expect.term {
        assert_eq!(topology.term.map_or(0, Term::get), term, "{at}: term");
    }
    if let Some(readers) = &expect.readers {
        assert_eq!(names(HostView::is_reader), *readers, "{at}: readers");
    }
    if let Some(fenced) = &expect.fenced {
        assert_eq!(names(|host| host.fenced), *fenced, "{at}: fenced");
    }
    if let Some(foreign) = &expect.foreign {
        assert_eq!(
            names(|host| host.foreign.is_some()),
            *foreign,
            "{at}: foreign"
        );
    }
    let view = |name: &str| {
        topology
            .host(&host(name))
            .unwrap_or_else(|| panic!("{at}: {name}"))
    };
    for (name, health) in expect.health.iter().flatten() {
        assert_eq!(
            view(name).health.to_string(),
            *health,
            "{at}: health of {name}"
        );
    }
    for (name, generation) in expect.generation.iter().flatten() {
        assert_eq!(
            view(name).generation,
            *generation,
            "{at}: generation of {name}"
        );
    }
    for (name, aborted) in expect.aborted.iter().flatten() {
        assert_eq!(view(name).aborted, *aborted, "{at}: aborted of {name}");
    }
    if let Some(probe) = &expect.probe {
        let probes: Vec<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Probe(host) => Some(host.name()),
                _ => None,
            })
            .collect();
        assert_eq!(probes, *probe, "{at}: probes");
    }
    if let Some(expected) = &expect.events {
        let events: Vec<String> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Emit(event) => Some(event_name(event)),
                _ => None,
            })
            .collect();
        assert_eq!(events, *expected, "{at}: events");
    }
}

#[test]
fn every_case() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 15, "the cases are there");
    for case in cases {
        run(&case);
    }
}
