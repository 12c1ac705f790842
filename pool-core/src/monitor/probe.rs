//! What a host is asked, and what its answer means.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::{Instant, timeout};
use tokio_postgres::{Row, SimpleQueryMessage, Statement};

use crate::{
    config::Config,
    connect::Login,
    failover::{Answer, Failure, Pace, Renewal},
    session::{NotOpened, Session, failure},
    topology::{HostAddr, Lsn, Term},
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

/// The same for Aurora, where positions and timelines say nothing: the role is what the host says
/// of itself and the listing confirms. Of two writers in the listing the one that was heard of
/// last counts ([Aurora's functions][aurora]).
///
/// [aurora]: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
const AURORA: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, \
       pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' AS read_only, \
       pg_catalog.aurora_db_instance_identifier()::pg_catalog.text AS instance, \
       writer.id AS writer, writer.stamp AS stamp, \
       (SELECT own.replica_lag_in_msec::pg_catalog.float8 FROM pg_catalog.aurora_replica_status() AS own \
         WHERE own.server_id::pg_catalog.text OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier()::pg_catalog.text LIMIT 1) AS lag_ms, \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at \
  FROM (SELECT 1) AS one LEFT JOIN LATERAL \
       (SELECT status.server_id::pg_catalog.text AS id, \
               (EXTRACT(epoch FROM status.last_update_timestamp) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS stamp \
          FROM pg_catalog.aurora_replica_status() AS status \
         WHERE status.session_id::pg_catalog.text OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' \
         ORDER BY status.last_update_timestamp DESC NULLS LAST LIMIT 1) AS writer ON true";

/// Whether the host is Aurora.
const KIND: &str = "\
SELECT pg_catalog.to_regprocedure('pg_catalog.aurora_replica_status()') IS NOT NULL \
   AND pg_catalog.to_regprocedure('pg_catalog.aurora_db_instance_identifier()') IS NOT NULL";

/// Some providers revoke it from ordinary users.
const IDENTITY: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// What `pg_stat_activity` shows.
const APPLICATION_NAME: &str = "leadpool monitor";

/// A connection with the probe prepared.
#[derive(Debug)]
pub(super) struct Probe {
    session: Session,
    statement: Statement,
    aurora: bool,
    system_identifier: Option<u64>,
    /// When it was opened, or last tried to be replaced.
    tried: Instant,
    renewal: Renewal,
    /// The host last said that it is a primary and accepts writes.
    writable: bool,
}

impl Probe {
    /// Opens the connection, within `limit`.
    pub(super) async fn open(
        config: &Config,
        host: &HostAddr,
        login: &Login,
        limit: Duration,
    ) -> Result<Self, NotOpened> {
        let opening = async {
            let opening = Session::open_as(config, host, APPLICATION_NAME, login, limit);
            let mut session = opening.await?;
            // Neither can change while the server runs, so once a connection is enough. The second
            // may be denied, and must not take the first along: two requests, sent together.
            let (kind, identity) = session
                .ask(|client| async {
                    Ok(join(client.simple_query(KIND), client.simple_query(IDENTITY)).await)
                })
                .await?;
            let aurora = first(kind.map_err(|error| failure(&error))?).as_deref() == Some("t");
            let system_identifier = match identity.map_err(|error| failure(&error)) {
                // It is told as a signed number.
                Ok(messages) => first(messages)
                    .and_then(|id| id.parse::<i64>().ok())
                    .map(|id| u64::from_ne_bytes(id.to_ne_bytes()))
                    .filter(|_| !aurora),
                Err(Failure::Denied(_)) => None,
                Err(failure) => return Err(failure.into()),
            };
            let probe = if aurora { AURORA } else { PROBE };
            let statement = session.ask(|client| client.prepare(probe)).await?;
            Ok(Self {
                session,
                statement,
                aurora,
                system_identifier,
                tried: Instant::now(),
                renewal: Renewal::new(fastrand::f64()),
                writable: false,
            })
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::Unreachable(format!("no session within {limit:.1?}")).into()),
        }
    }

    /// Asks the host what it is.
    pub(super) async fn ask(&mut self) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let statement = &self.statement;
        let row = self
            .session
            .ask(|client| client.query_one(statement, &[]))
            .await?;
        let mut answer = if self.aurora {
            aurora(&row)?
        } else {
            plain(&row)
        };
        answer.system_identifier = self.system_identifier;
        answer.round_trip = Some(begun.elapsed());
        self.writable = !answer.recovering && !answer.read_only;
        Ok(answer)
    }

    /// Asks for one text; the first row's first column.
    pub(super) async fn ask_text(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        let messages = self.session.ask(|client| client.simple_query(sql)).await?;
        Ok(first(messages))
    }

    /// Whether it is time for a fresh connection, `now` after the monitor's start.
    pub(super) fn is_old(&self, pace: Pace, now: Duration) -> bool {
        let age = self.tried.elapsed();
        self.renewal.is_due(pace, now, age, self.writable)
    }

    /// A fresh one is about to be tried.
    pub(super) fn is_being_renewed(&mut self) {
        self.tried = Instant::now();
        self.renewal.put_off();
    }

    /// Returns when the connection ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn ended(&mut self) {
        self.session.ended().await;
    }
}

fn first(messages: Vec<SimpleQueryMessage>) -> Option<String> {
    messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

fn plain(row: &Row) -> Answer {
    let lsn = |column| {
        row.get::<_, Option<&str>>(column)
            .and_then(|text| text.parse::<Lsn>().ok())
    };
    Answer {
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
        ..Answer::default()
    }
}

/// A host that the listing does not name as the writer is none, whatever it says itself: it was
/// demoted a moment ago. A listing without a writer proves nothing.
fn aurora(row: &Row) -> Result<Answer, Failure> {
    let (Some(writer), Some(instance)) = (
        row.get::<_, Option<&str>>("writer"),
        row.get::<_, Option<&str>>("instance"),
    ) else {
        return Err(Failure::Denied(
            "aurora_replica_status() names no writer".to_owned(),
        ));
    };
    let writes = !row.get::<_, bool>("recovering") && writer == instance;
    let lag_ms = row.get::<_, Option<f64>>("lag_ms");
    Ok(Answer {
        recovering: !writes,
        read_only: row.get("read_only"),
        stamp: row
            .get::<_, Option<i64>>("stamp")
            .and_then(|stamp| u64::try_from(stamp).ok())
            .filter(|_| writes),
        instance: Some(instance.to_owned()),
        writer: Some(writer.to_owned()),
        staleness: lag_ms
            .filter(|_| !writes)
            .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
        started_at: row.get("started_at"),
        ..Answer::default()
    })
}
