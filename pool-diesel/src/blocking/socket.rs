//! The socket of a connection, which libpq and diesel keep to themselves.
//!
//! On Linux it is [found](adapter::Socket) by what the server says of the connection. The duplicate
//! is kept beside the connection and closed with it.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use leadpool::adapter::{self, Generation};

/// That of one connection.
pub(super) struct Socket {
    duplicate: adapter::Socket,
    is_shut: AtomicBool,
}

impl Socket {
    /// Ends what is in flight, in whichever thread.
    pub(super) fn shut(&self) {
        self.is_shut.store(true, Ordering::Release);
        self.duplicate.shut();
    }

    /// Whether that was done. Asks nobody.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Acquire)
    }

    /// Whether the other side has ended the connection. Asks the kernel, not the network.
    pub(super) fn is_ended(&self) -> bool {
        self.duplicate.is_ended()
    }
}

/// The sockets of one generation, which are shut down when it is aborted.
#[derive(Clone, Default)]
pub(super) struct Sockets(Arc<Mutex<Vec<Weak<Socket>>>>);

impl Sockets {
    pub(super) fn of(generation: &Generation) -> Self {
        let sockets = Self::default();
        let theirs = sockets.clone();
        // A shutdown waits for nobody.
        generation.when_aborted(move || theirs.shut());
        sockets
    }

    /// Takes charge of the connection whose port on this side the server sees as `local`. `None`
    /// if it can't be found: then nothing can end what is in flight on it.
    pub(super) fn take_charge(&self, local: u16, peer: u16) -> Option<Arc<Socket>> {
        let socket = Arc::new(Socket {
            duplicate: adapter::Socket::find(local, peer)?,
            is_shut: AtomicBool::new(false),
        });
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(&socket));
        Some(socket)
    }

    fn shut(&self) {
        let sockets = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            socket.shut();
        }
    }
}

/// Ends what is in flight on a connection when it is dropped, unless the thread in which that waits
/// has taken its [fuse](Self::fuse) out before.
pub(super) struct Kill(Arc<Mutex<Option<Arc<Socket>>>>);

/// What whoever uses the connection takes out of a [`Kill`], before others may use it.
pub(super) struct Fuse(Arc<Mutex<Option<Arc<Socket>>>>);

impl Kill {
    pub(super) fn new(socket: Option<Arc<Socket>>) -> Self {
        Self(Arc::new(Mutex::new(socket)))
    }

    pub(super) fn fuse(&self) -> Fuse {
        Fuse(self.0.clone())
    }
}

impl Fuse {
    /// Nothing is in flight any more.
    pub(super) fn take_out(self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Kill {
    fn drop(&mut self) {
        if let Some(socket) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            socket.shut();
        }
    }
}
