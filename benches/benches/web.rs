//! What the layers and extractors of the web crates add to a request: beside a handler that takes
//! the connection, or runs the transaction, itself. Without a socket, so that nothing else shows.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool::{Pool, consistency::SigningKeys};
use leadpool_benches::{Rivals, TimedTurn, Turn, in_timed_turns, in_turns};
use tokio::runtime::Runtime;

/// So much time that nothing ends by it.
const ENOUGH: Duration = Duration::from_secs(3_600);
/// For what asks the server.
const TURNS: usize = 200;
const EACH: u32 = 50;

/// Whoever has written brings a token along.
const COOKIE: &str = "leadpool-seen";

fn keys() -> SigningKeys {
    SigningKeys::new([[7; 32]]).unwrap()
}

/// Of what a standby has long since.
async fn cookie(pool: &Pool) -> String {
    let token = pool.token().await.unwrap();
    let cookie = format!("{COOKIE}={}", keys().sign(&token));
    // Until a standby is known to have it.
    let limit = Instant::now() + Duration::from_secs(10);
    while !matches!(
        pool.timeout_reader_at(&token, ENOUGH).await.unwrap().1.by,
        leadpool::consistency::ServedBy::Standby
    ) {
        assert!(Instant::now() < limit, "no standby has it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cookie
}

mod with_axum {
    use axum::{
        Router,
        body::Body,
        extract::{Request, State},
        routing::get,
    };
    use leadpool_axum::{Deadline, Error, ReadYourWrites, Reader, Transactions, Tx, Writer};
    use tower_service::Service as _;

    use super::{COOKIE, ENOUGH, Pool, keys};

    async fn nothing(_: State<Pool>) {}

    async fn itself(State(pool): State<Pool>) {
        drop(pool.get().await.unwrap());
    }

    async fn writer(writer: Writer) {
        drop(writer);
    }

    async fn reader(reader: Reader) {
        drop(reader);
    }

    async fn run_tx(State(pool): State<Pool>) -> Result<(), Error> {
        pool.run_tx(|tx| async move { Ok(tx.simple_query("SELECT 1").await?) })
            .await?;
        Ok(())
    }

    async fn tx(tx: Tx) -> Result<(), Error> {
        tx.simple_query("SELECT 1").await?;
        Ok(())
    }

    pub(super) fn app(pool: Pool) -> Router {
        Router::new()
            .route("/nothing", get(nothing))
            .route("/itself", get(itself))
            .route("/writer", get(writer))
            .route("/reader", get(reader))
            .route("/run_tx", get(run_tx))
            .with_state(pool)
    }

    pub(super) fn layered(pool: Pool) -> Router {
        app(pool.clone())
            .route("/tx", get(tx).with_state(pool))
            .layer(Transactions::new())
            .layer(Deadline::after(ENOUGH).header("request-timeout"))
    }

    pub(super) fn seen(pool: Pool) -> Router {
        let seen = ReadYourWrites::new(pool.cluster(), keys());
        layered(pool).layer(seen.cookie(COOKIE).unwrap())
    }

    pub(super) async fn ask(app: &Router, path: &'static str, cookie: Option<&str>) {
        let request = Request::get(path);
        let request = match cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        let request = request.body(Body::empty()).unwrap();
        let Ok(answer) = app.clone().call(request).await;
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

mod with_actix {
    use actix_web::{HttpResponse, web::Data};
    use leadpool_actix::{Error, Reader, Tx, Writer};

    use super::Pool;

    pub(super) async fn nothing(_: Data<Pool>) -> HttpResponse {
        HttpResponse::Ok().finish()
    }

    pub(super) async fn itself(pool: Data<Pool>) -> HttpResponse {
        drop(pool.get().await.unwrap());
        HttpResponse::Ok().finish()
    }

    pub(super) async fn writer(writer: Writer) -> HttpResponse {
        drop(writer);
        HttpResponse::Ok().finish()
    }

    pub(super) async fn reader(reader: Reader) -> HttpResponse {
        drop(reader);
        HttpResponse::Ok().finish()
    }

    pub(super) async fn run_tx(pool: Data<Pool>) -> Result<HttpResponse, Error> {
        pool.run_tx(|tx| async move { Ok(tx.simple_query("SELECT 1").await?) })
            .await?;
        Ok(HttpResponse::Ok().finish())
    }

    pub(super) async fn tx(tx: Tx) -> Result<HttpResponse, Error> {
        tx.simple_query("SELECT 1").await?;
        Ok(HttpResponse::Ok().finish())
    }
}

/// So many requests, one after the other.
macro_rules! requests {
    ($times:ident, $ask:expr) => {{
        let turn: Turn<'_> = Box::new(|$times| {
            Box::pin(async move {
                for _ in 0..$times {
                    $ask;
                }
            })
        });
        turn
    }};
}

/// The same, timed by itself.
macro_rules! timed {
    ($times:ident, $ask:expr) => {{
        let turn: TimedTurn<'_> = Box::new(|$times| {
            Box::pin(async move {
                let begun = Instant::now();
                for _ in 0..$times {
                    $ask;
                }
                begun.elapsed()
            })
        });
        turn
    }};
}

async fn warm_up(rivals: &Rivals) {
    drop(rivals.leadpool.get().await.unwrap());
    drop(rivals.leadpool.reader().await.unwrap());
}

fn axum(_: &mut Criterion) {
    use with_axum::{app, ask, layered, seen};

    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let rivals = Rivals::start(1).await.unwrap();
        warm_up(&rivals).await;
        let plain = &app(rivals.leadpool.clone());
        let layered = &layered(rivals.leadpool.clone());
        let seen = &seen(rivals.leadpool.clone());
        let cookie = &*cookie(&rivals.leadpool).await;
        in_turns(
            "axum, a request",
            vec![
                (
                    "itself",
                    requests!(times, ask(plain, "/itself", None).await),
                ),
                (
                    "writer",
                    requests!(times, ask(plain, "/writer", None).await),
                ),
                (
                    "reader",
                    requests!(times, ask(plain, "/reader", None).await),
                ),
                (
                    "layers, itself",
                    requests!(times, ask(layered, "/itself", None).await),
                ),
                (
                    "layers, writer",
                    requests!(times, ask(layered, "/writer", None).await),
                ),
                (
                    "layers, reader",
                    requests!(times, ask(layered, "/reader", None).await),
                ),
                (
                    "layers and tokens, reader",
                    requests!(times, ask(seen, "/reader", None).await),
                ),
                (
                    "layers and tokens, reader with one",
                    requests!(times, ask(seen, "/reader", Some(cookie)).await),
                ),
                (
                    "nothing",
                    requests!(times, ask(plain, "/nothing", None).await),
                ),
                (
                    "layers, nothing",
                    requests!(times, ask(layered, "/nothing", None).await),
                ),
            ],
        )
        .await;
        in_timed_turns(
            "axum, a transaction",
            TURNS,
            EACH,
            &[
                ("run_tx", timed!(times, ask(plain, "/run_tx", None).await)),
                ("layers, tx", timed!(times, ask(layered, "/tx", None).await)),
            ],
        )
        .await;
    });
}

fn actix(_: &mut Criterion) {
    use actix_web::{
        App,
        dev::Service as _,
        test::{TestRequest, init_service},
        web::{Data, get},
    };
    use leadpool_actix::{Deadline, ReadYourWrites, Transactions};
    use with_actix::{itself, nothing, reader, run_tx, tx, writer};

    macro_rules! app {
        ($pool:expr) => {
            App::new()
                .app_data(Data::new($pool))
                .route("/nothing", get().to(nothing))
                .route("/itself", get().to(itself))
                .route("/writer", get().to(writer))
                .route("/reader", get().to(reader))
                .route("/run_tx", get().to(run_tx))
                .route("/tx", get().to(tx))
        };
    }
    macro_rules! ask {
        ($service:expr, $path:literal) => {
            ask!($service, TestRequest::get().uri($path), ())
        };
        ($service:expr, $path:literal, $cookie:expr) => {
            ask!(
                $service,
                TestRequest::get()
                    .uri($path)
                    .append_header(("cookie", $cookie)),
                ()
            )
        };
        ($service:expr, $request:expr, ()) => {{
            let request = $request.to_request();
            let answer = $service.call(request).await.unwrap();
            assert!(answer.status().is_success());
        }};
    }

    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let rivals = Rivals::start(1).await.unwrap();
        warm_up(&rivals).await;
        let plain = &init_service(app!(rivals.leadpool.clone())).await;
        let layered = app!(rivals.leadpool.clone()).wrap(Transactions::new());
        let layered = layered.wrap(Deadline::after(ENOUGH).header("request-timeout"));
        let layered = &init_service(layered).await;
        let tokens = ReadYourWrites::new(rivals.leadpool.cluster(), keys());
        let seen = app!(rivals.leadpool.clone()).wrap(Transactions::new());
        let seen = seen.wrap(Deadline::after(ENOUGH).header("request-timeout"));
        let seen = &init_service(seen.wrap(tokens.cookie(COOKIE).unwrap())).await;
        let cookie = &*cookie(&rivals.leadpool).await;
        in_turns(
            "actix-web, a request",
            vec![
                ("itself", requests!(times, ask!(plain, "/itself"))),
                ("writer", requests!(times, ask!(plain, "/writer"))),
                ("reader", requests!(times, ask!(plain, "/reader"))),
                ("layers, itself", requests!(times, ask!(layered, "/itself"))),
                ("layers, writer", requests!(times, ask!(layered, "/writer"))),
                ("layers, reader", requests!(times, ask!(layered, "/reader"))),
                (
                    "layers and tokens, reader",
                    requests!(times, ask!(seen, "/reader")),
                ),
                (
                    "layers and tokens, reader with one",
                    requests!(times, ask!(seen, "/reader", cookie)),
                ),
                ("nothing", requests!(times, ask!(plain, "/nothing"))),
                (
                    "layers, nothing",
                    requests!(times, ask!(layered, "/nothing")),
                ),
            ],
        )
        .await;
        in_timed_turns(
            "actix-web, a transaction",
            TURNS,
            EACH,
            &[
                ("run_tx", timed!(times, ask!(plain, "/run_tx"))),
                ("layers, tx", timed!(times, ask!(layered, "/tx"))),
            ],
        )
        .await;
    });
}

criterion_group!(benches, axum, actix);
criterion_main!(benches);
