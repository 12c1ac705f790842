//! What Patroni's `GET /cluster` says: a pure parser.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};

use crate::{
    discovery::{Found, FoundHost},
    topology::HostAddr,
};

/// How many members an answer may name.
const MOST_MEMBERS: usize = 100;

/// The longest host name that DNS knows; addresses are shorter.
const LONGEST_HOST: usize = 253;

/// The longest name of a zone.
const LONGEST_ZONE: usize = 128;

/// How much of a text that came from outside is repeated in an error.
const LONGEST_QUOTE: usize = 200;

/// States in which a member has no server yet. All others may change before the answer is read:
/// a member that stops or has crashed stays a host, and its server says what it is.
const NO_SERVER_YET: [&str; 5] = [
    "initializing new cluster",
    "initdb failed",
    "running custom bootstrap script",
    "custom bootstrap failed",
    "creating replica",
];

/// The members of a cluster, as Patroni's `GET /cluster` names them.
///
/// Reads the answers of Patroni 3 and 4; fields that it does not know are passed over.
///
/// ```
/// use leadpool::discovery::patroni::Members;
///
/// let answer = br#"{"members": [
///     {"name": "n1", "role": "replica", "state": "streaming", "host": "10.0.0.1", "port": 5432},
///     {"name": "n2", "role": "leader", "state": "running", "host": "10.0.0.2", "port": 5432}
/// ]}"#;
/// let members = Members::parse(answer)?;
/// assert_eq!(members.iter().count(), 2);
/// assert_eq!(members.leader().map(|leader| leader.name()), Some("n2"));
/// # Ok::<(), leadpool::discovery::patroni::MembersError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    members: Vec<Member>,
}

impl Members {
    /// Reads the body of an answer to `GET /cluster`.
    ///
    /// # Errors
    ///
    /// When it is not JSON, has another shape, names over 100 members, or gives a member an
    /// address that can't be one. A member without an address is no error.
    pub fn parse(body: &[u8]) -> Result<Self, MembersError> {
        let answer: Answer = serde_json::from_slice(body).map_err(|error| {
            let problem = quote(&error.to_string());
            match error.classify() {
                Category::Data => MembersError::Shape { problem },
                Category::Io | Category::Syntax | Category::Eof => {
                    MembersError::NotJson { problem }
                }
            }
        })?;
        if answer.members.len() > MOST_MEMBERS {
            return Err(MembersError::TooMany {
                limit: MOST_MEMBERS,
            });
        }
        let members: Result<_, _> = answer.members.into_iter().map(Member::read).collect();
        Ok(Self { members: members? })
    }

    /// The members, in Patroni's order: by name.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// The member that holds the leader lock. The leader of a standby cluster is none: it is a
    /// standby itself.
    #[must_use]
    pub fn leader(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.is_leader())
    }

    /// The hosts that they are, each address once.
    pub(super) fn found(&self, zone_tag: &str) -> Found {
        let mut hosts: Vec<FoundHost> = Vec::new();
        for member in &self.members {
            let Some(addr) = member.addr().filter(|_| member.has_server()) else {
                continue;
            };
            // A member that was renamed stays beside its old self until that one's ttl has passed.
            if hosts.iter().any(|host| host.addr == *addr) {
                continue;
            }
            let mut host = FoundHost::new(addr.clone());
            if let Some(zone) = member.zone(zone_tag) {
                host = host.with_zone(zone);
            }
            if member.is_not_for_reading() {
                host = host.with_weight(0);
            }
            hosts.push(host);
        }
        let leader = self.leader().and_then(Member::addr);
        let leader = leader.filter(|leader| hosts.iter().any(|host| host.addr == **leader));
        match leader.cloned() {
            Some(leader) => Found::new(hosts).with_primary(leader),
            None => Found::new(hosts),
        }
    }
}

/// One member of a cluster, as Patroni names it.
///
/// ```
/// use leadpool::{HostAddr, discovery::patroni::Members};
///
/// let answer = br#"{"members": [{"name": "n1", "role": "replica", "state": "streaming",
///     "host": "10.0.0.1", "port": 5432, "tags": {"noloadbalance": true}}]}"#;
/// let members = Members::parse(answer)?;
/// let member = members.iter().next().expect("one member");
/// assert_eq!(member.addr(), Some(&HostAddr::new("10.0.0.1", 5432)));
/// assert!(member.has_server() && member.is_not_for_reading() && !member.is_leader());
/// # Ok::<(), leadpool::discovery::patroni::MembersError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    name: String,
    role: String,
    state: String,
    addr: Option<HostAddr>,
    api_url: Option<String>,
    tags: Map<String, Value>,
}

impl Member {
    fn read(answer: AnswerMember) -> Result<Self, MembersError> {
        let addr = match (answer.host, answer.port) {
            (Some(host), Some(port)) => {
                Some(
                    address(&host, port).map_err(|problem| MembersError::Address {
                        member: quote(&answer.name),
                        problem,
                    })?,
                )
            }
            _ => None,
        };
        Ok(Self {
            name: answer.name,
            role: answer.role,
            state: answer.state.unwrap_or_default(),
            addr,
            api_url: answer.api_url,
            tags: answer.tags.unwrap_or_default(),
        })
    }

    /// Its name, unique in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role in Patroni's words: `leader`, `replica`, `sync_standby` ...
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Its state in Patroni's words: `running`, `streaming`, `stopped` ... Of a healthy standby
    /// it is `running` in Patroni 3.0.2 and `streaming` in 4.1.5.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Where its server is: Patroni's `postgresql.connect_address`.
    #[must_use]
    pub fn addr(&self) -> Option<&HostAddr> {
        self.addr.as_ref()
    }

    /// Where its Patroni is: `restapi.connect_address`, as a URL.
    #[must_use]
    pub fn api_url(&self) -> Option<&str> {
        self.api_url.as_deref()
    }

    /// Whether it holds the leader lock of a cluster that can be written to. A hint: its server
    /// may be gone, or not promoted yet.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "primary" | "master")
    }

    /// Whether it has an address and a server that may answer there: all states but those of a
    /// member whose data directory is still being made.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.addr.is_some() && !NO_SERVER_YET.contains(&self.state.as_str())
    }

    /// Whether its tag `noloadbalance` keeps readers away.
    #[must_use]
    pub fn is_not_for_reading(&self) -> bool {
        // Patroni takes whatever Python calls true.
        match self.tags.get("noloadbalance") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_set)) => *is_set,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
        }
    }

    /// Its zone: the tag of this name, if that is a text or a number.
    #[must_use]
    pub fn zone(&self, tag: &str) -> Option<String> {
        let zone = match self.tags.get(tag)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let is_usable = !zone.is_empty()
            && zone.len() <= LONGEST_ZONE
            && !zone.contains(|c: char| c.is_control());
        is_usable.then_some(zone)
    }
}

/// Why an answer can't be used.
///
/// ```
/// use leadpool::discovery::patroni::{Members, MembersError};
///
/// let error = Members::parse(b"<html>").unwrap_err();
/// assert!(matches!(error, MembersError::NotJson { .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// It is not JSON, or not all of it.
    #[error("not JSON ({problem}): is this the REST API of a Patroni?")]
    #[non_exhaustive]
    NotJson {
        /// What the parser found.
        problem: String,
    },
    /// It is JSON of another shape.
    #[error("not what `GET /cluster` answers ({problem}): is this a Patroni of version 3 or 4?")]
    #[non_exhaustive]
    Shape {
        /// What the parser found.
        problem: String,
    },
    /// It names more members than any cluster has.
    #[error("over {limit} members: is this the REST API of one Patroni cluster?")]
    #[non_exhaustive]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// A member has an address that can't be one.
    #[error("member `{member}`: {problem}; look at its postgresql.connect_address")]
    #[non_exhaustive]
    Address {
        /// The member's name.
        member: String,
        /// What is wrong.
        problem: String,
    },
}

fn address(host: &str, port: i64) -> Result<HostAddr, String> {
    // `HostAddr` takes an absolute path for a socket directory: that is not for others to say.
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if host.is_empty() || host.len() > LONGEST_HOST || !host.chars().all(is_host_char) {
        return Err(format!("`{}` is not a host name or address", quote(host)));
    }
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(HostAddr::new(host, port)),
        _ => Err(format!("{port} is not a port: 1 to 65535")),
    }
}

/// A text from outside, short and harmless enough for an error.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars().take(LONGEST_QUOTE) {
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        quoted.push('…');
    }
    quoted
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `members`")]
struct Answer {
    #[serde(deserialize_with = "one_too_many")]
    members: Vec<AnswerMember>,
}

#[derive(Deserialize)]
#[serde(expecting = "a member with `name` and `role`")]
struct AnswerMember {
    name: String,
    role: String,
    state: Option<String>,
    api_url: Option<String>,
    host: Option<String>,
    port: Option<i64>,
    tags: Option<Map<String, Value>>,
}

/// Keeps one member more than there may be: memory is not spent on thousands.
fn one_too_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<AnswerMember>, D::Error> {
    struct Bounded;

    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<AnswerMember>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of members")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = list.next_element()? {
                members.push(member);
                if members.len() > MOST_MEMBERS {
                    // Enough to know; the rest is only read over.
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    break;
                }
            }
            Ok(members)
        }
    }

    from.deserialize_seq(Bounded)
}
