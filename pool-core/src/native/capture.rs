//! Gathering evidence behind the closure's own statements.
//!
//! Whenever the closure waits, the question goes out behind what it has just sent, until the
//! answer shows that the transaction has an id. So the evidence is there when the closure's last
//! answer is, and costs no round trip.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::future::{BoxFuture, try_join, try_join3};
use tokio_postgres::{Row, Statement, error::SqlState, types::PgLsn};

use super::{
    lease::Lease,
    session::{SESSION, Session, Sessions, microseconds},
};
use crate::{
    error::Error,
    outcome::{Evidence, TokenTable},
    topology::{HostAddr, Lsn},
    tx::{Awake, IsolationLevel},
};

/// The marker is written only once the transaction has an id: at BEGIN it would make a reader pay
/// for a commit, freeze its snapshot, and forbid to set its isolation.
///
/// Every answer is in the server's own form, which is cheaper for it than text or arithmetic; and
/// asking for the id twice is cheaper than a function in `FROM`, which is run through a tuple store.
pub(super) const EVIDENCE: &str = "\
SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text AS transaction, \
       CASE WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL \
            THEN pg_catalog.pg_logical_emit_message(true, 'leadpool'::pg_catalog.text, ''::pg_catalog.text) END AS marker, \
       pg_catalog.pg_current_wal_flush_lsn() AS flushed, \
       pg_catalog.transaction_timestamp() AS began_at, \
       pg_catalog.current_setting('transaction_isolation') AS isolation";

/// What was found out of a transaction.
#[derive(Default)]
pub(super) struct Captured {
    /// `None` if it wrote nothing.
    pub(super) evidence: Option<Evidence>,
    /// To be sent before COMMIT with a token, if there is a table of them.
    pub(super) insert: Option<Statement>,
}

type Answered = Result<Answer, tokio_postgres::Error>;

struct Answer {
    row: Row,
    session: Option<Arc<Session>>,
    insert: Option<Statement>,
}

/// The state of the gathering.
pub(super) struct Capture<'a> {
    lease: &'a Lease,
    host: &'a HostAddr,
    sessions: &'a Sessions,
    session: Option<Arc<Session>>,
    /// What BEGIN asked for.
    isolation: Option<IsolationLevel>,
    /// The statement that leaves a token.
    insert: Option<String>,
    /// How many of the closure's pauses to let pass before the first question.
    patience: u32,
    /// Whether the closure has ever touched the connection.
    is_used: bool,
    /// Whether the closure may have sent something that no question has followed.
    behind: bool,
    asking: Option<BoxFuture<'a, Answered>>,
    found: Captured,
    error: Option<Error>,
}

impl<'a> Capture<'a> {
    pub(super) fn new(
        lease: &'a Lease,
        host: &'a HostAddr,
        sessions: &'a Sessions,
        isolation: Option<IsolationLevel>,
        tokens: Option<&TokenTable>,
    ) -> Self {
        let session = sessions.get(lease.client());
        // Any question takes a snapshot. Where the first one is kept (REPEATABLE READ and up),
        // the question must not come before the closure's first statement, also if that is being
        // prepared in a round trip of its own.
        let is_read_committed = match isolation {
            Some(level) => level == IsolationLevel::ReadCommitted,
            None => session.as_deref().is_some_and(Session::is_read_committed),
        };
        Self {
            lease,
            host,
            sessions,
            session,
            isolation,
            insert: tokens.map(TokenTable::insert),
            patience: u32::from(!is_read_committed),
            is_used: false,
            behind: false,
            asking: None,
            found: Captured::default(),
            error: None,
        }
    }

    /// The closure has had a turn, and has perhaps sent something.
    fn closure_moved(&mut self, has_ended: bool) {
        let touched = self.lease.take_touched();
        self.is_used |= touched;
        // A statement made before goes on being sent in later turns, but not in the last one: the
        // closure has its answer then.
        self.behind |= if has_ended { touched } else { self.is_used };
        self.patience = self.patience.saturating_sub(u32::from(self.is_used));
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
            let is_new = self.session.is_none();
            self.asking = Some(Box::pin(ask(self.lease, is_new, self.insert.clone())));
        }
    }

    fn answered(&mut self, answered: Answered) {
        let Answer {
            row,
            session,
            insert,
        } = match answered {
            Ok(answer) => answer,
            // The transaction has failed. If the closure mends that, another question follows.
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => return,
            Err(error) => {
                self.error = Some(error.into());
                return;
            }
        };
        let is_fresh = session.is_some();
        if let Some(session) = session {
            self.sessions.insert(self.lease.client(), session.clone());
            self.session = Some(session);
        }
        let Some(session) = &self.session else {
            return;
        };
        let asked = match self.isolation {
            Some(level) => level.as_str(),
            None => &session.default_isolation,
        };
        let found: &str = row.get("isolation");
        if found != asked && !is_fresh {
            // Or the server's default has been changed since: asks for that again.
            self.session = None;
            self.behind = true;
            return;
        }
        if found != asked {
            self.error = Some(Error::IsolationChanged {
                asked: asked.to_owned(),
                found: found.to_owned(),
            });
            return;
        }
        self.found = Captured {
            evidence: evidence(self.host, session, &row),
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

async fn ask(lease: &Lease, is_new: bool, insert: Option<String>) -> Answered {
    let client = lease.client();
    let insert = async {
        match &insert {
            Some(insert) => client.prepare_cached(insert).await.map(Some),
            None => Ok(None),
        }
    };
    // What a connection is asked once goes out together.
    let (question, session, insert) = if is_new {
        let session = async { client.query_one(SESSION, &[]).await };
        let asked = try_join3(client.prepare_cached(EVIDENCE), session, insert).await?;
        (asked.0, Session::read(&asked.1).map(Arc::new), asked.2)
    } else {
        let (question, insert) = try_join(client.prepare_cached(EVIDENCE), insert).await?;
        (question, None, insert)
    };
    let row = client.query_one(&question, &[]).await?;
    Ok(Answer {
        row,
        session,
        insert,
    })
}

pub(super) fn evidence(host: &HostAddr, session: &Session, row: &Row) -> Option<Evidence> {
    let lsn = |column| Some(Lsn::new(row.get::<_, Option<PgLsn>>(column)?.into()));
    Some(Evidence {
        host: host.clone(),
        system_identifier: None,
        incarnation: session.incarnation.clone(),
        transaction: row.get::<_, Option<&str>>("transaction")?.parse().ok()?,
        marker: lsn("marker")?,
        flushed: lsn("flushed")?,
        backend: session.backend,
        began_at: microseconds(row.get("began_at")),
        token: None,
    })
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
    // Only a closure that was woken, and not the capture beside it, may have sent something.
    let awake = Awake::new();
    let waker = Waker::from(awake.clone());
    poll_fn(|cx| {
        if awake.take(cx) {
            let mut own = Context::from_waker(&waker);
            let polled = closure.as_mut().poll(&mut own);
            capture.closure_moved(polled.is_ready());
            if let Poll::Ready(ended) = polled {
                return Poll::Ready(ended);
            }
        }
        // Its answers wake this task by themselves.
        let _ = capture.poll(cx);
        Poll::Pending
    })
    .await
}
