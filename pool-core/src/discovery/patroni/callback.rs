//! An endpoint for Patroni's callbacks.

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};

use super::PatroniError;
use crate::{discovery::is_patroni_call, observe::rows};

/// The longest body. A call takes about 40 bytes.
const LONGEST_BODY: usize = 4 << 10;

/// The longest head: what curl sends takes about 150 bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// How long a request may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// How many connections are served at once; others wait in the system's queue.
const MOST_CONNECTIONS: usize = 32;

/// How long to rest when no connection can be accepted, for want of file descriptors above all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Hears Patroni's callbacks: a small HTTP server.
///
/// Each call makes it run a closure, which should make the cluster look at its hosts. A call
/// proves nothing and changes no role. See the [page on Patroni](super) for the script that
/// Patroni runs.
///
/// It answers `204` to a `POST`, on whatever path, that holds the three words which Patroni gives
/// its callbacks (`on_role_change primary batman`) as its body or its query string; and a `4xx`
/// with a sentence to anything else. A body may have 4 KiB, a request takes at most 5 s, and 32
/// are served at once.
///
/// It speaks plain HTTP. Let it listen where only the database hosts come, and set a
/// [`token`](Self::token).
///
/// ```
/// # async fn f(look: impl Fn() + Send + Sync + 'static)
/// #     -> Result<(), leadpool::discovery::patroni::PatroniError> {
/// use leadpool::discovery::patroni::PatroniCallback;
///
/// let callbacks = PatroniCallback::bind("127.0.0.1:9000").await?;
/// let guard = callbacks.token("secret")?.run(look);
/// // ... as long as the application runs; then:
/// drop(guard);
/// # Ok(())
/// # }
/// ```
pub struct PatroniCallback {
    listener: TcpListener,
    addr: SocketAddr,
    authorization: Option<HeaderValue>,
}

impl PatroniCallback {
    /// Begins to listen, on `address:port` or `name:port`. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`PatroniError::Listen`] with what the system said.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn bind(addr: impl fmt::Display) -> Result<Self, PatroniError> {
        let addr = addr.to_string();
        let listen = async {
            let listener = TcpListener::bind(&addr).await?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = listen
            .await
            .map_err(|source| PatroniError::Listen { addr, source })?;
        Ok(Self {
            listener,
            addr,
            authorization: None,
        })
    }

    /// Wants this token with each call: `Authorization: Bearer <token>`.
    ///
    /// # Errors
    ///
    /// [`PatroniError::Credentials`] when it is empty or can't stand in a header.
    pub fn token(mut self, token: impl AsRef<str>) -> Result<Self, PatroniError> {
        let token = token.as_ref();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PatroniError::Credentials {
                key: "token",
                problem: "must be printable ASCII without spaces, and not empty",
            });
        }
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut header = header.map_err(|_| PatroniError::Credentials {
            key: "token",
            problem: "can't be sent in a header",
        })?;
        header.set_sensitive(true);
        self.authorization = Some(header);
        Ok(self)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs `on_call` once for each call, until the guard is dropped. It must not block.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn run(self, on_call: impl Fn() + Send + Sync + 'static) -> CallbackGuard {
        let addr = self.addr;
        let service = Arc::new(Service {
            authorization: self.authorization,
            on_call: Box::new(on_call),
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by `CallbackGuard`, which aborts it"
        )]
        let task = tokio::spawn(accept(self.listener, service));
        CallbackGuard { addr, task }
    }
}

impl fmt::Debug for PatroniCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatroniCallback")
            .field("addr", &self.addr)
            .field("has_token", &self.authorization.is_some())
            .finish_non_exhaustive()
    }
}

/// Keeps a [`PatroniCallback`] running. Dropping it stops it and closes its connections.
///
/// ```
/// # async fn f() -> Result<(), leadpool::discovery::patroni::PatroniError> {
/// use leadpool::discovery::patroni::PatroniCallback;
///
/// let guard = PatroniCallback::bind("127.0.0.1:0").await?.run(|| println!("called"));
/// println!("listening on {}", guard.local_addr());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the endpoint"]
pub struct CallbackGuard {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl CallbackGuard {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for CallbackGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    /// Marked as sensitive, so that it never prints.
    authorization: Option<HeaderValue>,
    on_call: Box<dyn Fn() + Send + Sync>,
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    // Ends its connections when this task ends.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => {
                if ended.is_err() {
                    tracing::event!(
                        name: rows::CALLBACK_PANICKED.name,
                        target: rows::CALLBACK_PANICKED.target,
                        rows::CALLBACK_PANICKED.level,
                        "the closure that a Patroni callback runs has panicked"
                    );
                }
            }
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, service.clone()));
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, service: Arc<Service>) {
    let deadline = Instant::now() + ARRIVES_WITHIN;
    let answer = service_fn(|request| {
        let service = &service;
        async move { Ok::<_, Infallible>(service.answer(request, deadline).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    // A caller that goes away, or says nothing, concerns nobody.
    drop(timeout_at(deadline + LEAVES_WITHIN, connection).await);
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, deadline: Instant) -> Response<Full<Bytes>> {
        match self.call(request, deadline).await {
            Ok(()) => {
                (self.on_call)();
                answer(StatusCode::NO_CONTENT, "")
            }
            Err(refusal) => refusal,
        }
    }

    async fn call(
        &self,
        request: Request<Incoming>,
        deadline: Instant,
    ) -> Result<(), Response<Full<Bytes>>> {
        if !self.is_authorized(&request) {
            let mut refusal = answer(
                StatusCode::UNAUTHORIZED,
                "send the token: Authorization: Bearer <token>\n",
            );
            let scheme = HeaderValue::from_static("Bearer");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            return Err(refusal);
        }
        if request.method() != Method::POST {
            let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, "send a POST\n");
            let methods = HeaderValue::from_static("POST");
            refusal.headers_mut().insert(ALLOW, methods);
            return Err(refusal);
        }
        let query = request.uri().query().unwrap_or_default().replace('+', " ");
        let query = percent_decode_str(&query).decode_utf8_lossy().into_owned();
        let body = Limited::new(request.into_body(), LONGEST_BODY).collect();
        let body = match timeout_at(deadline, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(answer(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body may have 4096 bytes\n",
                ));
            }
            Ok(Err(_)) => return Err(answer(StatusCode::BAD_REQUEST, "the body broke off\n")),
            Err(_) => {
                return Err(answer(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not arrive within 5 s\n",
                ));
            }
        };
        if is_patroni_call(&String::from_utf8_lossy(&body)) || is_patroni_call(&query) {
            Ok(())
        } else {
            Err(answer(
                StatusCode::BAD_REQUEST,
                "send what Patroni gives its callbacks, action, role and scope: \
                 on_role_change primary batman\n",
            ))
        }
    }

    fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        let Some(expected) = &self.authorization else {
            return true;
        };
        let given = request.headers().get(AUTHORIZATION);
        given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into())
    }
}

fn answer(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
