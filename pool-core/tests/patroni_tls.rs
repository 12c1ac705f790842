//! Patroni's REST API over TLS: whom to trust, and who we are.

#![cfg(feature = "patroni")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use leadpool::discovery::{
    Found,
    patroni::{Patroni, PatroniError},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
    },
};

const TRUE_ANSWER: &str = include_str!("data/patroni-4.1.5.json");

/// As long as a test may take.
const LONG: Duration = Duration::from_secs(20);

/// A certificate authority of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, and its key.
    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A server on loopback with a certificate for this name; it ends when it is dropped.
struct Server {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    /// With `clients`, only they are answered who have a certificate of theirs.
    async fn start(authority: &Authority, name: &str, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = authority.sign(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let answer = format!("HTTP/1.0 200 OK\r\n\r\n{TRUE_ANSWER}");
                // Who asked may hang up.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            addr,
            _tasks: tasks,
        }
    }

    fn patroni(&self) -> Patroni {
        Patroni::new([format!("https://{}", self.addr)]).unwrap()
    }
}

async fn ask(patroni: Patroni) -> Result<Found, PatroniError> {
    timeout(LONG, patroni.timeout(LONG).ask()).await.unwrap()
}

#[tokio::test]
async fn a_ca_of_its_own_is_trusted_when_it_is_given() {
    let authority = Authority::new();
    let server = Server::start(&authority, "127.0.0.1", None).await;
    let patroni = server.patroni().ca_certificate(authority.pem()).unwrap();
    assert_eq!(ask(patroni).await.unwrap().hosts.len(), 3);
}

#[tokio::test]
async fn each_call_adds_a_ca() {
    let (one, other) = (Authority::new(), Authority::new());
    let server = Server::start(&one, "127.0.0.1", None).await;
    let patroni = server.patroni().ca_certificate(one.pem()).unwrap();
    let patroni = patroni.ca_certificate(other.pem()).unwrap();
    assert!(ask(patroni).await.is_ok());
}

#[tokio::test]
async fn strangers_are_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(&authority, "127.0.0.1", None).await;
    let url = format!("https://{}", server.addr);
    for patroni in [
        // What the system trusts is another matter.
        server.patroni(),
        server.patroni().ca_certificate(other.pem()).unwrap(),
    ] {
        let error = ask(patroni).await.unwrap_err();
        let text = error.to_string();
        match error {
            PatroniError::Tls { .. } => {
                assert!(
                    text.starts_with(&url) && text.contains("`ca_certificate`"),
                    "{text}"
                );
            }
            // On a machine without any CA.
            PatroniError::Certificate { .. } => assert!(text.contains("no CA certificates")),
            _ => panic!("{text}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    for name in ["127.0.0.9", "db1.example.com"] {
        let server = Server::start(&authority, name, None).await;
        let patroni = server.patroni().ca_certificate(authority.pem()).unwrap();
        let error = ask(patroni).await.unwrap_err();
        assert!(matches!(error, PatroniError::Tls { .. }), "{error}");
        assert!(error.to_string().contains("name"), "{error}");
    }
}

#[tokio::test]
async fn https_where_http_is_spoken_and_the_other_way_round() {
    let authority = Authority::new();
    let server = Server::start(&authority, "127.0.0.1", None).await;
    let patroni = Patroni::new([format!("http://{}", server.addr)]).unwrap();
    let error = ask(patroni).await.unwrap_err();
    assert!(matches!(error, PatroniError::Http { .. }), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let patroni = Patroni::new([&url]).unwrap();
    let patroni = patroni.ca_certificate(authority.pem()).unwrap();
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let (error, _stream) = tokio::join!(ask(patroni), plain);
    let error = error.unwrap_err();
    assert!(matches!(error, PatroniError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("is it https there"), "{error}");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Server::start(&authority, "127.0.0.1", Some(&clients)).await;
    let patroni = || server.patroni().ca_certificate(authority.pem()).unwrap();

    let (certificate, key) = clients.sign("app");
    let known = patroni().client_certificate(certificate.pem(), key.serialize_pem());
    assert_eq!(ask(known.unwrap()).await.unwrap().hosts.len(), 3);

    let (certificate, key) = authority.sign("app");
    let stranger = patroni().client_certificate(certificate.pem(), key.serialize_pem());
    assert!(ask(stranger.unwrap()).await.is_err());
    assert!(ask(patroni()).await.is_err());
}

#[test]
fn what_is_no_certificate_is_refused_and_no_key_is_repeated() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("app");
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let patroni = || Patroni::new(["https://db1:8008"]).unwrap();
    let cut = &certificate[..certificate.len() / 2];
    for (error, word) in [
        (patroni().ca_certificate(""), "holds no certificate"),
        (patroni().ca_certificate("nonsense"), "holds no certificate"),
        (patroni().ca_certificate(&key), "holds no certificate"),
        (patroni().ca_certificate(cut), "not PEM"),
        (patroni().client_certificate(&certificate, ""), "key"),
        (
            patroni().client_certificate("", &key),
            "holds no certificate",
        ),
        (
            patroni().client_certificate(&key, &certificate),
            "holds no certificate",
        ),
        (
            patroni().client_certificate(&certificate, authority.sign("x").1.serialize_pem()),
            "not usable",
        ),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, PatroniError::Certificate { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("_certificate`") && text.contains(word),
            "{text}"
        );
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{text}");
        }
    }
}
