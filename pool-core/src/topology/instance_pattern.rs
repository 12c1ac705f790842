//! Host names of instances, from the names that the database itself gives them.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The longest label, and the longest name, that DNS can hold
/// ([RFC 1035, section 2.3.4](https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4); the name as
/// written, without a dot at its end).
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;

/// How an instance's host name is made from its id: `?.my-domain.com`, or with a port,
/// `any-subdomain.?.my-domain.com:9999`. The `?` is where the id goes.
///
/// It is what the AWS drivers call `HostPattern` (ODBC) and `cluster_instance_host_pattern`
/// (Python): Aurora's topology lists instances by id, so behind an IP address or a domain of
/// one's own their host names can't be known otherwise. For AWS's own endpoints
/// [`AwsEndpoint::instance_pattern`](super::AwsEndpoint::instance_pattern) has it.
///
/// Ids come from a server, so an id changes one label and nothing else: it can't name a host
/// outside of the domain behind the `?`. Names are kept in lower case, and without a dot at the
/// end.
///
/// ```
/// use leadpool::config::InstancePattern;
///
/// let pattern = InstancePattern::parse("?.my-domain.com:9999")?;
/// let (host, port) = pattern.host("inst-1")?;
/// assert_eq!((host.as_str(), port), ("inst-1.my-domain.com", Some(9999)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstancePattern {
    before: String,
    after: String,
    port: Option<u16>,
}

/// A text that can't be a pattern of host names.
///
/// ```
/// use leadpool::config::InstancePattern;
///
/// let error = InstancePattern::parse("my-domain.com").unwrap_err();
/// assert!(error.to_string().contains("write ?.my-domain.com"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern of host names: {problem}")]
#[non_exhaustive]
pub struct InvalidInstancePattern {
    /// What was given.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// An instance's id that can't be part of a host name.
///
/// ```
/// use leadpool::config::InstancePattern;
///
/// let pattern = InstancePattern::parse("?.my-domain.com")?;
/// assert!(pattern.host("evil.example.org/").is_err());
/// # Ok::<(), leadpool::config::InvalidInstancePattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance id {id:?} makes no host name with the pattern {pattern}: {problem}")]
#[non_exhaustive]
pub struct InvalidInstanceId {
    /// The id that the server gave.
    pub id: String,
    /// The pattern.
    pub pattern: InstancePattern,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InstancePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// There is not exactly one `?`, or no domain behind it; what is around it is no host name, or
    /// an IP address; the port is no number from 1 to 65535.
    pub fn parse(pattern: &str) -> Result<Self, InvalidInstancePattern> {
        Self::read(pattern).map_err(|problem| InvalidInstancePattern {
            pattern: pattern.to_owned(),
            problem,
        })
    }

    /// The host name of an instance, in lower case, and the pattern's port; without one, the
    /// cluster's port is meant.
    ///
    /// # Errors
    ///
    /// The id is more, or less, than a part of one label: letters, digits, hyphens (not at either
    /// end) and underscores; or the name gets too long for DNS.
    pub fn host(&self, id: &str) -> Result<(String, Option<u16>), InvalidInstanceId> {
        let refused = |problem| InvalidInstanceId {
            id: id.to_owned(),
            pattern: self.clone(),
            problem,
        };
        if !is_label(id) {
            return Err(refused(
                "an id is 1 to 63 letters, digits, hyphens (not at either end) and underscores",
            ));
        }
        let host = format!("{}{}{}", self.before, id.to_ascii_lowercase(), self.after);
        if host.len() > LONGEST_NAME || !host.split('.').all(is_label) {
            return Err(refused(
                "the name would be longer than 253 characters, or a part of it than 63",
            ));
        }
        Ok((host, self.port))
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        match text.matches('?').count() {
            1 => {}
            0 => return Err("write ?.my-domain.com, with a ? where the instance's id goes"),
            _ => return Err("only one ? can stand for the instance's id"),
        }
        let (name, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((name, _)) if name.contains([':', '[']) => return Err(IP_ADDRESS),
            Some((name, port)) => (name, Some(read_port(port)?)),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if is_ip_address(&name) {
            return Err(IP_ADDRESS);
        }
        // As it looks with the shortest id.
        let with_id = name.replace('?', "x");
        if with_id.len() > LONGEST_NAME || !with_id.split('.').all(is_label) {
            return Err(
                "around the ? it is a host name: letters, digits, hyphens (not at either end of \
                 a part) and underscores, parts of 1 to 63 characters, 253 in all",
            );
        }
        match name.split_once('?') {
            Some((before, after)) if after.contains('.') => Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
                port,
            }),
            _ => Err(
                "a domain must follow the ?, as in ?.my-domain.com; the server's ids could name \
                 any host otherwise",
            ),
        }
    }
}

const IP_ADDRESS: &str = "an instance's id can't be part of an IP address; write the domain in \
                          which the instances have their names, as in ?.my-domain.com";

/// In lower case; [`parse`](InstancePattern::parse) reads it.
impl fmt::Display for InstancePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?{}", self.before, self.after)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for InstancePattern {
    type Err = InvalidInstancePattern;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        Self::parse(pattern)
    }
}

/// Whether the text is one part of a host name, of the letters that are safe everywhere.
/// Underscores are no letters of host names, but some have them.
pub(super) fn is_label(text: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        // A number may begin with a plus sign otherwise.
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("the port is a number from 1 to 65535"),
    }
}

/// Whether resolvers would take the name for an IP address in one of its notations: these alone
/// have a number at their end
/// ([RFC 3696, section 2](https://www.rfc-editor.org/rfc/rfc3696#section-2)).
fn is_ip_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is = |text: &str, digit: fn(&u8) -> bool| text.bytes().all(|b| digit(&b));
    name.replace('?', "0").parse::<Ipv4Addr>().is_ok()
        || (!last.is_empty() && is(last, u8::is_ascii_digit))
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| is(digits, u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern, its normal form, and what it makes of `Inst-1`.
    const READ: &[(&str, &str, &str, Option<u16>)] = &[
        (
            "?.my-domain.com",
            "?.my-domain.com",
            "inst-1.my-domain.com",
            None,
        ),
        (
            "any-subdomain.?.my-domain.com:9999",
            "any-subdomain.?.my-domain.com:9999",
            "any-subdomain.inst-1.my-domain.com",
            Some(9999),
        ),
        ("?.customHost", "?.customhost", "inst-1.customhost", None),
        (
            "?.My-Domain.COM.",
            "?.my-domain.com",
            "inst-1.my-domain.com",
            None,
        ),
        ("?.a.:65535", "?.a:65535", "inst-1.a", Some(65535)),
        ("db-?-x.a_b.c", "db-?-x.a_b.c", "db-inst-1-x.a_b.c", None),
        ("10.?.example", "10.?.example", "10.inst-1.example", None),
        (
            "?.XYZ.us-east-2.rds.amazonaws.com:05432",
            "?.xyz.us-east-2.rds.amazonaws.com:5432",
            "inst-1.xyz.us-east-2.rds.amazonaws.com",
            Some(5432),
        ),
    ];

    #[test]
    fn patterns_are_read() {
        for (text, normal, host, port) in READ {
            let pattern: InstancePattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), *normal, "{text}");
            assert_eq!(InstancePattern::parse(normal).as_ref(), Ok(&pattern));
            assert_eq!(pattern.host("Inst-1"), Ok(((*host).to_owned(), *port)));
        }
    }

    /// A text, and a word of what is wrong with it.
    const REFUSED: &[(&str, &str)] = &[
        ("", "with a ?"),
        ("my-domain.com", "with a ?"),
        ("*.my-domain.com", "with a ?"),
        ("?.?.my-domain.com", "only one ?"),
        ("??.my-domain.com", "only one ?"),
        ("?", "must follow"),
        ("?:5432", "must follow"),
        ("?.", "must follow"),
        ("db-?", "must follow"),
        ("my-domain.?", "must follow"),
        ("?.my-domain.com:", "65535"),
        ("?.my-domain.com:0", "65535"),
        ("?.my-domain.com:65536", "65535"),
        ("?.my-domain.com:+1", "65535"),
        ("?.my-domain.com:-1", "65535"),
        ("?.my-domain.com: 1", "65535"),
        ("?.my-domain.com:x", "65535"),
        ("?.my-domain.com:1\u{0661}", "65535"),
        ("my-domain.com:?", "65535"),
        ("https://?.my-domain.com", "65535"),
        ("10.0.0.?", "IP address"),
        ("10.0.?.1", "IP address"),
        ("?.0.0.1", "IP address"),
        ("10.0.0.?:5432", "IP address"),
        ("?.1", "IP address"),
        ("?.0x7f", "IP address"),
        ("?.0X1", "IP address"),
        ("::?", "IP address"),
        ("[fe80::?]:5432", "IP address"),
        ("[?]:5432", "IP address"),
        ("?.my-domain.com:1:2", "IP address"),
        (".?.my-domain.com", "around the ?"),
        ("?..my-domain.com", "around the ?"),
        ("?.my-domain.com..", "around the ?"),
        ("?.my domain.com", "around the ?"),
        (" ?.my-domain.com", "around the ?"),
        ("-?.my-domain.com", "around the ?"),
        ("?-.my-domain.com", "around the ?"),
        ("?.-my-domain.com", "around the ?"),
        ("app@?.my-domain.com", "around the ?"),
        ("?.my-domain.com/shop", "around the ?"),
        ("?.my-domain.com,b", "around the ?"),
        ("?.m\u{00fc}ller.de", "around the ?"),
        ("?.my-domain.\u{212a}om", "around the ?"),
        ("?\0.my-domain.com", "around the ?"),
    ];

    #[test]
    fn what_is_no_pattern_is_refused_and_says_why() {
        for (text, word) in REFUSED {
            let error = InstancePattern::parse(text).unwrap_err();
            assert!(error.to_string().contains(word), "{text}: {error}");
            assert_eq!(error.pattern, *text);
        }
        let long = |label: usize| format!("?.{}.com", "a".repeat(label));
        assert!(InstancePattern::parse(&long(63)).is_ok());
        assert!(InstancePattern::parse(&long(64)).is_err());
        let deep = |labels: usize| format!("?{}", ".a".repeat(labels));
        assert!(InstancePattern::parse(&deep(126)).is_ok());
        assert!(InstancePattern::parse(&deep(127)).is_err());
    }

    #[test]
    fn an_id_names_no_other_domain() {
        let pattern = InstancePattern::parse("a.db-?.my-domain.com").unwrap();
        for id in [
            "",
            ".",
            "evil.example.org.",
            "a.b",
            "evil.example.org/",
            "evil.example.org:1#",
            "x@evil",
            "x,evil",
            "[::1]",
            "/tmp",
            "?",
            "*",
            "-x",
            "x-",
            " x",
            "x\n",
            "x\0",
            "x%2e",
            "\u{ff0e}",
            "m\u{00fc}ller",
            "\u{212a}",
        ] {
            let error = pattern.host(id).unwrap_err();
            assert!(error.to_string().contains("letters, digits"), "{error}");
            assert!(
                error.to_string().contains("a.db-?.my-domain.com"),
                "{error}"
            );
            assert_eq!(error.id, id);
        }
        for id in ["x", "Inst_1", "7", "10", "0x7f"] {
            let (host, _) = pattern.host(id).unwrap();
            assert_eq!(
                host,
                format!("a.db-{}.my-domain.com", id.to_ascii_lowercase())
            );
        }
    }

    #[test]
    fn names_stay_within_what_dns_holds() {
        let host = |pattern: &str, id: usize| {
            let pattern = InstancePattern::parse(pattern).unwrap();
            pattern.host(&"x".repeat(id))
        };
        assert!(host("?.a", 63).is_ok());
        assert!(host("?.a", 64).is_err());
        assert!(host("db-?.a", 60).is_ok());
        assert!(host("db-?.a", 61).unwrap_err().problem.contains("longer"));
        let deep = format!("?{}", ".a".repeat(120));
        assert!(host(&deep, 13).is_ok());
        assert!(host(&deep, 14).unwrap_err().problem.contains("longer"));
    }
}
