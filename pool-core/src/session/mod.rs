//! A connection that its owner drives: there is no task behind it, so its end is noticed where
//! the owner looks, and dropping it closes it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::{
    config::Config,
    connect::{self, Login, OpenError, Wire},
    error::{in_words, is_connection_loss},
    failover::Failure,
    topology::HostAddr,
};

/// An open connection of leadpool's own, for probes and for what sources of hosts ask.
pub(crate) struct Session {
    client: Client,
    connection: Wire,
}

impl Session {
    /// Opens a connection, within `limit`; `name` is what `pg_stat_activity` shows.
    pub(crate) async fn open(
        config: &Config,
        host: &HostAddr,
        name: &str,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let opened = Self::within(limit, connect::open(config, host, Some(name), None)).await;
        opened.map_err(|error| error.failure)
    }

    /// The same with credentials at hand.
    pub(crate) async fn open_as(
        config: &Config,
        host: &HostAddr,
        name: &str,
        login: &Login,
        limit: Duration,
    ) -> Result<Self, NotOpened> {
        let opening = connect::open_as(config, host, Some(name), login, None);
        Self::within(limit, opening).await
    }

    async fn within(
        limit: Duration,
        opening: impl Future<Output = Result<(Client, Wire), OpenError>>,
    ) -> Result<Self, NotOpened> {
        match timeout(limit, opening).await {
            Ok(Ok((client, connection))) => Ok(Self { client, connection }),
            Ok(Err(error)) => Err(NotOpened {
                is_rejection: error.is_rejection(),
                failure: match error {
                    OpenError::Driver(error) => failure(&error),
                    // The host may be as well as ever.
                    error => Failure::Denied(error.to_string()),
                },
            }),
            Err(_) => Err(Failure::Unreachable(format!("no session within {limit:.1?}")).into()),
        }
    }

    /// Makes a request and drives the connection until it is answered. The connection's end ends
    /// the request too: the driver would leave it waiting for as long as the connection's remains
    /// are kept.
    ///
    /// # Cancel safety
    ///
    /// A session whose request was dropped must be dropped too: the answer may still come.
    pub(crate) async fn ask<'a, T, F>(
        &'a mut self,
        request: impl FnOnce(&'a Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>> + 'a,
    {
        let Self { client, connection } = self;
        let mut request = std::pin::pin!(request(client));
        poll_fn(|cx| {
            // Before the connection, which sends what the request puts into it.
            if let Poll::Ready(done) = request.as_mut().poll(cx) {
                return Poll::Ready(done.map_err(|error| failure(&error)));
            }
            let lost = lost(connection, cx);
            match (request.as_mut().poll(cx), lost) {
                (Poll::Ready(done), _) => Poll::Ready(done.map_err(|error| failure(&error))),
                (Poll::Pending, Some(lost)) => Poll::Ready(Err(lost)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }

    /// Returns when the connection ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn ended(&mut self) {
        while let Some(Ok(_)) = poll_fn(|cx| self.connection.poll_message(cx)).await {}
    }
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) failure: Failure,
    /// Whether the host refused the credentials: others may be better.
    pub(crate) is_rejection: bool,
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            is_rejection: false,
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Moves bytes; how the connection was lost, if it was.
fn lost(connection: &mut Wire, cx: &mut Context<'_>) -> Option<Failure> {
    loop {
        match connection.poll_message(cx) {
            // A notice, which is of no interest.
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Some(failure(&error)),
            Poll::Ready(None) => return Some(closed()),
            Poll::Pending => return None,
        }
    }
}

fn closed() -> Failure {
    Failure::Unreachable("connection closed".into())
}

/// What a driver error proves about the host.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Failure {
    use std::error::Error as _;

    if let Some(db) = error.as_db_error() {
        let text = in_words(error);
        return match db.code().code() {
            "57P01" | "57P02" | "57P03" => Failure::NotAccepting(text),
            _ => Failure::Denied(text),
        };
    }
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    match io {
        Some(io)
            if matches!(
                io.kind(),
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
            ) =>
        {
            Failure::Refused
        }
        Some(io) => Failure::Unreachable(io.to_string()),
        None if is_connection_loss(error) => closed(),
        None => Failure::Denied(in_words(error)),
    }
}
