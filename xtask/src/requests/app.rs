//! The application: notes, over HTTP. On leadpool-axum and leadpool-sqlx, and on axum and a plain
//! `sqlx::PgPool`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use leadpool::outcome::TokenTable;
use leadpool_axum::{Cause, Deadline, Error, TimeLeft};
use leadpool_sqlx::Pool;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time::timeout};

use super::book::Book;
use crate::{Result, servers::Stack};

/// How much time a request has.
const MOST: Duration = Duration::from_secs(30);
/// How much the application has to end.
const END: Duration = Duration::from_secs(10);

/// Without anything unique, so that what is written twice is there twice.
pub(super) const TABLE: &str = "CREATE TABLE notes (id bigserial PRIMARY KEY, text text NOT NULL)";
/// What is there between two numbers.
pub(super) const COUNT: &str = "SELECT text::bigint, count(*) FROM notes \
     WHERE text::bigint BETWEEN $1 AND $2 GROUP BY text::bigint";
const TOKENS: &str = "leadpool_token";
const INSERT: &str = "INSERT INTO notes (text) VALUES ($1) RETURNING id";
const LIST: &str = "SELECT id, text FROM notes ORDER BY id DESC LIMIT 10";

/// What it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leadpool,
    Plain,
}

/// The application, serving on loopback.
pub(super) struct App {
    pub(super) address: SocketAddr,
    end: oneshot::Sender<()>,
    serving: JoinSet<io::Result<()>>,
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

#[derive(Serialize)]
struct Note {
    id: i64,
    text: String,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leadpool => "leadpool-axum, leadpool-sqlx",
            Self::Plain => "axum, sqlx::PgPool",
        }
    }
}

/// A table of tokens: with it the outcome of every COMMIT can be proved. The statements that
/// make it, and what the URL says of it.
pub(crate) fn tokens() -> Result<(String, String)> {
    let migration = TokenTable::new(TOKENS)?.migration();
    Ok((migration, format!("?token_table={TOKENS}")))
}

impl App {
    /// Opens the pool, and begins to serve. What it would log of answers that are no success goes
    /// into the book.
    pub(super) async fn start(kind: Kind, servers: &Stack, book: &Arc<Book>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (end, told) = oneshot::channel::<()>();
        // Dropped counts as told.
        let told = async move {
            let _ = told.await;
        };
        let mut serving = JoinSet::new();
        match kind {
            Kind::Leadpool => {
                let (_, key) = tokens()?;
                let pool = Pool::connect(&(servers.urls().0 + &key)).await?;
                let router = leadpool(pool.clone(), book.clone());
                serving.spawn(async move {
                    let told = async {
                        told.await;
                        Ok(())
                    };
                    leadpool_axum::serve_until(listener, router, &pool, END, told).await
                });
            }
            Kind::Plain => {
                // It can be told one host: the primary.
                let url = servers.host_url(servers.primary().await?)?;
                let options = sqlx::postgres::PgPoolOptions::new().max_connections(16);
                let pool = options.connect(&url).await?;
                let router = plain(pool.clone(), book.clone());
                serving.spawn(async move {
                    let served = axum::serve(listener, router).with_graceful_shutdown(told);
                    let served = served.await;
                    // It waits for all connections to come back, without limit.
                    let _ = timeout(END, pool.close()).await;
                    served
                });
            }
        }
        Ok(Self {
            address,
            end,
            serving,
        })
    }

    /// Ends it in good order.
    pub(super) async fn stop(mut self) -> Result<()> {
        drop(self.end);
        let ended = async {
            while let Some(served) = self.serving.join_next().await {
                served??;
            }
            Ok(())
        };
        match timeout(2 * END, ended).await {
            Ok(ended) => ended,
            Err(_) => Err("the application did not end".into()),
        }
    }
}

fn leadpool(pool: Pool, book: Arc<Book>) -> Router {
    Router::new()
        .route("/notes", get(list).post(add))
        .layer(Deadline::after(MOST))
        .layer(middleware::from_fn_with_state(book, log))
        .with_state(pool)
}

/// On the writer, whoever that comes to be; once.
async fn add(
    State(pool): State<Pool>,
    time: TimeLeft,
    Json(new): Json<NewNote>,
) -> std::result::Result<(StatusCode, Json<Note>), Error> {
    let text = &new.text;
    let tx = pool.tx().deadline(time.within(MOST));
    let id = tx
        .run(|mut tx| async move {
            let insert = sqlx::query_scalar(INSERT).bind(text);
            insert.fetch_one(&mut *tx).await
        })
        .await?;
    let text = new.text;
    Ok((StatusCode::CREATED, Json(Note { id, text })))
}

/// On a standby.
async fn list(
    State(pool): State<Pool>,
    time: TimeLeft,
) -> std::result::Result<Json<Vec<Note>>, Error> {
    let tx = pool.tx().reader().deadline(time.within(MOST));
    let notes = tx
        .run(|mut tx| async move { sqlx::query_as(LIST).fetch_all(&mut *tx).await })
        .await?;
    Ok(listed(notes))
}

fn listed(notes: Vec<(i64, String)>) -> Json<Vec<Note>> {
    let notes = notes.into_iter().map(|(id, text)| Note { id, text });
    Json(notes.collect())
}

async fn log(State(book): State<Arc<Book>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(cause) = response.extensions().get::<Cause>() {
        book.note("the application's log", &cause.to_string());
    }
    response
}

#[derive(Clone)]
struct Plain {
    pool: PgPool,
    book: Arc<Book>,
}

fn plain(pool: PgPool, book: Arc<Book>) -> Router {
    Router::new()
        .route("/notes", get(list_plainly).post(add_plainly))
        .with_state(Plain { pool, book })
}

async fn add_plainly(
    State(app): State<Plain>,
    Json(new): Json<NewNote>,
) -> std::result::Result<(StatusCode, Json<Note>), StatusCode> {
    let added = async {
        let mut tx = app.pool.begin().await?;
        let insert = sqlx::query_scalar(INSERT).bind(&new.text);
        let id = insert.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        sqlx::Result::Ok(id)
    };
    let id = added.await.map_err(|error| app.failed(&error))?;
    let text = new.text;
    Ok((StatusCode::CREATED, Json(Note { id, text })))
}

async fn list_plainly(
    State(app): State<Plain>,
) -> std::result::Result<Json<Vec<Note>>, StatusCode> {
    let notes = sqlx::query_as(LIST).fetch_all(&app.pool).await;
    Ok(listed(notes.map_err(|error| app.failed(&error))?))
}

impl Plain {
    fn failed(&self, error: &sqlx::Error) -> StatusCode {
        self.book.note("the application's log", &error.to_string());
        StatusCode::INTERNAL_SERVER_ERROR
    }
}
