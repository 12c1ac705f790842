//! Compares what was told with what is there.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use leadpool::{Pool, outcome::Outcome};
use leadpool_testkit::Cluster;

use super::{
    book::{Book, Place, Told},
    report::Run,
    workload::{ACCOUNTS, BALANCE},
};
use crate::Result;

/// How long to ask for each transaction that is still in doubt.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the primary holds at the end.
struct Truth {
    /// The attempts of each transaction that are there.
    rows: HashMap<i64, Vec<u32>>,
    /// Where the primary's history left each timeline before its own.
    forks: BTreeMap<u32, u64>,
    timeline: u32,
    /// What does not add up.
    wrong: Vec<String>,
}

pub(super) async fn count(
    servers: &Cluster,
    pool: &Pool,
    book: &Book,
    failovers: u64,
) -> Result<Run> {
    let truth = Truth::read(servers).await?;
    let (told, found, bad_reads, reads) = {
        let mut pages = book.pages();
        (
            std::mem::take(&mut pages.told),
            std::mem::take(&mut pages.found),
            std::mem::take(&mut pages.bad_reads),
            pages.reads,
        )
    };
    let mut run = Run::new(told.len() as u64, failovers, reads);
    for text in bad_reads.into_iter().chain(truth.wrong.iter().cloned()) {
        run.wrong(text);
    }
    // Where each transaction was committed, if anyone said so.
    let mut places: HashMap<i64, Place> = HashMap::new();
    for (id, told) in &told {
        let rows = truth.rows.get(id).map_or(&[][..], Vec::as_slice);
        if rows.len() > 1 {
            run.duplicated(format!("transaction {id}: attempts {rows:?}"));
        }
        match told {
            Told::Acknowledged { attempt, place } => {
                run.acknowledged += 1;
                places.insert(*id, *place);
                if rows.is_empty() && truth.was_lost_by_postgres(place) {
                    run.lost_by_postgres += 1;
                } else if rows.is_empty() {
                    run.lost(format!("transaction {id}: {place:?}"));
                } else if !rows.contains(attempt) {
                    run.wrong(format!("transaction {id}: {attempt} told, {rows:?} there"));
                }
            }
            Told::NotReplicated => run.not_replicated += 1,
            Told::Refused(error) => {
                run.errors += 1;
                run.note_error(error);
                if !rows.is_empty() {
                    run.wrong(format!("transaction {id} is there, and was told: {error}"));
                }
            }
            Told::Unknown(evidence, doubt) => {
                run.unknown += 1;
                let Some(evidence) = evidence else { continue };
                let outcome = pool.resolve(evidence, PATIENCE).await.ok();
                run.note_unknown(*doubt, outcome);
                let is_there = !rows.is_empty();
                if outcome == Some(Outcome::Committed) && !is_there
                    || outcome == Some(Outcome::NotCommitted) && is_there
                {
                    run.wrong(format!("transaction {id}: {outcome:?}, {rows:?} there"));
                }
            }
        }
    }
    for found in found {
        run.note_found(found.fault, found.outcome);
        let rows = truth.rows.get(&found.id);
        let is_there = rows.is_some_and(|rows| rows.contains(&found.attempt));
        let place = places.get(&found.id);
        let is_wrong = match found.outcome {
            Ok(Outcome::Committed) => {
                !is_there && !place.is_some_and(|place| truth.was_lost_by_postgres(place))
            }
            Ok(Outcome::NotCommitted) => is_there,
            Err(_) => false,
        };
        if is_wrong {
            run.wrong(format!("{found:?}, {rows:?} there, {place:?}"));
        }
    }
    Ok(run)
}

impl Truth {
    async fn read(servers: &Cluster) -> Result<Self> {
        let client = servers.connect(servers.primary()).await?;
        let mut rows: HashMap<i64, Vec<u32>> = HashMap::new();
        // The balances and counters that the journal's rows make.
        let mut balances = vec![BALANCE; usize::try_from(ACCOUNTS)?];
        let mut counters: HashMap<i32, Vec<i64>> = HashMap::new();
        let sql = "SELECT id, attempt, kind, a, b, value FROM journal";
        for row in client.query(sql, &[]).await? {
            let attempt = u32::try_from(row.get::<_, i32>(1))?;
            rows.entry(row.get(0)).or_default().push(attempt);
            let (a, b, value): (i32, i32, i64) = (row.get(3), row.get(4), row.get(5));
            match row.get(2) {
                "transfer" => {
                    balances[usize::try_from(a)?] -= value;
                    balances[usize::try_from(b)?] += value;
                }
                "counter" => counters.entry(a).or_default().push(value),
                _ => {}
            }
        }
        let mut wrong = Vec::new();
        for row in client
            .query("SELECT id, balance FROM accounts", &[])
            .await?
        {
            let (account, balance): (i32, i64) = (row.get(0), row.get(1));
            let expected = balances[usize::try_from(account)?];
            if balance != expected {
                wrong.push(format!("account {account}: {balance}, not {expected}"));
            }
        }
        for row in client.query("SELECT id, n FROM counters", &[]).await? {
            let (counter, n): (i32, i64) = (row.get(0), row.get(1));
            let mut values = counters.remove(&counter).unwrap_or_default();
            values.sort_unstable();
            if !values.iter().copied().eq(1..=n) {
                wrong.push(format!(
                    "counter {counter}: {n}, from {} rows",
                    values.len()
                ));
            }
        }
        let sql = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())";
        let file: String = client.query_one(sql, &[]).await?.get(0);
        let timeline = u32::from_str_radix(file.get(..8).unwrap_or_default(), 16)?;
        let mut forks = BTreeMap::new();
        if timeline > 1 {
            let path = format!("pg_wal/{timeline:08X}.history");
            let sql = "SELECT pg_read_file($1)";
            let history: String = client.query_one(sql, &[&path]).await?.get(0);
            for line in history.lines() {
                let mut parts = line.split_ascii_whitespace();
                let (Some(parent), Some(left)) = (parts.next(), parts.next()) else {
                    continue;
                };
                let left: tokio_postgres::types::PgLsn =
                    left.parse().map_err(|_| "an unreadable history file")?;
                forks.insert(parent.parse()?, u64::from(left));
            }
        }
        Ok(Self {
            rows,
            forks,
            timeline,
            wrong,
        })
    }

    /// Whether a commit that is not there can have been lost by PostgreSQL itself: it was made
    /// in a history that the primary's has left, and not proved to be older than that.
    fn was_lost_by_postgres(&self, place: &Place) -> bool {
        if place.timeline == self.timeline {
            return false;
        }
        self.forks.get(&place.timeline).is_none_or(|fork| {
            place.after > *fork || place.before.is_none_or(|before| before > *fork)
        })
    }
}
