//! What diesel's instrumentation is told, for the tests of both worlds.

use std::sync::{Arc, Mutex};

use diesel::connection::{Instrumentation, InstrumentationEvent as Event};

/// One connection's events, in short.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Instrumentation for Events {
    fn on_connection_event(&mut self, event: Event<'_>) {
        let text = match event {
            Event::StartEstablishConnection { url, .. } => format!("connect {url}"),
            Event::FinishEstablishConnection { error, .. } => {
                format!("connected {}", error.is_none())
            }
            Event::StartQuery { query, .. } => format!("start {}", brief(&query.to_string())),
            Event::CacheQuery { sql, .. } => format!("cache {}", brief(sql)),
            Event::FinishQuery { query, error, .. } => {
                format!("finish {} {}", brief(&query.to_string()), error.is_none())
            }
            Event::BeginTransaction { depth, .. } => format!("begin {depth}"),
            Event::CommitTransaction { depth, .. } => format!("commit {depth}"),
            Event::RollbackTransaction { depth, .. } => format!("rollback {depth}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

/// leadpool's own statements by what they are for.
fn brief(sql: &str) -> String {
    let sql = sql.split(" -- binds").next().unwrap_or(sql);
    let mark = |sign: &str| sql.contains(sign);
    if mark("pg_current_xact_id_if_assigned") {
        "EVIDENCE".to_owned()
    } else if mark("COMMIT") {
        "COMMIT".to_owned()
    } else if mark("BEGIN") {
        "BEGIN".to_owned()
    } else {
        sql.to_owned()
    }
}

static ALL: Mutex<Vec<Events>> = Mutex::new(Vec::new());

/// What a test sets as the default. Others connect meanwhile, so each finds its own by a text.
pub(crate) fn default_events() -> Option<Box<dyn Instrumentation>> {
    let events = Events::default();
    ALL.lock().unwrap().push(events.clone());
    Some(Box::new(events))
}

/// The events of each connection that has been told this.
pub(crate) fn of_those_that_were_told(text: &str) -> Vec<Vec<String>> {
    let all = ALL.lock().unwrap();
    let mut found: Vec<_> = all.iter().map(Events::all).collect();
    found.retain(|events| events.iter().any(|event| event.contains(text)));
    found
}
