//! A wire that counts what passes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

use crate::rivals::Error;

/// Messages that ask the server to run a statement
/// ([Message Formats](https://www.postgresql.org/docs/current/protocol-message-formats.html)).
const QUERY: u8 = b'Q';
const EXECUTE: u8 = b'E';
/// Asks for TLS, or for encryption by GSSAPI: what begins the session comes after it.
const ASKS_FIRST: [[u8; 4]; 2] = [80_877_103_u32.to_be_bytes(), 80_877_104_u32.to_be_bytes()];

/// Passes everything on to one server, and counts bytes and statements. Ends when it is dropped.
///
/// ```no_run
/// # async fn f(server: std::net::SocketAddr) -> Result<(), leadpool_benches::Error> {
/// let tap = leadpool_benches::Tap::start(server).await?;
/// // ... somebody connects to `tap.addr()`
/// assert_eq!(tap.counts().now().statements, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tap {
    addr: SocketAddr,
    counts: Arc<Counts>,
    acceptor: JoinHandle<()>,
}

/// What a [`Tap`] counts, for whoever looks from another thread.
///
/// ```
/// use leadpool_benches::{Counted, Counts};
///
/// assert_eq!(Counts::default().now(), Counted::default());
/// ```
#[derive(Debug, Default)]
pub struct Counts {
    bytes: AtomicU64,
    statements: AtomicU64,
    connections: AtomicU64,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// In both directions, TCP's own not counted.
    pub bytes: u64,
    /// Simple queries, and executions of the extended protocol.
    pub statements: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Tap {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn start(server: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by the tap, which aborts it"
        )]
        let acceptor = tokio::spawn(accept(listener, server, counts.clone()));
        Ok(Self {
            addr,
            counts,
            acceptor,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

impl Counts {
    /// What has passed so far.
    #[must_use]
    pub fn now(&self) -> Counted {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            bytes: get(&self.bytes),
            statements: get(&self.statements),
            connections: get(&self.connections),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, counts: Arc<Counts>) {
    // Dropped, and with it every connection, when the acceptor is aborted.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let counts = counts.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, &counts, Some(Messages::default())) => {}
                () = pass(from_server, to_client, &counts, None) => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    counts: &Counts,
    mut messages: Option<Messages>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let bytes = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => &buffer[..count],
        };
        counts
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(messages) = &mut messages {
            let statements = messages.statements(bytes);
            counts.statements.fetch_add(statements, Ordering::Relaxed);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// A client's messages, wherever the network has cut them.
#[derive(Default)]
struct Messages {
    /// The head of the next one, as far as it has come.
    head: Vec<u8>,
    /// What is still to come of the one before.
    rest: usize,
    /// Whether the session has begun: before that, messages have no type, but a code.
    begun: bool,
}

impl Messages {
    /// How many of those that begin here ask for a statement.
    fn statements(&mut self, mut bytes: &[u8]) -> u64 {
        let mut statements = 0;
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let head = if self.begun { 5 } else { 8 };
            let taken = (head - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.head.len() < head {
                return statements;
            }
            let at = usize::from(self.begun);
            let length = self.head[at..at + 4].iter();
            let length = length.fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            // The length counts itself, and not the type.
            self.rest = length.saturating_sub(head - at);
            if !self.begun {
                self.begun = !ASKS_FIRST.iter().any(|code| self.head[4..] == *code);
            } else if matches!(self.head[0], QUERY | EXECUTE) {
                statements += 1;
            }
            self.head.clear();
        }
        statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_wherever_they_are_cut() {
        let mut sent = b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec();
        sent.extend(b"\0\0\0\x0d\0\x03\0\0Q\0\0\0\0");
        sent.extend(b"Q\0\0\0\x06;\0");
        sent.extend(b"B\0\0\0\x06EQ");
        sent.extend(b"E\0\0\0\x09\0\0\0\0\0");
        sent.extend(b"S\0\0\0\x04");
        for size in 1..=sent.len() {
            let mut messages = Messages::default();
            let counted = sent.chunks(size).map(|chunk| messages.statements(chunk));
            assert_eq!(counted.sum::<u64>(), 2, "in pieces of {size}");
        }
    }
}
