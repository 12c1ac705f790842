//! Logging in on a server that does what the test says, and tells what it was sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use super::*;
use crate::credentials::{AuthMethod, CredentialRequest, Credentials, from_fn};

/// How the server goes on once it has read who comes.
#[derive(Clone, Copy)]
enum Server {
    /// Asks for the password as it is, and lets in who knows this one.
    Cleartext(&'static str),
    /// Asks for the password as it is, and lets everybody in.
    Curious,
    /// Lets everybody in without a word.
    Trust,
    /// Refuses with a code, and the routine that it comes from.
    Refuses(&'static str, &'static str),
}

/// What the server was sent: a role each time, and a password where one was.
type Sent = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server on loopback; it ends with the set.
async fn serve(server: Server) -> (HostAddr, Sent, JoinSet<()>) {
    let (host, sent, _, tasks) = serve_and_tell(server).await;
    (host, sent, tasks)
}

/// The same; a permit is added with the end of each connection.
async fn serve_and_tell(server: Server) -> (HostAddr, Sent, Arc<Semaphore>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = HostAddr::new("127.0.0.1", listener.local_addr().unwrap().port());
    let sent = Sent::default();
    let ended = Arc::new(Semaphore::new(0));
    let (log, told) = (sent.clone(), ended.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _served = log_in(stream, server, &log).await;
            told.add_permits(1);
        }
    });
    (host, sent, ended, tasks)
}

fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[letter], length.to_be_bytes().as_slice(), body].concat()
}

async fn log_in(mut stream: TcpStream, server: Server, log: &Sent) -> io::Result<()> {
    let length = stream.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    stream.read_exact(&mut startup).await?;
    let words: Vec<&str> = startup[4..]
        .split(|byte| *byte == 0)
        .map(|word| std::str::from_utf8(word).unwrap())
        .collect();
    let user = words.iter().position(|word| *word == "user").unwrap() + 1;
    let at = log.lock().unwrap().len();
    log.lock().unwrap().push((words[user].to_owned(), None));
    let asks = matches!(server, Server::Cleartext(_) | Server::Curious);
    if asks {
        stream.write_all(&message(b'R', &[0, 0, 0, 3])).await?;
        assert_eq!(stream.read_u8().await?, b'p');
        let length = stream.read_u32().await?;
        let mut password = vec![0; length as usize - 4];
        stream.read_exact(&mut password).await?;
        password.pop();
        log.lock().unwrap()[at].1 = Some(String::from_utf8(password).unwrap());
    }
    let password = log.lock().unwrap()[at].1.clone();
    let refusal = match server {
        Server::Cleartext(known) if password.as_deref() != Some(known) => {
            Some(("28P01", "auth_failed"))
        }
        Server::Refuses(code, routine) => Some((code, routine)),
        _ => None,
    };
    let answer = match refusal {
        Some((code, routine)) => {
            let text = format!("SFATAL\0VFATAL\0C{code}\0Mno\0R{routine}\0\0");
            message(b'E', text.as_bytes())
        }
        None => [message(b'R', &[0; 4]), message(b'Z', b"I")].concat(),
    };
    stream.write_all(&answer).await?;
    // Until the other side hangs up.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    Ok(())
}

fn config(host: &HostAddr, options: &str) -> crate::config::ConfigBuilder {
    Config::builder(&format!(
        "postgres://app@{host}/shop?sslmode=disable&{options}"
    ))
}

/// A provider that says one password after the other, the last one for ever; it counts.
fn one_after_the_other(
    passwords: &'static [&'static str],
) -> (
    impl crate::credentials::CredentialProvider,
    Arc<Mutex<Vec<CredentialRequest>>>,
) {
    let requests: Arc<Mutex<Vec<CredentialRequest>>> = Arc::default();
    let log = requests.clone();
    let provider = from_fn(move |request| {
        let mut log = log.lock().unwrap();
        let password = passwords[log.len().min(passwords.len() - 1)];
        log.push(request);
        async move { Ok(Credentials::password(password)) }
    });
    (provider, requests)
}

fn sent(log: &Sent) -> Vec<(String, Option<String>)> {
    log.lock().unwrap().clone()
}

fn app(password: &str) -> (String, Option<String>) {
    ("app".to_owned(), Some(password.to_owned()))
}

#[tokio::test]
async fn after_a_refusal_the_provider_is_asked_once_more() {
    let (host, log, _server) = serve(Server::Cleartext("new")).await;
    let (provider, requests) = one_after_the_other(&["old", "new"]);
    let config = config(&host, "").credentials(provider).build().unwrap();
    let _opened = open(&config, &host, None, None).await.unwrap();
    assert_eq!(sent(&log), [app("old"), app("new")]);
    let requests = requests.lock().unwrap();
    let rejected: Vec<_> = requests.iter().map(|r| r.rejected.clone()).collect();
    assert_eq!(rejected, [None, Some(Credentials::password("old"))]);
    for request in requests.iter() {
        assert_eq!(request.host, host);
        assert_eq!((&*request.user, &*request.dbname), ("app", "shop"));
    }
}

#[tokio::test]
async fn and_not_a_third_time() {
    let (host, log, _server) = serve(Server::Cleartext("other")).await;
    let (provider, requests) = one_after_the_other(&["a", "b", "c"]);
    let config = config(&host, "").credentials(provider).build().unwrap();
    let error = open(&config, &host, None, None).await.err().unwrap();
    assert!(error.is_rejection(), "{error:?}");
    assert_eq!(sent(&log), [app("a"), app("b")]);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_same_password_is_not_tried_twice() {
    let (host, log, _server) = serve(Server::Cleartext("other")).await;
    let (provider, requests) = one_after_the_other(&["a"]);
    let config = config(&host, "").credentials(provider).build().unwrap();
    let error = open(&config, &host, None, None).await.err().unwrap();
    assert!(error.is_rejection(), "{error:?}");
    assert_eq!(sent(&log), [app("a")]);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_password_of_the_configuration_is_tried_once() {
    let (host, log, _server) = serve(Server::Cleartext("other")).await;
    let config = config(&host, "password=a").build().unwrap();
    assert!(open(&config, &host, None, None).await.is_err());
    assert_eq!(sent(&log), [app("a")]);
}

#[tokio::test]
async fn only_a_refusal_of_the_password_asks_again() {
    for (code, routine, asked) in [
        ("28P01", "auth_failed", 2),
        // PAM, with which RDS checks tokens.
        ("28000", "auth_failed", 2),
        // No line of pg_hba.conf, no such role, no such database, no room.
        ("28000", "ClientAuthentication", 1),
        ("28000", "InitializeSessionUserId", 1),
        ("3D000", "InitPostgres", 1),
        ("53300", "InitProcess", 1),
    ] {
        let (host, _, _server) = serve(Server::Refuses(code, routine)).await;
        let (provider, requests) = one_after_the_other(&["a", "b"]);
        let config = config(&host, "").credentials(provider).build().unwrap();
        assert!(open(&config, &host, None, None).await.is_err());
        assert_eq!(requests.lock().unwrap().len(), asked, "{code} {routine}");
    }
}

#[tokio::test]
async fn a_provider_may_say_another_role() {
    let (host, log, _server) = serve(Server::Cleartext("a")).await;
    let provider = from_fn(|_| async { Ok(Credentials::password("a").as_user("app_2")) });
    let config = config(&host, "").credentials(provider).build().unwrap();
    let _opened = open(&config, &host, None, None).await.unwrap();
    assert_eq!(sent(&log), [("app_2".to_owned(), Some("a".to_owned()))]);
}

#[tokio::test]
async fn a_provider_that_fails_is_named_with_the_host() {
    let (host, log, _server) = serve(Server::Trust).await;
    for permanent in [false, true] {
        let provider = from_fn(move |_| async move {
            match permanent {
                true => Err(CredentialError::permanent("no such role").into()),
                false => Err("no route to the vault".into()),
            }
        });
        let config = config(&host, "").credentials(provider).build().unwrap();
        let Err(OpenError::Credentials(error)) = open(&config, &host, None, None).await else {
            panic!("it had no credentials");
        };
        assert_eq!(error.is_permanent(), permanent);
        assert_eq!(error.host(), Some(&host));
        let text = error.to_string();
        assert!(text.contains(&host.to_string()) && text.contains("the application"));
        let cause = if permanent {
            "no such role"
        } else {
            "no route"
        };
        assert!(error.source().unwrap().to_string().contains(cause));
    }
    assert_eq!(sent(&log), []);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_given_up_within_the_connect_timeout() {
    let host = HostAddr::new("127.0.0.1", 1);
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counter = dropped.clone();
    let provider = from_fn(move |_| {
        let held = Counts(counter.clone());
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    let config = config(&host, "connect_timeout=3").credentials(provider);
    let config = config.build().unwrap();
    let begun = tokio::time::Instant::now();
    let Err(OpenError::Credentials(error)) = open(&config, &host, None, None).await else {
        panic!("it had no credentials");
    };
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(!error.is_permanent() && error.to_string().contains("no answer within"));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_asks_where_nobody_has_a_password_is_told_so() {
    let (host, log, _server) = serve(Server::Cleartext("a")).await;
    let provider = from_fn(|_| async { Ok(Credentials::none()) });
    let config = config(&host, "").credentials(provider).build().unwrap();
    let Err(OpenError::Credentials(error)) = open(&config, &host, None, None).await else {
        panic!("it had no credentials");
    };
    assert!(error.is_permanent() && error.to_string().contains("set `password`"));
    assert_eq!(error.host(), Some(&host));
    assert_eq!(sent(&log), [("app".to_owned(), None)]);
}

#[tokio::test]
async fn a_server_that_asks_as_it_must_not_is_sent_no_password() {
    for (server, methods, asked) in [
        (Server::Curious, "scram-sha-256", AuthMethod::Password),
        (Server::Curious, "!password,!md5", AuthMethod::Password),
        (Server::Trust, "scram-sha-256", AuthMethod::None),
    ] {
        let (host, log, ended, _server) = serve_and_tell(server).await;
        let options = format!("password=hunter2&require_auth={methods}");
        let config = config(&host, &options).build().unwrap();
        let Err(OpenError::Auth(error)) = open(&config, &host, None, None).await else {
            panic!("{methods}: it was let in");
        };
        assert_eq!(error.asked, asked);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        // All that was sent has come by then.
        let _ended = ended.acquire().await.unwrap();
        assert_eq!(sent(&log), [("app".to_owned(), None)]);
    }
}

#[tokio::test]
async fn a_server_that_asks_as_it_may_is_answered() {
    for (server, methods, password) in [
        (Server::Cleartext("a"), "password", Some("a".to_owned())),
        (Server::Cleartext("a"), "", Some("a".to_owned())),
        (Server::Trust, "none", None),
        (Server::Trust, "!md5", None),
    ] {
        let (host, log, _server) = serve(server).await;
        let options = format!("password=a&require_auth={methods}");
        let config = config(&host, &options).build().unwrap();
        let _opened = open(&config, &host, None, None).await.unwrap();
        assert_eq!(sent(&log), [("app".to_owned(), password)], "{methods}");
    }
}

#[cfg(feature = "aws-iam")]
#[tokio::test]
async fn a_server_gets_a_token_of_aws() {
    use aws_credential_types::{Credentials as Identity, provider::SharedCredentialsProvider};

    use crate::credentials::{AwsIam, CredentialProvider as _};

    let (host, log, _server) = serve(Server::Curious).await;
    let session = Some("FwoG/session+token==".to_owned());
    let identity = Identity::new("akid", "hunter2", session, None, "test");
    let endpoint = HostAddr::new("shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com", 5432);
    let iam = AwsIam::new(SharedCredentialsProvider::new(identity));
    let iam = Arc::new(iam.endpoint(endpoint));
    // By way of a closure, since the server here speaks no TLS.
    let provider = from_fn(move |request| {
        let iam = iam.clone();
        async move { iam.provide(&request).await }
    });
    let config = config(&host, "").credentials(provider).build().unwrap();
    let _opened = open(&config, &host, None, None).await.unwrap();

    let (user, token) = sent(&log).remove(0);
    let token = token.unwrap();
    assert_eq!(user, "app");
    assert!(
        !token.contains("://") && !token.contains("hunter2"),
        "{token}"
    );
    let (name, query) = token.split_once("/?").unwrap();
    assert_eq!(name, "shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com:5432");
    let pairs: Vec<(&str, &str)> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    let value = |key: &str| pairs.iter().find(|(known, _)| *known == key).unwrap().1;
    for key in [
        "Action",
        "DBUser",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
    ] {
        assert_eq!(
            keys.iter().filter(|known| **known == key).count(),
            1,
            "{key}"
        );
    }
    assert_eq!(value("Action"), "connect");
    assert_eq!(value("DBUser"), "app");
    assert_eq!(value("X-Amz-Algorithm"), "AWS4-HMAC-SHA256");
    assert_eq!(value("X-Amz-Expires"), "900");
    assert_eq!(value("X-Amz-SignedHeaders"), "host");
    assert_eq!(
        value("X-Amz-Security-Token"),
        "FwoG%2Fsession%2Btoken%3D%3D"
    );
    let date = value("X-Amz-Date");
    assert_eq!(
        value("X-Amz-Credential"),
        format!("akid%2F{}%2Feu-west-1%2Frds-db%2Faws4_request", &date[..8])
    );
    let signature = value("X-Amz-Signature");
    assert!(signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit()));
}
