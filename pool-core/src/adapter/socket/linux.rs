//! By way of `/proc/self/fd` and `pidfd_getfd`
//! ([manual page](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html)).

use std::{
    fs,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, Shutdown, getpeername, getsockname, shutdown, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

pub(super) type Descriptor = OwnedFd;

pub(super) fn check() -> Result<(), String> {
    let tried = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|process| {
        let own = process.as_raw_fd();
        pidfd_getfd(&process, own, PidfdGetfdFlags::empty())
    });
    tried.map(drop).map_err(|error| {
        format!(
            "it needs the system call pidfd_getfd (Linux 5.6, and allowed in this container), \
             which failed: {error}"
        )
    })
}

pub(super) fn each(see: &mut dyn FnMut(Descriptor)) {
    let Ok(process) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in descriptors.flatten() {
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket, number) else {
            continue;
        };
        // Closed meanwhile, or another one by now: what counts is what the duplicate says.
        if let Ok(duplicate) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            see(duplicate);
        }
    }
}

pub(super) fn ends(socket: &Descriptor) -> Option<(SocketAddr, SocketAddr)> {
    let family = sockopt::socket_domain(socket).ok()?;
    if family != AddressFamily::INET && family != AddressFamily::INET6 {
        return None;
    }
    let local = getsockname(socket).ok()?.try_into().ok()?;
    let peer = getpeername(socket).ok()??.try_into().ok()?;
    Some((local, peer))
}

pub(super) fn shut(socket: &Descriptor) {
    // It may have ended by itself.
    let _ = shutdown(socket, Shutdown::Both);
}

pub(super) fn is_ended(socket: &Descriptor) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().intersects(ended)
}

pub(super) fn keep_alive(
    socket: &Descriptor,
    settings: &tokio_postgres::Config,
) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(socket, settings.get_keepalives())?;
    if settings.get_keepalives() {
        sockopt::set_tcp_keepidle(socket, settings.get_keepalives_idle())?;
        if let Some(interval) = settings.get_keepalives_interval() {
            sockopt::set_tcp_keepintvl(socket, interval)?;
        }
        if let Some(retries) = settings.get_keepalives_retries() {
            sockopt::set_tcp_keepcnt(socket, retries)?;
        }
    }
    if let Some(timeout) = settings.get_tcp_user_timeout() {
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(socket, milliseconds)?;
    }
    Ok(())
}
