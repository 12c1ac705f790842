//! Gathering evidence behind the closure's own statements.
//!
//! Whenever the closure waits, the question goes out behind what it has just sent, until the
//! answer shows that the transaction has an id. So the evidence is there when the closure's last
//! answer is, and costs no round trip.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{
    future::{BoxFuture, try_join3},
    task::AtomicWaker,
};
use tokio_postgres::{Row, Statement, error::SqlState};

use super::lease::Lease;
use crate::{
    error::Error,
    outcome::{Evidence, Incarnation, TokenTable},
    pool::Generation,
    topology::Lsn,
    tx::IsolationLevel,
};

/// The marker is written only once the transaction has an id: at BEGIN it would make a reader pay
/// for a commit, freeze its snapshot, and forbid to set its isolation.
const EVIDENCE: &str = "\
SELECT x::pg_catalog.text AS transaction, \
       CASE WHEN x IS NOT NULL THEN pg_catalog.pg_logical_emit_message(true, 'leadpool'::pg_catalog.text, ''::pg_catalog.text)::pg_catalog.text END AS marker, \
       pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text AS flushed, \
       pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) AS timeline, \
       pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text AS replayed, \
       pg_catalog.pg_last_wal_receive_lsn()::pg_catalog.text AS received, \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at, \
       (EXTRACT(epoch FROM pg_catalog.transaction_timestamp()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS began_at, \
       pg_catalog.pg_backend_pid() AS backend, \
       pg_catalog.current_setting('transaction_isolation') AS isolation, \
       pg_catalog.current_setting('default_transaction_isolation') AS default_isolation \
FROM pg_catalog.pg_current_xact_id_if_assigned() AS x";

/// Fails with 22012 unless the transaction is the one that the evidence is of, or has written
/// nothing if there is none: a closure that commits and begins anew would else be judged by its
/// first half.
const GUARD: &str = "\
SELECT 1 OPERATOR(pg_catalog./) COALESCE((x::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text)::pg_catalog.int4, \
                                         (x IS NULL AND $1::pg_catalog.text IS NULL)::pg_catalog.int4) \
FROM pg_catalog.pg_current_xact_id_if_assigned() AS x";

/// What was found out of a transaction.
#[derive(Default)]
pub(super) struct Captured {
    /// `None` if it wrote nothing.
    pub(super) evidence: Option<Evidence>,
    /// To be sent before COMMIT, with the transaction's id as text or NULL.
    pub(super) guard: Option<Statement>,
    /// To be sent before COMMIT with a token, if there is a table of them.
    pub(super) insert: Option<Statement>,
}

type Answered = Result<(Row, Statement, Option<Statement>), tokio_postgres::Error>;

/// The state of the gathering.
pub(super) struct Capture<'a> {
    lease: &'a Lease,
    generation: &'a Generation,
    /// What BEGIN asked for.
    isolation: Option<IsolationLevel>,
    /// The statement that leaves a token.
    insert: Option<String>,
    /// How many of the closure's pauses to let pass before the first question.
    patience: u32,
    /// Whether the closure may have sent something that no question has followed.
    behind: bool,
    asking: Option<BoxFuture<'a, Answered>>,
    found: Captured,
    error: Option<Error>,
}

impl<'a> Capture<'a> {
    pub(super) fn new(
        lease: &'a Lease,
        generation: &'a Generation,
        isolation: Option<IsolationLevel>,
        tokens: Option<&TokenTable>,
    ) -> Self {
        // Any question takes a snapshot. Where the first one is kept (REPEATABLE READ and up),
        // the question must not come before the closure's first statement, also if that is being
        // prepared in a round trip of its own.
        let is_safe = match isolation {
            Some(level) => level == IsolationLevel::ReadCommitted,
            None => generation.defaults_to_read_committed(),
        };
        Self {
            lease,
            generation,
            isolation,
            insert: tokens.map(TokenTable::insert),
            patience: u32::from(!is_safe),
            behind: false,
            asking: None,
            found: Captured::default(),
            error: None,
        }
    }

    /// The closure waits, having perhaps sent something.
    fn closure_waits(&mut self) {
        if !self.lease.is_used() {
            return;
        }
        self.behind = true;
        self.patience = self.patience.saturating_sub(1);
    }

    /// Asks if there is something to ask, and takes in what was answered.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(asking) = &mut self.asking {
                let Poll::Ready(answered) = asking.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                self.asking = None;
                self.answered(answered);
            }
            let is_over = self.found.evidence.is_some() || self.error.is_some();
            if is_over || !self.behind || self.patience > 0 {
                return Poll::Ready(());
            }
            self.behind = false;
            self.asking = Some(Box::pin(ask(self.lease, self.insert.clone())));
        }
    }

    fn answered(&mut self, answered: Answered) {
        let (row, guard, insert) = match answered {
            Ok(answered) => answered,
            // The transaction has failed. If the closure mends that, another question follows.
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => return,
            Err(error) => {
                self.error = Some(error.into());
                return;
            }
        };
        let default: &str = row.get("default_isolation");
        self.generation
            .note_default_isolation(default == IsolationLevel::ReadCommitted.as_str());
        let asked = match self.isolation {
            Some(level) => level.as_str(),
            None => default,
        };
        let found: &str = row.get("isolation");
        if found != asked {
            self.error = Some(Error::IsolationChanged {
                asked: asked.to_owned(),
                found: found.to_owned(),
            });
            return;
        }
        self.found = Captured {
            evidence: evidence(self.generation, &row),
            guard: Some(guard),
            insert,
        };
    }

    /// Waits for what is still to be answered.
    pub(super) async fn finish(mut self) -> Result<Captured, Error> {
        self.patience = 0;
        poll_fn(|cx| self.poll(cx)).await;
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.found),
        }
    }
}

async fn ask(lease: &Lease, insert: Option<String>) -> Answered {
    let client = lease.client();
    let insert = async {
        match &insert {
            Some(insert) => Ok(Some(client.prepare_cached(insert).await?)),
            None => Ok(None),
        }
    };
    let (question, guard, insert) = try_join3(
        client.prepare_cached(EVIDENCE),
        client.prepare_cached(GUARD),
        insert,
    )
    .await?;
    let row = client.query_one(&question, &[]).await?;
    Ok((row, guard, insert))
}

fn evidence(generation: &Generation, row: &Row) -> Option<Evidence> {
    let text = |column| row.get::<_, Option<&str>>(column);
    let lsn = |column| text(column)?.parse::<Lsn>().ok();
    Some(Evidence {
        host: generation.host().clone(),
        system_identifier: None,
        incarnation: Incarnation {
            timeline: u32::from_str_radix(text("timeline")?, 16).ok()?,
            replayed: lsn("replayed"),
            received: lsn("received"),
            started_at: row.get("started_at"),
        },
        transaction: text("transaction")?.parse().ok()?,
        marker: lsn("marker")?,
        flushed: lsn("flushed")?,
        backend: row.get("backend"),
        began_at: row.get("began_at"),
        token: None,
    })
}

/// Whether the closure, and not the capture beside it, was woken: only then may it have sent
/// something.
struct Awake {
    is_awake: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_awake.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Runs the closure's future, with the capture behind each of its statements.
///
/// # Cancel safety
///
/// As that of the closure's future.
pub(super) async fn run_behind<F: Future>(
    closure: F,
    capture: Option<&mut Capture<'_>>,
) -> F::Output {
    let Some(capture) = capture else {
        return closure.await;
    };
    let mut closure = pin!(closure);
    let awake = Arc::new(Awake {
        is_awake: AtomicBool::new(true),
        task: AtomicWaker::new(),
    });
    let waker = Waker::from(awake.clone());
    poll_fn(|cx| {
        awake.task.register(cx.waker());
        if awake.is_awake.swap(false, Ordering::AcqRel) {
            let mut own = Context::from_waker(&waker);
            if let Poll::Ready(ended) = closure.as_mut().poll(&mut own) {
                return Poll::Ready(ended);
            }
            capture.closure_waits();
        }
        // Its answers wake this task by themselves.
        let _ = capture.poll(cx);
        Poll::Pending
    })
    .await
}
