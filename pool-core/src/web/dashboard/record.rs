//! What the dashboard remembers: who was the writer when, and what happened last.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{failover::Event, topology::HostAddr};

/// Times of writers that are remembered, and events.
const WRITERS: usize = 256;
const EVENTS: usize = 100;
/// The longest text of an event, in characters.
const TEXT: usize = 300;

/// In milliseconds since 1970, as browsers count.
pub(super) type Millis = u64;

/// What has been seen since the recording began. It has a bound for everything.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    since: Millis,
    /// The oldest first; what lies between two of them is a writer gap.
    writers: VecDeque<WriterTime>,
    /// The oldest first.
    events: VecDeque<Happened>,
}

/// The time in which one host was the writer.
#[derive(Debug, PartialEq, Serialize)]
struct WriterTime {
    host: HostAddr,
    term: Option<u64>,
    from: Millis,
    /// `None` while it lasts.
    until: Option<Millis>,
}

#[derive(Debug, Serialize)]
struct Happened {
    at: Millis,
    name: &'static str,
    host: Option<HostAddr>,
    detail: Option<String>,
}

impl Record {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            since: now,
            writers: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The writer is this one, or there is none.
    pub(super) fn writer(&mut self, host: Option<&HostAddr>, term: Option<u64>, now: Millis) {
        let last = self.writers.back_mut().filter(|last| last.until.is_none());
        match (last, host) {
            // Told twice.
            (Some(last), Some(host)) if last.host == *host && last.term == term => return,
            (Some(last), _) => last.until = Some(now.max(last.from)),
            (None, _) => {}
        }
        let Some(host) = host else {
            return;
        };
        push(
            &mut self.writers,
            WRITERS,
            WriterTime {
                host: host.clone(),
                term,
                from: now,
                until: None,
            },
        );
    }

    pub(super) fn event(&mut self, event: &Event, now: Millis) {
        if let Event::WriterChanged { to, term, .. } = event {
            self.writer(to.as_ref(), term.map(|term| term.get()), now);
        }
        let (host, detail) = told(event);
        push(
            &mut self.events,
            EVENTS,
            Happened {
                at: now,
                name: event.name(),
                host,
                detail: detail.map(|text| text.chars().take(TEXT).collect()),
            },
        );
    }
}

fn push<T>(to: &mut VecDeque<T>, most: usize, value: T) {
    if to.len() >= most {
        to.pop_front();
    }
    to.push_back(value);
}

/// The host that an event is about, and the rest of it in words.
fn told(event: &Event) -> (Option<HostAddr>, Option<String>) {
    let of = |host: &HostAddr| Some(host.clone());
    match event {
        Event::WriterChanged { from, to, gap, .. } => {
            let before = from.as_ref().map(|from| format!("before: {from}"));
            let gap = gap.map(|gap| format!("no writer for {} ms", gap.as_millis()));
            let nobody = to.is_none().then(|| "no writer".to_owned());
            let words: Vec<String> = nobody.into_iter().chain(before).chain(gap).collect();
            (to.clone(), Some(words.join(", ")))
        }
        Event::Demoted { host }
        | Event::PrimaryReadOnly { host }
        | Event::HostAdded { host }
        | Event::HostRemoved { host }
        | Event::HostNotAllowed { host }
        | Event::HostCaughtUp { host } => (of(host), None),
        Event::Fenced {
            host,
            term,
            highest,
        } => {
            let detail = format!("claims term {term}, {highest} was seen");
            (of(host), Some(detail))
        }
        Event::Contested { hosts } => {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            (None, Some(hosts.join(", ")))
        }
        Event::HostUp { host, role } => (of(host), Some(role.to_string())),
        Event::HostSuspect { host, problem } | Event::HostDown { host, problem } => {
            (of(host), Some(problem.clone()))
        }
        Event::Invalidated {
            host,
            aborted,
            reason,
            ..
        } => {
            let fate = match aborted {
                true => "what was in use was aborted",
                false => "what is in use may finish",
            };
            (of(host), Some(format!("{reason}, {fate}")))
        }
        Event::ForeignHost {
            host,
            system_identifier,
            expected,
        } => {
            let detail = format!("of cluster {system_identifier}, this one is {expected}");
            (of(host), Some(detail))
        }
        Event::TermForgotten { term } => (None, Some(format!("term {term}"))),
        Event::Missed { count } => (None, Some(format!("{count} events"))),
        Event::TaskRestarted { task } => (None, Some(task.clone())),
        Event::DiscoveryFailed { source, problem } => (None, Some(format!("{source}: {problem}"))),
        Event::DiscoveryContradicted { problem } => (None, Some(problem.clone())),
        Event::HostLagging {
            host,
            lag,
            staleness,
        } => {
            let bytes = lag.map(|lag| format!("{lag} bytes"));
            let age = staleness.map(|age| format!("{} ms", age.as_millis()));
            let words: Vec<String> = bytes.into_iter().chain(age).collect();
            (of(host), Some(format!("behind by {}", words.join(", "))))
        }
        Event::Paused { all } | Event::Resumed { all } => {
            let pools = if *all { "all pools" } else { "one pool" };
            (None, Some(pools.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Term;

    fn db(number: u16) -> HostAddr {
        HostAddr::new("db", number)
    }

    fn changed(to: Option<HostAddr>, term: u32) -> Event {
        Event::WriterChanged {
            from: None,
            to,
            term: Some(Term::from_timeline(term)),
            gap: None,
        }
    }

    #[test]
    fn a_gap_is_what_lies_between_two_writers() {
        let mut record = Record::new(1);
        record.writer(Some(&db(1)), Some(3), 5);
        // The first event may tell what is known.
        record.event(&changed(Some(db(1)), 3), 6);
        record.event(&changed(None, 3), 10);
        record.event(&changed(None, 3), 11);
        record.event(&changed(Some(db(2)), 4), 30);
        let times: Vec<_> = record
            .writers
            .iter()
            .map(|time| (time.host.port(), time.term, time.from, time.until))
            .collect();
        assert_eq!(times, [(1, Some(3), 5, Some(10)), (2, Some(4), 30, None)]);
        assert_eq!(record.events.len(), 4);
    }

    #[test]
    fn it_has_a_bound() {
        let mut record = Record::new(0);
        for at in 0..1_000_u16 {
            record.event(&changed(Some(db(at)), u32::from(at)), u64::from(at));
            let problem = "x".repeat(100_000);
            let host = db(1);
            record.event(&Event::HostDown { host, problem }, 1);
        }
        assert_eq!(record.writers.len(), WRITERS);
        assert_eq!(record.events.len(), EVENTS);
        assert_eq!(record.writers[0].host, db(1_000 - 256));
        let shown = serde_json::to_string(&record).unwrap();
        assert!(shown.len() < 100_000, "{}", shown.len());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_negative_time() {
        let mut record = Record::new(100);
        record.writer(Some(&db(1)), None, 100);
        record.writer(None, None, 50);
        assert_eq!(record.writers[0].until, Some(100));
    }
}
