//! The monitor's own connection to one host.

use std::{future::poll_fn, task::Poll, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket, Statement, tls::NoTlsStream};

use crate::{
    error::is_connection_loss,
    failover::{Answer, Failure},
    topology::{Lsn, Term},
};

/// What a host is asked. Every name is qualified: the answer must not depend on `search_path`.
///
/// The timeline comes from the name of the WAL file being written, since `pg_control_checkpoint()`
/// still tells the old one long after a promotion. A standby has no timeline that an ordinary user
/// can trust.
const PROBE: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, \
       pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' AS read_only, \
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
            ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, \
       (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
             ELSE pg_catalog.pg_current_wal_insert_lsn() END)::pg_catalog.text AS position, \
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text END AS flushed, \
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text END AS recovered, \
       pg_catalog.pg_last_wal_receive_lsn()::pg_catalog.text AS received, \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at";

/// Asked beside it: some providers revoke it from ordinary users.
const IDENTITY: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// An open connection with the probe prepared. The connection is driven by whoever waits on the
/// session; there is no task behind it.
pub(super) struct Session {
    client: Client,
    connection: Connection<Socket, NoTlsStream>,
    probe: Statement,
    system_identifier: Option<u64>,
}

impl Session {
    /// Opens the connection, within `limit`.
    pub(super) async fn open(config: &Config, limit: Duration) -> Result<Self, Failure> {
        let opening = async {
            let (client, mut connection) = config
                .connect(NoTls)
                .await
                .map_err(|error| failure(&error))?;
            let probe = drive(&mut connection, client.prepare(PROBE)).await?;
            // It can't change while the server runs, so once a connection is enough.
            let system_identifier =
                match drive(&mut connection, client.query_one(IDENTITY, &[])).await {
                    Ok(row) => Some(u64::from_ne_bytes(row.get::<_, i64>(0).to_ne_bytes())),
                    Err(Failure::Denied(_)) => None,
                    Err(failure) => return Err(failure),
                };
            Ok(Self {
                client,
                connection,
                probe,
                system_identifier,
            })
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::Unreachable(format!(
                "no session within {limit:.1?}"
            ))),
        }
    }

    /// Asks the host what it is.
    pub(super) async fn probe(&mut self) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let row = drive(
            &mut self.connection,
            self.client.query_one(&self.probe, &[]),
        )
        .await?;
        let lsn = |column| {
            row.get::<_, Option<&str>>(column)
                .and_then(|text| text.parse::<Lsn>().ok())
        };
        Ok(Answer {
            recovering: row.get("recovering"),
            read_only: row.get("read_only"),
            term: row
                .get::<_, Option<&str>>("timeline")
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .map(Term::from_timeline),
            position: lsn("position"),
            flushed: lsn("flushed"),
            recovered: lsn("recovered"),
            received: lsn("received"),
            started_at: row.get("started_at"),
            system_identifier: self.system_identifier,
            round_trip: Some(begun.elapsed()),
        })
    }

    /// Returns when the connection ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn ended(&mut self) {
        while let Some(Ok(_)) = poll_fn(|cx| self.connection.poll_message(cx)).await {}
    }
}

/// Runs a request while driving its connection. Its end ends the request too: the driver would
/// leave it waiting for as long as the connection's remains are kept.
async fn drive<T>(
    connection: &mut Connection<Socket, NoTlsStream>,
    request: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    let mut request = std::pin::pin!(request);
    poll_fn(|cx| {
        // Before the connection, which sends what the request puts into it.
        if let Poll::Ready(done) = request.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(|error| failure(&error)));
        }
        let lost = loop {
            match connection.poll_message(cx) {
                // A notice, which is of no interest.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => break Some(failure(&error)),
                Poll::Ready(None) => break Some(closed()),
                Poll::Pending => break None,
            }
        };
        match (request.as_mut().poll(cx), lost) {
            (Poll::Ready(done), _) => Poll::Ready(done.map_err(|error| failure(&error))),
            (Poll::Pending, Some(lost)) => Poll::Ready(Err(lost)),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

fn closed() -> Failure {
    Failure::Unreachable("connection closed".into())
}

/// What a driver error proves about the host.
fn failure(error: &tokio_postgres::Error) -> Failure {
    use std::error::Error as _;

    if let Some(db) = error.as_db_error() {
        let text = format!("{} ({})", db.message(), db.code().code());
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
        None => Failure::Denied(error.to_string()),
    }
}
