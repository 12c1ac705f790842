//! A shop on axum and diesel's blocking connections, in two forms: `shop_diesel_r2d2` with diesel's
//! r2d2, and `shop_leadpool_diesel_r2d2`, which follows the leader. The second is the first with
//! `pool-diesel/src/blocking/migration_guide.diff`.

#![allow(
    missing_docs,
    clippy::exhaustive_structs,
    reason = "diesel's `table!` makes public items"
)]

use std::{env, error::Error, panic::resume_unwind};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use diesel::r2d2::{ConnectionManager, Pool, PoolError};
use diesel::{
    QueryResult,
    connection::SimpleConnection,
    prelude::*,
    result::{DatabaseErrorKind, Error as DieselError},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::spawn_blocking};

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

type Db = Pool<ConnectionManager<PgConnection>>;

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
    let manager = ConnectionManager::new(url);
    let pool: Db = Pool::builder().max_size(20).build(manager)?;
    prepare(&mut *pool.get()?)?;

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
fn prepare(db: &mut PgConnection) -> QueryResult<()> {
    db.batch_execute(include_str!("../../migrations/1_shop.sql"))?;
    db.batch_execute(include_str!("../../migrations/2_leadpool_token.sql"))
}

/// Runs what blocks in a thread where it may.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ran = spawn_blocking(run).await;
    ran.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

async fn list(State(pool): State<Db>) -> Result<Json<Vec<Order>>, Failure> {
    let orders = blocking(move || {
        let mut db = pool.get()?;
        Ok(all(&mut db)?)
    });
    Ok(Json(orders.await?))
}

async fn create(
    State(pool): State<Db>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let order = blocking(move || {
        let mut db = pool.get()?;
        Ok(db.transaction(|db| add(db, &new))?)
    });
    Ok((StatusCode::CREATED, Json(order.await?)))
}

async fn find(State(pool): State<Db>, Path(id): Path<i64>) -> Result<Json<Order>, Failure> {
    let order = blocking(move || {
        let mut db = pool.get()?;
        Ok(one(&mut db, id)?)
    });
    Ok(Json(order.await?))
}

async fn health(State(pool): State<Db>) -> Result<(), Failure> {
    blocking(move || {
        drop(pool.get()?);
        Ok(())
    })
    .await
}

fn all(db: &mut PgConnection) -> QueryResult<Vec<Order>> {
    let orders = orders::table.select(Order::as_select());
    orders.order(orders::id.desc()).limit(50).load(db)
}

fn one(db: &mut PgConnection, id: i64) -> QueryResult<Order> {
    let order = orders::table.find(id).select(Order::as_select());
    order.first(db)
}

/// Takes the pieces out of the stock, and writes the order.
fn add(db: &mut PgConnection, new: &NewOrder) -> QueryResult<Order> {
    diesel::update(stock::table.find(&new.item))
        .set(stock::pieces.eq(stock::pieces - new.pieces))
        .execute(db)?;
    diesel::insert_into(orders::table)
        .values((
            orders::customer.eq(&new.customer),
            orders::item.eq(&new.item),
            orders::pieces.eq(new.pieces),
        ))
        .returning(Order::as_returning())
        .get_result(db)
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
