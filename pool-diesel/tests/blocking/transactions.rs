//! `run_tx`: what is repeated, what is not, and what becomes of the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{
    Connection as _, RunQueryDsl as _, connection::SimpleConnection as _,
    result::Error as DieselError,
};
use leadpool_diesel::{
    blocking::{Error, PooledConnection},
    leadpool::{self, IsolationLevel},
};

use crate::support::*;

#[tokio::test]
async fn ok_commits_and_an_error_rolls_back_on_the_same_connection() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    blocking(move || {
        let id = |conn: &mut PooledConnection| {
            insert(conn)?;
            number(conn, "SELECT pg_backend_pid()::int8 AS n")
        };
        let first = there.run_tx(id).unwrap();
        let error = there
            .run_tx(|conn| {
                insert(conn)?;
                diesel::sql_query("SELECT 1 FROM nowhere").execute(conn)
            })
            .unwrap_err();
        assert!(matches!(error, Error::Diesel(_)), "{error:?}");
        while there.state().idle_connections == 0 {
            std::thread::yield_now();
        }
        assert_eq!(there.run_tx(id).unwrap(), first);
    })
    .await;
    assert_eq!(rows(&servers).await, 2);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn what_the_closure_borrows_need_be_neither_sent_nor_cloned() {
    let (_servers, pool) = start().await;
    blocking(move || {
        let seen = std::cell::RefCell::new(Vec::new());
        let value = std::rc::Rc::new(7);
        let there = value.clone();
        let got = pool.run_tx(|conn| {
            insert(conn)?;
            seen.borrow_mut().push(*there);
            Ok(there.clone())
        });
        assert_eq!(got.unwrap(), value);
        assert_eq!(*seen.borrow(), [7]);
    })
    .await;
}

#[tokio::test]
async fn nested_transactions_are_savepoints() {
    let (servers, pool) = start().await;
    blocking(move || {
        pool.run_tx(|conn| {
            insert(conn)?;
            conn.transaction(|conn| insert(conn))?;
            let failed = conn.transaction(|conn| {
                insert(conn)?;
                diesel::sql_query("SELECT 1 FROM nowhere").execute(conn)
            });
            failed.unwrap_err();
            insert(conn)
        })
        .unwrap();
    })
    .await;
    assert_eq!(rows(&servers).await, 3);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_commit_answered_with_rollback_is_an_error() {
    let (servers, pool) = start().await;
    blocking(move || {
        for evidence in [true, false] {
            let swallowed = pool.tx().evidence(evidence).run(|conn| {
                insert(conn)?;
                diesel::sql_query("SELECT 1 FROM nowhere")
                    .execute(conn)
                    .unwrap_err();
                Ok(())
            });
            let error = swallowed.unwrap_err();
            assert!(
                matches!(error, Error::Pool(leadpool::Error::RolledBack)),
                "{error:?}"
            );
        }
    })
    .await;
    assert_eq!(rows(&servers).await, 0);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_closure_that_ends_its_transaction_is_found_out() {
    let (servers, pool) = start().await;
    blocking(move || {
        for evidence in [true, false] {
            for own in ["COMMIT", "COMMIT; BEGIN; INSERT INTO t (n) VALUES (2)"] {
                let ended = pool.tx().evidence(evidence).run(|conn| {
                    insert(conn)?;
                    conn.batch_execute(own)
                });
                let error = ended.unwrap_err();
                assert!(
                    matches!(error, Error::Pool(leadpool::Error::EndedByClosure)),
                    "{own} {evidence}: {error:?}"
                );
            }
        }
    })
    .await;
    assert_eq!(rows(&servers).await, 4);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_refused_commit_is_what_the_server_said() {
    let (servers, pool) = start().await;
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''out of stock''; END'; \
             CREATE CONSTRAINT TRIGGER no AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION no()",
        )
        .await
        .unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let error = blocking(move || {
        let run = pool.run_tx(|conn| {
            counted.fetch_add(1, Ordering::Relaxed);
            insert(conn)
        });
        run.unwrap_err()
    })
    .await;
    assert_eq!(error.to_string(), "out of stock");
    assert!(matches!(error, Error::Diesel(_)), "{error:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_transaction_that_lost_its_primary_runs_again_on_the_new_one() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let running = tokio::spawn(blocking(move || {
        let mut runs = 0;
        let ended = there.tx().deadline(Duration::from_secs(20)).run(|conn| {
            runs += 1;
            insert(conn)?;
            if runs == 1 {
                diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)?;
            }
            Ok(port(conn))
        });
        (ended.unwrap(), runs)
    }));
    runs(&servers, 0, "pg_sleep(3600)").await;
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let (port, runs) = soon("the transaction", running).await.unwrap();
    assert_eq!((port, runs), (port_of(&servers, promoted), 2));
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_transaction_whose_session_was_ended_runs_again() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    blocking(move || {
        let mut runs = 0;
        there
            .run_tx(|conn| {
                runs += 1;
                insert(conn)?;
                if runs == 1 {
                    let own = "SELECT pg_terminate_backend(pg_backend_pid())";
                    diesel::sql_query(own).execute(conn)?;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(runs, 2);
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn conflicts_are_repeated() {
    let (servers, pool) = start().await;
    blocking(move || {
        pool.run_tx(|conn| insert(conn)).unwrap();
        let mut runs = 0;
        let other = pool.clone();
        pool.tx()
            .isolation(IsolationLevel::RepeatableRead)
            .run(|conn| {
                runs += 1;
                number(conn, "SELECT count(*) AS n FROM t")?;
                if runs == 1 {
                    let sql = "UPDATE t SET n = 5";
                    diesel::sql_query(sql).execute(&mut other.get().unwrap())?;
                }
                diesel::sql_query("UPDATE t SET n = n + 1").execute(conn)
            })
            .unwrap();
        assert_eq!(runs, 2);
        assert_eq!(
            number(&mut pool.get().unwrap(), "SELECT n FROM t").unwrap(),
            6
        );
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_deadlock_is_repeated() {
    deadlocks(|add| add).await;
}

#[tokio::test]
async fn a_deadlock_is_repeated_whatever_the_servers_language() {
    // What the server says, but for the message.
    deadlocks(|add| {
        format!(
            "DO $$ DECLARE said text; BEGIN {add}; EXCEPTION WHEN deadlock_detected THEN \
             GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL; \
             RAISE 'Verklemmung entdeckt' USING ERRCODE = '40P01', DETAIL = said; END $$"
        )
    })
    .await;
}

/// Two transactions that wait for each other; the second statement of each is made of what is given.
async fn deadlocks(second_of: fn(String) -> String) {
    let (servers, pool) = start().await;
    blocking(move || {
        pool.run_tx(|conn| {
            diesel::sql_query("INSERT INTO t (id, n) VALUES (1, 0), (2, 0)").execute(conn)
        })
        .unwrap();
        let both = Arc::new(std::sync::Barrier::new(2));
        let runs = Arc::new(AtomicU32::new(0));
        let update = move |first: i32, second: i32| {
            let (pool, both, runs) = (pool.clone(), both.clone(), runs.clone());
            std::thread::spawn(move || {
                let mut is_first = true;
                pool.run_tx(|conn| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let add = |id| format!("UPDATE t SET n = n + 1 WHERE id = {id}");
                    diesel::sql_query(add(first)).execute(conn)?;
                    if std::mem::take(&mut is_first) {
                        both.wait();
                    }
                    diesel::sql_query(second_of(add(second))).execute(conn)
                })
                .unwrap();
                runs.load(Ordering::Relaxed)
            })
        };
        let (one, other) = (update(1, 2), update(2, 1));
        let runs = one.join().unwrap().max(other.join().unwrap());
        assert!(runs >= 3, "{runs}");
    })
    .await;
    let client = servers.connect(0).await.unwrap();
    let row = client
        .query_one("SELECT sum(n)::int8 FROM t", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 4);
}

#[tokio::test]
async fn the_deadline_ends_a_closure_that_hangs() {
    let (servers, pool) = start().await;
    let error = blocking(move || {
        let hanging = pool.tx().deadline(Duration::from_millis(500)).run(|conn| {
            insert(conn)?;
            diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)
        });
        hanging.unwrap_err()
    })
    .await;
    assert!(
        matches!(error, Error::Pool(leadpool::Error::TxDeadline { .. })),
        "{error:?}"
    );
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_closure_that_panics_leaves_nothing_behind() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    blocking(move || {
        let panicked = std::thread::spawn(move || {
            there.run_tx(|conn| -> Result<(), DieselError> {
                insert(conn)?;
                panic!("as closures do");
            })
        });
        panicked.join().unwrap_err();
    })
    .await;
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 0);
    blocking(move || pool.run_tx(|conn| insert(conn)).unwrap()).await;
}

#[tokio::test]
async fn a_reader_only_reads() {
    let (servers, pool) = start().await;
    let (found, error) = blocking(move || {
        let reader = pool.reader();
        let found = reader.run_tx(|conn| Ok(port(conn))).unwrap();
        (found, reader.run_tx(|conn| insert(conn)).unwrap_err())
    })
    .await;
    assert_ne!(found, port_of(&servers, 0));
    assert_eq!(error.sqlstate(), Some("25006"));
}
