//! Notes, a service on axum and diesel-async: as `web_axum`.

#![allow(
    missing_docs,
    clippy::exhaustive_structs,
    reason = "diesel's `table!` makes public items"
)]

use std::{env, error::Error as StdError, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use leadpool::consistency::SigningKeys;
use leadpool_axum::{
    Dashboard, Deadline, Error, Health, ReadYourWrites, Reader, Seen, TimeLeft, Transactions, Tx,
};
use leadpool_diesel::Pool;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

const MOST: Duration = Duration::from_secs(30);

diesel::table! {
    notes (id) {
        id -> BigInt,
        text -> Text,
    }
}

#[derive(Clone, Deserialize, Insertable)]
#[diesel(table_name = notes)]
struct NewNote {
    text: String,
}

#[derive(Queryable, Serialize)]
struct Note {
    id: i64,
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let table = "CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, text text NOT NULL)";
    pool.run_tx(|mut tx| async move { diesel::sql_query(table).execute(&mut tx).await })
        .await?;

    let keys = SigningKeys::new([env::var("TOKEN_KEY")?])?;
    // Ask who it is, in a service of yours.
    let is_open = env::var("DASHBOARD").is_ok_and(|who| who == "everybody");
    let dashboard = Dashboard::new(pool.clone()).allow(move |_| is_open);
    let app = Router::new()
        .route("/notes", get(list).post(add))
        .route("/notes/{id}", delete(remove))
        .route("/count", get(count))
        .layer(Transactions::new())
        .layer(ReadYourWrites::new(pool.cluster(), keys))
        .layer(Deadline::after(MOST).header("request-timeout"))
        .nest("/health", Health::new(pool.clone()).router())
        .nest("/dashboard", dashboard.router())
        .with_state(pool.clone());
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    leadpool_axum::serve(listener, app, &pool, Duration::from_secs(20)).await?;
    Ok(())
}

/// On a standby that has what this client wrote, and on another one if that fails.
async fn list(
    State(pool): State<Pool>,
    seen: Seen,
    time: TimeLeft,
) -> Result<Json<Vec<Note>>, Error> {
    let tx = match seen.token() {
        Some(token) => pool.tx().reader_at(&token),
        None => pool.tx().reader(),
    };
    let tx = tx.deadline(time.within(MOST));
    let notes = tx
        .run(|mut tx| async move { notes::table.order(notes::id).load(&mut tx).await })
        .await?;
    Ok(Json(notes))
}

/// On the writer, whoever that comes to be; once.
async fn add(
    State(pool): State<Pool>,
    time: TimeLeft,
    Json(new): Json<NewNote>,
) -> Result<(StatusCode, Json<Note>), Error> {
    if new.text.is_empty() {
        return Err(Error::refuse(422, "a note needs a text"));
    }
    let tx = pool.tx().deadline(time.within(MOST));
    let note = tx
        .run(|mut tx| async move {
            let insert = diesel::insert_into(notes::table).values(new);
            insert
                .returning(notes::all_columns)
                .get_result(&mut tx)
                .await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(note)))
}

/// In a transaction that the answer ends: 404 rolls back.
async fn remove(mut tx: Tx<Pool>, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    match diesel::delete(notes::table.find(id))
        .execute(&mut *tx)
        .await?
    {
        0 => Err(Error::refuse(404, "there is no such note")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

async fn count(Reader(mut conn): Reader<Pool>) -> Result<String, Error> {
    let count: i64 = notes::table.count().get_result(&mut conn).await?;
    Ok(count.to_string())
}
