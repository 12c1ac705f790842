//! Which hosts may be given credentials.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::topology::HostAddr;

/// A pattern of hosts: who matches may be given credentials when a discovery names it.
///
/// - a name, in which `*` stands for any characters and `?` for one: `*.db.example.com`;
/// - an IP address, or a network of them: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`;
/// - both with a port, which then has to be this one: `*.db.example.com:5432`, `[fd00::/8]:5432`.
///
/// Names match without regard to case. A pattern of a network never matches a name, nor a pattern
/// of digits, dots and stars alone: `10.0.0.*` does not admit `10.0.0.example.org`.
///
/// ```
/// use leadpool::{HostAddr, config::HostPattern};
///
/// let pattern: HostPattern = "*.db.example.com".parse()?;
/// assert!(pattern.matches(&HostAddr::new("pg-1.db.example.com", 5432)));
/// assert!(!pattern.matches(&HostAddr::new("db.example.com.evil.org", 5432)));
/// # Ok::<(), leadpool::config::InvalidPattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Name { glob: String, of_address: bool },
    Net(IpNet),
}

/// A text that is no [`HostPattern`].
///
/// ```
/// use leadpool::config::HostPattern;
///
/// let error = "10.0.0.0/99".parse::<HostPattern>().unwrap_err();
/// assert!(error.to_string().contains("10.0.0.0/99"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no pattern of hosts: {problem}")]
#[non_exhaustive]
pub struct InvalidPattern {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl HostPattern {
    /// Whether a host matches.
    #[must_use]
    pub fn matches(&self, host: &HostAddr) -> bool {
        let address = host.name().parse::<IpAddr>();
        let matches = match (&self.hosts, address) {
            (Hosts::Net(net), Ok(address)) => net.contains(&address),
            (Hosts::Net(_), Err(_)) => false,
            (Hosts::Name { of_address, .. }, Err(_)) if *of_address => false,
            (Hosts::Name { glob, .. }, _) => glob_matches(glob, host.name()),
        };
        matches && self.port.is_none_or(|port| port == host.port())
    }
}

impl FromStr for HostPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |problem| InvalidPattern {
            text: text.to_owned(),
            problem,
        };
        let trimmed = text.trim();
        let (hosts, port) = match trimmed.strip_prefix('[') {
            Some(rest) => {
                let (hosts, rest) = rest
                    .split_once(']')
                    .ok_or_else(|| invalid("a [ lacks its ]"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (hosts, Some(port)),
                    None if rest.is_empty() => (hosts, None),
                    None => return Err(invalid("after ] only :port may follow")),
                }
            }
            // More than one colon: an IPv6 address without a port.
            None => match trimmed.split_once(':') {
                Some((hosts, port)) if !port.contains(':') => (hosts, Some(port)),
                _ => (trimmed, None),
            },
        };
        let port = match port {
            None => None,
            Some(port) => Some(
                port.parse::<u16>()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| invalid("the port is not a number from 1 to 65535"))?,
            ),
        };
        if hosts.is_empty() {
            return Err(invalid("it is empty"));
        }
        let hosts = if hosts.contains('/') {
            Hosts::Net(
                hosts
                    .parse()
                    .map_err(|_| invalid("a network is an address and a length, as 10.0.0.0/8"))?,
            )
        } else if let Ok(address) = hosts.parse::<IpAddr>() {
            Hosts::Net(address.into())
        } else if hosts
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b))
        {
            Hosts::Name {
                glob: hosts.to_ascii_lowercase(),
                of_address: hosts
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b".*?".contains(&b))
                    && hosts.bytes().any(|b| b.is_ascii_digit()),
            }
        } else {
            return Err(invalid(
                "a name has letters, digits, dots, hyphens and underscores, with * for any \
                 characters and ? for one",
            ));
        };
        Ok(Self { hosts, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::Name { glob, .. }, None) => f.write_str(glob),
            (Hosts::Name { glob, .. }, Some(port)) => write!(f, "{glob}:{port}"),
            (Hosts::Net(net), None) => write!(f, "{net}"),
            (Hosts::Net(net), Some(port)) => write!(f, "[{net}]:{port}"),
        }
    }
}

/// Whether a name matches; time grows with the product of both lengths at most.
fn glob_matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    // Where to go on if the last star has to take one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    g = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str) -> bool {
        let pattern: HostPattern = pattern.parse().unwrap();
        pattern.matches(&HostAddr::new(host, 5432))
    }

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            (
                "*.db.test",
                &["a.db.test", "a.b.DB.test"] as &[_],
                &["db.test", "a.db.test.org"] as &[_],
            ),
            ("db?", &["db1", "dbx"], &["db", "db12"]),
            ("*", &["anything", "10.0.0.1", "::1"], &[]),
            (
                "10.0.0.0/8",
                &["10.1.2.3"],
                &["11.0.0.1", "10.1.2.3.evil.org", "::1"],
            ),
            ("10.0.0.*", &["10.0.0.9"], &["10.0.0.evil.org", "10.0.1.9"]),
            ("fd00::/8", &["fd00::7"], &["fe00::7"]),
            ("10.0.0.7", &["10.0.0.7"], &["10.0.0.8"]),
            ("db1:5432", &["db1"], &["db2"]),
            ("[fd00::/8]:5432", &["fd00::1"], &["::1"]),
            ("db1:5433", &[], &["db1"]),
            ("a*b*c", &["abc", "axxbyybzzc"], &["ab", "acb"]),
        ] {
            for host in yes {
                assert!(matches(pattern, host), "{pattern} {host}");
            }
            for host in no {
                assert!(!matches(pattern, host), "{pattern} {host}");
            }
        }
    }

    #[test]
    fn mistakes_are_told() {
        for text in [
            "",
            "  ",
            "a b",
            "db1:0",
            "db1:x",
            "10.0.0.0/40",
            "[::1",
            "[::1]x",
            "a/b",
            "ü",
        ] {
            let error = text.parse::<HostPattern>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["*.db.test:5432", "10.0.0.0/8", "[fd00::/8]:5432"] {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }
}
