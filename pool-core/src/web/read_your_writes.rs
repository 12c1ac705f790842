//! Consistency tokens that travel with requests and answers.

use std::{fmt, time::Duration};

use cookie::{Cookie, SameSite};

use super::{Problem, Seen, TimeLeft};
use crate::{
    consistency::{ConsistencyToken, SigningKeys, Standing},
    monitor::Cluster,
};

/// How long an answer waits for its token, at most.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Cookies of one name that are looked at: another site of the same domain may have set some.
const MOST: usize = 4;

/// Gives each client a token of what it has written, and takes it back with the client's next
/// requests, so that its reads show its writes.
///
/// The token goes to the client in a cookie (or in a [header](Self::header)), signed. A request has
/// written if its method is not safe
/// ([RFC 9110, section 9.2.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1)), or if it says
/// so ([`Seen::has_written`]). The answer to it gets a token by this table:
///
/// | the answer | its token |
/// |---|---|
/// | 1xx to 3xx | what has been committed until now, asked of the writer: one round trip, shared by all who ask at the same time |
/// | 4xx | none: the request was refused |
/// | 5xx, or the writer does not tell in 1 s | [of the writer](ConsistencyToken::of_writer): reads go there until a later answer tells more |
///
/// and to a request that has written nothing only if the token that it brought is of no more use: it
/// stands for something that a failover has lost, or for nothing that can be told.
///
/// What a client brings that is no token of ours (forged, cut, of a key given up) costs it its
/// cookie; in a header, where a program sends it, it is refused with 400. So is a token of another
/// cluster; with a cookie its reads go to the writer, and it gets a new one.
///
/// ```no_run
/// use leadpool::{Pool, consistency::SigningKeys, web::{ReadYourWrites, TimeLeft}};
///
/// # async fn f(pool: Pool, keys: SigningKeys) -> Result<(), leadpool::web::Problem> {
/// let layer = ReadYourWrites::new(pool.cluster(), keys);
/// let seen = layer.begin("POST", [b"theme=dark".as_slice()])?;
/// // Handle the request here.
/// if let Some((header, value)) = layer.end(&seen, 201, TimeLeft::default()).await {
///     println!("{header}: {value}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReadYourWrites {
    cluster: Cluster,
    keys: SigningKeys,
    carrier: Carrier,
}

#[derive(Clone, Debug)]
enum Carrier {
    Cookie {
        name: String,
        path: String,
        lasts: Duration,
        is_secure: bool,
    },
    /// In lower case.
    Header(String),
}

impl ReadYourWrites {
    /// Tokens of this cluster, in a cookie: `leadpool-seen`, for all paths, for an hour, for HTTPS
    /// only, and not for scripts.
    #[must_use]
    pub fn new(cluster: &Cluster, keys: SigningKeys) -> Self {
        Self {
            cluster: cluster.clone(),
            keys,
            carrier: Carrier::Cookie {
                name: "leadpool-seen".into(),
                path: "/".into(),
                lasts: Duration::from_secs(3600),
                is_secure: true,
            },
        }
    }

    /// Another name for the cookie, which is used instead of a header.
    ///
    /// # Errors
    ///
    /// The name is no token of HTTP.
    pub fn cookie(mut self, name: impl Into<String>) -> Result<Self, InvalidCarrier> {
        let given = valid("cookie", name.into())?;
        match &mut self.carrier {
            Carrier::Cookie { name, .. } => *name = given,
            Carrier::Header(_) => {
                let cookie = Self::new(&self.cluster, self.keys);
                return cookie.cookie(given);
            }
        }
        Ok(self)
    }

    /// A header of requests and answers instead of a cookie, for clients that are programs.
    ///
    /// # Errors
    ///
    /// The name is no token of HTTP.
    pub fn header(mut self, name: impl Into<String>) -> Result<Self, InvalidCarrier> {
        let name = valid("header", name.into())?;
        self.carrier = Carrier::Header(name.to_ascii_lowercase());
        Ok(self)
    }

    /// How long the cookie lives after each write: longer than standbys may be behind. In whole
    /// seconds; 1 h by default. A header has none.
    #[must_use]
    pub fn lasts(mut self, time: Duration) -> Self {
        if let Carrier::Cookie { lasts, .. } = &mut self.carrier {
            *lasts = time;
        }
        self
    }

    /// The paths that the cookie is for. A header has none.
    ///
    /// # Errors
    ///
    /// The path does not begin with `/`, or holds what no cookie can carry.
    pub fn path(mut self, given: impl Into<String>) -> Result<Self, InvalidCarrier> {
        let given = given.into();
        let is_path = given.starts_with('/')
            && given
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b';');
        if !is_path {
            return Err(InvalidCarrier {
                what: "path",
                name: given,
            });
        }
        if let Carrier::Cookie { path, .. } = &mut self.carrier {
            *path = given;
        }
        Ok(self)
    }

    /// Gives the cookie also over plain HTTP: for networks in which there is nothing else. Browsers
    /// take `localhost` for secure anyway.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        if let Carrier::Cookie { is_secure, .. } = &mut self.carrier {
            *is_secure = false;
        }
        self
    }

    /// The header of a request in which the token comes, in lower case.
    #[must_use]
    pub fn request_header(&self) -> &str {
        match &self.carrier {
            Carrier::Cookie { .. } => "cookie",
            Carrier::Header(name) => name,
        }
    }

    /// What a request must have seen, by its method and by the values of its
    /// [header](Self::request_header).
    ///
    /// # Errors
    ///
    /// A header that holds no token of ours: 400.
    pub fn begin<'a>(
        &self,
        method: &str,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Seen, Problem> {
        let writes = !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(Seen::new(None, writes));
        }
        let (token, is_useless) = match &self.carrier {
            Carrier::Cookie { name, .. } => self.of_cookies(name, values),
            Carrier::Header(name) => (self.of_header(name, values)?, false),
        };
        let seen = Seen::new(token, writes);
        if is_useless {
            seen.replace();
        }
        Ok(seen)
    }

    /// The token, and whether there is something in its place that should go.
    fn of_cookies<'a>(
        &self,
        name: &str,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> (Option<ConsistencyToken>, bool) {
        let pairs = values
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let named = pairs.filter(|(key, _)| *key == name).take(MOST);
        let mut is_useless = false;
        for (_, text) in named {
            match self.keys.verify(text) {
                Ok(token) if self.cluster.standing(&token) != Standing::Foreign => {
                    return (Some(token), false);
                }
                Ok(_) => {
                    let id = self.cluster.topology().system_identifier;
                    return (Some(ConsistencyToken::of_writer(id)), true);
                }
                Err(_) => is_useless = true,
            }
        }
        (None, is_useless)
    }

    fn of_header<'a>(
        &self,
        name: &str,
        mut values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<ConsistencyToken>, Problem> {
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(refused(name, "must be there once at most"));
        };
        let token = std::str::from_utf8(value)
            .ok()
            .and_then(|text| self.keys.verify(text.trim()).ok());
        match token {
            None => Err(refused(name, "holds no token of this service")),
            Some(token) if self.cluster.standing(&token) == Standing::Foreign => {
                Err(refused(name, "holds a token of another database cluster"))
            }
            token => Ok(token),
        }
    }

    /// The header that the answer to a request gets, if any: its name in lower case, and its value
    /// in printable ASCII. Call it when whatever the request wrote is committed.
    ///
    /// It takes the round trip of the token; 1 s at most, and never more than is `left`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn end(&self, seen: &Seen, status: u16, left: TimeLeft) -> Option<(&str, String)> {
        if let Some(told) = seen.told() {
            return Some(self.give(&told));
        }
        let brought = seen.token();
        let is_settled = |standing| matches!(standing, Standing::Current | Standing::Kept);
        let has_news = || {
            let standing = brought.map(|token| self.cluster.standing(&token));
            // One that is ahead of us is good for those who have seen more.
            standing.is_some_and(|standing| !is_settled(standing) && standing != Standing::Future)
                || seen.is_to_be_replaced()
        };
        match (seen.is_written(), status) {
            (true, 500..) => Some(self.give(&self.unknown())),
            (true, ..400) => {
                Some(self.give(&self.ask(left).await.unwrap_or_else(|| self.unknown())))
            }
            _ if !has_news() => None,
            _ if brought.is_none() => self.take_back(),
            _ => Some(self.give(&self.ask(left).await?)),
        }
    }

    /// What a request is answered with whose transaction is committed outside of this layer: its
    /// token would stand before the COMMIT.
    #[must_use]
    pub fn inside_of_transaction() -> Problem {
        Problem::misassembled(
            "Consistency tokens are made before the transaction is committed: put the layer \
             ReadYourWrites around Transactions, which .layer() does if it comes after it, and so \
             does .wrap().",
        )
    }

    async fn ask(&self, left: TimeLeft) -> Option<ConsistencyToken> {
        let limit = left.within(ASK_WITHIN);
        self.cluster.timeout_token(limit).await.ok()
    }

    fn unknown(&self) -> ConsistencyToken {
        ConsistencyToken::of_writer(self.cluster.topology().system_identifier)
    }

    fn give(&self, token: &ConsistencyToken) -> (&str, String) {
        let text = self.keys.sign(token);
        match &self.carrier {
            Carrier::Header(name) => (name, text),
            Carrier::Cookie { lasts, .. } => {
                ("set-cookie", self.cookie_of(&text, *lasts).unwrap_or(text))
            }
        }
    }

    /// Ends the life of a cookie that is of no use.
    fn take_back(&self) -> Option<(&str, String)> {
        Some(("set-cookie", self.cookie_of("", Duration::ZERO)?))
    }

    fn cookie_of(&self, text: &str, lives: Duration) -> Option<String> {
        let Carrier::Cookie {
            name,
            path,
            is_secure,
            ..
        } = &self.carrier
        else {
            return None;
        };
        let seconds = i64::try_from(lives.as_secs()).unwrap_or(i64::MAX);
        let cookie = Cookie::build((name, text))
            .path(path)
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(*is_secure)
            .max_age(cookie::time::Duration::seconds(seconds));
        Some(cookie.to_string())
    }
}

fn refused(name: &str, problem: &str) -> Problem {
    let detail = format!(
        "The header {name} {problem}: send what the last answer had there, or leave it out."
    );
    Problem::refused(400, detail)
}

/// What a name in HTTP may be made of: a `token` of
/// [RFC 9110, section 5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2).
fn valid(what: &'static str, name: String) -> Result<String, InvalidCarrier> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_token) {
        true => Ok(name),
        false => Err(InvalidCarrier { what, name }),
    }
}

/// A name in which no token can travel.
///
/// ```no_run
/// # fn f(layer: leadpool::web::ReadYourWrites) {
/// let error = layer.header("seen by me").unwrap_err();
/// assert!(error.to_string().contains("seen by me"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCarrier {
    what: &'static str,
    name: String,
}

impl fmt::Display for InvalidCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = match self.what {
            "path" => "begin with / and have neither spaces nor semicolons",
            _ => "have letters, digits and - only",
        };
        let Self { what, name } = self;
        write!(
            f,
            "{name:?} can't be the {what} of a consistency token: it must {wanted}"
        )
    }
}

impl std::error::Error for InvalidCarrier {}
