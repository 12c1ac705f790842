//! One question to one Patroni: `GET /cluster`, bounded in time and memory.

use std::{error::Error as StdError, io, pin::pin};

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue, LOCATION, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Members, PatroniError, endpoint::Endpoint, members::quote, tls::Tls};
use crate::error::BoxError;

/// The longest body. 100 members take about 40 KiB.
const LONGEST_BODY: usize = 1 << 20;

/// The longest head. Patroni's takes about 150 bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// Asks, with the credentials it is given.
#[derive(Default)]
pub(super) struct Client {
    pub(super) tls: Tls,
    /// Marked as sensitive, so that it never prints.
    pub(super) authorization: Option<HeaderValue>,
}

impl Client {
    /// Whether answers could send something secret somewhere.
    pub(super) fn has_credentials(&self) -> bool {
        self.authorization.is_some() || self.tls.has_client_certificate()
    }

    /// Asks for the members.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connection.
    pub(super) async fn members(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Members, PatroniError> {
        let begun = Instant::now();
        let body = timeout_at(deadline, self.get(endpoint)).await;
        let body = body.map_err(|_| PatroniError::Silent {
            url: endpoint.to_string(),
            within: deadline - begun,
        })??;
        Members::parse(&body).map_err(|source| PatroniError::Answer {
            url: endpoint.to_string(),
            source,
        })
    }

    async fn get(&self, endpoint: &Endpoint) -> Result<Bytes, PatroniError> {
        let stream = TcpStream::connect((endpoint.host(), endpoint.port()))
            .await
            .map_err(|source| PatroniError::Connect {
                url: endpoint.to_string(),
                source,
            })?;
        if !endpoint.is_https() {
            return self.exchange(endpoint, stream).await;
        }
        let failed = |source| PatroniError::Tls {
            url: endpoint.to_string(),
            source,
        };
        let name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|error| failed(io::Error::other(error)))?;
        let connector = self.tls.connector().await?;
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        self.exchange(endpoint, stream).await
    }

    async fn exchange<S>(&self, endpoint: &Endpoint, stream: S) -> Result<Bytes, PatroniError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error| http_error(endpoint, error);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LONGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut answer = pin!(self.ask(endpoint, sender));
        let mut connection = pin!(connection);
        // The connection does nothing by itself, and may end before its last bytes are taken.
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = &mut connection => {}
        }
        answer.await
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        mut sender: http1::SendRequest<Empty<Bytes>>,
    ) -> Result<Bytes, PatroniError> {
        let mut request = Request::get("/cluster")
            .header(HOST, endpoint.authority())
            .header(USER_AGENT, concat!("leadpool/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| http_error(endpoint, error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| http_error(endpoint, error))?;
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(LOCATION);
            let location = location.map_or(b"".as_slice(), |location| location.as_bytes());
            let location = String::from_utf8_lossy(location);
            return Err(PatroniError::Redirect {
                url: endpoint.to_string(),
                status: status.as_u16(),
                location: quote(&location),
            });
        }
        if status != StatusCode::OK {
            return Err(PatroniError::Status {
                url: endpoint.to_string(),
                status: status.as_u16(),
            });
        }
        let body = Limited::new(response.into_body(), LONGEST_BODY)
            .collect()
            .await;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(PatroniError::TooLong {
                url: endpoint.to_string(),
                limit: LONGEST_BODY,
            }),
            Err(error) => Err(http_error(endpoint, error)),
        }
    }
}

fn http_error(endpoint: &Endpoint, error: impl Into<BoxError>) -> PatroniError {
    let source = error.into();
    let mut problem = source.to_string();
    let mut cause: Option<&dyn StdError> = source.source();
    while let Some(error) = cause {
        problem = format!("{problem}: {error}");
        cause = error.source();
    }
    PatroniError::Http {
        url: endpoint.to_string(),
        problem: quote(&problem),
        source,
    }
}
