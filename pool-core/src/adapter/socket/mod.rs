//! Sockets of this process that a driver keeps to itself.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere as system;

use std::{fmt, io, net::SocketAddr};

use super::Login;

/// A duplicate of a TCP socket of this process, for drivers that give nobody theirs.
///
/// Only on Linux, 5.6 and later: there a process finds its sockets itself. It lists its own
/// descriptors, duplicates each (so that it can't become another one meanwhile), and looks at the
/// ends of the connection. While a duplicate lives, the connection stays open, also if the driver
/// closes its own.
///
/// What is found is a connection's if its port on this side is the one that the server sees, so not
/// through something that changes that, and not over Unix sockets.
///
/// ```no_run
/// use leadpool::adapter::Socket;
///
/// // The server has been asked for `inet_client_port()`.
/// let (local, server) = (49_152, 5432);
/// if let Some(socket) = Socket::find(local, server) {
///     socket.shut();
/// }
/// ```
pub struct Socket {
    descriptor: system::Descriptor,
    ends: (SocketAddr, SocketAddr),
}

impl Socket {
    /// Whether they can be found here, tried on a descriptor of our own.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check() -> Result<(), String> {
        system::check()
    }

    /// The one that has this port on our side and that one on the other; none if there are several,
    /// which differ in their addresses then. It asks the kernel for all of them.
    #[must_use]
    pub fn find(local: u16, peer: u16) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut is_ambiguous = false;
        Self::each(|socket| {
            let (ours, theirs) = socket.ends();
            if (ours.port(), theirs.port()) != (local, peer) {
                return;
            }
            match &found {
                None => found = Some(socket),
                // With the same ends it is the same: a duplicate, of somebody who looks just now.
                Some(other) => is_ambiguous |= other.ends() != socket.ends(),
            }
        });
        found.filter(|_| !is_ambiguous)
    }

    /// Looks at each of this process's, one after the other.
    pub fn each(mut see: impl FnMut(Self)) {
        system::each(&mut |descriptor| {
            if let Some(ends) = system::ends(&descriptor) {
                see(Self { descriptor, ends });
            }
        });
    }

    /// Our side of the connection and the other one; no other connection has both at the same time.
    #[must_use]
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        self.ends
    }

    /// Ends the connection: reads end, writes fail, in whichever thread. One that has ended by
    /// itself stays so.
    pub fn shut(&self) {
        system::shut(&self.descriptor);
    }

    /// Whether the other side has ended the connection. Asks the kernel, not the network.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        system::is_ended(&self.descriptor)
    }

    /// Sets what a login says of keepalives and of the time after which what was sent must have
    /// arrived.
    ///
    /// # Errors
    ///
    /// What the kernel does not take. The connection is then as the driver made it.
    pub fn keep_alive(&self, login: &Login) -> io::Result<()> {
        Ok(system::keep_alive(&self.descriptor, login.driver())?)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("ends", &self.ends).finish()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn connected() -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        Ok((ours, listener.accept()?.0))
    }

    fn ports(stream: &TcpStream) -> io::Result<(u16, u16)> {
        Ok((stream.local_addr()?.port(), stream.peer_addr()?.port()))
    }

    #[test]
    fn the_one_with_both_ports_is_shut_and_no_other() {
        let (mut ours, _theirs) = connected().unwrap();
        let (other, _others) = connected().unwrap();
        let (local, peer) = ports(&ours).unwrap();
        let (others_local, others_peer) = ports(&other).unwrap();
        let socket = Socket::find(local, peer).unwrap();
        assert!(Socket::find(local, others_peer).is_none());
        socket.shut();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        let other = Socket::find(others_local, others_peer).unwrap();
        assert!(!other.is_ended());
    }

    #[test]
    fn many_look_at_the_same_time_and_all_find_theirs() {
        let looking: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    let (ours, _theirs) = connected().unwrap();
                    let (local, peer) = ports(&ours).unwrap();
                    (0..50).all(|_| Socket::find(local, peer).is_some())
                })
            })
            .collect();
        for looked in looking {
            assert!(looked.join().unwrap());
        }
    }

    #[test]
    fn an_end_by_the_other_side_is_seen() {
        let (ours, theirs) = connected().unwrap();
        let (local, peer) = ports(&ours).unwrap();
        let socket = Socket::find(local, peer).unwrap();
        // A duplicate beside it changes nothing.
        assert!(Socket::find(local, peer).is_some());
        assert!(!socket.is_ended());
        drop(theirs);
        let begun = std::time::Instant::now();
        while !socket.is_ended() {
            assert!(begun.elapsed().as_secs() < 20, "the end was not seen");
            std::thread::yield_now();
        }
    }
}
