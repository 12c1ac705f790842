//! A TCP proxy that misbehaves on command.

mod pump;
mod trigger;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
pub use trigger::{Moment, Trigger};

use crate::{Error, address::listen};

/// A TCP proxy in front of one server: cuts, refuses, goes silent, delays, or breaks off at a
/// given message.
///
/// It listens on 127.0.0.1. Dropping it closes everything.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let cluster = leadpool_testkit::Cluster::builder().proxies(true).start().await?;
/// cluster.proxy(0)?.black_hole(); // the primary's network goes silent
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    target: Mutex<SocketAddr>,
    pub(crate) mode: watch::Sender<Mode>,
    trigger: Mutex<Option<Trigger>>,
    connections: AtomicUsize,
    turns: AtomicU64,
}

/// How soon a proxy tries again to listen where it listened before.
const REBIND: Duration = Duration::from_millis(5);

/// What the proxy does with what arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    refuse: bool,
    pub(crate) silent: bool,
    pub(crate) to_server: Duration,
    pub(crate) to_client: Duration,
    /// Grows with each cut: connections begun under a lower number end.
    pub(crate) cut: u64,
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(target: SocketAddr) -> Result<Self, Error> {
        let listener = listen(Ipv4Addr::LOCALHOST.into())?;
        let ready = listener
            .local_addr()
            .and_then(|addr| listener.set_nonblocking(true).map(|()| addr))
            .and_then(|addr| Ok((addr, TcpListener::from_std(listener)?)));
        let (addr, listener) = ready.map_err(Error::io("the proxy's port"))?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            mode: watch::Sender::new(Mode::default()),
            trigger: Mutex::new(None),
            connections: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by the proxy, which aborts it"
        )]
        let acceptor = tokio::spawn(accept(addr, listener, shared.clone()));
        Ok(Self {
            addr,
            shared,
            acceptor,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends new connections elsewhere.
    pub fn set_target(&self, target: SocketAddr) {
        *self.shared.lock_target() = target;
    }

    /// Goes back to passing everything on at once. What a black hole has swallowed is passed on
    /// now, as by a network that has healed.
    pub fn pass(&self) {
        self.shared.lock_trigger().take();
        self.shared.mode.send_modify(|mode| {
            let cut = mode.cut;
            *mode = Mode {
                cut,
                ..Mode::default()
            };
        });
    }

    /// Closes all connections; new ones pass.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Closes all connections and refuses new ones (ECONNREFUSED).
    pub fn refuse(&self) {
        self.shared.mode.send_modify(|mode| {
            mode.refuse = true;
            mode.cut += 1;
        });
    }

    /// Goes silent: connections stay open, new ones are accepted, nothing is passed on.
    pub fn black_hole(&self) {
        self.shared.mode.send_modify(|mode| mode.silent = true);
    }

    /// Delays what is passed on, each way, without changing order or pipelining: what arrives
    /// together leaves together. Exact to some ten microseconds on a machine that has time.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.shared.mode.send_modify(|mode| {
            mode.to_server = to_server;
            mode.to_client = to_client;
        });
    }

    /// Cuts the next connection on which a client's message matches, once.
    pub fn cut_at(&self, trigger: Trigger) {
        *self.shared.lock_trigger() = Some(trigger);
    }

    /// How many connections pass through it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often the direction of traffic has turned from the server's answers to a client's
    /// requests, over all connections: the number of network round trips.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

impl Shared {
    fn lock_target(&self) -> MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_trigger(&self) -> MutexGuard<'_, Option<Trigger>> {
        self.trigger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        self.mode.send_modify(|mode| mode.cut += 1);
    }

    pub(crate) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the trigger if the message matches.
    pub(crate) fn triggered(&self, message: &[u8]) -> Option<Trigger> {
        let mut trigger = self.lock_trigger();
        if trigger.as_ref()?.matches(message) {
            return trigger.take();
        }
        None
    }
}

async fn accept(addr: SocketAddr, listener: TcpListener, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    // Dropped, and with it every connection, when the acceptor is aborted.
    let mut connections = JoinSet::new();
    loop {
        let refuse = mode.borrow_and_update().refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(addr).await.ok();
        }
        // The old socket may live on for a moment, in a process that is just being started.
        let again = !refuse && listener.is_none();
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = next => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, shared.clone()));
                }
            }
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = connections.join_next() => {}
            () = tokio::time::sleep(REBIND), if again => {}
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let born = mode.borrow_and_update().cut;
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let target = *shared.lock_target();
    let serve = async {
        // A black hole accepts, and that is all.
        let awake = mode.wait_for(|mode| !mode.silent).await.is_ok();
        if !awake {
            return;
        }
        if let Ok(server) = TcpStream::connect(target).await {
            pump::both(client, server, &shared).await;
        }
    };
    let mut cuts = shared.mode.subscribe();
    tokio::select! {
        () = serve => {}
        _ = cuts.wait_for(|mode| mode.cut > born) => {}
    }
    shared.connections.fetch_sub(1, Ordering::Relaxed);
}
