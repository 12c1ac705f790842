//! What lies over the driver's socket: TLS, or nothing.

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect},
};
use tokio_rustls::{
    client::TlsStream as RustlsStream,
    rustls::{
        self, SignatureScheme,
        client::ResolvesClientCert,
        pki_types::{IpAddr, Ipv4Addr, ServerName},
        sign::CertifiedKey,
    },
};

use super::{answers::Answers, auth_watch::Watched};
use crate::{
    config::{Config, SslCertMode, SslNegotiation},
    credentials::RequireAuth,
    error::BoxError,
    tls::{self, Files, TlsError},
};

/// Encrypts what the driver opens, as the pool's configuration says: for
/// [`CancelToken::cancel_query`](tokio_postgres::CancelToken::cancel_query), which opens a
/// connection of its own.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let client = pool.get().await?;
/// let token = client.cancel_token();
/// let query = client.simple_query("SELECT pg_sleep(3600)");
/// let cancel = async {
///     token.cancel_query(pool.tls_connector()).await // from anywhere, once the query runs
/// };
/// # drop((query, cancel));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConnector {
    /// `None` where TLS is switched off.
    files: Option<Arc<Files>>,
    is_direct: bool,
    wants_request: bool,
    /// Which ways to log in are allowed; `None`: all.
    require_auth: Option<RequireAuth>,
    /// Where answers are noted, if they are.
    answers: Option<Arc<Answers>>,
    /// Whether the socket stays as it is.
    is_plain: bool,
    /// Whether a handshake has begun.
    began: Arc<AtomicBool>,
}

impl TlsConnector {
    /// With TLS unless `files` has nothing for it.
    pub(crate) fn new(files: Option<&Arc<Files>>, config: &Config) -> Self {
        let settings = config.tls();
        Self {
            files: files.cloned(),
            is_direct: settings.ssl_negotiation == SslNegotiation::Direct,
            wants_request: settings.ssl_cert_mode == SslCertMode::Require,
            require_auth: config.require_auth_methods().cloned(),
            answers: None,
            is_plain: false,
            began: Arc::default(),
        }
    }

    /// The same, with answers noted.
    pub(super) fn noting(self, answers: Option<&Arc<Answers>>) -> Self {
        Self {
            answers: answers.cloned(),
            ..self
        }
    }

    /// One that leaves the socket as it is, and only reads along how the server lets the client
    /// in, or what it answers; `None` if there is nothing to see to.
    pub(super) fn watching(&self) -> Option<Self> {
        (self.require_auth.is_some() || self.answers.is_some()).then(|| Self {
            began: Arc::default(),
            ..self.clone().plain()
        })
    }

    /// One that leaves the socket as it is.
    pub(crate) fn plain(self) -> Self {
        Self {
            is_plain: true,
            ..self
        }
    }

    /// Whether a server was found to speak TLS.
    pub(super) fn began(&self) -> bool {
        self.began.load(Ordering::Acquire)
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl MakeTlsConnect<Socket> for TlsConnector {
    type Stream = Watched<Secured>;
    type TlsConnect = Handshake;
    type Error = std::convert::Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake {
            connector: self.clone(),
            host: host.to_owned(),
        })
    }
}

/// One handshake to come.
#[derive(Debug)]
#[expect(unnameable_types, reason = "the driver's trait makes it public")]
pub struct Handshake {
    connector: TlsConnector,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Watched<Secured>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Watched<Secured>, BoxError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        self.connector.began.store(true, Ordering::Release);
        Box::pin(async {
            let require_auth = self.connector.require_auth.clone();
            let answers = self.connector.answers.clone();
            if let Some(answers) = &answers {
                answers.note_stream(self.connector.is_plain);
            }
            let stream = match self.connector.is_plain {
                true => Secured::Plain(socket),
                false => Secured::Tls(Box::new(self.run(socket).await?)),
            };
            Ok(Watched::new(stream, require_auth, answers))
        })
    }
}

impl Handshake {
    async fn run(self, socket: Socket) -> Result<TlsStream, BoxError> {
        let Self { connector, host } = self;
        let Some(files) = &connector.files else {
            return Err(TlsError::SwitchedOff.into());
        };
        // What can be no name in a certificate is not told, and is nobody's.
        let name = ServerName::try_from(host)
            .unwrap_or_else(|_| ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))));
        let mut config = files.config();
        let request = Arc::new(AtomicBool::new(!connector.wants_request));
        if connector.wants_request {
            let own = Arc::make_mut(&mut config);
            own.client_auth_cert_resolver = Arc::new(Noting {
                resolver: own.client_auth_cert_resolver.clone(),
                asked: request.clone(),
            });
        }
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, socket)
            .await
            .map_err(|error| explain(error, connector.is_direct))?;
        if connector.is_direct && stream.get_ref().1.alpn_protocol().is_none() {
            return Err(TlsError::NoAlpn.into());
        }
        if !request.load(Ordering::Acquire) {
            return Err(TlsError::NotAsked.into());
        }
        Ok(TlsStream(stream))
    }
}

/// An error that comes from TLS itself says so; one of the network stays what it is.
fn explain(error: io::Error, is_direct: bool) -> BoxError {
    let by_tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(tls) = by_tls.and_then(TlsError::of_rustls) {
        return tls.into();
    }
    match is_direct {
        // What an older server does with a first message that it does not understand.
        true => io::Error::new(
            error.kind(),
            format!("{error}; `sslnegotiation=direct` needs PostgreSQL 17"),
        )
        .into(),
        false => error.into(),
    }
}

/// What the peer said in an alert, on a connection that was open already: of a client certificate
/// TLS 1.3 judges only then.
pub(super) fn alert(error: &io::Error) -> Option<TlsError> {
    match error.get_ref()?.downcast_ref()? {
        alert @ rustls::Error::AlertReceived(_) => TlsError::of_rustls(alert),
        _ => None,
    }
}

/// Notes whether a certificate was asked for.
#[derive(Debug)]
struct Noting {
    resolver: Arc<dyn ResolvesClientCert>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Noting {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Release);
        self.resolver.resolve(issuers, schemes)
    }

    fn has_certs(&self) -> bool {
        self.resolver.has_certs()
    }
}

/// A connection, encrypted or not.
#[derive(Debug)]
#[expect(unnameable_types, reason = "the driver's trait makes it public")]
pub enum Secured {
    /// The socket as it is.
    Plain(Socket),
    /// TLS over it. Apart, since it is large, and most of its state is seldom touched.
    Tls(Box<TlsStream>),
}

impl tokio_postgres::tls::TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Tls(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// An encrypted connection.
#[expect(unnameable_types, reason = "the driver's trait makes it public")]
pub struct TlsStream(RustlsStream<Socket>);

impl TlsStream {
    /// A server that refuses a client certificate of TLS 1.3 says so when it has been written to
    /// already, and closes. What it said can still be read then, and explains what could not be
    /// written.
    fn explained<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) if is_cut_off(&error) => {
                let mut byte = [0];
                let said = Pin::new(&mut self.0).poll_read(cx, &mut ReadBuf::new(&mut byte));
                Poll::Ready(Err(match said {
                    Poll::Ready(Err(said)) if alert(&said).is_some() => said,
                    _ => error,
                }))
            }
            written => written,
        }
    }
}

fn is_cut_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl tokio_postgres::tls::TlsStream for TlsStream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        certificates
            .and_then(|chain| tls::end_point(chain.first()?))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, buf);
        self.explained(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(cx, bufs);
        self.explained(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.0).poll_flush(cx);
        self.explained(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
