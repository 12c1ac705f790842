//! Addresses to listen on, and how clients write them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use crate::Error;

/// The libpq URL of several servers, in their order.
pub(crate) fn url(addrs: impl IntoIterator<Item = SocketAddr>) -> String {
    let addrs: Vec<String> = addrs.into_iter().map(|addr| addr.to_string()).collect();
    format!("postgres://postgres@{}/postgres", addrs.join(","))
}

/// An address that nobody listens on. It may be taken for a moment longer: a process that is
/// being started holds a copy of every open socket until it runs its own program, so whoever
/// binds here next tries again.
pub(crate) fn free_addr(ip: IpAddr) -> Result<SocketAddr, Error> {
    let listener = listen(ip)?;
    listener.local_addr().map_err(Error::io("a free port"))
}

/// Ports that were handed out in this process.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Listens on a free port that nobody else in this process was given. Outside of the range that the
/// kernel takes for outgoing connections. So a server finds its port free when it starts, and when it
/// starts again.
pub(crate) fn listen(ip: IpAddr) -> Result<TcpListener, Error> {
    use std::hash::{BuildHasher as _, RandomState};

    let mut last = None;
    for attempt in 0..200_u64 {
        let random = RandomState::new().hash_one(attempt);
        let port = 10_000 + u16::try_from(random % 20_000).unwrap_or_default();
        if !is_ours(port) {
            continue;
        }
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(Error::Io {
        what: format!("finding a free port on {ip}"),
        source: last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
    })
}

/// Takes a port, unless it was taken before.
fn is_ours(port: u16) -> bool {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.len() > 15_000 {
        // Whoever had the first ones is hardly there any more.
        taken.clear();
    }
    taken.insert(port)
}

/// A port that nobody listens on, at any of the addresses.
pub(crate) fn free_port(ips: &[IpAddr]) -> Result<u16, Error> {
    let mut last = None;
    for _ in 0..50 {
        let Some((first, others)) = ips.split_first() else {
            break;
        };
        let port = free_addr(*first)?.port();
        let taken = others
            .iter()
            .find_map(|ip| TcpListener::bind((*ip, port)).err());
        match taken {
            None => return Ok(port),
            Some(error) => last = Some(error),
        }
    }
    Err(Error::Io {
        what: format!("finding a free port on {ips:?}"),
        source: last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
    })
}

/// Spread by process, so that clusters of several test programs rarely meet.
pub(crate) fn distinct_ip(index: usize) -> IpAddr {
    let process = std::process::id();
    let third = 1 + process / 250 % 250;
    let fourth = 1 + (process % 250 + u32::try_from(index).unwrap_or_default()) % 250;
    IpAddr::V4(Ipv4Addr::new(
        127,
        77,
        u8::try_from(third).unwrap_or(1),
        u8::try_from(fourth).unwrap_or(1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ports = (0..2_000).map(|_| free_addr(ip).unwrap().port());
        let distinct: BTreeSet<u16> = ports.collect();
        assert_eq!(distinct.len(), 2_000);
    }
}
