//! A host may fall silent in whatever phase of opening a session: every call ends by its own
//! deadline, with an error that says what was seen there.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use leadpool::{Error, Target, config::ConfigBuilder};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    stalling::{Phase, Stalling, Whom},
    support::*,
};

/// What each call has.
const SHORT: Duration = Duration::from_millis(1_000);

/// What a host has until it is said to be silent: so much less than a call has that a machine that
/// stands still for a moment does not end the call first.
const SILENT: Duration = Duration::from_millis(100);

/// Nothing but the caller's own deadline ends a wait.
fn patient(config: ConfigBuilder) -> ConfigBuilder {
    let hour = Duration::from_secs(3600);
    config
        .connect_timeout(hour)
        .silence_limit(hour)
        .watchdog_limit(None)
}

/// The error names the host, and what was seen there.
fn says(error: &Error, host: &str, seen: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::NoHost(_)), "{text}");
    let at = text.find(host).unwrap_or_else(|| panic!("no host: {text}"));
    assert!(text[at..].contains(seen), "{text}");
}

/// All calls on a host that has been silent from the beginning.
async fn check_silent_host(url: &str, host: &str) {
    let patient = |config| patient(config).suspect_after(SILENT);
    let connect = connect_with(url, |config| patient(config).startup_timeout(SHORT));
    let error = soon("connect", connect).await.unwrap_err();
    says(&error, host, "no answer in time");

    let pool = connect_with(url, |config| patient(config).lazy(true))
        .await
        .unwrap();
    let get = soon("get", pool.timeout_get(Target::Primary, SHORT));
    says(&get.await.unwrap_err(), host, "no answer in time");
    let run = pool.tx().deadline(SHORT).run(|_| async { Ok(()) });
    says(
        &soon("run_tx", run).await.unwrap_err(),
        host,
        "no answer in time",
    );
    soon("close", pool.close(SHORT)).await;
}

async fn start_one() -> (Servers, Stalling) {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let stalling = Stalling::before(servers.addr(0).unwrap()).await;
    (servers, stalling)
}

/// All phases of a session on a host that answers nobody.
async fn check_phase(phase: Phase) {
    let (_servers, stalling) = start_one().await;
    stalling.stall(phase, Whom::Everybody);
    check_silent_host(&stalling.url(), "127.0.0.1:").await;
}

/// The same on a host that answers the monitor, and gives nobody else a session.
async fn check_phase_of_application(phase: Phase) {
    let (_servers, stalling) = start_one().await;
    let pool = connect_with(&stalling.url(), patient).await.unwrap();
    stalling.stall(phase, Whom::Application);
    let get = soon("get", pool.timeout_get(Target::Primary, SHORT));
    says(
        &get.await.unwrap_err(),
        "127.0.0.1:",
        "gave no session within",
    );
    let run = pool.tx().deadline(SHORT).run(|_| async { Ok(()) });
    let error = soon("run_tx", run).await.unwrap_err();
    says(&error, "127.0.0.1:", "gave no session within");
    // Also where opening a connection has a shorter time than the checkout.
    let url = stalling.url();
    let hasty = connect_with(&url, |config| patient(config).connect_timeout(SHORT / 3));
    let hasty = hasty.await.unwrap();
    let get = soon("get", hasty.timeout_get(Target::Primary, SHORT));
    says(
        &get.await.unwrap_err(),
        "127.0.0.1:",
        "gave no session within",
    );
    // With somebody in the middle of it.
    let (got, ()) = tokio::join!(pool.get(), async {
        tokio::task::yield_now().await;
        soon("close", pool.close(SHORT)).await;
    });
    assert!(matches!(got, Err(Error::Closed)), "{got:?}");
}

#[tokio::test]
async fn after_accept() {
    check_phase(Phase::Accepted).await;
    check_phase_of_application(Phase::Accepted).await;
}

/// TLS is asked for, with a client that can.
#[tokio::test]
async fn during_tls() {
    for phase in [Phase::TlsRequest, Phase::TlsHandshake] {
        let (_servers, stalling) = start_one().await;
        stalling.stall(phase, Whom::Everybody);
        let url = format!("{}?sslmode=require", stalling.url());
        match leadpool::Config::from_url(&url) {
            Ok(_) => check_silent_host(&url, "127.0.0.1:").await,
            Err(error) => {
                assert_eq!(error.key(), "sslmode", "{error}");
                return eprintln!("skipped: {error}");
            }
        }
    }
}

#[tokio::test]
async fn during_authentication() {
    check_phase(Phase::Authentication).await;
    check_phase_of_application(Phase::Authentication).await;
}

#[tokio::test]
async fn after_the_login() {
    check_phase(Phase::LoggedIn).await;
    check_phase_of_application(Phase::LoggedIn).await;
}

#[tokio::test]
async fn before_it_is_ready() {
    check_phase(Phase::NotReady).await;
    check_phase_of_application(Phase::NotReady).await;
}

/// The monitor's first question, for the role; and the first statement of a checkout.
#[tokio::test]
async fn at_the_first_statement() {
    check_phase(Phase::FirstStatement).await;
    let (_servers, stalling) = start_one().await;
    let pool = connect_with(&stalling.url(), patient).await.unwrap();
    stalling.stall(Phase::FirstStatement, Whom::Application);
    let run = pool
        .tx()
        .deadline(SHORT)
        .run(|tx| async move { Ok(tx.batch_execute("SELECT 1").await?) });
    let error = soon("run_tx", run).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::TxDeadline { .. }), "{text}");
    assert!(text.contains("127.0.0.1:"), "{text}");
    let client = soon("get", pool.get()).await.unwrap();
    let query = async { client.simple_query("SELECT 1").await };
    let close = pool.close(SHORT);
    let both = async { tokio::join!(query, close).0 };
    assert!(soon("close", both).await.is_err(), "aborted by close");
}

/// In the middle of a transaction that has come far already.
#[tokio::test]
async fn in_the_middle_of_a_transaction() {
    let servers = Servers::builder().standbys(0).proxies(true).start();
    let servers = servers.await.unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.proxied_url(), patient).await.unwrap();
    for moment in [Moment::SilentBefore, Moment::SilentAfter] {
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("SELECT 7", moment));
        let run = pool.tx().deadline(SHORT).run(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            tx.batch_execute("SELECT 7").await?;
            Ok(())
        });
        let error = soon("run_tx", run).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::TxDeadline { .. }), "{text}");
        // The host answers all others.
        assert!(text.contains(": primary"), "{text}");
    }
    assert_eq!(rows(&servers).await, 0);
}

/// Packets vanish: the queue of those who want to connect is full, so the kernel drops them.
#[tokio::test]
async fn at_the_tcp_connect() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let is_full = async {
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(addr)).await
        {
            held.push(stream);
        }
    };
    soon("the queue to be full", is_full).await;
    check_silent_host(&format!("postgres://u@{addr}/x"), "127.0.0.1:").await;
}

/// The name server never answers. The system's resolver is asked, so the test runs itself where it
/// can tell the system which that is: in a mount namespace.
#[tokio::test]
async fn at_name_resolution() {
    const INSIDE: &str = "LEADPOOL_TEST_SILENT_NAMES";
    const NAME: &str = "silent.test";
    if std::env::var_os(INSIDE).is_some() {
        let lookup = tokio::net::lookup_host((NAME, 5432));
        let looked = tokio::time::timeout(SHORT * 2, lookup).await;
        assert!(looked.is_err(), "the name server is silent");
        return check_silent_host(&format!("postgres://u@{NAME}/x"), NAME).await;
    }
    let dir = std::env::temp_dir().join(format!("leadpool-names-{}", std::process::id()));
    let server: SocketAddr = "127.0.0.53:53".parse().unwrap();
    let server = match UdpSocket::bind(server).or_else(|_| UdpSocket::bind("127.0.0.54:53")) {
        Ok(server) => server,
        Err(error) => return eprintln!("skipped: no name server can be made here: {error}"),
    };
    let ip = server.local_addr().unwrap().ip();
    std::fs::write(
        &dir,
        format!("nameserver {ip}\noptions timeout:5 attempts:1\n"),
    )
    .unwrap();
    let enter = "mount --bind \"$0\" /etc/resolv.conf || exit 77; exec \"$@\"";
    let mut inside = tokio::process::Command::new("unshare");
    inside
        .args(["--mount", "--propagation", "private", "sh", "-c", enter])
        .arg(&dir)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "phases::at_name_resolution", "--nocapture"])
        .env(INSIDE, "1")
        .kill_on_drop(true);
    let output = soon("the test inside", async {
        tokio::time::timeout(Duration::from_secs(60), inside.output()).await
    });
    let output = output.await.unwrap().unwrap();
    std::fs::remove_file(&dir).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "{said}");
        }
        Some(1 | 77) if said.contains("unshare:") || said.contains("mount:") => {
            eprintln!("skipped: no mount namespace can be made here: {said}");
        }
        code => panic!(
            "{code:?}: {said}{}",
            String::from_utf8_lossy(&output.stdout)
        ),
    }
}
