//! Opening a connection to one host, and the task that drives it.

use std::{future::poll_fn, sync::Arc, task::Poll};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::{
    sync::SemaphorePermit,
    task::{JoinHandle, yield_now},
    time::{Instant, timeout_at},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error,
    error::{DbError, SqlState},
};
use tracing::Instrument as _;

use super::{Native, refusal::Refusal};
use crate::{
    connect::{self, Answers, OpenError, Wire},
    error::{HookFailed, driver_error},
    failover::Report,
    monitor::Wakes,
    observe::{Connecting, rows},
    pool::{Driver as _, Generation},
};

/// Reported at start-up since PostgreSQL 14, and again before the next ReadyForQuery after a
/// change ([PostgreSQL documentation, section 55.2.7](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC)).
const RECOVERING: &str = "in_hot_standby";

/// Opens connections for the pool of one host.
pub(super) struct HostConnect {
    pub(super) generation: Arc<Generation>,
}

impl Connect for HostConnect {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            // A checkout that looks for an idle connection drops the future after one poll.
            yield_now().await;
            open(&self.generation, None).await
        })
    }
}

/// Opens a connection to the generation's host, as [`establish`] does, and prepares it: a task
/// drives it, and the application's hooks have run, under the same deadline. What the server answers
/// is noted in `answers`.
///
/// # Cancel safety
///
/// Dropping the future closes what it has opened.
pub(crate) async fn open(
    generation: &Arc<Generation>,
    answers: Option<&Arc<Answers>>,
) -> Result<(Client, JoinHandle<()>), Error> {
    let connecting = Connecting::begin(generation.meters(), generation.host());
    let opened = open_prepared(generation, answers)
        .instrument(connecting.span())
        .await;
    connecting.ended(&opened, generation.is_retired());
    opened
}

async fn open_prepared(
    generation: &Arc<Generation>,
    answers: Option<&Arc<Answers>>,
) -> Result<(Client, JoinHandle<()>), Error> {
    let established = establish(generation, answers).await?;
    let Established {
        mut client,
        connection,
        deadline,
        _admitted,
    } = established;
    #[expect(
        clippy::disallowed_methods,
        reason = "owned by the client, and by its generation"
    )]
    let task = tokio::spawn(drive(connection, generation.clone()));
    generation.own(task.abort_handle());
    if generation.config().on_connect().is_empty() {
        return Ok((client, task));
    }
    let task = Unprepared(Some(task));
    tokio::select! {
        biased;
        () = generation.retired() => {
            return Err(refused(generation, "was invalidated while connecting"));
        }
        prepared = timeout_at(deadline, prepare(generation, &mut client)) => match prepared {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => return Err(Refusal::from(failed).into_driver().await),
            Err(_) => {
                generation.report(Report::Slow);
                let limit = generation.config().pool().connect_timeout;
                let why = format!("was left by the hooks of on_connect without an end for {limit:.1?}");
                return Err(refused(generation, &why));
            }
        },
    }
    Ok((client, task.prepared()))
}

/// Runs the application's hooks.
async fn prepare(generation: &Generation, client: &mut Client) -> Result<(), HookFailed> {
    for (at, hook) in generation.config().on_connect().iter().enumerate() {
        hook.run(client).await.map_err(|source| HookFailed {
            host: generation.host().clone(),
            hook: at + 1,
            is_curable: driver_error(source.as_ref()).is_some_and(Native::is_curable),
            source,
        })?;
    }
    Ok(())
}

/// The task of a connection that may still be given up: the driver would wait for the answer to
/// what a hook has asked.
struct Unprepared(Option<JoinHandle<()>>);

impl Unprepared {
    fn prepared(mut self) -> JoinHandle<()> {
        self.0
            .take()
            .expect("invariant: the task leaves only here, with its owner")
    }
}

impl Drop for Unprepared {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A connection that nobody drives yet.
pub(super) struct Established<'a> {
    pub(super) client: Client,
    pub(super) connection: Wire,
    /// Until when it must be ready for use.
    deadline: Instant,
    /// It counts as being opened.
    _admitted: SemaphorePermit<'a>,
}

/// Opens a connection to the generation's host: admitted by its cap, within the connect timeout,
/// and given up at once when the generation ends.
///
/// The role is read from what the server reports at start-up, so it costs no round trip. A
/// standby where the writer should be is refused here, before anybody gets the connection.
///
/// # Errors
///
/// The driver's. Where the driver has no error for it (a timeout, a retired generation, a wrong
/// role) a timeout, with the true reason noted in the generation.
///
/// # Cancel safety
///
/// Dropping the future closes what it has opened.
pub(super) async fn establish<'a>(
    generation: &'a Generation,
    answers: Option<&Arc<Answers>>,
) -> Result<Established<'a>, Error> {
    let limit = generation.config().pool().connect_timeout;
    let opening = async {
        let admitted = generation.admission().await;
        let deadline = Instant::now() + limit;
        let opening = connect::open(generation.config(), generation.host(), None, answers);
        (timeout_at(deadline, opening).await, deadline, admitted)
    };
    let (opened, deadline, admitted) = tokio::select! {
        biased;
        () = generation.retired() => {
            return Err(refused(generation, "was invalidated while connecting"));
        }
        opened = opening => opened,
    };
    let (client, connection) = match opened {
        Ok(Ok(opened)) => {
            generation.pulse().beat();
            opened
        }
        Ok(Err(OpenError::Driver(error))) => {
            if error.as_db_error().is_some() {
                generation.pulse().beat();
            }
            return Err(error);
        }
        Ok(Err(OpenError::Credentials(error))) => {
            return Err(Refusal::from(error).into_driver().await);
        }
        Ok(Err(OpenError::Auth(error))) => return Err(Refusal::from(error).into_driver().await),
        Err(_) => {
            generation.report(Report::Slow);
            return Err(refused(
                generation,
                &format!("gave no session within {limit:.1?}"),
            ));
        }
    };
    match (connection.parameter(RECOVERING), generation.is_writer()) {
        (Some("on"), true) => {
            generation.report(Report::RoleChanged);
            return Err(refused(generation, "is in recovery"));
        }
        // A standby that was promoted a moment ago: good to know early.
        (Some("off"), false) => generation.report(Report::RoleChanged),
        _ => {}
    }
    Ok(Established {
        client,
        connection,
        deadline,
        _admitted: admitted,
    })
}

fn refused(generation: &Generation, why: &str) -> Error {
    generation.note_failure(format!("{} {why}", generation.host()));
    Error::__private_api_timeout()
}

/// Whether a COMMIT gave up waiting for its synchronous standbys: it is durable here, and perhaps
/// nowhere else. By the function that says so, since the text is translated and the code (01000 or
/// 57P01) is not its own.
fn is_unreplicated(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

/// Moves bytes until the connection ends, and tells the monitor what it sees on the way.
async fn drive(mut connection: Wire, generation: Arc<Generation>) {
    let mut recovering = connection.parameter(RECOVERING) == Some("on");
    let wakes = Wakes::new(generation.pulse());
    let ended = poll_fn(|cx| {
        let mut cx = wakes.context(cx);
        loop {
            let polled = connection.poll_message(&mut cx);
            // The driver keeps these parameters to itself: look after each turn.
            let now = connection.parameter(RECOVERING) == Some("on");
            if now != recovering {
                recovering = now;
                generation.report(Report::RoleChanged);
            }
            if let Poll::Ready(Some(Ok(_))) = polled {
                generation.pulse().beat();
            }
            match polled {
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) if is_unreplicated(&notice) => {
                    // Read before the COMMIT tag, which comes behind it.
                    generation.note_unreplicated();
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    if let Some(Err(error)) = ended {
        let host = generation.host();
        // Not its text: what a server says may quote what the application sent.
        tracing::event!(
            name: rows::CONNECTION_LOST.name,
            target: rows::CONNECTION_LOST.target,
            rows::CONNECTION_LOST.level,
            {
                db.client.connection.pool.name = generation.meters().pool(),
                server.address = host.name(),
                server.port = host.port(),
                db.response.status_code = error.code().map(SqlState::code),
            },
            "connection lost"
        );
        generation.meters().connection_lost(host);
        generation.report(Report::ConnectionLost);
    }
}
