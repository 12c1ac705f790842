//! What can go wrong between here and the name servers.

use std::{net::IpAddr, time::Duration};

use crate::error::BoxError;

/// Why DNS gave no hosts.
///
/// Each says which name was concerned and what to do next.
///
/// ```
/// use leadpool::discovery::dns::{Dns, DnsError};
///
/// let error = Dns::a("10.0.0.1", 5432).unwrap_err();
/// assert!(matches!(error, DnsError::Name { .. }));
/// assert!(error.to_string().contains("`10.0.0.1`"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The name can't be asked for.
    #[error("`{name}`: {problem}")]
    #[non_exhaustive]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The port is none.
    #[error("`{name}`: port 0 is none: 1 to 65535")]
    #[non_exhaustive]
    Port {
        /// The name.
        name: String,
    },
    /// The system does not say which name servers to ask.
    #[error(
        "the system's name servers can't be read: {source}; look at /etc/resolv.conf, or give \
         some with `name_server`"
    )]
    #[non_exhaustive]
    System {
        /// What the resolver, or the system, said.
        source: BoxError,
    },
    /// There is no such name (NXDOMAIN).
    #[error("`{name}`: DNS knows no such name; asked for {asked}")]
    #[non_exhaustive]
    NoSuchName {
        /// The name.
        name: String,
        /// The full names that were asked for.
        asked: String,
    },
    /// The name exists and has no records of this kind (NODATA).
    #[error("`{name}`: DNS knows the name, but has no {kind} for it; asked for {asked}")]
    #[non_exhaustive]
    NoRecords {
        /// The name.
        name: String,
        /// What was looked for.
        kind: &'static str,
        /// The full names that were asked for.
        asked: String,
    },
    /// No name server gave an answer to be used.
    #[error(
        "`{name}`: no usable answer to the question for {kind} of {asked}: {source}{}",
        hint(kind)
    )]
    #[non_exhaustive]
    Failed {
        /// The name.
        name: String,
        /// What was looked for.
        kind: &'static str,
        /// The full name that was asked for.
        asked: String,
        /// What the resolver said.
        source: BoxError,
    },
    /// No complete answer came in time.
    #[error("`{name}`: no complete answer from DNS within {within:.1?}")]
    #[non_exhaustive]
    Silent {
        /// The name.
        name: String,
        /// How long there was.
        within: Duration,
    },
    /// There are more records than any cluster has hosts.
    #[error(
        "`{name}`: DNS has {found} records, of which {limit} are the most: is it the name of one cluster?"
    )]
    #[non_exhaustive]
    TooMany {
        /// The name.
        name: String,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// An address is none that a host of a cluster has.
    #[error("`{name}`: DNS gives {addr}, which is {kind}{}", remedy(kind))]
    #[non_exhaustive]
    Address {
        /// The name.
        name: String,
        /// The address.
        addr: IpAddr,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// An SRV record points nowhere.
    #[error("`{name}`: DNS gives the target `{target}`: {problem}")]
    #[non_exhaustive]
    Target {
        /// The name.
        name: String,
        /// The target.
        target: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What [`DnsError::Address`] calls the kinds that can be allowed.
pub(super) const LOOPBACK: &str = "a loopback address";
pub(super) const LINK_LOCAL: &str = "a link-local address";

fn remedy(kind: &str) -> &'static str {
    match kind {
        LOOPBACK | LINK_LOCAL => ": if that is meant, say `allow_local`",
        _ => ": correct the record",
    }
}

fn hint(kind: &str) -> &'static str {
    match kind {
        "AAAA" => "; a cluster without IPv6 can do without it: `ipv4_only`",
        "A" => "; a cluster without IPv4 can do without it: `ipv6_only`",
        _ => "",
    }
}
