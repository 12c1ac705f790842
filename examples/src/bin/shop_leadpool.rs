//! A shop on axum and sqlx, in two forms: `shop_sqlx` with sqlx's own pool, and `shop_leadpool`,
//! which follows the leader. The second is the first with `pool-sqlx/src/migration_guide.diff`.

use std::{env, error::Error};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use leadpool_sqlx::{PgPool, PgPoolOptions};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct NewOrder {
    customer: String,
    item: String,
    pieces: i32,
}

#[derive(FromRow, Serialize)]
struct Order {
    id: i64,
    customer: String,
    item: String,
    pieces: i32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL")?;
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(&url)
        .await?;
    sqlx::migrate!().run(&pool).await?;

    let app = Router::new()
        .route("/orders", get(list).post(create))
        .route("/orders/{id}", get(find))
        .route("/health", get(health))
        .with_state(pool);
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn list(State(pool): State<PgPool>) -> Result<Json<Vec<Order>>, Failure> {
    let orders = all(&pool.reader()).await?;
    Ok(Json(orders))
}

async fn create(
    State(pool): State<PgPool>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let order = pool.run_tx(async |mut tx| add(&mut tx, &new).await).await?;
    Ok((StatusCode::CREATED, Json(order)))
}

async fn find(State(pool): State<PgPool>, Path(id): Path<i64>) -> Result<Json<Order>, Failure> {
    let order = one(&pool.repeatable(), id).await?;
    Ok(Json(order))
}

async fn health(State(pool): State<PgPool>) -> Result<(), Failure> {
    pool.acquire().await?;
    Ok(())
}

async fn all(db: impl PgExecutor<'_>) -> Result<Vec<Order>, sqlx::Error> {
    let sql = "SELECT id, customer, item, pieces FROM orders ORDER BY id DESC LIMIT 50";
    sqlx::query_as(sql).fetch_all(db).await
}

async fn one(db: impl PgExecutor<'_>, id: i64) -> Result<Order, sqlx::Error> {
    let sql = "SELECT id, customer, item, pieces FROM orders WHERE id = $1";
    sqlx::query_as(sql).bind(id).fetch_one(db).await
}

/// Takes the pieces out of the stock, and writes the order.
async fn add(db: &mut PgConnection, new: &NewOrder) -> Result<Order, sqlx::Error> {
    sqlx::query("UPDATE stock SET pieces = pieces - $2 WHERE item = $1")
        .bind(&new.item)
        .bind(new.pieces)
        .execute(&mut *db)
        .await?;
    let sql = "INSERT INTO orders (customer, item, pieces) VALUES ($1, $2, $3) \
               RETURNING id, customer, item, pieces";
    sqlx::query_as(sql)
        .bind(&new.customer)
        .bind(&new.item)
        .bind(new.pieces)
        .fetch_one(db)
        .await
}

struct Failure(sqlx::Error);

impl<E: Into<sqlx::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let database = self.0.as_database_error();
        let (status, text) = match &self.0 {
            sqlx::Error::RowNotFound => (StatusCode::NOT_FOUND, "no such order"),
            _ if database.is_some_and(|error| error.is_check_violation()) => {
                (StatusCode::CONFLICT, "not that many")
            }
            _ if database.is_some_and(|error| error.is_foreign_key_violation()) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "no such item")
            }
            error => {
                eprintln!("{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "try again later")
            }
        };
        (status, text).into_response()
    }
}
