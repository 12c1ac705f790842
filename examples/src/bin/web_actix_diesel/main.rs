//! Notes, a service on actix-web and diesel, whose statements run in threads: as `web_axum`.

#![allow(
    missing_docs,
    clippy::exhaustive_structs,
    reason = "diesel's `table!` makes public items"
)]

use std::{env, error::Error as StdError, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    web::{Data, Json, Path, delete, get, post},
};
use diesel::prelude::*;
use leadpool::consistency::SigningKeys;
use leadpool_actix::{
    Dashboard, Deadline, Error, Health, ReadYourWrites, Reader, Seen, TimeLeft, Transactions, Tx,
};
use leadpool_diesel::blocking::InteractPool as Pool;
use serde::{Deserialize, Serialize};

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

#[actix_web::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let table = "CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, text text NOT NULL)";
    pool.run_tx(move |conn| diesel::sql_query(table).execute(conn))
        .await?;

    let keys = SigningKeys::new([env::var("TOKEN_KEY")?])?;
    // Ask who it is, in a service of yours.
    let is_open = env::var("DASHBOARD").is_ok_and(|who| who == "everybody");
    let dashboard = Dashboard::new(pool.clone()).allow(move |_| is_open);
    let seen = ReadYourWrites::new(pool.cluster(), keys);
    let data = Data::new(pool.clone());
    let health = Health::new(pool.clone());
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .wrap(Transactions::new())
            .wrap(seen.clone())
            .wrap(Deadline::after(MOST).header("request-timeout"))
            .route("/notes", get().to(list))
            .route("/notes", post().to(add))
            .route("/notes/{id}", delete().to(remove))
            .route("/count", get().to(count))
            .service(health.clone().service("/health"))
            .service(dashboard.clone().service("/dashboard"))
    })
    .workers(2)
    .disable_signals()
    .shutdown_timeout(15)
    .bind(address)?;
    println!("listening on {}", server.addrs()[0]);
    leadpool_actix::serve(server.run(), &pool, Duration::from_secs(20)).await?;
    Ok(())
}

/// On a standby that has what this client wrote, and on another one if that fails.
async fn list(pool: Data<Pool>, seen: Seen, time: TimeLeft) -> Result<Json<Vec<Note>>, Error> {
    let tx = match seen.token() {
        Some(token) => pool.tx().reader_at(&token),
        None => pool.tx().reader(),
    };
    let tx = tx.deadline(time.within(MOST));
    let notes = tx.run(|conn| notes::table.order(notes::id).load(conn));
    Ok(Json(notes.await?))
}

/// On the writer, whoever that comes to be; once.
async fn add(pool: Data<Pool>, time: TimeLeft, new: Json<NewNote>) -> Result<HttpResponse, Error> {
    if new.text.is_empty() {
        return Err(Error::refuse(422, "a note needs a text"));
    }
    let new = new.into_inner();
    let tx = pool.tx().deadline(time.within(MOST));
    let note: Note = tx
        .run(move |conn| {
            let insert = diesel::insert_into(notes::table).values(new.clone());
            insert.returning(notes::all_columns).get_result(conn)
        })
        .await?;
    Ok(HttpResponse::Created().json(note))
}

/// In a transaction that the answer ends: 404 rolls back.
async fn remove(tx: Tx<Pool>, id: Path<i64>) -> Result<HttpResponse, Error> {
    let delete = diesel::delete(notes::table.find(id.into_inner()));
    match tx.interact(|conn| delete.execute(conn)).await?? {
        0 => Err(Error::refuse(404, "there is no such note")),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

async fn count(Reader(conn): Reader<Pool>) -> Result<String, Error> {
    let count = notes::table.count();
    let count: i64 = conn.interact(move |conn| count.get_result(conn)).await??;
    Ok(count.to_string())
}
