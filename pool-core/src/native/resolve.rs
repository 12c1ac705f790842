//! Finding out what became of a COMMIT in flight: asks the writer until the outcome is proved.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::{Client, error::SqlState, types::ToSql};
use tracing::Instrument as _;

use super::{Native, lease::Lease};
use crate::{
    error::{Disposition, Error, InDoubt, TxPhase},
    failover::Report,
    monitor::Cluster,
    observe::resolution_span,
    outcome::{Doubt, Evidence, Incarnation, Outcome, Proof, Status, Testimony, Verdict, judge},
    pool::{Generation, Purpose, SubPools},
    topology::{Lsn, Target},
    tx::{Resolve, Unresolved},
};

/// The pauses between questions.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long a transaction whose client is gone may go on before its backend is terminated.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long to wait for a look at a host that broke off.
const LOOK: Duration = Duration::from_millis(250);

const TESTIMONY: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, \
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text END AS inserted, \
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text END AS flushed, \
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, \
       pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text AS replayed, \
       pg_catalog.pg_last_wal_receive_lsn()::pg_catalog.text AS received, \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS started_at, \
       (EXTRACT(epoch FROM pg_catalog.now()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS now";
const STATUS: &str =
    "SELECT pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8)::pg_catalog.text";
const IDENTITY: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// Only while it still runs this transaction, and not while it waits for a synchronous standby:
/// that one is durable here already, and would only lose its wait. An ordinary user may terminate
/// the backends of its own role.
const TERMINATE: &str = "\
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
WHERE pid OPERATOR(pg_catalog.=) $1 AND backend_xid OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.xid \
      AND (wait_event IS NULL OR wait_event OPERATOR(pg_catalog.<>) 'SyncRep')";

/// The backend that a transaction was sent to, by its number and, since numbers are given out
/// again, by its age: it was there when the transaction began. An ordinary user sees the backends
/// of its own role.
const BACKEND: &str = "\
FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) $1 \
      AND backend_start OPERATOR(pg_catalog.<=) pg_catalog.to_timestamp($2)";
/// Not while it waits for a synchronous standby, as above.
const TERMINATE_BACKEND: &str = "\
AND (wait_event IS NULL OR wait_event OPERATOR(pg_catalog.<>) 'SyncRep')";

/// Whether a transaction has ended, or is one whose client has fallen silent long ago. An ordinary
/// user sees the backends of its own role.
const SETTLED: &str = "\
SELECT COALESCE(pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8) OPERATOR(pg_catalog.<>) 'in progress', true) \
       OR EXISTS (SELECT FROM pg_catalog.pg_stat_activity \
                  WHERE pid OPERATOR(pg_catalog.=) $2 AND backend_xid OPERATOR(pg_catalog.=) $3::pg_catalog.text::pg_catalog.xid \
                        AND state OPERATOR(pg_catalog.=) 'idle in transaction' \
                        AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) state_change \
                            OPERATOR(pg_catalog.>) pg_catalog.make_interval(secs => 5))";

/// A commit that returns only when every earlier one has reached the synchronous standbys.
const BARRIER: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'leadpool'::pg_catalog.text, ''::pg_catalog.text)";

/// In place of a transaction's id that was never told.
const UNTOLD: u64 = 0;

/// What one host knows.
enum Finding {
    Proved(Outcome),
    /// Another question may find out.
    NotYet(Doubt),
    Unprovable(Doubt),
}

/// Finds out what became of a transaction, for those who ask later, and from elsewhere.
///
/// # Cancel safety
///
/// Dropping the future closes the connection it used.
pub(crate) async fn ask(
    pools: &SubPools<Native>,
    evidence: &Evidence,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + timeout;
    let proof = pools.cluster().config().tx().proof;
    pools
        .resolve_until(evidence, proof, deadline)
        .await
        .map_err(|unresolved| {
            Error::Unknown(Box::new(InDoubt {
                host: evidence.host.clone(),
                attempt: 0,
                evidence: Some(evidence.clone()),
                doubt: unresolved.doubt,
                source: unresolved.source.map(Into::into),
            }))
        })
}

impl Resolve for SubPools<Native> {
    fn cluster(&self) -> &Cluster {
        self.cluster()
    }

    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that it used. The backend that ran the
    /// transaction may have been terminated.
    async fn resolve_until(
        &self,
        evidence: &Evidence,
        proof: Proof,
        deadline: Instant,
    ) -> Result<Outcome, Unresolved> {
        let span = resolution_span(self.cluster().meters(), evidence);
        ask_on(self, evidence, proof, deadline)
            .instrument(span)
            .await
    }

    async fn is_settled(&self, host: &Generation, evidence: &Evidence) -> bool {
        is_settled(self, host, evidence).await
    }
}

async fn ask_on(
    pools: &SubPools<Native>,
    evidence: &Evidence,
    proof: Proof,
    deadline: Instant,
) -> Result<Outcome, Unresolved> {
    let mut pause = FIRST_PAUSE;
    let patience = Instant::now() + PATIENCE;
    let mut unresolved = Unresolved {
        doubt: Doubt::OutOfTime,
        source: None,
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let checkout = pools.checkout(
            Purpose::Outcome,
            Target::Primary,
            left,
            |client, generation| (client, generation.clone()),
        );
        let (client, generation) = match checkout.await {
            Ok(got) => got,
            Err(error) => {
                unresolved.source = Some(error);
                return Err(unresolved);
            }
        };
        let lease = Lease::new(client);
        let question = Question {
            pools,
            client: lease.client(),
            generation: &generation,
            evidence,
            proof,
            may_terminate: Instant::now() >= patience,
        };
        let asked = tokio::select! {
            biased;
            asked = timeout_at(deadline, question.ask()) => asked.ok(),
            () = generation.aborted() => None,
        };
        match asked {
            Some(Ok(finding)) => {
                lease.release();
                match finding {
                    Finding::Proved(outcome) => return Ok(outcome),
                    Finding::Unprovable(doubt) => {
                        unresolved.doubt = doubt;
                        return Err(unresolved);
                    }
                    Finding::NotYet(doubt) => unresolved.doubt = doubt,
                }
            }
            Some(Err(error)) => {
                drop(lease);
                let is_final = Disposition::of_driver(&error, TxPhase::Open) == Disposition::Fail;
                unresolved.source = Some(error.into());
                if is_final {
                    return Err(unresolved);
                }
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::select! {
                    biased;
                    () = generation.retired() => {}
                    () = generation.verify(Report::ConnectionLost, LOOK.min(left)) => {}
                }
            }
            None => drop(lease),
        }
        if Instant::now() + pause >= deadline {
            return Err(unresolved);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether waiting for the answer to a COMMIT is in vain, as another connection to the same host
/// tells: the transaction has ended, or nothing has come from its client for five seconds. No
/// answer is no proof.
///
/// # Cancel safety
///
/// Dropping the future closes the connection that it used.
async fn is_settled(pools: &SubPools<Native>, host: &Generation, evidence: &Evidence) -> bool {
    let checkout = pools.checkout(
        Purpose::Outcome,
        Target::Primary,
        LOOK,
        |client, generation| (client, generation.clone()),
    );
    let Ok((client, generation)) = checkout.await else {
        return false;
    };
    // The one that asks may belong to another pool of the same cluster.
    if generation.host() != host.host() || generation.number() != host.number() {
        return false;
    }
    let lease = Lease::new(client);
    let transaction = evidence.transaction.to_string();
    let xid = short(evidence.transaction);
    let values: [&(dyn ToSql + Sync); 3] = [&transaction, &evidence.backend, &xid];
    let asking = lease.client().query_one(SETTLED, &values);
    match timeout(LOOK, asking).await {
        Ok(Ok(row)) => {
            lease.release();
            row.get(0)
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

/// As `backend_xid` has it: the lower half only.
fn short(transaction: u64) -> String {
    (transaction & u64::from(u32::MAX)).to_string()
}

/// What a host said.
struct Heard {
    testimony: Testimony,
    flushed: Option<Lsn>,
    /// By its clock, in microseconds since 1970.
    now: i64,
}

/// One question to one host.
struct Question<'a> {
    pools: &'a SubPools<Native>,
    client: &'a Client,
    generation: &'a Generation,
    evidence: &'a Evidence,
    proof: Proof,
    may_terminate: bool,
}

impl Question<'_> {
    async fn ask(&self) -> Result<Finding, tokio_postgres::Error> {
        // The status first: what is said of the server afterwards holds for it.
        let status = self.status().await?;
        let Heard {
            mut testimony,
            flushed,
            now,
        } = self.testimony(status).await?;
        self.remember(&testimony, flushed);
        // What was seen of promotions tells of those that were seen; the file, if it may be read,
        // tells of all, and of a cluster that went back into a history that it had left.
        if testimony.incarnation.timeline > self.evidence.incarnation.timeline {
            testimony.fork = self.fork(testimony.incarnation.timeline).await;
        }
        let verdict = {
            let history = self.pools.cluster().history();
            judge(self.evidence, &testimony, &history, self.proof)
        };
        if let Verdict::Unknown(doubt) = verdict {
            return self.by_token(doubt, now, &testimony).await;
        }
        match verdict {
            Verdict::Committed => self.committed(&testimony).await,
            Verdict::NotCommitted => Ok(Finding::Proved(Outcome::NotCommitted)),
            Verdict::InProgress => {
                if self.may_terminate {
                    self.terminate().await?;
                }
                Ok(Finding::NotYet(Doubt::StillRunning))
            }
            Verdict::AskElsewhere => {
                self.generation.report(Report::RoleChanged);
                Ok(Finding::NotYet(Doubt::OutOfTime))
            }
            Verdict::Unknown(doubt) => Ok(Finding::Unprovable(doubt)),
        }
    }

    fn remember(&self, testimony: &Testimony, flushed: Option<Lsn>) {
        if !testimony.recovering {
            self.pools.cluster().history().saw_primary(
                self.generation.host(),
                testimony.system_identifier,
                &testimony.incarnation,
                flushed,
            );
        }
    }

    /// Committed here. What the application is told must not be less durable than what an
    /// acknowledged COMMIT is: the backend that died may have been waiting for a standby.
    async fn committed(&self, testimony: &Testimony) -> Result<Finding, tokio_postgres::Error> {
        if testimony.incarnation.timeline == self.evidence.incarnation.timeline {
            let before = self.generation.unreplicated();
            self.client.execute(BARRIER, &[]).await?;
            if self.generation.unreplicated() != before {
                return Ok(Finding::NotYet(Doubt::NotReplicated));
            }
        }
        Ok(Finding::Proved(Outcome::Committed))
    }

    async fn status(&self) -> Result<Status, tokio_postgres::Error> {
        if self.evidence.transaction == UNTOLD {
            return Ok(Status::Forgotten);
        }
        let transaction = self.evidence.transaction.to_string();
        match self.client.query_one(STATUS, &[&transaction]).await {
            Ok(row) => Ok(match row.get::<_, Option<&str>>(0) {
                Some("committed") => Status::Committed,
                Some("aborted") => Status::Aborted,
                Some("in progress") => Status::InProgress,
                Some(_) | None => Status::Forgotten,
            }),
            Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                Ok(Status::Future)
            }
            Err(error) => Err(error),
        }
    }

    /// What the host says of its life.
    async fn testimony(&self, status: Status) -> Result<Heard, tokio_postgres::Error> {
        let system_identifier = match self.client.query_one(IDENTITY, &[]).await {
            Ok(row) => Some(u64::from_ne_bytes(row.get::<_, i64>(0).to_ne_bytes())),
            // Some providers revoke it.
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => None,
            Err(error) => return Err(error),
        };
        let row = self.client.query_one(TESTIMONY, &[]).await?;
        let lsn = |column| {
            row.get::<_, Option<&str>>(column)
                .and_then(|text| text.parse::<Lsn>().ok())
        };
        let timeline = row
            .get::<_, Option<&str>>("timeline")
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let testimony = Testimony {
            system_identifier,
            recovering: row.get::<_, bool>("recovering") || timeline.is_none(),
            incarnation: Incarnation {
                timeline: timeline.unwrap_or_default(),
                replayed: lsn("replayed"),
                received: lsn("received"),
                started_at: row.get("started_at"),
            },
            status,
            inserted: lsn("inserted"),
            fork: None,
        };
        Ok(Heard {
            testimony,
            flushed: lsn("flushed"),
            now: row.get("now"),
        })
    }

    /// Where the host's history left the evidence's timeline, if this user may read it
    /// ([format](https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES)):
    /// a line for each timeline that came before, with where it was left.
    async fn fork(&self, timeline: u32) -> Option<Lsn> {
        let path = format!("pg_wal/{timeline:08X}.history");
        let sql = "SELECT pg_catalog.pg_read_file($1)";
        let file: String = self.client.query_one(sql, &[&path]).await.ok()?.get(0);
        let mut lines = 0;
        for line in file.lines() {
            let mut parts = line.split_ascii_whitespace();
            let parent = parts.next().and_then(|number| number.parse::<u32>().ok());
            let Some(parent) = parent else { continue };
            let left = parts.next()?.parse::<Lsn>().ok()?;
            lines += 1;
            if parent == self.evidence.incarnation.timeline {
                return Some(left);
            }
        }
        // It descends from an older one, and holds nothing of the evidence's.
        (lines > 0).then(|| Lsn::new(0))
    }

    /// The second method, where the log proves nothing.
    async fn by_token(
        &self,
        doubt: Doubt,
        now: i64,
        testimony: &Testimony,
    ) -> Result<Finding, tokio_postgres::Error> {
        let tx = self.pools.cluster().config().tx();
        let is_askable = matches!(
            doubt,
            Doubt::NotFlushed | Doubt::SwitchUnseen | Doubt::Forgotten | Doubt::SplitBrain
        );
        let (Some(token), Some(table), true) = (self.evidence.token, &tx.token_table, is_askable)
        else {
            return Ok(Finding::Unprovable(doubt));
        };
        let is_untold = self.evidence.transaction == UNTOLD;
        let same_life = testimony.incarnation == self.evidence.incarnation;
        // Without an id nobody can say whether it still runs; but its backend can.
        if is_untold && same_life && self.has_backend().await? {
            return Ok(Finding::NotYet(Doubt::StillRunning));
        }
        let (find, token) = (table.find(), token.to_string());
        let is_there: bool = self.client.query_one(&find, &[&token]).await?.get(0);
        let age = Duration::from_micros(now.abs_diff(self.evidence.began_at));
        if is_there && is_untold {
            return self.committed(testimony).await;
        }
        Ok(if is_there {
            Finding::Proved(Outcome::Committed)
        } else if doubt == Doubt::SplitBrain || age > tx.token_retention {
            // The other one may have it; or it has been cleaned away.
            Finding::Unprovable(doubt)
        } else {
            Finding::Proved(Outcome::NotCommitted)
        })
    }

    /// Whether the backend lives that the transaction was sent to; ends it if it is time.
    async fn has_backend(&self) -> Result<bool, tokio_postgres::Error> {
        let began_at = Duration::from_micros(self.evidence.began_at.unsigned_abs()).as_secs_f64();
        let values: [&(dyn ToSql + Sync); 2] = [&self.evidence.backend, &began_at];
        if self.may_terminate {
            let sql = format!(
                "SELECT pg_catalog.pg_terminate_backend(pid) {BACKEND} {TERMINATE_BACKEND}"
            );
            self.client.query(&sql, &values).await?;
        }
        let sql = format!("SELECT EXISTS (SELECT {BACKEND})");
        Ok(self.client.query_one(&sql, &values).await?.get(0))
    }

    async fn terminate(&self) -> Result<(), tokio_postgres::Error> {
        let xid = short(self.evidence.transaction);
        self.client
            .query(TERMINATE, &[&self.evidence.backend, &xid])
            .await?;
        Ok(())
    }
}
