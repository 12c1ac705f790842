//! The limit: connections without a pool.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Mutex;

use super::{Error, peer::Peer, prepared::Prepared};

/// Hands out open connections in turn, without asking whether somebody has them: statements of
/// several tasks go over one connection together.
#[derive(Clone)]
pub(super) struct Held {
    connections: Arc<Vec<Prepared>>,
    next: Arc<AtomicUsize>,
    /// For transactions, which need a connection of their own: one after the other.
    alone: Arc<Mutex<Prepared>>,
}

impl Held {
    pub(super) async fn open(url: &str, size: usize) -> Result<Self, Error> {
        let config = url.parse()?;
        let mut connections = Vec::with_capacity(size);
        for _ in 0..size {
            connections.push(Prepared::connect(&config).await?);
        }
        Ok(Self {
            connections: Arc::new(connections),
            next: Arc::default(),
            alone: Arc::new(Mutex::new(Prepared::connect(&config).await?)),
        })
    }
}

impl Peer for Held {
    type Conn = (Arc<Vec<Prepared>>, usize);

    async fn get(&self) -> Result<Self::Conn, Error> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        Ok((self.connections.clone(), next))
    }

    async fn select_one((connections, which): &mut Self::Conn) -> Result<(), Error> {
        connections[*which].select_one().await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        self.alone.lock().await.transaction(inserts).await
    }
}
