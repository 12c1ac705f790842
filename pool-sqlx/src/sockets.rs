//! The switch for sockets that sqlx keeps to itself.
//!
//! sqlx gives nobody its sockets, and sets neither keepalives nor a user timeout. On Linux they are
//! [found](Socket) all the same, by what the server says of the connection. No duplicate is kept:
//! it would keep the connection open.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use leadpool::adapter::{Generation, Login, Socket};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

/// Both ends of a TCP connection, which no other one has at the same time.
type Ends = (SocketAddr, SocketAddr);

/// Shuts down the sockets of generations that are aborted. One task, which ends with it.
pub(crate) struct Switch {
    aborted: mpsc::UnboundedSender<Arc<Sockets>>,
    task: JoinHandle<()>,
}

/// The sockets of one generation.
pub(crate) struct Sockets {
    host_port: u16,
    login: Login,
    known: Mutex<HashSet<Ends>>,
}

impl Switch {
    /// # Errors
    ///
    /// The system has no such thing, or does not allow it.
    pub(crate) fn new() -> Result<Self, String> {
        Socket::check()
            .map_err(|why| format!("the socket switch: {why}; leave `socket_switch` off"))?;
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
                    drop(spawn_blocking(move || shut(&known)).await);
                }
            }
        });
        Ok(Self { aborted, task })
    }

    /// For the connections of a generation: they are shut down when it is aborted.
    pub(crate) fn sockets(&self, generation: &Generation) -> Arc<Sockets> {
        let sockets = Arc::new(Sockets {
            host_port: generation.host().port(),
            login: Login::configured(generation.config(), generation.host()),
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
            let socket = Socket::find(port, sockets.host_port)?;
            if let Err(error) = socket.keep_alive(&sockets.login) {
                tracing::debug!(target: "leadpool::checkout", %error, "a socket could not be tuned");
            }
            sockets.know(socket.ends());
            Some(())
        });
        if !matches!(looking.await, Ok(Some(()))) {
            tracing::debug!(
                target: "leadpool::checkout",
                port,
                "no socket of this process has the port that the server sees: the switch does \
                 not cover this connection"
            );
        }
    }

    /// Takes one in, and lets go of those that have ended.
    fn know(&self, ends: Ends) {
        let mut ended = self.lock().clone();
        Socket::each(|socket| {
            ended.remove(&socket.ends());
        });
        let mut known = self.lock();
        known.retain(|ends| !ended.contains(ends));
        known.insert(ends);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Ends>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuts down those that are still there.
fn shut(known: &HashSet<Ends>) {
    Socket::each(|socket| {
        if known.contains(&socket.ends()) {
            socket.shut();
        }
    });
}
