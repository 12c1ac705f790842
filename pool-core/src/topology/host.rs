//! The identity of a host.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// One PostgreSQL server, identified by host name and port.
///
/// Two addresses are the same host only when both parts are equal; names are compared without
/// regard to ASCII case, as DNS does, and kept in lower case. The name is what the configuration
/// or a discovery says, not the IP address it resolves to: a host that moves to another address
/// under the same name stays the same host.
///
/// Cloning is cheap (one reference count).
///
/// ```
/// use leadpool::HostAddr;
///
/// let host = HostAddr::new("DB1.example.com", 5432);
/// assert_eq!(host.to_string(), "db1.example.com:5432");
/// assert_eq!(HostAddr::new("::1", 5432).to_string(), "[::1]:5432");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddr {
    name: Arc<str>,
    port: u16,
}

impl HostAddr {
    /// Names a host. IPv6 addresses are given without brackets; a Unix socket directory as its
    /// absolute path.
    pub fn new(name: impl AsRef<str>, port: u16) -> Self {
        let name = name.as_ref();
        let name = if name.starts_with('/') {
            name.into()
        } else {
            name.to_ascii_lowercase().into()
        };
        Self { name, port }
    }

    /// The host name, IP address or socket directory, in lower case unless it is a path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is reached by a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// The TCP port (or the number in the Unix socket's file name).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') && !self.name.starts_with('/') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// As `host:port`.
impl Serialize for HostAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
