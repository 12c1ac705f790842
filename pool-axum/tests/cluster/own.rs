//! What is axum's alone.

use axum::{
    Router,
    extract::{FromRef, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::{get as on_get, post as on_post},
};
use leadpool::Pool;
use leadpool_axum::{Cause, Error, Reader, Transactions, Tx, Writer};

use crate::both::*;

#[tokio::test]
async fn the_pool_may_be_a_part_of_the_state() {
    #[derive(Clone)]
    struct State {
        pool: Pool,
    }

    impl FromRef<State> for Pool {
        fn from_ref(state: &State) -> Self {
            state.pool.clone()
        }
    }

    async fn all(writer: Writer, reader: Reader, tx: Tx) -> Result<(), Error> {
        writer.simple_query("SELECT 1").await?;
        reader.simple_query("SELECT 1").await?;
        tx.simple_query("SELECT 1").await?;
        Ok(())
    }

    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = Router::new()
        .route("/", on_get(all))
        .layer(Transactions::new())
        .with_state(State { pool });
    assert_eq!(get(&app, "/").await.status, 200);
}

#[tokio::test]
async fn what_went_wrong_is_there_for_logs_and_not_for_clients() {
    use tower::ServiceExt as _;

    async fn fails(Writer(client): Writer) -> Result<(), Error> {
        client
            .execute("INSERT INTO nothing VALUES (1)", &[])
            .await?;
        Ok(())
    }

    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = Router::new().route("/", on_post(fails)).with_state(pool);
    let request = Request::post("/").body(axum::body::Body::empty()).unwrap();
    let Ok(response) = app.clone().oneshot(request).await;
    let cause: &Cause = response.extensions().get().unwrap();
    let code = cause.with(|error| {
        let error = error.downcast_ref::<tokio_postgres::Error>();
        error.unwrap().code().unwrap().code().to_owned()
    });
    assert_eq!(code, "42P01");
    post(&app, "/")
        .await
        .assert_problem(500, "internal", &servers);
}

#[tokio::test]
async fn a_handler_may_run_in_a_task_of_its_own() {
    async fn elsewhere(request: Request, next: Next) -> Response {
        tokio::spawn(next.run(request)).await.unwrap()
    }

    async fn add(tx: Tx) -> Result<(), Error> {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    }

    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = Router::new()
        .route("/", on_post(add))
        .layer(from_fn(elsewhere))
        .layer(Transactions::new())
        .with_state(pool);
    let answered = soon("the answer", post(&app, "/")).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    assert_eq!(rows(&servers).await, 1);
}

/// With the lines that the README has for axum's own examples, and handlers as those have them.
mod axums_examples {
    use axum::http::StatusCode;

    use super::*;

    fn internal_error<E: std::error::Error>(error: E) -> (StatusCode, String) {
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    #[tokio::test]
    async fn tokio_postgres() {
        use axum::extract::State;
        use leadpool_axum::{Writer as DatabaseConnection, leadpool::Pool as ConnectionPool};

        async fn with_pool(
            State(pool): State<ConnectionPool>,
        ) -> Result<String, (StatusCode, String)> {
            let conn = pool.get().await.map_err(internal_error)?;
            let row = conn.query_one("SELECT 1 + 1", &[]).await;
            let two: i32 = row.map_err(internal_error)?.get(0);
            Ok(two.to_string())
        }

        async fn with_connection(
            DatabaseConnection(conn): DatabaseConnection,
        ) -> Result<String, (StatusCode, String)> {
            let row = conn.query_one("SELECT 1 + 1", &[]).await;
            let two: i32 = row.map_err(internal_error)?.get(0);
            Ok(two.to_string())
        }

        let servers = start().await;
        let pool = ConnectionPool::connect(&servers.url()).await.unwrap();
        let app = Router::new()
            .route("/", on_get(with_pool).post(with_connection))
            .with_state(pool);
        assert_eq!(get(&app, "/").await.body, "2");
        assert_eq!(post(&app, "/").await.body, "2");
    }

    #[tokio::test]
    async fn sqlx_postgres() {
        use axum::extract::State;
        use leadpool_sqlx::{PgPool, PgPoolOptions};

        async fn hello(State(pool): State<PgPool>) -> Result<String, (StatusCode, String)> {
            let hello = sqlx::query_scalar("SELECT 'hello world from pg'");
            hello.fetch_one(&pool).await.map_err(internal_error)
        }

        let servers = start().await;
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .acquire_timeout(std::time::Duration::from_secs(3))
            .connect(&servers.url())
            .await
            .expect("can't connect to database");
        let app = Router::new().route("/", on_get(hello)).with_state(pool);
        assert_eq!(get(&app, "/").await.body, "hello world from pg");
    }

    #[tokio::test]
    async fn diesel_async_postgres() {
        use axum::extract::State;
        use diesel_async::{AsyncPgConnection, RunQueryDsl, pooled_connection::bb8};

        async fn count(
            State(pool): State<bb8::Pool<AsyncPgConnection>>,
        ) -> Result<String, (StatusCode, String)> {
            let mut conn = pool.get().await.map_err(internal_error)?;
            let two = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1 + 1"));
            let two: i32 = two.get_result(&mut conn).await.map_err(internal_error)?;
            Ok(two.to_string())
        }

        let servers = start().await;
        let db_url = servers.url();
        let config = leadpool_diesel::Pool::connect(&db_url)
            .await
            .unwrap()
            .manager();
        let pool = bb8::Pool::builder().build(config).await.unwrap();
        let app = Router::new().route("/", on_get(count)).with_state(pool);
        assert_eq!(get(&app, "/").await.body, "2");
        // It follows the writer, though nothing but the manager is kept.
        servers.kill(0).await.unwrap();
        servers.failover().await.unwrap();
        until("the new writer", async || get(&app, "/").await.body == "2").await;
    }

    #[tokio::test]
    async fn diesel_postgres() {
        use axum::extract::State;
        use diesel::RunQueryDsl;

        async fn count(
            State(pool): State<leadpool_diesel::blocking::InteractPool>,
        ) -> Result<String, (StatusCode, String)> {
            let conn = pool.get().await.map_err(internal_error)?;
            let two = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1 + 1"));
            let two: i32 = conn
                .interact(|conn| two.get_result(conn))
                .await
                .map_err(internal_error)?
                .map_err(internal_error)?;
            Ok(two.to_string())
        }

        let servers = start().await;
        let db_url = servers.url();
        let pool = leadpool_diesel::blocking::InteractPool::connect(&db_url)
            .await
            .unwrap();
        let app = Router::new().route("/", on_get(count)).with_state(pool);
        assert_eq!(get(&app, "/").await.body, "2");
    }
}
