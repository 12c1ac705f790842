//! Hosts from DNS, asked of a name server in this process that behaves as it is told.

#![cfg(feature = "dns")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, SRV},
    },
};
use leadpool::discovery::{
    Discovery, Found,
    dns::{Dns, DnsError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

/// As long as a test may take.
const LONG: Duration = Duration::from_secs(20);

/// As long as a question may take where it must fail.
const SHORT: Duration = Duration::from_millis(200);

/// How many answers go into a datagram.
const FIT: usize = 10;

/// What is said to a question; of names without an entry, that there is none.
#[derive(Clone)]
enum Say {
    Records(Vec<RData>),
    Code(ResponseCode),
    Nothing,
    /// Not to the first question, as if it was lost.
    SecondTime(Vec<RData>),
    Nonsense,
}

type Zone = Arc<Mutex<HashMap<(String, RecordType), Say>>>;

/// A name server on loopback, UDP and TCP; it ends when it is dropped.
struct NameServer {
    addr: SocketAddr,
    zone: Zone,
    questions: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl NameServer {
    async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another process may have that port.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let addr = udp.local_addr().unwrap();
        let zone = Zone::default();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (records, asked) = (zone.clone(), questions.clone());
        tasks.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = reply(&buffer[..length], &records, &asked, Some(FIT)) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let (records, asked) = (zone.clone(), questions.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                // Who asked may hang up.
                let _ = serve(stream, &records, &asked).await;
            }
        });
        Self {
            addr,
            zone,
            questions,
            _tasks: tasks,
        }
    }

    fn says(&self, name: &str, kind: RecordType, say: Say) {
        let mut zone = self.zone.lock().unwrap();
        zone.insert((name.to_owned(), kind), say);
    }

    /// Gives a name these addresses, and none of the other family.
    fn has(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|addr| addr.parse().unwrap());
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
        let records = |list: Vec<IpAddr>| Say::Records(list.into_iter().map(RData::from).collect());
        self.says(name, RecordType::A, records(v4));
        self.says(name, RecordType::AAAA, records(v6));
    }

    fn questions(&self) -> Vec<String> {
        std::mem::take(&mut self.questions.lock().unwrap())
    }

    fn a(&self, name: &str) -> Dns {
        Dns::a(name, 5432)
            .unwrap()
            .name_server(self.addr)
            .timeout(LONG)
    }

    fn srv(&self) -> Dns {
        Dns::srv("_postgresql._tcp.pg.test")
            .unwrap()
            .name_server(self.addr)
            .timeout(LONG)
    }
}

async fn serve(
    mut stream: TcpStream,
    zone: &Zone,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        if let Some(answer) = reply(&question, zone, asked, None) {
            stream.write_u16(answer.len().try_into().unwrap()).await?;
            stream.write_all(&answer).await?;
        }
    }
}

/// The answer, if there is one; with more records than `fit`, that it was cut.
fn reply(
    question: &[u8],
    zone: &Zone,
    asked: &Mutex<Vec<String>>,
    fit: Option<usize>,
) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let (name, kind) = (query.name().to_ascii().to_lowercase(), query.query_type());
    asked.lock().unwrap().push(format!("{name} {kind}"));

    let mut zone = zone.lock().unwrap();
    let key = (name.trim_end_matches('.').to_owned(), kind);
    let mut answer = question.clone().into_response();
    answer.additionals.clear();
    let records = match zone.get(&key).cloned() {
        Some(Say::Records(records)) => records,
        Some(Say::SecondTime(records)) => {
            zone.insert(key, Say::Records(records));
            return None;
        }
        Some(Say::Code(code)) => {
            answer.metadata.response_code = code;
            Vec::new()
        }
        Some(Say::Nothing) => return None,
        Some(Say::Nonsense) => return Some(vec![7; 40]),
        None => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            Vec::new()
        }
    };
    if fit.is_some_and(|fit| records.len() > fit) {
        answer.metadata.truncation = true;
    } else {
        answer.add_answers(
            records
                .into_iter()
                .map(|data| Record::from_rdata(query.name().clone(), 3600, data)),
        );
    }
    Some(answer.to_vec().unwrap())
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(
        priority,
        weight,
        port,
        Name::from_ascii(target).unwrap(),
    ))
}

async fn ask(dns: &Dns) -> Result<Found, DnsError> {
    timeout(LONG, dns.ask()).await.unwrap()
}

async fn hosts(dns: &Dns) -> Vec<String> {
    let found = ask(dns).await.unwrap();
    found
        .hosts
        .iter()
        .map(|host| host.addr.to_string())
        .collect()
}

#[tokio::test]
async fn each_address_is_a_host() {
    let server = NameServer::start().await;
    server.has("pg.test", &["10.0.0.2", "10.0.0.1", "fd00::1"]);
    let dns = server.a("pg.test");
    assert_eq!(
        hosts(&dns).await,
        ["10.0.0.1:5432", "10.0.0.2:5432", "[fd00::1]:5432"]
    );
    assert_eq!(hosts(&server.a("PG.test.")).await.len(), 3);
    let dns = dns.ipv4_only();
    assert_eq!(hosts(&dns).await, ["10.0.0.1:5432", "10.0.0.2:5432"]);
    assert_eq!(hosts(&dns.ipv6_only()).await, ["[fd00::1]:5432"]);
}

#[tokio::test]
async fn each_target_is_a_host() {
    let server = NameServer::start().await;
    let records = vec![
        srv(1, 0, 5433, "n2.pg.test."),
        srv(0, 10, 5432, "n1.pg.test."),
    ];
    server.says(
        "_postgresql._tcp.pg.test",
        RecordType::SRV,
        Say::Records(records),
    );
    let found = ask(&server.srv()).await.unwrap();
    let hosts: Vec<_> = found
        .hosts
        .iter()
        .map(|host| (host.addr.to_string(), host.weight))
        .collect();
    assert_eq!(
        hosts,
        [
            ("n1.pg.test:5432".to_owned(), Some(10)),
            ("n2.pg.test:5433".to_owned(), Some(1))
        ]
    );
    assert_eq!(found.primary, None);
    assert_eq!(server.questions(), ["_postgresql._tcp.pg.test. SRV"]);
}

#[tokio::test]
async fn a_change_is_seen_at_once_whatever_the_ttl() {
    let server = NameServer::start().await;
    let dns = server.a("pg.test").ipv4_only();
    server.has("pg.test", &["10.0.0.1"]);
    assert_eq!(hosts(&dns).await, ["10.0.0.1:5432"]);
    server.has("pg.test", &["10.0.0.2"]);
    assert_eq!(hosts(&dns).await, ["10.0.0.2:5432"]);
    server.says("pg.test", RecordType::A, Say::Code(ResponseCode::NXDomain));
    assert!(ask(&dns).await.is_err());
    server.has("pg.test", &["10.0.0.3"]);
    assert_eq!(hosts(&dns).await, ["10.0.0.3:5432"]);
    assert_eq!(server.questions(), ["pg.test. A"; 4]);
}

#[tokio::test]
async fn aliases_are_followed() {
    let server = NameServer::start().await;
    let alias = RData::CNAME(CNAME(Name::from_ascii("real.test.").unwrap()));
    server.says("pg.test", RecordType::A, Say::Records(vec![alias]));
    server.has("real.test", &["10.0.0.1"]);
    assert_eq!(
        hosts(&server.a("pg.test").ipv4_only()).await,
        ["10.0.0.1:5432"]
    );

    // One that leads back to itself has an end.
    let alias = RData::CNAME(CNAME(Name::from_ascii("loop.test.").unwrap()));
    server.says("loop.test", RecordType::A, Say::Records(vec![alias]));
    assert!(ask(&server.a("loop.test").ipv4_only()).await.is_err());
}

#[tokio::test]
async fn nothing_found_is_an_error_that_says_what_is_missing() {
    let server = NameServer::start().await;
    let error = ask(&server.a("no.test")).await.unwrap_err();
    assert!(matches!(error, DnsError::NoSuchName { .. }), "{error}");
    assert!(error.to_string().contains("asked for no.test."), "{error}");

    server.has("pg.test", &[]);
    let error = ask(&server.a("pg.test")).await.unwrap_err();
    assert!(matches!(error, DnsError::NoRecords { .. }), "{error}");
    assert!(error.to_string().contains("no A or AAAA record"), "{error}");

    // Only the other family.
    server.has("pg.test", &["10.0.0.1"]);
    let error = ask(&server.a("pg.test").ipv6_only()).await.unwrap_err();
    assert!(matches!(error, DnsError::NoRecords { .. }), "{error}");
    assert!(error.to_string().contains("no AAAA record"), "{error}");

    let error = ask(&server.srv()).await.unwrap_err();
    assert!(matches!(error, DnsError::NoSuchName { .. }), "{error}");
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let server = NameServer::start().await;
    for bad in [
        Say::Code(ResponseCode::ServFail),
        Say::Code(ResponseCode::Refused),
        Say::Code(ResponseCode::NotImp),
    ] {
        server.has("pg.test", &["10.0.0.1"]);
        server.says("pg.test", RecordType::AAAA, bad);
        let error = ask(&server.a("pg.test")).await.unwrap_err();
        assert!(matches!(error, DnsError::Failed { .. }), "{error}");
        let text = error.to_string();
        let named = ["`pg.test`", "for AAAA of pg.test.", "`ipv4_only`"];
        assert!(named.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(
            hosts(&server.a("pg.test").ipv4_only()).await,
            ["10.0.0.1:5432"]
        );
    }
    server.says("pg.test", RecordType::AAAA, Say::Nothing);
    assert!(ask(&server.a("pg.test").timeout(SHORT)).await.is_err());
}

#[tokio::test]
async fn silence_and_nonsense_end_with_the_timeout() {
    let server = NameServer::start().await;
    for say in [Say::Nothing, Say::Nonsense] {
        server.says("pg.test", RecordType::A, say);
        let dns = server.a("pg.test").ipv4_only().timeout(SHORT);
        let error = ask(&dns).await.unwrap_err();
        assert!(
            matches!(error, DnsError::Silent { .. } | DnsError::Failed { .. }),
            "{error}"
        );
        assert!(error.to_string().starts_with("`pg.test`"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let server = NameServer::start().await;
    let address = RData::from(IpAddr::from([10, 0, 0, 1]));
    server.says("pg.test", RecordType::A, Say::SecondTime(vec![address]));
    let dns = server
        .a("pg.test")
        .ipv4_only()
        .timeout(Duration::from_secs(1));
    assert_eq!(hosts(&dns).await, ["10.0.0.1:5432"]);
}

/// As many name servers that say nothing.
async fn silent(count: usize) -> Vec<NameServer> {
    let mut servers = Vec::new();
    for _ in 0..count {
        let server = NameServer::start().await;
        server.says("pg.test", RecordType::A, Say::Nothing);
        servers.push(server);
    }
    servers
}

#[tokio::test]
async fn the_one_name_server_of_five_that_answers_is_found() {
    let good = NameServer::start().await;
    good.has("pg.test", &["10.0.0.1"]);
    let silent = silent(4).await;
    let mut dns = Dns::a("pg.test", 5432).unwrap().ipv4_only();
    for server in silent.iter().chain([&good]) {
        dns = dns.name_server(server.addr);
    }
    let dns = dns.timeout(Duration::from_millis(1500));
    assert_eq!(hosts(&dns).await, ["10.0.0.1:5432"]);
}

#[tokio::test]
async fn many_name_servers_that_say_nothing_take_no_longer_than_one() {
    let silent = silent(9).await;
    let mut dns = Dns::a("pg.test", 5432).unwrap().ipv4_only();
    for server in &silent {
        dns = dns.name_server(server.addr);
    }
    let error = ask(&dns.timeout(SHORT)).await.unwrap_err();
    assert!(matches!(error, DnsError::Silent { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let server = NameServer::start().await;
    let dns = server.a("pg.test").timeout(SHORT);
    drop(server);
    let error = ask(&dns).await.unwrap_err();
    assert!(error.to_string().starts_with("`pg.test`"), "{error}");
}

#[tokio::test]
async fn long_answers_come_by_tcp_and_a_hundred_records_are_the_most() {
    let server = NameServer::start().await;
    let addresses = |count: u8| {
        let records = (1..=count).map(|n| RData::from(IpAddr::from([10, 0, 0, n])));
        Say::Records(records.collect())
    };
    server.says("pg.test", RecordType::A, addresses(100));
    let dns = server.a("pg.test").ipv4_only();
    assert_eq!(hosts(&dns).await.len(), 100);
    server.says("pg.test", RecordType::A, addresses(101));
    let error = ask(&dns).await.unwrap_err();
    assert!(
        matches!(error, DnsError::TooMany { found: 101, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn addresses_of_this_machine_are_taken_only_if_that_is_said() {
    let server = NameServer::start().await;
    server.has("pg.test", &["10.0.0.1", "127.0.0.1"]);
    let error = ask(&server.a("pg.test")).await.unwrap_err();
    assert!(matches!(error, DnsError::Address { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert_eq!(hosts(&server.a("pg.test").allow_local()).await.len(), 2);

    let records = vec![srv(0, 0, 5432, "localhost.")];
    server.says(
        "_postgresql._tcp.pg.test",
        RecordType::SRV,
        Say::Records(records),
    );
    let error = ask(&server.srv()).await.unwrap_err();
    assert!(matches!(error, DnsError::Target { .. }), "{error}");
    assert_eq!(hosts(&server.srv().allow_local()).await, ["localhost:5432"]);
}

#[tokio::test]
async fn a_service_that_is_said_not_to_be_is_told() {
    let server = NameServer::start().await;
    let records = vec![srv(0, 0, 0, ".")];
    server.says(
        "_postgresql._tcp.pg.test",
        RecordType::SRV,
        Say::Records(records),
    );
    let error = ask(&server.srv()).await.unwrap_err();
    assert!(matches!(error, DnsError::Target { .. }), "{error}");
    assert!(error.to_string().contains("no such service"), "{error}");
}

#[test]
fn names_that_can_not_be_asked_for_are_refused() {
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = vec!["abcdefg"; 32].join(".");
    for (name, word) in [
        ("", "is empty"),
        (".", "is empty"),
        ("10.0.0.1", "is an address"),
        ("::1", "is an address"),
        ("[::1]", "is an address"),
        ("pg..test", "not a DNS name"),
        (".pg", "not a DNS name"),
        (&long_label, "not a DNS name"),
        (&long_name, "not a DNS name"),
        ("pg test", "a sign that host names don't have"),
        ("pg.test:5432", "a sign that host names don't have"),
        ("http://pg.test", "a sign that host names don't have"),
        ("pä.test", "xn--"),
        ("pg\\.test", "a sign that host names don't have"),
        ("pg\0.test", "a sign that host names don't have"),
    ] {
        let error = Dns::a(name, 5432).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(word) && text.contains(name), "{text}");
    }
    for name in [
        "",
        "pg.test",
        "_postgresql.pg.test",
        "postgresql._tcp.pg.test",
        "_a",
    ] {
        let error = Dns::srv(name).unwrap_err();
        assert!(error.to_string().contains("_postgresql._tcp."), "{error}");
    }
    let error = Dns::a("pg.test", 0).unwrap_err();
    assert!(matches!(error, DnsError::Port { .. }), "{error}");
}

/// No question leaves the machine: `localhost.` is known without.
#[tokio::test]
async fn the_systems_own_settings_are_read() {
    let dns = Dns::a("localhost.", 5432).unwrap().timeout(LONG);
    match ask(&dns).await.unwrap_err() {
        DnsError::Address { .. } => {
            let hosts = hosts(&dns.allow_local().ipv4_only()).await;
            assert!(hosts.contains(&"127.0.0.1:5432".to_owned()), "{hosts:?}");
        }
        // On a machine without name servers.
        error => assert!(matches!(error, DnsError::System { .. }), "{error}"),
    }
}

#[tokio::test]
async fn nothing_is_left_behind_a_question() {
    let server = NameServer::start().await;
    let records = (1..=50).map(|n| RData::from(IpAddr::from([10, 0, 0, n])));
    server.says("pg.test", RecordType::A, Say::Records(records.collect()));
    server.says("silent.test", RecordType::A, Say::Nothing);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    // One that comes by TCP, one that is given up.
    assert_eq!(hosts(&server.a("pg.test").ipv4_only()).await.len(), 50);
    let silent = server.a("silent.test").ipv4_only();
    assert!(
        timeout(Duration::from_millis(20), silent.ask())
            .await
            .is_err()
    );
    let all_gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all_gone).await.unwrap();
}

#[tokio::test]
async fn settings_that_are_out_of_range_harm_nobody() {
    let server = NameServer::start().await;
    server.has("pg.test", &["10.0.0.1"]);
    let dns = server.a("pg.test").timeout(Duration::MAX);
    assert!(ask(&dns).await.is_ok());
    // Whether the answer is quicker than no time is the machine's affair.
    drop(ask(&dns.timeout(Duration::ZERO)).await);
}

#[test]
fn intervals_are_as_set() {
    let dns = Dns::a("pg.test", 5432).unwrap();
    assert_eq!(dns.name(), "dns");
    let intervals = |dns: &Dns| {
        let calm = Discovery::refresh_interval(dns);
        (calm, Discovery::failover_interval(dns))
    };
    let millis = Duration::from_millis;
    assert_eq!(intervals(&dns), (Some(millis(10_000)), millis(500)));
    let dns = dns.refresh_interval(millis(7)).failover_interval(millis(2));
    assert_eq!(intervals(&dns), (Some(millis(7)), millis(2)));
}
