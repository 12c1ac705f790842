//! Sockets of this process, by way of `/proc/self/fd` and `pidfd_getfd`
//! ([manual page](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html)).

use std::{collections::HashSet, fs, os::fd::OwnedFd};

use rustix::{
    net::{AddressFamily, Shutdown, getpeername, getsockname, shutdown, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

use super::{Ends, Tuning};

/// Whether it can be done here, tried on a descriptor of our own.
pub(super) fn check() -> Result<(), String> {
    let tried = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|process| {
        use std::os::fd::AsRawFd as _;

        let own = process.as_raw_fd();
        pidfd_getfd(&process, own, PidfdGetfdFlags::empty())
    });
    match tried {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "the socket switch needs the system call pidfd_getfd (Linux 5.6, and allowed in this \
             container), which failed: {error}; leave `socket_switch` off"
        )),
    }
}

/// Tunes the socket that has this port on our side and that one on the other, if there is exactly
/// one, and gives its ends, with those of all connections of this process.
pub(super) fn find(local: u16, peer: u16, tuning: &Tuning) -> (Option<Ends>, HashSet<Ends>) {
    let mut fitting = Vec::new();
    let mut alive = HashSet::new();
    each(|ends, socket| {
        alive.insert(ends);
        if ends.local.port() == local && ends.peer.port() == peer {
            fitting.push((ends, socket));
        }
    });
    match fitting.as_slice() {
        [(ends, socket)] => {
            tune(socket, tuning);
            (Some(*ends), alive)
        }
        _ => (None, alive),
    }
}

/// Shuts down those that are still there: reads end, writes fail.
pub(super) fn shut(known: &HashSet<Ends>) {
    each(|ends, socket| {
        if known.contains(&ends) {
            // It may have ended by itself.
            let _ = shutdown(&socket, Shutdown::Both);
        }
    });
}

/// Each TCP connection of this process, as a duplicate.
fn each(mut see: impl FnMut(Ends, OwnedFd)) {
    let Ok(process) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in descriptors.flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| {
            target
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"socket:")
        });
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket, number) else {
            continue;
        };
        // Closed meanwhile, or another one by now: what counts is what the duplicate says.
        let Ok(socket) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        if let Some(ends) = ends(&socket) {
            see(ends, socket);
        }
    }
}

fn ends(socket: &OwnedFd) -> Option<Ends> {
    let family = sockopt::socket_domain(socket).ok()?;
    if family != AddressFamily::INET && family != AddressFamily::INET6 {
        return None;
    }
    Some(Ends {
        local: getsockname(socket).ok()?.try_into().ok()?,
        peer: getpeername(socket).ok()??.try_into().ok()?,
    })
}

/// Best effort: a connection without keepalives is as sqlx made it.
fn tune(socket: &OwnedFd, tuning: &Tuning) {
    let set = || -> rustix::io::Result<()> {
        sockopt::set_socket_keepalive(socket, tuning.keepalives)?;
        if tuning.keepalives {
            sockopt::set_tcp_keepidle(socket, tuning.idle)?;
            if let Some(interval) = tuning.interval {
                sockopt::set_tcp_keepintvl(socket, interval)?;
            }
            if let Some(retries) = tuning.retries {
                sockopt::set_tcp_keepcnt(socket, retries)?;
            }
        }
        if let Some(timeout) = tuning.user_timeout {
            let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(socket, milliseconds)?;
        }
        Ok(())
    };
    if let Err(error) = set() {
        tracing::debug!(target: "leadpool::checkout", %error, "a socket could not be tuned");
    }
}
