//! Ending a service in good order when it is told to.

use std::{io, time::Duration};

use tokio::signal;

use crate::{native::Pool, pool::Drained};

/// Waits for a signal to end: SIGTERM, as service managers and Kubernetes send it, or SIGINT
/// (Ctrl-C). Elsewhere than on Unix for Ctrl-C only.
///
/// From the first poll on these signals no longer end the process by themselves, also after the
/// future has been dropped.
///
/// # Errors
///
/// When the system does not let signals be received.
///
/// # Cancel safety
///
/// Nothing is lost when the future is dropped.
///
/// # Examples
///
/// For a server that knows how to end:
///
/// ```no_run
/// # struct Server;
/// # impl Server { async fn run_until<T>(&self, end: impl Future<Output = T>) { end.await; } }
/// # async fn f(server: Server, pool: leadpool::Pool) {
/// server.run_until(leadpool::shutdown::signal()).await;
/// pool.drain(std::time::Duration::from_secs(10)).await;
/// # }
/// ```
pub async fn signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal::unix::{SignalKind, signal};

        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }
    #[cfg(not(unix))]
    signal::ctrl_c().await
}

/// Waits for a [`signal`](signal()), then [drains](Pool::drain) the pool within that time.
///
/// Leave some of the time between the signal and the kill to what comes before and after
/// (Kubernetes gives 30 s).
///
/// # Errors
///
/// As [`signal`](signal()); nothing has been drained then.
///
/// # Cancel safety
///
/// As [`Pool::drain`].
///
/// # Examples
///
/// ```no_run
/// # async fn serve(pool: leadpool::Pool) {}
/// # async fn f(pool: leadpool::Pool) -> std::io::Result<()> {
/// use std::time::Duration;
/// use leadpool::shutdown;
///
/// tokio::select! {
///     () = serve(pool.clone()) => {}
///     drained = shutdown::on_signal(&pool, Duration::from_secs(20)) => {
///         println!("{} connections were aborted", drained?.aborted);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub async fn on_signal(pool: &Pool, within: Duration) -> io::Result<Drained> {
    signal().await?;
    Ok(pool.drain(within).await)
}
