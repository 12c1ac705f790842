//! Notes, a service on axum and tokio-postgres. No request that goes through `run_tx` fails while
//! the primary dies; one with a `Tx` is told when to come again.

use std::{env, error::Error as StdError, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use leadpool::{Pool, consistency::SigningKeys};
use leadpool_axum::{
    Dashboard, Deadline, Error, Health, ReadYourWrites, Reader, Seen, TimeLeft, Transactions, Tx,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

const MOST: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

#[derive(Serialize)]
struct Note {
    id: i64,
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let table = "CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, text text NOT NULL)";
    pool.run_tx(|tx| async move { Ok(tx.batch_execute(table).await?) })
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
    let rows = tx
        .run(|tx| async move {
            Ok(tx
                .query("SELECT id, text FROM notes ORDER BY id", &[])
                .await?)
        })
        .await?;
    let notes = rows.iter().map(|row| Note {
        id: row.get(0),
        text: row.get(1),
    });
    Ok(Json(notes.collect()))
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
    let text = &new.text;
    let tx = pool.tx().deadline(time.within(MOST));
    let id = tx
        .run(|tx| async move {
            let insert = "INSERT INTO notes (text) VALUES ($1) RETURNING id";
            Ok(tx.query_one(insert, &[text]).await?.get(0))
        })
        .await?;
    let text = new.text;
    Ok((StatusCode::CREATED, Json(Note { id, text })))
}

/// In a transaction that the answer ends: 404 rolls back.
async fn remove(tx: Tx, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    match tx
        .execute("DELETE FROM notes WHERE id = $1", &[&id])
        .await?
    {
        0 => Err(Error::refuse(404, "there is no such note")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

async fn count(Reader(client): Reader) -> Result<String, Error> {
    let row = client
        .query_one("SELECT count(*)::text FROM notes", &[])
        .await?;
    Ok(row.get(0))
}
