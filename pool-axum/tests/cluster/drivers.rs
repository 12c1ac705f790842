//! The same handlers over each driver, as an application writes them.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use leadpool::Pool;
use leadpool_axum::{
    Error, Problem, ReadYourWrites, Reader, Seen, TimeLeft, Transactions, Tx, Writer,
};
use leadpool_diesel::blocking::InteractPool;

use crate::{both::keys, support::App};

const INSERT: &str = "INSERT INTO t (n) VALUES (77)";
const PORT: &str = "SELECT inet_server_port()";
/// Where a read is, and how much it sees.
const SIGHT: &str = "inet_server_port() || '/' || (SELECT count(*) FROM t)";
const WRONG: &str = "SELECT * FROM nothing";
const SLEEP: &str = "SELECT pg_sleep(3600)";

/// How the handlers of transactions end, once they have inserted a row.
async fn end(how: &str) -> Result<Response, Error> {
    match how {
        "ok" => Ok("done".into_response()),
        "see-other" => Ok(Redirect::to("/").into_response()),
        "refuse" => Err(Error::refuse(409, "there are enough of them")),
        "missing" => Ok(StatusCode::NOT_FOUND.into_response()),
        "unavailable" => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        "panic" => panic!("as handlers do"),
        "hang" => std::future::pending().await,
        other => panic!("no such end: {other}"),
    }
}

/// An application over each driver.
pub(crate) async fn apps(url: &str) -> Vec<(&'static str, App)> {
    vec![
        ("tokio-postgres", native(url).await),
        ("sqlx", sqlx(url).await),
        ("diesel-async", diesel_async(url).await),
        ("diesel, in threads", diesel_blocking(url).await),
    ]
}

pub(crate) async fn native(url: &str) -> App {
    let pool = Pool::connect(url).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    native_of(pool).await.layer(layer)
}

pub(crate) async fn native_of(pool: Pool) -> App {
    async fn writer(Writer(client): Writer) -> Result<String, Error> {
        client.execute(INSERT, &[]).await?;
        let port: i32 = client.query_one(PORT, &[]).await?.get(0);
        Ok(port.to_string())
    }

    async fn reader(Reader(client): Reader) -> Result<String, Error> {
        let row = client.query_one(&format!("SELECT {SIGHT}"), &[]).await?;
        Ok(row.get(0))
    }

    async fn tx(tx: Tx, Path(how): Path<String>) -> Result<Response, Error> {
        tx.execute(INSERT, &[]).await?;
        match how.as_str() {
            "fail" => drop(tx.query(WRONG, &[]).await?),
            "swallow" => drop(tx.query(WRONG, &[]).await),
            "sleep" => drop(tx.query(SLEEP, &[]).await?),
            how => return end(how).await,
        }
        Ok("done".into_response())
    }

    async fn time_left(time: TimeLeft) -> String {
        let within = time.within(Duration::from_secs(1));
        format!("{:?} {}", time.left(), within.as_millis())
    }

    // A read that writes, and says so.
    async fn visit(seen: Seen, State(pool): State<Pool>) -> Result<(), Error> {
        seen.has_written();
        pool.get().await?.execute(INSERT, &[]).await?;
        Ok(())
    }

    async fn told(seen: Seen, State(pool): State<Pool>) -> Result<String, Error> {
        let tx = pool.tx().run_with_token(|tx| async move {
            tx.execute(INSERT, &[]).await?;
            Ok(())
        });
        let ((), token) = tx.await?;
        seen.wrote(&token);
        // Whoever asked now would hear of more.
        pool.get().await?.execute(INSERT, &[]).await?;
        Ok(token.to_string())
    }

    Router::new()
        .route("/writer", post(writer))
        .route("/reader", get(reader))
        .route("/visit", get(visit))
        .route("/told", post(told))
        .route("/tx/{how}", post(tx))
        .route("/time_left", get(time_left))
        .layer(Transactions::new())
        .with_state(pool)
}

/// Without the layer that ends transactions.
pub(crate) async fn bare(url: &str) -> App {
    bare_of(Pool::connect(url).await.unwrap())
}

pub(crate) fn bare_of(pool: Pool) -> App {
    async fn writer(Writer(client): Writer) -> Result<(), Error> {
        client.execute(INSERT, &[]).await?;
        Ok(())
    }

    async fn tx(tx: Tx) -> Result<(), Error> {
        tx.execute(INSERT, &[]).await?;
        Ok(())
    }

    Router::new()
        .route("/writer", post(writer))
        .route("/tx/ok", post(tx))
        .with_state(pool)
}

/// What handlers do seldom, or wrongly.
pub(crate) async fn odd(url: &str) -> App {
    #[derive(Clone)]
    struct Pools {
        pool: Pool,
        threads: InteractPool,
    }

    impl FromRef<Pools> for Pool {
        fn from_ref(pools: &Pools) -> Self {
            pools.pool.clone()
        }
    }

    impl FromRef<Pools> for InteractPool {
        fn from_ref(pools: &Pools) -> Self {
            pools.threads.clone()
        }
    }

    async fn second(one: Tx, other: Result<Tx, Error>) -> Result<(), Error> {
        one.execute(INSERT, &[]).await?;
        other.map(drop)
    }

    async fn kept(tx: Tx) -> Result<Response, Error> {
        tx.execute(INSERT, &[]).await?;
        let mut response = Response::default();
        response.extensions_mut().insert(Arc::new(tx));
        Ok(response)
    }

    async fn kept_in_thread(tx: Tx<InteractPool>) -> Result<Response, Error> {
        tx.interact(|conn| diesel::RunQueryDsl::execute(diesel::sql_query(INSERT), conn))
            .await??;
        let mut response = Response::default();
        response.extensions_mut().insert(Arc::new(tx));
        Ok(response)
    }

    async fn refuse(State(pool): State<Pool>) -> Result<(), Error> {
        pool.run_tx(|tx| async move {
            tx.execute(INSERT, &[]).await?;
            Err::<(), _>(leadpool::Error::user(Problem::refused(
                404,
                "there is none",
            )))
        })
        .await?;
        Ok(())
    }

    async fn deadline(State(pool): State<Pool>) -> Result<(), Error> {
        let tx = pool.tx().deadline(Duration::from_millis(300));
        tx.run(|tx| async move { Ok(tx.simple_query(SLEEP).await?) })
            .await?;
        Ok(())
    }

    async fn statement_timeout(Writer(client): Writer) -> Result<(), Error> {
        client.batch_execute("SET statement_timeout = 10").await?;
        client.simple_query(SLEEP).await?;
        Ok(())
    }

    async fn time_left(time: TimeLeft) -> String {
        let within = time.within(Duration::from_secs(1));
        format!("{:?} {}", time.left(), within.as_millis())
    }

    Router::new()
        .route("/second", post(second))
        .route("/kept", post(kept))
        .route("/kept-in-thread", post(kept_in_thread))
        .route("/run_tx/refuse", post(refuse))
        .route("/run_tx/deadline", post(deadline))
        .route("/statement_timeout", post(statement_timeout))
        .route("/time_left", get(time_left))
        .layer(Transactions::new())
        .with_state(Pools {
            pool: Pool::connect(url).await.unwrap(),
            threads: InteractPool::connect(url).await.unwrap(),
        })
}

pub(crate) async fn sqlx(url: &str) -> App {
    use leadpool_sqlx::Pool;
    use sqlx::{query, query_scalar};

    async fn writer(Writer(mut conn): Writer<Pool>) -> Result<String, Error> {
        query(INSERT).execute(&mut *conn).await?;
        let port: i32 = query_scalar(PORT).fetch_one(&mut *conn).await?;
        Ok(port.to_string())
    }

    async fn reader(Reader(mut conn): Reader<Pool>) -> Result<String, Error> {
        let sight = format!("SELECT {SIGHT}");
        let sight = query_scalar(sqlx::AssertSqlSafe(sight));
        Ok(sight.fetch_one(&mut *conn).await?)
    }

    async fn tx(mut tx: Tx<Pool>, Path(how): Path<String>) -> Result<Response, Error> {
        query(INSERT).execute(&mut *tx).await?;
        match how.as_str() {
            "fail" => drop(query(WRONG).fetch_one(&mut *tx).await?),
            "swallow" => drop(query(WRONG).execute(&mut *tx).await),
            "sleep" => drop(query(SLEEP).fetch_one(&mut *tx).await?),
            how => return end(how).await,
        }
        Ok("done".into_response())
    }

    let pool = Pool::connect(url).await.unwrap();
    Router::new()
        .route("/writer", post(writer))
        .route("/reader", get(reader))
        .route("/tx/{how}", post(tx))
        .layer(Transactions::new())
        .layer(ReadYourWrites::new(pool.cluster(), keys()))
        .with_state(pool)
}

pub(crate) async fn diesel_async(url: &str) -> App {
    use diesel::{
        dsl::sql,
        select, sql_query,
        sql_types::{Integer, Text},
    };
    use leadpool_diesel::{Pool, diesel_async::RunQueryDsl as _};

    async fn writer(Writer(mut conn): Writer<Pool>) -> Result<String, Error> {
        sql_query(INSERT).execute(&mut conn).await?;
        let port = select(sql::<Integer>("inet_server_port()"));
        Ok(port.get_result::<i32>(&mut conn).await?.to_string())
    }

    async fn reader(Reader(mut conn): Reader<Pool>) -> Result<String, Error> {
        Ok(select(sql::<Text>(SIGHT)).get_result(&mut conn).await?)
    }

    async fn tx(mut tx: Tx<Pool>, Path(how): Path<String>) -> Result<Response, Error> {
        sql_query(INSERT).execute(&mut *tx).await?;
        match how.as_str() {
            "fail" => drop(sql_query(WRONG).execute(&mut *tx).await?),
            "swallow" => drop(sql_query(WRONG).execute(&mut *tx).await),
            "sleep" => drop(sql_query(SLEEP).execute(&mut *tx).await?),
            how => return end(how).await,
        }
        Ok("done".into_response())
    }

    let pool = Pool::connect(url).await.unwrap();
    Router::new()
        .route("/writer", post(writer))
        .route("/reader", get(reader))
        .route("/tx/{how}", post(tx))
        .layer(Transactions::new())
        .layer(ReadYourWrites::new(pool.cluster(), keys()))
        .with_state(pool)
}

pub(crate) async fn diesel_blocking(url: &str) -> App {
    use diesel::{
        RunQueryDsl as _,
        dsl::sql,
        select, sql_query,
        sql_types::{Integer, Text},
    };

    async fn writer(Writer(conn): Writer<InteractPool>) -> Result<String, Error> {
        conn.interact(|conn| sql_query(INSERT).execute(conn))
            .await??;
        let port = select(sql::<Integer>("inet_server_port()"));
        let port = conn.interact(|conn| port.get_result::<i32>(conn)).await??;
        Ok(port.to_string())
    }

    async fn reader(Reader(conn): Reader<InteractPool>) -> Result<String, Error> {
        let sight = select(sql::<Text>(SIGHT));
        Ok(conn.interact(|conn| sight.get_result(conn)).await??)
    }

    async fn tx(tx: Tx<InteractPool>, Path(how): Path<String>) -> Result<Response, Error> {
        tx.interact(|conn| sql_query(INSERT).execute(conn))
            .await??;
        match how.as_str() {
            "fail" => drop(tx.interact(|conn| sql_query(WRONG).execute(conn)).await??),
            "swallow" => drop(tx.interact(|conn| sql_query(WRONG).execute(conn)).await?),
            "sleep" => drop(tx.interact(|conn| sql_query(SLEEP).execute(conn)).await??),
            "panic in the closure" => drop(tx.interact(|_| panic!("as closures do")).await),
            how => return end(how).await,
        }
        Ok("done".into_response())
    }

    let pool = InteractPool::connect(url).await.unwrap();
    Router::new()
        .route("/writer", post(writer))
        .route("/reader", get(reader))
        .route("/tx/{how}", post(tx))
        .layer(Transactions::new())
        .layer(ReadYourWrites::new(pool.cluster(), keys()))
        .with_state(pool)
}
