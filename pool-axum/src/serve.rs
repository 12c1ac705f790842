//! Serving, and ending in good order.

use std::{fmt::Debug, io, pin::pin, time::Duration};

use axum::{Router, serve::Listener};
use leadpool::{
    shutdown,
    web::{WebPool, end_streams},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Serves until the process is told to end (SIGTERM, Ctrl-C), then ends in good order: no new
/// connections are accepted, requests that run get their answers, and then the pool is drained. All
/// of that within `limit`, after which what still runs is given up.
///
/// The pool is drained last, because requests that run may still ask for a connection. Leave some of
/// the time between the signal and the kill to what comes after (Kubernetes gives 30 s).
///
/// It is `axum::serve(..).with_graceful_shutdown(..)` with a limit, and `pool.drain(..)`:
///
/// ```no_run
/// use std::time::Duration;
/// use leadpool_axum::leadpool::{Pool, shutdown};
///
/// # async fn f(listener: tokio::net::TcpListener, app: axum::Router, pool: Pool) -> std::io::Result<()> {
/// axum::serve(listener, app)
///     .with_graceful_shutdown(async { drop(shutdown::signal().await) })
///     .await?;
/// pool.drain(Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// What the system says: to the listener, or to who wants to receive signals.
///
/// # Cancel safety
///
/// Dropping the future stops accepting connections, and drains nothing.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use leadpool_axum::leadpool::Pool;
///
/// # async fn f(app: axum::Router<Pool>, pool: Pool) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
/// let app = app.with_state(pool.clone());
/// leadpool_axum::serve(listener, app, &pool, Duration::from_secs(20)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve<L, P>(listener: L, app: Router, pool: &P, limit: Duration) -> io::Result<()>
where
    L: Listener,
    L::Addr: Debug,
    P: WebPool,
{
    serve_until(listener, app, pool, limit, shutdown::signal()).await
}

/// [`serve`], until something else tells it to end.
///
/// # Errors
///
/// What the system says to the listener, and the error of `told`.
///
/// # Cancel safety
///
/// As [`serve`].
///
/// # Examples
///
/// ```no_run
/// use std::{future::pending, io, time::Duration};
/// use leadpool_axum::leadpool::Pool;
///
/// # async fn f(listener: tokio::net::TcpListener, app: axum::Router, pool: Pool) -> io::Result<()> {
/// let never = pending::<io::Result<()>>();
/// leadpool_axum::serve_until(listener, app, &pool, Duration::from_secs(20), never).await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve_until<L, P>(
    listener: L,
    app: Router,
    pool: &P,
    limit: Duration,
    told: impl Future<Output = io::Result<()>>,
) -> io::Result<()>
where
    L: Listener,
    L::Addr: Debug,
    P: WebPool,
{
    let (end, ending) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        // Told, or nobody is left to tell.
        let _ = ending.await;
    });
    let mut serving = pin!(serving.into_future());
    tokio::select! {
        served = &mut serving => return served,
        told = told => told?,
    }
    let until = Instant::now() + limit;
    drop(end);
    end_streams(pool.cluster());
    let served = timeout_at(until, serving).await;
    pool.drain(until.saturating_duration_since(Instant::now()))
        .await;
    // What took longer is given up.
    served.unwrap_or(Ok(()))
}
