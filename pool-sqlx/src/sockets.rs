//! The switch for sockets that sqlx keeps to itself.
//!
//! sqlx gives nobody its sockets, and sets neither keepalives nor a user timeout. On Linux a
//! process finds its sockets itself: it lists its own descriptors, duplicates each (so that it
//! can't become another one meanwhile), and compares their ends with what the server said of the
//! connection.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use leadpool::adapter::{Generation, Login};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere as system;

/// Both ends of a TCP connection, which no other one has at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
}

/// What the kernel is told of a connection.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    keepalives: bool,
    idle: Duration,
    interval: Option<Duration>,
    retries: Option<u32>,
    user_timeout: Option<Duration>,
}

/// Shuts down the sockets of generations that are aborted. One task, which ends with it.
pub(crate) struct Switch {
    aborted: mpsc::UnboundedSender<Arc<Sockets>>,
    task: JoinHandle<()>,
}

/// The sockets of one generation.
pub(crate) struct Sockets {
    host_port: u16,
    tuning: Tuning,
    known: Mutex<HashSet<Ends>>,
}

impl Switch {
    /// # Errors
    ///
    /// The system has no such thing, or does not allow it.
    pub(crate) fn new() -> Result<Self, String> {
        system::check()?;
        let (aborted, mut inbox) = mpsc::unbounded_channel::<Arc<Sockets>>();
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by the switch, which aborts it"
        )]
        let task = tokio::spawn(async move {
            while let Some(sockets) = inbox.recv().await {
                let known = std::mem::take(&mut *sockets.lock());
                if !known.is_empty() {
                    // A panic in it is the runtime's end; nothing depends on its answer.
                    drop(spawn_blocking(move || system::shut(&known)).await);
                }
            }
        });
        Ok(Self { aborted, task })
    }

    /// For the connections of a generation: they are shut down when it is aborted.
    pub(crate) fn sockets(&self, generation: &Generation) -> Arc<Sockets> {
        let login = Login::configured(generation.config(), generation.host());
        let login = login.driver();
        let sockets = Arc::new(Sockets {
            host_port: generation.host().port(),
            tuning: Tuning {
                keepalives: login.get_keepalives(),
                idle: login.get_keepalives_idle(),
                interval: login.get_keepalives_interval(),
                retries: login.get_keepalives_retries(),
                user_timeout: login.get_tcp_user_timeout().copied(),
            },
            known: Mutex::default(),
        });
        let (theirs, aborted) = (sockets.clone(), self.aborted.clone());
        // An error means that the pool is gone, and nobody holds anything of it.
        generation.when_aborted(move || drop(aborted.send(theirs)));
        sockets
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sockets {
    /// Takes charge of a connection: sets its keepalives, and shuts it down with its generation.
    /// `port` is its own, as the server sees it; without a socket that fits, nothing is done.
    pub(crate) async fn take_charge(self: &Arc<Self>, port: u16) {
        let sockets = self.clone();
        let looking = spawn_blocking(move || {
            let (host_port, tuning) = (sockets.host_port, sockets.tuning);
            let (found, alive) = system::find(port, host_port, &tuning);
            let mut known = sockets.lock();
            known.retain(|ends| alive.contains(ends));
            known.extend(found);
            found.is_some()
        });
        if !matches!(looking.await, Ok(true)) {
            tracing::debug!(
                target: "leadpool::checkout",
                port,
                "no socket of this process has the port that the server sees: the switch does \
                 not cover this connection"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Ends>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
