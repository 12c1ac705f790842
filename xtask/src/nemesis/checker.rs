//! Compares what was told with what is there.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use leadpool::{Pool, outcome::Outcome};
use leadpool_testkit::Cluster;

use super::{
    book::{Book, Pages, Place, Told},
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
    /// Whether an acknowledged commit may be left behind by a failover.
    is_synchronous: bool,
    /// What does not add up.
    wrong: Vec<String>,
}

/// Asks once more for what is still in doubt, and compares.
pub(super) async fn count(
    servers: &Cluster,
    pool: &Pool,
    book: &Book,
    failovers: u64,
    is_synchronous: bool,
) -> Result<Run> {
    let pages = std::mem::take(&mut *book.pages());
    let mut later = HashMap::new();
    for (id, told) in &pages.told {
        if let Told::Unknown(Some(evidence), _) = told
            && let Ok(outcome) = pool.resolve(evidence, PATIENCE).await
        {
            later.insert(*id, outcome);
        }
    }
    let truth = Truth::read(servers, is_synchronous).await?;
    Ok(compare(&truth, pages, &later, failovers))
}

/// `later`: what was found out of the transactions whose callers were told that it is not known.
fn compare(truth: &Truth, pages: Pages, later: &HashMap<i64, Outcome>, failovers: u64) -> Run {
    let mut run = Run::new(pages.told.len() as u64, failovers, pages.reads);
    for text in pages.bad_reads.into_iter().chain(truth.wrong.clone()) {
        run.wrong(text);
    }
    // Where each transaction was committed, if anyone said so.
    let mut places: HashMap<i64, Place> = HashMap::new();
    for (id, told) in &pages.told {
        let rows = truth.rows(*id);
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
            Told::Unknown(_, doubt) => {
                run.unknown += 1;
                let outcome = later.get(id).copied();
                run.note_unknown(*doubt, outcome);
                let is_there = !rows.is_empty();
                if outcome.is_some_and(|outcome| (outcome == Outcome::Committed) != is_there) {
                    run.wrong(format!("transaction {id}: {outcome:?}, {rows:?} there"));
                }
            }
        }
    }
    for found in pages.found {
        run.note_found(found.fault, found.outcome);
        let rows = truth.rows(found.id);
        let is_there = rows.contains(&found.attempt);
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
    run
}

impl Truth {
    async fn read(servers: &Cluster, is_synchronous: bool) -> Result<Self> {
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
            is_synchronous,
            wrong,
        })
    }

    fn rows(&self, id: i64) -> &[u32] {
        self.rows.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Whether a commit that is not there can have been lost by PostgreSQL itself: it was made
    /// in a history that the primary's has left, and not proved to be older than that.
    fn was_lost_by_postgres(&self, place: &Place) -> bool {
        if self.is_synchronous || place.timeline == self.timeline {
            return false;
        }
        self.forks.get(&place.timeline).is_none_or(|fork| {
            place.after > *fork || place.before.is_none_or(|before| before > *fork)
        })
    }
}

#[cfg(test)]
mod tests {
    use leadpool::outcome::Doubt;

    use super::{super::book::Found, *};

    /// Timeline 1 was left at 100, 2 is the present.
    fn truth(rows: &[(i64, u32)]) -> Truth {
        let mut by_id: HashMap<i64, Vec<u32>> = HashMap::new();
        for (id, attempt) in rows {
            by_id.entry(*id).or_default().push(*attempt);
        }
        Truth {
            rows: by_id,
            forks: BTreeMap::from([(1, 100)]),
            timeline: 2,
            is_synchronous: false,
            wrong: Vec::new(),
        }
    }

    fn acknowledged(attempt: u32, timeline: u32, after: u64, before: Option<u64>) -> Told {
        let place = Place {
            timeline,
            after,
            before,
        };
        Told::Acknowledged { attempt, place }
    }

    /// Wrong, lost, duplicated, lost by PostgreSQL.
    fn found(rows: &[(i64, u32)], told: Told, found: Option<(u32, Outcome)>) -> [u64; 4] {
        let found = found.map(|(attempt, outcome)| Found {
            id: 7,
            attempt,
            outcome: Ok(outcome),
            fault: "a fault",
        });
        let pages = Pages {
            told: vec![(7, told)],
            found: found.into_iter().collect(),
            ..Pages::default()
        };
        compare(&truth(rows), pages, &HashMap::new(), 0).verdict()
    }

    #[test]
    fn what_was_acknowledged_is_there_once() {
        let told = || acknowledged(1, 2, 150, None);
        assert_eq!(found(&[(7, 1)], told(), None), [0, 0, 0, 0]);
        assert_eq!(found(&[], told(), None), [0, 1, 0, 0]);
        assert_eq!(found(&[(7, 1), (7, 2)], told(), None), [0, 0, 1, 0]);
        assert_eq!(found(&[(7, 2)], told(), None), [1, 0, 0, 0]);
    }

    #[test]
    fn only_what_lies_behind_the_fork_is_lost_by_postgres() {
        // Written behind it, or committed behind it for all that is known.
        for (after, before) in [(120, None), (120, Some(130)), (90, None), (90, Some(101))] {
            let told = acknowledged(1, 1, after, before);
            assert_eq!(found(&[], told, None), [0, 0, 0, 1], "{after} {before:?}");
        }
        // Committed before it, or in the present history.
        assert_eq!(
            found(&[], acknowledged(1, 1, 90, Some(95)), None),
            [0, 1, 0, 0]
        );
        assert_eq!(
            found(&[], acknowledged(1, 2, 120, None), None),
            [0, 1, 0, 0]
        );
        // A timeline that is not of this history.
        assert_eq!(
            found(&[], acknowledged(1, 3, 120, None), None),
            [0, 0, 0, 1]
        );
    }

    #[test]
    fn a_synchronous_cluster_loses_nothing() {
        let pages = Pages {
            told: vec![(7, acknowledged(1, 1, 120, None))],
            ..Pages::default()
        };
        let mut truth = truth(&[]);
        truth.is_synchronous = true;
        let run = compare(&truth, pages, &HashMap::new(), 0);
        assert_eq!(run.verdict(), [0, 1, 0, 0]);
    }

    #[test]
    fn what_was_refused_is_not_there() {
        let told = || Told::Refused("no".to_owned());
        assert_eq!(found(&[], told(), None), [0; 4]);
        assert_eq!(found(&[(7, 1)], told(), None), [1, 0, 0, 0]);
    }

    #[test]
    fn a_verdict_is_of_its_attempt() {
        let told = || acknowledged(2, 2, 150, None);
        let rows = [(7, 2)];
        assert_eq!(
            found(&rows, told(), Some((1, Outcome::NotCommitted))),
            [0; 4]
        );
        assert_eq!(found(&rows, told(), Some((2, Outcome::NotCommitted)))[0], 1);
        assert_eq!(found(&rows, told(), Some((2, Outcome::Committed))), [0; 4]);
        assert_eq!(found(&rows, told(), Some((1, Outcome::Committed)))[0], 1);
    }

    #[test]
    fn what_is_found_out_later_must_be_true_too() {
        for (rows, outcome, wrong) in [
            (&[][..], Outcome::NotCommitted, 0),
            (&[], Outcome::Committed, 1),
            (&[(7, 1)], Outcome::Committed, 0),
            (&[(7, 1)], Outcome::NotCommitted, 1),
        ] {
            let pages = Pages {
                told: vec![(7, Told::Unknown(None, Doubt::NotFlushed))],
                ..Pages::default()
            };
            let later = HashMap::from([(7, outcome)]);
            let run = compare(&truth(rows), pages, &later, 0);
            assert_eq!(run.verdict()[0], wrong, "{rows:?} {outcome:?}");
        }
    }

    #[test]
    fn a_read_that_does_not_add_up_is_wrong() {
        let pages = Pages {
            bad_reads: vec!["balance 1".to_owned()],
            ..Pages::default()
        };
        assert_eq!(
            compare(&truth(&[]), pages, &HashMap::new(), 0).verdict()[0],
            1
        );
    }
}
