//! A name server whose records a test changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outlives;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use leadpool_testkit::{Error, NameServer};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData,
};

/// `None`, with the reason, where it can't run.
async fn names() -> Option<NameServer> {
    if let Err(reason) = NameServer::available() {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(NameServer::start().await.unwrap())
}

const LIMIT: Option<Duration> = Some(Duration::from_secs(5));

#[derive(Debug, PartialEq)]
struct Answer {
    rcode: RCODE,
    truncated: bool,
    records: Vec<String>,
    ttls: Vec<u32>,
}

impl Answer {
    fn read(message: &[u8]) -> Self {
        let packet = Packet::parse(message).unwrap();
        let shown = |data: &RData<'_>| match data {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).to_string(),
            RData::SRV(s) => format!("{} {} {} {}", s.priority, s.weight, s.port, s.target),
            other => format!("{other:?}"),
        };
        let records = packet.answers.iter().map(|record| shown(&record.rdata));
        let mut records: Vec<String> = records.collect();
        records.sort();
        Self {
            rcode: packet.rcode(),
            truncated: packet.has_flags(PacketFlag::TRUNCATION),
            records,
            ttls: packet.answers.iter().map(|record| record.ttl).collect(),
        }
    }
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    let (kind, class) = (QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN));
    let question = Question::new(Name::new(name).unwrap(), kind, class, false);
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

fn ask(server: SocketAddr, name: &str, kind: TYPE) -> Answer {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(LIMIT).unwrap();
    socket.send_to(&question(name, kind), server).unwrap();
    let mut message = [0; 4096];
    let (length, _) = socket.recv_from(&mut message).unwrap();
    Answer::read(&message[..length])
}

fn ask_by_tcp(stream: &mut TcpStream, name: &str, kind: TYPE) -> std::io::Result<Answer> {
    let question = question(name, kind);
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes())?;
    stream.write_all(&question)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(Answer::read(&message))
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

#[tokio::test]
async fn addresses_change_at_once() {
    let Some(names) = names().await else { return };
    let server = names.addr();
    assert_eq!(ask(server, "pg.test", TYPE::A).rcode, RCODE::NameError);
    let six: IpAddr = "::1".parse().unwrap();
    let hosts: [(IpAddr, &[&str]); 3] = [
        (ip(1), &["pg.test", "pg-0.pg.svc.cluster.local"]),
        (ip(2), &["pg.test"]),
        (six, &["pg.test"]),
    ];
    names.set_hosts(&hosts).await.unwrap();
    let answer = ask(server, "pg.test", TYPE::A);
    assert_eq!(answer.records, ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(answer.ttls, [0, 0]);
    assert_eq!(ask(server, "pg.test", TYPE::AAAA).records, ["::1"]);
    let pod = ask(server, "pg-0.pg.svc.cluster.local", TYPE::A);
    assert_eq!(pod.records, ["127.0.0.1"]);
    let none = ask(server, "pg-0.pg.svc.cluster.local", TYPE::AAAA);
    assert_eq!((none.rcode, none.records.len()), (RCODE::NoError, 0));

    for last in 3..23 {
        names.set_hosts(&[(ip(last), &["pg.test"])]).await.unwrap();
        let now = ask(server, "pg.test", TYPE::A).records;
        assert_eq!(now, [ip(last).to_string()]);
    }

    signal(server, "STOP");
    let hosts: [(IpAddr, &[&str]); 1] = [(ip(24), &["pg.test"])];
    let mut change = std::pin::pin!(names.set_hosts(&hosts));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut change).await;
    assert!(early.is_err(), "it does not hold yet: {early:?}");
    signal(server, "CONT");
    change.await.unwrap();
    assert_eq!(ask(server, "pg.test", TYPE::A).records, ["127.0.0.24"]);

    names.set_ttl(30).await.unwrap();
    assert_eq!(ask(server, "pg.test", TYPE::A).ttls, [30]);
    names.set_hosts(&[]).await.unwrap();
    assert_eq!(ask(server, "pg.test", TYPE::A).rcode, RCODE::NameError);

    let bad = names.set_hosts(&[(ip(1), &["pg.test\nx"])]).await;
    assert!(matches!(bad, Err(Error::Record { name, .. }) if name == "pg.test\nx"));
}

#[tokio::test]
async fn an_answer_has_five_hundred_records() {
    let Some(names) = names().await else { return };
    let all = |third: u8| {
        let ip = move |n: u16| IpAddr::from([127, third, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        (0..500_u16).map(ip).collect::<Vec<_>>()
    };
    let set = async |ips: &[IpAddr]| {
        let hosts: Vec<(IpAddr, &[&str])> = ips.iter().map(|ip| (*ip, &["pg.test"][..])).collect();
        names.set_hosts(&hosts).await.unwrap();
    };
    set(&all(1)).await;
    assert!(ask(names.addr(), "pg.test", TYPE::A).truncated);
    let mut stream = TcpStream::connect(names.addr()).unwrap();
    stream.set_read_timeout(LIMIT).unwrap();
    let answer = ask_by_tcp(&mut stream, "pg.test", TYPE::A).unwrap();
    assert_eq!(answer.records.len(), 500);
    assert!(!answer.truncated && answer.records.iter().all(|a| a.starts_with("127.1.")));
    // The connection stays open, and others are answered.
    assert!(ask(names.addr(), "pg.test", TYPE::A).truncated);

    set(&all(2)).await;
    let old = ask_by_tcp(&mut stream, "pg.test", TYPE::A);
    assert!(old.is_err(), "still served, from an old copy");
    let mut stream = TcpStream::connect(names.addr()).unwrap();
    let answer = ask_by_tcp(&mut stream, "pg.test", TYPE::A).unwrap();
    assert!(answer.records.iter().all(|a| a.starts_with("127.2.")));
}

#[tokio::test]
async fn services_change_and_nothing_is_left() {
    let Some(names) = names().await else { return };
    let dir = dir(names.addr());
    if outlives::is_victim() {
        outlives::dead(&dir).await;
    }
    let (server, name) = (names.addr(), "_postgresql._tcp.db.test");
    names.set_hosts(&[(ip(1), &["a.test"])]).await.unwrap();
    let services = [("a.test", 5432, 0, 100), ("b.test", 5433, 10, 50)];
    names.set_srv(name, &services).await.unwrap();
    let answer = ask(server, name, TYPE::SRV);
    assert_eq!(answer.records, ["0 100 5432 a.test", "10 50 5433 b.test"]);
    // It has started again on the same port, with the addresses that it had.
    assert_eq!(ask(server, "a.test", TYPE::A).records, ["127.0.0.1"]);
    names.set_srv(name, &[]).await.unwrap();
    assert_eq!(ask(server, name, TYPE::SRV).rcode, RCODE::NameError);
    assert!(!outlives::processes(&dir).is_empty());
    drop(names);
    assert_eq!(outlives::processes(&dir), [""; 0]);
}

fn signal(server: SocketAddr, which: &str) {
    let pid = std::fs::read_to_string(dir(server).join("dns/pid")).unwrap();
    let mut kill = Command::new("kill");
    kill.args([&format!("-{which}"), pid.trim()]);
    assert!(kill.status().unwrap().success());
}

/// The folder of the server that listens there.
fn dir(addr: SocketAddr) -> PathBuf {
    let line = format!("port={}\n", addr.port());
    let mut dirs = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let ours = |dir: &PathBuf| {
        let conf = std::fs::read_to_string(dir.join("dns/conf"));
        conf.is_ok_and(|conf| conf.contains(&line))
    };
    dirs.find_map(|dir| Some(dir.path()).filter(ours)).unwrap()
}

#[test]
fn nothing_outlives_a_killed_test() {
    match NameServer::available() {
        Ok(()) => outlives::Victim::start("services_change_and_nothing_is_left").kill(),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}
