//! The end of a service.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer,
    rt::{spawn, task::JoinHandle},
    web,
};
use leadpool::Pool;
use leadpool_actix::{Dashboard, Error, serve_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, oneshot},
    time::sleep,
};

use crate::both::*;

#[derive(Clone)]
struct Told {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// Asks for its connection late.
async fn slow(pool: web::Data<Pool>, told: web::Data<Told>) -> Result<String, Error> {
    told.begun.notify_one();
    told.go_on.notified().await;
    let client = pool.get().await?;
    Ok(client.query_one("SELECT 'at last'", &[]).await?.get(0))
}

struct Service {
    app: Told,
    addr: SocketAddr,
    tell: oneshot::Sender<io::Result<()>>,
    ended: JoinHandle<io::Result<()>>,
}

async fn serve(pool: &Pool, limit: Duration) -> Service {
    let app = Told {
        begun: Arc::default(),
        go_on: Arc::default(),
    };
    let data = (web::Data::new(pool.clone()), web::Data::new(app.clone()));
    let dashboard = Dashboard::new(pool.clone()).allow(|_| true);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.0.clone())
            .app_data(data.1.clone())
            .route("/", web::get().to(slow))
            .service(dashboard.clone().service("/dashboard"))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(3_600)
    .bind("127.0.0.1:0")
    .unwrap();
    let addr = server.addrs()[0];
    let (tell, told) = oneshot::channel();
    let told = async move { told.await.unwrap_or(Ok(())) };
    let pool = pool.clone();
    let ended = spawn(async move { serve_until(server.run(), &pool, limit, told).await });
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

#[actix_web::test]
async fn requests_that_run_get_their_answers_and_then_the_pool_is_drained() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_secs(3_600)).await;
    let asking = spawn(ask(service.addr));
    soon("the request", service.app.begun.notified()).await;
    // actix-server counts a connection only after it has handed it to its worker, which takes itself
    // for idle until then.
    sleep(Duration::from_millis(300)).await;
    service.tell.send(Ok(())).unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(!pool.is_closed());
    service.app.go_on.notify_one();
    let answer = soon("the answer", asking).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("at last"), "{answer}");
    soon("the end", service.ended).await.unwrap().unwrap();
    assert!(pool.is_closed());
}

#[actix_web::test]
async fn who_takes_too_long_is_given_up() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let service = serve(&pool, Duration::from_millis(300)).await;
    let asking = spawn(ask(service.addr));
    soon("the request", service.app.begun.notified()).await;
    service.tell.send(Ok(())).unwrap();
    soon("the end", service.ended).await.unwrap().unwrap();
    assert!(pool.is_closed());
    asking.abort();
}

#[actix_web::test]
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

#[actix_web::test]
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
