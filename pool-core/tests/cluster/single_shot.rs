//! A transaction of one statement in one round trip: whatever fails in it, at whatever place, it
//! ends as if its parts had been sent one after the other.

use std::time::Duration;

use leadpool::{
    Error, IsolationLevel, Pool, Target,
    outcome::{Doubt, Evidence, Outcome},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::support::*;

const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";
/// What COMMIT is sent with, at the end of the burst.
const COMMIT: &str = "SHOW leadpool.transaction";

/// A pool with a table of tokens, and one without, both through the proxies, with a connection
/// that has prepared everything.
async fn both(servers: &Servers) -> [(Pool, bool); 2] {
    let url = servers.proxied_url();
    let with = connect_with(&url, |config| config.token_table("leadpool_token"));
    let (with, without) = (with.await.unwrap(), Pool::connect(&url).await.unwrap());
    with.create_token_table().await.unwrap();
    for pool in [&with, &without] {
        insert(pool, 0).await.unwrap();
    }
    [(with, true), (without, false)]
}

async fn insert(pool: &Pool, n: i64) -> Result<u64, Error> {
    pool.execute_tx(INSERT, &[&n]).await
}

async fn count(servers: &Servers, n: i64) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM t WHERE n = $1";
    client.query_one(sql, &[&n]).await.unwrap().get(0)
}

#[tokio::test]
async fn it_takes_one_round_trip_and_gives_back_what_the_statement_does() {
    let (servers, pool) = start_proxied().await;
    insert(&pool, 1).await.unwrap(); // opens and prepares
    let proxy = servers.proxy(0).unwrap();
    let mut least = u64::MAX;
    for _ in 0..5 {
        let turns = proxy.turns();
        assert_eq!(insert(&pool, 2).await.unwrap(), 1);
        least = least.min(proxy.turns() - turns);
    }
    // The least, because the monitor may probe meanwhile.
    assert_eq!(least, 1);
    assert_eq!(count(&servers, 2).await, 5);
    let rows = pool
        .query_tx("UPDATE t SET n = 3 WHERE n = 2 RETURNING id", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 5);
    let touched = pool.execute_tx("DELETE FROM t WHERE n = 3", &[]).await;
    assert_eq!(touched.unwrap(), 5);
    let none = pool.query_tx("DELETE FROM t WHERE n = 3", &[]).await;
    assert!(none.unwrap().is_empty());
    pool.execute_tx("CREATE TABLE made (n int)", &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn with_a_token_it_takes_one_too() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let [(pool, _), _] = both(&servers).await;
    let proxy = servers.proxy(0).unwrap();
    let mut least = u64::MAX;
    for _ in 0..5 {
        let turns = proxy.turns();
        insert(&pool, 1).await.unwrap();
        least = least.min(proxy.turns() - turns);
    }
    assert_eq!(least, 1);
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM leadpool_token";
    assert_eq!(
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0),
        6
    );
}

#[tokio::test]
async fn on_a_standby_and_read_only() {
    let (servers, pool) = start().await;
    insert(&pool, 1).await.unwrap();
    servers.wait_replayed().await.unwrap();
    let found = pool
        .tx()
        .target(Target::Standby)
        .read_only(true)
        .isolation(IsolationLevel::RepeatableRead)
        .query(
            "SELECT pg_is_in_recovery(), count(*), current_setting('transaction_isolation') FROM t",
            &[],
        )
        .await
        .unwrap();
    assert!(found[0].get::<_, bool>(0));
    assert_eq!(found[0].get::<_, i64>(1), 1);
    assert_eq!(found[0].get::<_, &str>(2), "repeatable read");
    let refused = pool.tx().read_only(true).execute(INSERT, &[&2_i64]).await;
    assert_eq!(refused.unwrap_err().sqlstate(), Some("25006"));
    assert_eq!(rows(&servers).await, 1);
    no_open_transactions(&servers).await;
}

/// What the server refuses, at each place of the burst. Nothing is committed, the next user of the
/// connection finds it in good order, and nothing is repeated that waiting does not cure.
#[tokio::test]
async fn refused_at_whatever_place_nothing_is_committed() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute(
            "CREATE UNIQUE INDEX ON t (n) WHERE n <> 0;
             CREATE TABLE late (n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO late VALUES (1);",
        )
        .await
        .unwrap();
    for (pool, has_tokens) in both(&servers).await {
        admin.batch_execute("DELETE FROM t").await.unwrap();
        insert(&pool, 1).await.unwrap();
        let clean = async |what: &str, n: i64| {
            assert_eq!(count(&servers, n).await, 0, "{what}");
            no_open_transactions(&servers).await;
            // On the same connection: the pool has no other.
            insert(&pool, 1_000 + n).await.unwrap();
            assert_eq!(pool.status().sub_pools[0].counts.size, 1, "{what}");
        };

        // The statement can't be prepared.
        let error = pool.execute_tx("INSERT INTO nowhere VALUES (1)", &[]).await;
        assert_eq!(error.unwrap_err().sqlstate(), Some("42P01"));
        clean("no table", 10).await;

        // Its values can't be sent: nothing is.
        let error = pool.execute_tx(INSERT, &[&"eleven"]).await.unwrap_err();
        assert!(matches!(error, Error::Postgres(_)), "{error}");
        clean("a text for a number", 11).await;

        // What goes with BEGIN.
        let error = pool
            .tx()
            .target(Target::Standby)
            .isolation(IsolationLevel::Serializable)
            .query("SELECT 1", &[])
            .await;
        assert_eq!(error.unwrap_err().sqlstate(), Some("0A000"));

        // The statement.
        let error = insert(&pool, 1).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("23505"), "{error}");
        clean("twice", 12).await;

        // COMMIT.
        let error = pool.execute_tx("INSERT INTO late VALUES (1)", &[]).await;
        assert_eq!(error.unwrap_err().sqlstate(), Some("23505"));
        clean("too late", 13).await;

        if has_tokens {
            admin
                .batch_execute("ALTER TABLE leadpool_token ADD CHECK (false) NOT VALID")
                .await
                .unwrap();
            let error = insert(&pool, 14).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("23514"), "{error}");
            assert_eq!(count(&servers, 14).await, 0);
            let undo = "ALTER TABLE leadpool_token DROP CONSTRAINT leadpool_token_check";
            admin.batch_execute(undo).await.unwrap();
            clean("no token", 14).await;
        }
    }
}

/// The question for evidence is refused to a role that may not write markers.
#[tokio::test]
async fn without_the_right_to_leave_evidence_nothing_is_committed() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute(
            "CREATE ROLE app LOGIN; GRANT ALL ON t TO app; GRANT ALL ON SEQUENCE t_id_seq TO app;
             REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(bool, text, text) FROM PUBLIC;",
        )
        .await
        .unwrap();
    let pool = connect_with(&servers.url(), |config| config.user("app"))
        .await
        .unwrap();
    for _ in 0..2 {
        let error = insert(&pool, 1).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42501"), "{error}");
    }
    assert_eq!(rows(&servers).await, 0);
    let rows = pool.tx().evidence(false).execute(INSERT, &[&1_i64]).await;
    assert_eq!(rows.unwrap(), 1);
}

/// A server that refuses BEGIN runs what was sent behind it all the same.
#[tokio::test]
async fn a_begin_that_is_refused_is_told_and_nothing_is_repeated() {
    let (servers, pool) = start_proxied().await;
    insert(&pool, 0).await.unwrap();
    let proxy = servers.proxy(0).unwrap();
    let garbled = || proxy.cut_at(Trigger::new("BEGIN;", Moment::Garbled));

    garbled();
    let error = insert(&pool, 1).await.unwrap_err();
    assert!(
        matches!(error, Error::BeginRefused { .. }) && !error.is_transient(),
        "{error}"
    );
    assert_eq!(error.sqlstate(), Some("42601"), "the reason");
    assert_eq!(count(&servers, 1).await, 1, "it stands, as is said");

    garbled();
    let closure = |n: i64| {
        pool.run_tx(move |tx| async move {
            tx.execute(INSERT, &[&n]).await?;
            Ok(())
        })
    };
    let error = closure(2).await.unwrap_err();
    assert!(matches!(error, Error::BeginRefused { .. }), "{error}");
    assert_eq!(count(&servers, 2).await, 1, "likewise");

    // What failed by itself stands not.
    garbled();
    let error = pool
        .execute_tx("INSERT INTO t (n) VALUES (3 / (SELECT 0))", &[])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Postgres(_)), "{error}");
    no_open_transactions(&servers).await;
    insert(&pool, 4).await.unwrap();
    closure(4).await.unwrap();
    assert_eq!(count(&servers, 4).await, 2);
}

/// A conflict is retried as in `run_tx`, from its beginning.
#[tokio::test]
async fn a_conflict_is_repeated() {
    let (servers, pool) = start().await;
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION third_time() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
               IF nextval('tries') < 3 THEN RAISE serialization_failure; END IF;
               RETURN 7; END $$",
        )
        .await
        .unwrap();
    let sql = "INSERT INTO t (n) VALUES (third_time()) RETURNING n";
    let rows = pool.query_tx(sql, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 7);
    assert_eq!(count(&servers, 7).await, 1);
    let limited = pool.tx().retries(0);
    admin
        .batch_execute("ALTER SEQUENCE tries RESTART")
        .await
        .unwrap();
    let error = limited.execute(sql, &[]).await.unwrap_err();
    assert!(
        matches!(error, Error::RetriesExhausted { attempts: 1, .. }),
        "{error}"
    );
}

/// A statement that was prepared before its table changed is prepared anew.
#[tokio::test]
async fn a_changed_table_is_no_matter() {
    let (servers, pool) = start().await;
    let sql = "INSERT INTO t (n) VALUES ($1) RETURNING *";
    let columns = async |n: i64| {
        let rows = pool.query_tx(sql, &[&n]).await.unwrap();
        rows[0].len()
    };
    assert_eq!(columns(1).await, 2);
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute("ALTER TABLE t ADD note text")
        .await
        .unwrap();
    assert_eq!(columns(2).await, 3);
    let client = pool.get().await.unwrap();
    client.batch_execute("DEALLOCATE ALL").await.unwrap();
    drop(client);
    assert_eq!(columns(3).await, 3);
    assert_eq!(rows(&servers).await, 3);
}

/// The client hears so many of the answers to BEGIN, the statement, the question, the token's
/// insert and COMMIT, and then nothing more. It was committed.
#[tokio::test]
async fn lost_behind_whichever_answer_it_is_found_out() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let proxy = servers.proxy(0).unwrap();
    for (pool, has_tokens) in both(&servers).await {
        let answers = 4 + usize::from(has_tokens);
        for heard in 0..=answers {
            let n = 10 * i64::try_from(heard).unwrap() + i64::from(has_tokens) + 100;
            proxy.cut_at(Trigger::new(COMMIT, Moment::AfterAnswers(heard)));
            let ended = insert(&pool, n).await;
            let at = format!("heard {heard}, tokens {has_tokens}: {ended:?}");
            match (heard, has_tokens) {
                // Nothing of the statement.
                (0 | 1, true) => {
                    assert!(matches!(ended, Err(Error::AnswerLost { .. })), "{at}");
                }
                // Not what the transaction is.
                (0..=2, false) => {
                    let Err(Error::Unknown(in_doubt)) = &ended else {
                        panic!("{at}");
                    };
                    assert_eq!(in_doubt.doubt, Doubt::Untold, "{at}");
                    assert!(in_doubt.evidence.is_none());
                }
                _ => assert_eq!(ended.as_ref().ok(), Some(&1), "{at}"),
            }
            assert_eq!(count(&servers, n).await, 1, "{at}");
            // The next one has a connection that has everything prepared.
            insert(&pool, 0).await.unwrap();
        }
    }
}

/// The burst never reaches the server, or not all of it.
#[tokio::test]
async fn lost_on_its_way_it_is_repeated_only_if_that_is_proved() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let proxy = servers.proxy(0).unwrap();
    for (pool, has_tokens) in both(&servers).await {
        for (number, moment) in [Moment::BeforeForward, Moment::Stranded]
            .into_iter()
            .enumerate()
        {
            let n = 100 + 10 * i64::try_from(number).unwrap() + i64::from(has_tokens);
            proxy.cut_at(Trigger::new(COMMIT, moment));
            let ended = insert(&pool, n).await;
            let at = format!("{moment:?}, tokens {has_tokens}: {ended:?}");
            match has_tokens {
                true => {
                    assert_eq!(ended.as_ref().ok(), Some(&1), "{at}");
                    assert_eq!(count(&servers, n).await, 1, "{at}");
                }
                false => {
                    assert!(matches!(ended, Err(Error::Unknown(_))), "{at}");
                    assert_eq!(count(&servers, n).await, 0, "{at}");
                }
            }
            insert(&pool, 0).await.unwrap();
        }
    }
}

/// The statement still runs when its client is gone, which the server has not noticed, and COMMIT
/// stands behind it: before anything is concluded its backend is ended.
#[tokio::test]
async fn what_still_runs_is_ended_before_it_is_repeated() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let proxy = servers.proxy(0).unwrap();
    let admin = servers.connect(0).await.unwrap();
    // The first one takes long.
    admin
        .batch_execute(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION slow_once(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
               IF nextval('tries') = 1 THEN PERFORM pg_sleep(4); END IF;
               RETURN n; END $$",
        )
        .await
        .unwrap();
    let [(pool, _), _] = both(&servers).await;
    let sql = "INSERT INTO t (n) VALUES (slow_once($1))";
    // Prepared, so that all of it goes out together.
    pool.execute_tx(sql, &[&1_i64]).await.unwrap();
    admin
        .batch_execute("ALTER SEQUENCE tries RESTART")
        .await
        .unwrap();
    proxy.cut_at(Trigger::new(COMMIT, Moment::AfterAnswers(1)));
    assert_eq!(pool.execute_tx(sql, &[&77_i64]).await.unwrap(), 1);
    // Longer than it would have slept.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(count(&servers, 77).await, 1);
}

/// Evidence without an id goes through text, and is asked for later, from another pool.
#[tokio::test]
async fn in_doubt_it_is_found_out_later_by_its_token() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let proxy = servers.proxy(0).unwrap();
    let [(pool, _), (without, _)] = both(&servers).await;
    for (n, moment, expected) in [
        (77, Moment::AfterAnswers(0), Outcome::Committed),
        (78, Moment::BeforeForward, Outcome::NotCommitted),
    ] {
        proxy.cut_at(Trigger::new(COMMIT, moment));
        let error = pool
            .tx()
            .resolve_within(Duration::ZERO)
            .execute(INSERT, &[&n])
            .await
            .unwrap_err();
        let Error::Unknown(in_doubt) = &error else {
            panic!("{error}");
        };
        let kept = in_doubt.evidence.as_ref().unwrap().to_string();
        let evidence: Evidence = kept.parse().unwrap();
        assert_eq!(evidence.transaction, 0);
        let later = pool.resolve(&evidence, Duration::from_secs(20)).await;
        assert_eq!(later.unwrap(), expected);
        let happened = i64::from(expected == Outcome::Committed);
        assert_eq!(count(&servers, n).await, happened);
        // Without the table nothing is proved.
        let unable = without.resolve(&evidence, Duration::from_secs(20)).await;
        assert!(matches!(unable, Err(Error::Unknown(_))), "{unable:?}");
        insert(&pool, 0).await.unwrap();
    }
}

/// The host dies with the answer, and a standby that has it is promoted.
#[tokio::test]
async fn a_failover_neither_loses_nor_doubles_it() {
    let (servers, tokens) = {
        let servers = Servers::builder()
            .proxies(true)
            .synchronous(true)
            .start()
            .await
            .unwrap();
        prepare(&servers).await;
        let [(pool, _), _] = both(&servers).await;
        (servers, pool)
    };
    let proxy = servers.proxy(0).unwrap();
    servers.wait_replayed().await.unwrap();
    proxy.cut_at(Trigger::new(COMMIT, Moment::AfterAnswers(2)));
    let failing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        servers.kill(0).await.unwrap();
        servers.failover().await.unwrap()
    };
    let (ended, _) = tokio::join!(insert(&tokens, 77), failing);
    assert_eq!(ended.unwrap(), 1);
    assert_eq!(count(&servers, 77).await, 1);
}

#[tokio::test]
async fn dropped_it_leaves_nothing_open() {
    let (servers, pool) = start_proxied().await;
    insert(&pool, 0).await.unwrap();
    for micros in (0..3_000).step_by(100) {
        let limit = Duration::from_micros(micros);
        let _ = tokio::time::timeout(limit, insert(&pool, 1)).await;
        no_open_transactions(&servers).await;
    }
    insert(&pool, 2).await.unwrap();
    assert_eq!(count(&servers, 2).await, 1);
}

#[tokio::test]
async fn terminated_in_whatever_moment_nothing_is_lost_or_doubled() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.url(), |config| {
        config.token_table("leadpool_token")
    })
    .await
    .unwrap();
    pool.create_token_table().await.unwrap();
    written_once_while_terminated(&servers, move |key| {
        let pool = pool.clone();
        async move {
            match insert(&pool, key).await {
                Ok(1) | Err(Error::AnswerLost { .. }) => Ok(()),
                Ok(count) => panic!("{count} rows"),
                Err(error) => Err(error),
            }
        }
    })
    .await;
}
