//! A host that goes silent in a given phase of a session's opening.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How far a session gets before the host falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// As far as the client likes.
    Open,
    /// It is accepted, and hears nothing.
    Accepted,
    /// TLS is asked for, and the question not answered.
    TlsRequest,
    /// TLS is granted, and the handshake not answered.
    TlsHandshake,
    /// A password is asked for, and the answer not answered.
    Authentication,
    /// The login is accepted, and nothing follows.
    LoggedIn,
    /// Everything is told but that the server is ready.
    NotReady,
    /// The session is open, and the first request not answered.
    FirstStatement,
}

/// Codes of PostgreSQL's protocol
/// ([PostgreSQL documentation, section 55.7](https://www.postgresql.org/docs/current/protocol-message-formats.html)).
const SSL_REQUEST: u32 = 80_877_103;
const ASK_SASL: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

/// Stands between clients and a server.
pub(crate) struct Stalling {
    addr: SocketAddr,
    phase: Arc<Mutex<(Phase, Whom)>>,
    accepted: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Everybody,
    /// All but the monitor, so that the host is taken for a healthy one.
    Application,
}

impl Stalling {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let phase = Arc::new(Mutex::new((Phase::Open, Whom::Everybody)));
        let shared = phase.clone();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (phase, whom) = *shared.lock().unwrap();
                sessions.spawn(async move {
                    // Whoever is kept waiting may hang up.
                    let _ = session(client, server, phase, whom).await;
                });
            }
        });
        Self {
            addr,
            phase,
            accepted,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:any@{}/postgres", self.addr)
    }

    /// How many connections have been opened.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From the next session on.
    pub(crate) fn stall(&self, phase: Phase, whom: Whom) {
        *self.phase.lock().unwrap() = (phase, whom);
    }
}

async fn session(
    mut client: TcpStream,
    server: SocketAddr,
    phase: Phase,
    whom: Whom,
) -> io::Result<()> {
    let everybody = whom == Whom::Everybody;
    if phase == Phase::Accepted && everybody {
        return stall(client).await;
    }
    let (mut code, mut startup) = first_message(&mut client).await?;
    if code == SSL_REQUEST {
        match phase {
            Phase::TlsRequest => return stall(client).await,
            Phase::TlsHandshake => {
                client.write_all(b"S").await?;
                return stall(client).await;
            }
            _ => client.write_all(b"N").await?,
        }
        (code, startup) = first_message(&mut client).await?;
    }
    assert_eq!(code >> 16, 3, "the start-up message");
    let is_monitor = startup.windows(16).any(|part| part == b"leadpool monitor");
    let phase = if everybody || !is_monitor {
        phase
    } else {
        Phase::Open
    };
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&startup).await?;
    match phase {
        Phase::Open => {
            copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
        Phase::Accepted => {}
        Phase::TlsRequest | Phase::TlsHandshake => panic!("the client did not ask for TLS"),
        Phase::Authentication => client.write_all(ASK_SASL).await?,
        Phase::LoggedIn => {
            let (_, granted) = message(&mut server).await?;
            client.write_all(&granted).await?;
        }
        Phase::NotReady | Phase::FirstStatement => loop {
            let (kind, bytes) = message(&mut server).await?;
            if kind == b'Z' && phase == Phase::NotReady {
                break;
            }
            client.write_all(&bytes).await?;
            if kind == b'Z' {
                break;
            }
        },
    }
    stall(client).await
}

/// Takes what comes, and says nothing.
async fn stall(mut client: TcpStream) -> io::Result<()> {
    let mut sink = [0; 1024];
    while client.read(&mut sink).await? > 0 {}
    Ok(())
}

/// The first message of a session has no type: its code, and the whole of it.
async fn first_message(client: &mut TcpStream) -> io::Result<(u32, Vec<u8>)> {
    let length = client.read_u32().await?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.resize(length as usize, 0);
    client.read_exact(&mut bytes[4..]).await?;
    let code = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
    Ok((code, bytes))
}

async fn message(server: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let kind = server.read_u8().await?;
    let length = server.read_u32().await?;
    let mut bytes = vec![kind];
    bytes.extend(length.to_be_bytes());
    bytes.resize(length as usize + 1, 0);
    server.read_exact(&mut bytes[5..]).await?;
    Ok((kind, bytes))
}
