//! A shop on axum and diesel-async, in two forms: `shop_diesel` with diesel-async's own pool, and
//! `shop_leadpool_diesel`, which follows the leader. The second is the first with
//! `pool-diesel/src/asynchronous/migration_guide.diff`.

#![allow(
    missing_docs,
    clippy::exhaustive_structs,
    reason = "diesel's `table!` makes public items"
)]

use std::{env, error::Error};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use diesel::{
    QueryResult,
    prelude::*,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use leadpool_diesel::{Pool, PoolError};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

diesel::table! {
    stock (item) {
        item -> Text,
        pieces -> Integer,
    }
}

diesel::table! {
    orders (id) {
        id -> BigInt,
        customer -> Text,
        item -> Text,
        pieces -> Integer,
    }
}

type Db = Pool;

#[derive(Deserialize)]
struct NewOrder {
    customer: String,
    item: String,
    pieces: i32,
}

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = orders)]
struct Order {
    id: i64,
    customer: String,
    item: String,
    pieces: i32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL")?;
    let pool: Db = Pool::builder(&url).max_size(20).build().await?;
    prepare(&mut *pool.get().await?).await?;

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

/// In place of migrations.
async fn prepare(db: &mut AsyncPgConnection) -> QueryResult<()> {
    db.batch_execute(include_str!("../../migrations/1_shop.sql"))
        .await?;
    db.batch_execute(include_str!("../../migrations/2_leadpool_token.sql"))
        .await
}

async fn list(State(pool): State<Db>) -> Result<Json<Vec<Order>>, Failure> {
    let reading = pool.tx().reader();
    let orders = reading.run_ref(async |db| all(db).await).await?;
    Ok(Json(orders))
}

async fn create(
    State(pool): State<Db>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let order = pool.run_tx_ref(async |db| add(db, &new).await).await?;
    Ok((StatusCode::CREATED, Json(order)))
}

async fn find(State(pool): State<Db>, Path(id): Path<i64>) -> Result<Json<Order>, Failure> {
    let order = pool.run_tx_ref(async |db| one(db, id).await).await?;
    Ok(Json(order))
}

async fn health(State(pool): State<Db>) -> Result<(), Failure> {
    drop(pool.get().await?);
    Ok(())
}

async fn all(db: &mut AsyncPgConnection) -> QueryResult<Vec<Order>> {
    let orders = orders::table.select(Order::as_select());
    orders.order(orders::id.desc()).limit(50).load(db).await
}

async fn one(db: &mut AsyncPgConnection, id: i64) -> QueryResult<Order> {
    let order = orders::table.find(id).select(Order::as_select());
    order.first(db).await
}

/// Takes the pieces out of the stock, and writes the order.
async fn add(db: &mut AsyncPgConnection, new: &NewOrder) -> QueryResult<Order> {
    diesel::update(stock::table.find(&new.item))
        .set(stock::pieces.eq(stock::pieces - new.pieces))
        .execute(db)
        .await?;
    diesel::insert_into(orders::table)
        .values((
            orders::customer.eq(&new.customer),
            orders::item.eq(&new.item),
            orders::pieces.eq(new.pieces),
        ))
        .returning(Order::as_returning())
        .get_result(db)
        .await
}

enum Failure {
    Database(DieselError),
    Pool(PoolError),
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

impl From<leadpool_diesel::Error> for Failure {
    fn from(error: leadpool_diesel::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Database(DieselError::NotFound) => (StatusCode::NOT_FOUND, "no such order"),
            Self::Database(DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, _)) => {
                (StatusCode::CONFLICT, "not that many")
            }
            Self::Database(DieselError::DatabaseError(
                DatabaseErrorKind::ForeignKeyViolation,
                _,
            )) => (StatusCode::UNPROCESSABLE_ENTITY, "no such item"),
            Self::Database(error) => {
                eprintln!("{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "try again later")
            }
            Self::Pool(error) => {
                eprintln!("{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "try again later")
            }
        };
        (status, text).into_response()
    }
}
