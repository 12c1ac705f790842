//! Opening a connection, and what is known of it from then on.

use std::sync::Arc;

use diesel::{
    ConnectionError, ConnectionResult,
    connection::{Instrumentation, InstrumentationEvent as Event, get_default_instrumentation},
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use leadpool::{
    adapter::{ConnectFailed, Connection, Generation},
    error::BoxError,
};
use tokio::{task::AbortHandle, time::timeout};

use super::sessions::Session;

/// Opens a connection to the generation's host, as leadpool opens its own, and makes it diesel's:
/// which sets `TimeZone` and `client_encoding`, as on every connection of diesel's.
///
/// # Cancel safety
///
/// Dropping the future closes what it has opened.
pub(super) async fn open(generation: &Arc<Generation>) -> ConnectionResult<AsyncPgConnection> {
    // Without what is secret in the configuration.
    let url = format!("postgres://{}", generation.host());
    let mut instrumentation = get_default_instrumentation();
    instrumentation.on_connection_event(Event::start_establish_connection(&url));
    let opened = establish(generation).await;
    let error = opened.as_ref().err();
    instrumentation.on_connection_event(Event::finish_establish_connection(&url, error));
    let (mut conn, session) = opened?;
    conn.set_instrumentation(HandOver {
        session: Some(session),
        instrumentation,
    });
    Ok(conn)
}

async fn establish(
    generation: &Arc<Generation>,
) -> ConnectionResult<(AsyncPgConnection, Arc<Session>)> {
    let Connection {
        client,
        answers,
        task,
        ..
    } = Connection::open(generation).await.map_err(refused)?;
    let unprepared = Unprepared(Some(task));
    let limit = generation.config().pool().connect_timeout;
    let host = generation.host();
    let conn = tokio::select! {
        biased;
        () = generation.retired() => {
            return Err(refused(format!("{host} was invalidated while connecting")));
        }
        prepared = timeout(limit, AsyncPgConnection::try_from(client)) => match prepared {
            Ok(prepared) => prepared?,
            Err(_) => return Err(refused(format!("{host} set no time zone within {limit:.1?}"))),
        },
    };
    let session = Session::new(answers, unprepared.prepared(), generation);
    Ok((conn, session))
}

/// The error type is diesel's; what is in it is found again by [`failed`].
pub(super) fn refused(failed: impl Into<BoxError>) -> ConnectionError {
    ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(
        failed.into(),
    ))
}

/// What leadpool says of a connection that could not be opened.
pub(super) fn failed(error: &ConnectionError) -> Option<&ConnectFailed> {
    match error {
        ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(
            inside,
        )) => inside.downcast_ref(),
        _ => None,
    }
}

/// The task of a connection that may still be given up: it would wait for answers.
struct Unprepared(Option<AbortHandle>);

impl Unprepared {
    fn prepared(mut self) -> AbortHandle {
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

/// Carries the session from where a connection is opened to where it gets its place in the pool:
/// deadpool tells its hooks nothing else. There the connection gets its instrumentation back.
struct HandOver {
    session: Option<Arc<Session>>,
    instrumentation: Applications,
}

impl Instrumentation for HandOver {
    fn on_connection_event(&mut self, _: Event<'_>) {}
}

/// The application's, by `set_default_instrumentation`, which has seen the connection opened.
type Applications = Option<Box<dyn Instrumentation>>;

struct Silent;

impl Instrumentation for Silent {
    fn on_connection_event(&mut self, _: Event<'_>) {}
}

/// What was handed over, with the application's instrumentation, which the connection is without
/// then; `None` if it was opened elsewhere.
pub(super) fn take_session(conn: &mut AsyncPgConnection) -> Option<(Arc<Session>, Applications)> {
    let carrier: &mut HandOver = conn.instrumentation().downcast_mut()?;
    Some((carrier.session.take()?, carrier.instrumentation.take()))
}

/// What was handed over. The connection has the application's instrumentation again.
pub(super) fn take_over(conn: &mut AsyncPgConnection) -> Option<Arc<Session>> {
    let (session, instrumentation) = take_session(conn)?;
    match instrumentation {
        Some(instrumentation) => conn.set_instrumentation(instrumentation),
        None => conn.set_instrumentation(Silent),
    }
    Some(session)
}
