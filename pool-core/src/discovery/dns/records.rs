//! What records are taken for hosts: pure.

use std::net::IpAddr;

use super::{
    DnsError,
    error::{LINK_LOCAL, LOOPBACK},
};
use crate::{
    discovery::{Found, FoundHost},
    topology::HostAddr,
};

/// How many records a name may have.
const MOST_RECORDS: usize = 100;

/// One SRV record.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// As DNS has it, with or without its last dot.
    pub(super) target: String,
}

/// Each address is a host, in order of their numbers: DNS shuffles them with each answer.
pub(super) fn from_addresses(
    name: &str,
    mut addresses: Vec<IpAddr>,
    port: u16,
    allow_local: bool,
) -> Result<Found, DnsError> {
    not_too_many(name, addresses.len())?;
    for addr in &addresses {
        check(name, *addr, allow_local)?;
    }
    addresses.sort();
    addresses.dedup();
    let hosts = addresses
        .iter()
        .map(|addr| FoundHost::new(HostAddr::new(addr.to_string(), port)));
    Ok(Found::new(hosts))
}

/// Each target is a host: by priority (lowest first), then by weight (highest first).
pub(super) fn from_services(
    name: &str,
    mut services: Vec<Service>,
    allow_local: bool,
) -> Result<Found, DnsError> {
    not_too_many(name, services.len())?;
    services.sort_by(|a, b| {
        let key = |service: &Service| (service.priority, u16::MAX - service.weight);
        (key(a), &a.target, a.port).cmp(&(key(b), &b.target, b.port))
    });
    // RFC 2782: with 0 everywhere there is nothing to choose; beside others it means hardly ever.
    // A host that readers must never use has the weight 0 here.
    let has_weights = services.iter().any(|service| service.weight != 0);
    let mut hosts: Vec<FoundHost> = Vec::new();
    for service in services {
        let addr = target(name, &service, allow_local)?;
        if hosts.iter().any(|host| host.addr == addr) {
            continue;
        }
        let host = FoundHost::new(addr);
        hosts.push(match has_weights {
            true => host.with_weight(u32::from(service.weight.max(1))),
            false => host,
        });
    }
    Ok(Found::new(hosts))
}

fn not_too_many(name: &str, found: usize) -> Result<(), DnsError> {
    if found > MOST_RECORDS {
        return Err(DnsError::TooMany {
            name: name.to_owned(),
            found,
            limit: MOST_RECORDS,
        });
    }
    Ok(())
}

fn target(name: &str, service: &Service, allow_local: bool) -> Result<HostAddr, DnsError> {
    let target = service.target.strip_suffix('.').unwrap_or(&service.target);
    let error = |problem| {
        Err(DnsError::Target {
            name: name.to_owned(),
            target: service.target.clone(),
            problem,
        })
    };
    if target.is_empty() {
        return error("that says that there is no such service");
    }
    if !target.chars().all(is_host_char) {
        return error("that is not a host name");
    }
    if service.port == 0 {
        return error("with port 0; it must be 1 to 65535");
    }
    if let Ok(addr) = target.parse() {
        check(name, addr, allow_local)?;
    }
    let is_localhost = target.rsplit('.').next() == Some("localhost");
    if is_localhost && !allow_local {
        return error("that is this machine: if that is meant, say `allow_local`");
    }
    Ok(HostAddr::new(target, service.port))
}

pub(super) fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(c)
}

/// Refuses addresses that no host of a cluster has. A name server that is wrong, or lies, must
/// not send passwords to whatever listens on this machine or link.
fn check(name: &str, addr: IpAddr, allow_local: bool) -> Result<(), DnsError> {
    let kind = match addr.to_canonical() {
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "no address",
        IpAddr::V4(v4) if v4.is_link_local() => LINK_LOCAL,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => LINK_LOCAL,
        ip if ip.is_unspecified() => "no address",
        ip if ip.is_multicast() => "a multicast address",
        ip if ip.is_loopback() => LOOPBACK,
        _ => return Ok(()),
    };
    if allow_local && matches!(kind, LOOPBACK | LINK_LOCAL) {
        return Ok(());
    }
    Err(DnsError::Address {
        name: name.to_owned(),
        addr,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str], allow_local: bool) -> Result<Found, DnsError> {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        from_addresses("pg.test", addresses, 5432, allow_local)
    }

    fn service(priority: u16, weight: u16, target: &str, port: u16) -> Service {
        Service {
            priority,
            weight,
            port,
            target: target.to_owned(),
        }
    }

    fn services(services: &[Service]) -> Result<Found, DnsError> {
        from_services("_postgresql._tcp.test", services.to_vec(), false)
    }

    fn shown(found: &Found) -> Vec<(String, Option<u32>)> {
        let hosts = found.hosts.iter();
        hosts
            .map(|host| (host.addr.to_string(), host.weight))
            .collect()
    }

    #[test]
    fn addresses_are_in_order_and_each_once() {
        let found = addresses(&["10.0.0.9", "10.0.0.10", "fd00::1", "10.0.0.9"], false).unwrap();
        let hosts: Vec<String> = found.hosts.iter().map(|h| h.addr.to_string()).collect();
        assert_eq!(hosts, ["10.0.0.9:5432", "10.0.0.10:5432", "[fd00::1]:5432"]);
        assert_eq!(found.primary, None);
    }

    #[test]
    fn addresses_that_no_host_has_are_refused_and_named() {
        for (addr, kind, can_be_allowed) in [
            ("127.0.0.1", "a loopback address", true),
            ("127.255.255.255", "a loopback address", true),
            ("::1", "a loopback address", true),
            ("::ffff:127.0.0.1", "a loopback address", true),
            ("169.254.169.254", "a link-local address", true),
            ("fe80::1", "a link-local address", true),
            ("::ffff:169.254.1.1", "a link-local address", true),
            ("0.0.0.0", "no address", false),
            ("0.1.2.3", "no address", false),
            ("::", "no address", false),
            ("224.0.0.1", "a multicast address", false),
            ("ff02::1", "a multicast address", false),
            ("255.255.255.255", "the broadcast address", false),
        ] {
            let error = addresses(&["10.0.0.1", addr], false).unwrap_err();
            assert!(matches!(error, DnsError::Address { .. }), "{error}");
            let text = error.to_string();
            let named = text.contains("`pg.test`") && text.contains(addr) && text.contains(kind);
            assert!(named, "{text}");
            assert_eq!(text.contains("`allow_local`"), can_be_allowed, "{text}");
            let allowed = addresses(&["10.0.0.1", addr], true);
            assert_eq!(allowed.is_ok(), can_be_allowed, "{addr}");
        }
        for addr in [
            "10.0.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(addresses(&[addr], false).is_ok(), "{addr}");
        }
    }

    #[test]
    fn services_are_in_order_of_priority_and_weight() {
        let found = services(&[
            service(10, 0, "d.test.", 5432),
            service(10, 70, "c.test.", 5432),
            service(0, 5, "b.test.", 5433),
            service(0, 60, "A.test", 5432),
            service(20, 60, "a.test.", 5432),
        ]);
        assert_eq!(
            shown(&found.unwrap()),
            [
                ("a.test:5432".to_owned(), Some(60)),
                ("b.test:5433".to_owned(), Some(5)),
                ("c.test:5432".to_owned(), Some(70)),
                ("d.test:5432".to_owned(), Some(1)),
            ]
        );
    }

    #[test]
    fn without_weights_all_are_equal() {
        let found = services(&[service(0, 0, "b.", 1), service(0, 0, "a.", 1)]).unwrap();
        let expected = [("a:1".to_owned(), None), ("b:1".to_owned(), None)];
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn targets_that_lead_nowhere_are_refused_and_named() {
        for (target, port, word) in [
            (".", 5432, "no such service"),
            ("", 5432, "no such service"),
            ("n1.test.", 0, "port 0"),
            ("a b.test.", 5432, "not a host name"),
            ("/var/run/postgresql", 5432, "not a host name"),
            ("localhost.", 5432, "allow_local"),
            ("db.localhost.", 5432, "allow_local"),
            ("127.0.0.1.", 5432, "loopback"),
            ("255.255.255.255.", 5432, "broadcast"),
        ] {
            let error = services(&[service(0, 0, "n0.test.", 1), service(0, 0, target, port)]);
            let text = error.unwrap_err().to_string();
            let named = text.contains("`_postgresql._tcp.test`") && text.contains(word);
            assert!(named, "{target}: {text}");
        }
        let local = vec![
            service(0, 0, "localhost.", 1),
            service(0, 0, "127.0.0.1.", 1),
        ];
        assert!(from_services("n", local, true).is_ok());
    }

    #[test]
    fn a_hundred_records_are_the_most() {
        let many = |count: u32| -> Vec<IpAddr> {
            let first = u32::from(std::net::Ipv4Addr::new(10, 0, 0, 1));
            (first..first + count)
                .map(|bits| std::net::Ipv4Addr::from(bits).into())
                .collect()
        };
        assert!(from_addresses("n", many(100), 1, false).is_ok());
        let error = from_addresses("n", many(101), 1, false).unwrap_err();
        assert!(matches!(
            error,
            DnsError::TooMany {
                found: 101,
                limit: 100,
                ..
            }
        ));
        let many = vec![service(0, 0, "a.", 1); 101];
        assert!(matches!(services(&many), Err(DnsError::TooMany { .. })));
    }
}
