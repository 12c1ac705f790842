//! Talking HTTP to Patroni and etcd.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a REST API answered.
///
/// ```no_run
/// # async fn f(servers: leadpool_testkit::PatroniCluster) -> Result<(), leadpool_testkit::Error> {
/// let answer = servers.rest(0, "GET", "/health", None).await?;
/// assert_eq!(answer.status, 200, "{}", answer.body);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestAnswer {
    /// The HTTP status, for instance 503 for `/primary` at a standby.
    pub status: u16,
    /// Mostly JSON; a sentence where something is refused.
    pub body: String,
}

/// Where a server listens, and with TLS the authority that signed its certificate.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) addr: SocketAddr,
    pub(super) ca: Option<PathBuf>,
}

impl Endpoint {
    /// Asks once, with HTTP 1.0, so that the end of the connection is the end of the answer. The
    /// caller bounds it.
    pub(super) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> io::Result<RestAnswer> {
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let answer = match &self.ca {
            None => plain(self.addr, &request).await?,
            Some(ca) => encrypted(self.addr, ca, &request).await?,
        };
        parse(&answer)
    }
}

async fn plain(addr: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Through the program that has made the certificate: a TLS library would be most of this crate,
/// for a handful of requests.
async fn encrypted(addr: SocketAddr, ca: &Path, request: &str) -> io::Result<Vec<u8>> {
    let mut child = tokio::process::Command::new("openssl")
        // `-quiet` also keeps it from ending with its input.
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
        .arg(ca)
        .args(["-verify_ip", &addr.ip().to_string()])
        .args(["-connect", &addr.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It may have ended, for lack of a server: its output tells.
        let _ = input.write_all(request.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if output.stdout.is_empty() {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, errors));
    }
    Ok(output.stdout)
}

fn parse(answer: &[u8]) -> io::Result<RestAnswer> {
    let text = String::from_utf8_lossy(answer);
    let parts = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body))
    });
    let (status, body) =
        parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?}")))?;
    Ok(RestAnswer {
        status,
        body: body.to_owned(),
    })
}
