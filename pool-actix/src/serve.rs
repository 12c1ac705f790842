//! Serving, and ending in good order.

use std::{io, pin::pin, time::Duration};

use actix_web::dev::Server;
use futures_util::future::join;
use leadpool::{
    shutdown,
    web::{WebPool, end_streams},
};
use tokio::time::{Instant, timeout_at};

/// Serves until the process is told to end (SIGTERM, Ctrl-C), then ends in good order: no new
/// connections are accepted, requests that run get their answers, and then the pool is drained. All
/// of that within `limit`, after which what still runs is given up.
///
/// The pool is drained last, because requests that run may still ask for a connection. Build the
/// server with `disable_signals`, since actix-web's own handling ends it without the pool, and with
/// a `shutdown_timeout` below `limit`. Leave some of the time between the signal and the kill to what
/// comes after (Kubernetes gives 30 s).
///
/// # Errors
///
/// What the system says: to the server, or to who wants to receive signals.
///
/// # Cancel safety
///
/// Dropping the future stops accepting connections, and drains nothing.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use actix_web::{App, HttpServer, web};
/// use leadpool_actix::leadpool::Pool;
///
/// # async fn f(pool: Pool) -> std::io::Result<()> {
/// let data = web::Data::new(pool.clone());
/// let server = HttpServer::new(move || App::new().app_data(data.clone()))
///     .disable_signals()
///     .shutdown_timeout(15)
///     .bind("0.0.0.0:8080")?
///     .run();
/// leadpool_actix::serve(server, &pool, Duration::from_secs(20)).await
/// # }
/// ```
pub async fn serve<P: WebPool>(server: Server, pool: &P, limit: Duration) -> io::Result<()> {
    serve_until(server, pool, limit, shutdown::signal()).await
}

/// [`serve`], until something else tells it to end.
///
/// # Errors
///
/// What the system says to the server, and the error of `told`.
///
/// # Cancel safety
///
/// As [`serve`].
///
/// # Examples
///
/// ```no_run
/// use std::{future::pending, io, time::Duration};
/// use actix_web::dev::Server;
/// use leadpool_actix::leadpool::Pool;
///
/// # async fn f(server: Server, pool: Pool) -> io::Result<()> {
/// let never = pending::<io::Result<()>>();
/// leadpool_actix::serve_until(server, &pool, Duration::from_secs(20), never).await
/// # }
/// ```
pub async fn serve_until<P: WebPool>(
    server: Server,
    pool: &P,
    limit: Duration,
    told: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let handle = server.handle();
    let mut server = pin!(server);
    tokio::select! {
        served = &mut server => return served,
        told = told => told?,
    }
    let until = Instant::now() + limit;
    end_streams(pool.cluster());
    let ending = join(server, handle.stop(true));
    let served = timeout_at(until, ending).await;
    pool.drain(until.saturating_duration_since(Instant::now()))
        .await;
    // What took longer is given up.
    served.map_or(Ok(()), |(served, ())| served)
}
