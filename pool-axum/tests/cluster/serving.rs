//! The end of a service.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use leadpool_axum::{Dashboard, Error, leadpool::Pool, serve_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use crate::both::*;

#[derive(Clone)]
struct App {
    pool: Pool,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// Asks for its connection late.
async fn slow(State(app): State<App>) -> Result<String, Error> {
    app.begun.notify_one();
    app.go_on.notified().await;
    let client = app.pool.get().await?;
    Ok(client.query_one("SELECT 'at last'", &[]).await?.get(0))
}

struct Service {
    app: App,
    addr: SocketAddr,
    tell: oneshot::Sender<io::Result<()>>,
    ended: JoinHandle<io::Result<()>>,
}

async fn serve(pool: &Pool, limit: Duration) -> Service {
    let app = App {
        pool: pool.clone(),
        begun: Arc::default(),
        go_on: Arc::default(),
    };
    let dashboard = Dashboard::new(pool.clone()).allow(|_| true);
    let router = Router::new()
        .route("/", get(slow))
        .nest("/dashboard", dashboard.router())
        .with_state(app.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = oneshot::channel();
    let told = async move { told.await.unwrap_or(Ok(())) };
    let pool = pool.clone();
    let ended =
        tokio::spawn(async move { serve_until(listener, router, &pool, limit, told).await });
    Service {
        app,
        addr,
        tell,
        ended,
    }
}

async fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn requests_that_run_get_their_answers_and_then_the_pool_is_drained() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_secs(3_600)).await;
    let asking = tokio::spawn(ask(service.addr));
    soon("the request", service.app.begun.notified()).await;
    service.tell.send(Ok(())).unwrap();
    until("the end of the listener", async || {
        TcpStream::connect(service.addr).await.is_err()
    })
    .await;
    assert!(!pool.is_closed());
    service.app.go_on.notify_one();
    let answer = soon("the answer", asking).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("at last"), "{answer}");
    soon("the end", service.ended).await.unwrap().unwrap();
    assert!(pool.is_closed());
}

#[tokio::test]
async fn who_takes_too_long_is_given_up() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_millis(300)).await;
    let asking = tokio::spawn(ask(service.addr));
    soon("the request", service.app.begun.notified()).await;
    service.tell.send(Ok(())).unwrap();
    soon("the end", service.ended).await.unwrap().unwrap();
    assert!(pool.is_closed());
    asking.abort();
}

#[tokio::test]
async fn an_error_of_who_tells_is_passed_on() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_millis(300)).await;
    service
        .tell
        .send(Err(io::Error::other("no signals")))
        .unwrap();
    let error = soon("the end", service.ended).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no signals");
}

#[tokio::test]
async fn event_streams_end_with_the_service() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_secs(3_600)).await;
    let mut stream = TcpStream::connect(service.addr).await.unwrap();
    stream
        .write_all(b"GET /dashboard/events HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    soon("the first frame", async {
        while !seen.contains("data: {") {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    })
    .await;
    service.tell.send(Ok(())).unwrap();
    soon("the end", service.ended).await.unwrap().unwrap();
    assert!(pool.is_closed());
}
