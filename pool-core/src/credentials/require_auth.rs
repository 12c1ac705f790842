//! Which ways to log in are allowed.
//!
//! [PostgreSQL documentation, section 34.1.2](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH).

use std::{fmt, str::FromStr};

/// A way in which a server asks a client who it is.
///
/// ```
/// use leadpool::credentials::AuthMethod;
///
/// assert_eq!(AuthMethod::ScramSha256.to_string(), "scram-sha-256");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `none`: the server asks for nothing.
    None,
    /// `password`: the password as it is.
    Password,
    /// `md5`: the password's MD5 hash, salted.
    Md5,
    /// `gss`: Kerberos by GSSAPI. leadpool does not speak it.
    Gss,
    /// `sspi`: Windows' own. leadpool does not speak it.
    Sspi,
    /// `scram-sha-256`: the proof that both sides know the password, which neither is told.
    ScramSha256,
    /// `oauth`: a bearer token. leadpool does not speak it.
    Oauth,
    /// `creds`: the credentials of a Unix socket's peer, of servers before 9.1. leadpool does not
    /// speak it.
    Creds,
    /// Something that this version of leadpool has no name for.
    Unknown,
}

/// What `require_auth` may name.
const METHODS: [(&str, AuthMethod); 8] = [
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("gss", AuthMethod::Gss),
    ("sspi", AuthMethod::Sspi),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("oauth", AuthMethod::Oauth),
    ("creds", AuthMethod::Creds),
    ("none", AuthMethod::None),
];

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = METHODS.iter().find(|(_, method)| method == self);
        f.write_str(known.map_or("an unknown method", |(name, _)| name))
    }
}

/// Which ways to log in are allowed: libpq's `require_auth`.
///
/// A list of methods with commas between, of which the server must ask for one; or, each with a `!`
/// before it, of which it must ask for none.
///
/// ```
/// use leadpool::credentials::{AuthMethod, RequireAuth};
///
/// let only: RequireAuth = "scram-sha-256".parse()?;
/// assert!(only.allows(AuthMethod::ScramSha256) && !only.allows(AuthMethod::None));
/// let not: RequireAuth = "!password,!md5".parse()?;
/// assert!(not.allows(AuthMethod::None) && !not.allows(AuthMethod::Md5));
/// # Ok::<(), leadpool::credentials::InvalidRequireAuth>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireAuth {
    methods: Vec<AuthMethod>,
    negated: bool,
}

impl RequireAuth {
    /// Whether a server may ask so.
    #[must_use]
    pub fn allows(&self, method: AuthMethod) -> bool {
        // What has no name can't have been meant by anybody.
        method != AuthMethod::Unknown && self.methods.contains(&method) != self.negated
    }
}

impl FromStr for RequireAuth {
    type Err = InvalidRequireAuth;

    fn from_str(list: &str) -> Result<Self, InvalidRequireAuth> {
        let negated = list.starts_with('!');
        let mut methods = Vec::new();
        for item in list.split(',') {
            let name = match (item.strip_prefix('!'), negated) {
                (Some(name), true) => name,
                (None, false) => item,
                _ => return Err(InvalidRequireAuth::Mixed),
            };
            let known = METHODS.iter().find(|(known, _)| *known == name);
            let (name, method) = known.ok_or_else(|| InvalidRequireAuth::Unknown {
                method: name.to_owned(),
            })?;
            if methods.contains(method) {
                return Err(InvalidRequireAuth::Twice { method: name });
            }
            methods.push(*method);
        }
        Ok(Self { methods, negated })
    }
}

impl fmt::Display for RequireAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.methods.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let not = if self.negated { "!" } else { "" };
            write!(f, "{comma}{not}{method}")?;
        }
        Ok(())
    }
}

/// What is wrong with a list of methods.
///
/// ```
/// use leadpool::credentials::{InvalidRequireAuth, RequireAuth};
///
/// let error = "md5,!password".parse::<RequireAuth>().unwrap_err();
/// assert_eq!(error, InvalidRequireAuth::Mixed);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequireAuth {
    /// There is no such method.
    #[error(
        "there is no method `{method}`: expected password, md5, gss, sspi, scram-sha-256, oauth, creds or none"
    )]
    #[non_exhaustive]
    Unknown {
        /// What stands there.
        method: String,
    },
    /// Some methods have a `!` before them, and some have not.
    #[error("write a ! before each method, or before none")]
    Mixed,
    /// A method is named twice.
    #[error("`{method}` is named twice: keep one")]
    #[non_exhaustive]
    Twice {
        /// The method.
        method: &'static str,
    },
}

/// A server asked in a way that `require_auth` does not allow. It was told nothing.
///
/// It is the source of [`Error::Connect`](crate::Error::Connect): waiting cures nothing here.
///
/// ```no_run
/// # async fn f() {
/// use std::error::Error as _;
/// use leadpool::{Error, Pool, credentials::{AuthMethod, AuthRefused}};
///
/// let pool = Pool::connect("postgres://app:secret@db1/shop?require_auth=scram-sha-256").await;
/// if let Err(Error::Connect(error)) = pool {
///     let refused = error.source().and_then(|source| source.downcast_ref::<AuthRefused>());
///     assert!(refused.is_some_and(|refused| refused.asked == AuthMethod::Password));
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server asks for `{asked}`, which `require_auth` ({allowed}) does not allow; it was told nothing"
)]
#[non_exhaustive]
pub struct AuthRefused {
    /// What the server asked for.
    pub asked: AuthMethod,
    /// What is allowed.
    pub allowed: RequireAuth,
}

impl AuthRefused {
    pub(crate) fn new(asked: AuthMethod, allowed: RequireAuth) -> Self {
        Self { asked, allowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_allows() {
        use AuthMethod::*;
        let asked = [None, Password, Md5, Gss, Sspi, ScramSha256, Oauth, Creds];
        for (text, allowed) in [
            ("none", vec![None]),
            ("scram-sha-256", vec![ScramSha256]),
            ("md5,scram-sha-256", vec![Md5, ScramSha256]),
            ("none,scram-sha-256", vec![None, ScramSha256]),
            (
                "!none",
                vec![Password, Md5, Gss, Sspi, ScramSha256, Oauth, Creds],
            ),
            (
                "!password,!md5,!none",
                vec![Gss, Sspi, ScramSha256, Oauth, Creds],
            ),
        ] {
            let list: RequireAuth = text.parse().unwrap();
            for method in asked {
                assert_eq!(
                    list.allows(method),
                    allowed.contains(&method),
                    "{text} {method}"
                );
            }
            assert!(!list.allows(Unknown));
            assert_eq!(list.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_list() {
        use InvalidRequireAuth::*;
        let unknown = |method: &str| Unknown {
            method: method.to_owned(),
        };
        for (text, problem) in [
            ("", unknown("")),
            ("scram", unknown("scram")),
            ("SCRAM-SHA-256", unknown("SCRAM-SHA-256")),
            ("md5,", unknown("")),
            ("md5, password", unknown(" password")),
            ("!!md5", unknown("!md5")),
            ("!md5,password", Mixed),
            ("md5,!password", Mixed),
            ("md5,password,md5", Twice { method: "md5" }),
            ("!none,!none", Twice { method: "none" }),
        ] {
            assert_eq!(text.parse::<RequireAuth>(), Err(problem), "{text}");
        }
    }
}
