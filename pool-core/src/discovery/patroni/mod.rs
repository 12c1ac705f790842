//! Hosts from Patroni's REST API.
//!
//! [`Patroni`] asks `GET /cluster` of the Patronis that it is given, and names the members as
//! hosts: those that join are probed, those that leave are let go. The leader is a hint whom to
//! probe first. [`PatroniCallback`] hears Patroni's callbacks, so that a planned switchover is
//! looked at in the moment in which it happens.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use leadpool::{Pool, discovery::patroni::Patroni};
//!
//! let patroni = Patroni::new(["http://10.0.0.1:8008", "http://10.0.0.2:8008"])?;
//! let pool = Pool::builder("postgres://app@/shop")
//!     .configure(|config| config.allowed_hosts("10.0.0.0/24"))
//!     .discovery(patroni)
//!     .build()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Tested against Patroni 3.0.2 and 4.1.5.
//!
//! # What it never does
//!
//! - **It makes nobody a primary.** Only a host's own answer to a probe does. The REST API is late
//!   or wrong in every failover: a leader whose server has died stays leader until its lock's
//!   `ttl` has passed, and a Patroni that can't reach its DCS may answer from memory. Believing it
//!   would send writes to a server that is no primary any more.
//! - It follows no redirect, changes nothing in Patroni, and takes no part in its elections.
//! - It sends its own credentials (password, client certificate) only to the URLs it was given,
//!   whatever an answer says. Those of PostgreSQL are not its affair: who may be sent them is the
//!   configuration's.
//!
//! # What of an answer counts
//!
//! | of a member | becomes |
//! |---|---|
//! | `host`, `port` | the host; a member without them is passed over |
//! | `state` | a member whose data directory is still being made is passed over: `creating replica`, `initializing new cluster`, `initdb failed`, `running custom bootstrap script`, `custom bootstrap failed`. With any other state, `stopped` and `crashed` too, it is a host: its server is asked, and says itself what it is |
//! | `role` `leader` (`primary`, `master`) | the hint whom to probe first; `standby_leader` gives none, since a standby cluster has no primary |
//! | tag `noloadbalance` | weight 0: not for readers |
//! | tag `availability_zone`, or another ([`Patroni::zone_tag`]) | the zone |
//! | `api_url` | one more Patroni to ask, if it is on that member's host or on one given, not `http` where all given are `https`, and no credentials are set; 10 at most |
//!
//! The rest is not looked at, `pause` neither: it changes what Patroni does, not what a host is.
//!
//! # Who is asked, and for how long
//!
//! The Patroni that answered last, then those given, then those learnt: the next one after 250 ms
//! without an answer, or at once after an error. The first usable answer wins; all together have
//! [2 s](Patroni::timeout). An answer may have 1 MiB and 100 members. If none is usable, the
//! hosts stay as they are, and the error tells what each Patroni said.
//!
//! Every member's answer is as good as another's, for all read the same DCS. While that is down,
//! Patroni answers `GET /cluster` after its `retry_timeout` (10 s) by hanging up, so there is no
//! answer in time.
//!
//! # Versions
//!
//! | | 3.0.2 | 4.1.5 |
//! |---|---|---|
//! | `state` of a healthy standby | `running` | `streaming`, `in archive recovery` |
//! | synchronous standbys (`role`) | `sync_standby` | `sync_standby`, `quorum_standby` |
//! | `scope`, `lsn`, `receive_lag`, `replay_lag` | no | yes |
//! | role that callbacks are told | `master`, `replica` | `primary`, `replica` |
//!
//! Both answer HTTP/1.0, and close the connection after each answer.
//!
//! Before 3.0.3, with etcd's API 3, a leader that was frozen and wakes up may take the lead back
//! from its successor, on the older timeline
//! ([patroni#2689](https://github.com/patroni/patroni/pull/2689)). leadpool gives it no writes, as
//! to any primary of a lower term, and so there is no writer until Patroni, or you, put that right.
//!
//! # Callbacks
//!
//! Patroni runs a script when it starts, stops, promotes or demotes a server. Let it call the
//! application:
//!
//! ```sh
//! #!/bin/sh
//! exec curl -fsS -m 2 -X POST -d "$1 $2 $3" http://app:9000/
//! ```
//!
//! ```yaml
//! postgresql:
//!   callbacks:
//!     on_role_change: /etc/patroni/tell-the-application
//!     on_start: /etc/patroni/tell-the-application
//!     on_stop: /etc/patroni/tell-the-application
//! ```
//!
//! ```no_run
//! # async fn f(pool: leadpool::Pool) -> Result<(), Box<dyn std::error::Error>> {
//! use leadpool::discovery::patroni::PatroniCallback;
//!
//! let cluster = pool.cluster().clone();
//! let guard = PatroniCallback::bind("10.0.0.9:9000").await?
//!     .token(std::env::var("CALLBACK_TOKEN")?)?
//!     .run(move || cluster.probe_now());
//! # Ok(())
//! # }
//! ```
//!
//! With a token, the script adds `-H "Authorization: Bearer ..."`. Of several processes of the
//! application each needs its call: one line for each in the script, with `&` behind and `wait` at
//! the end. Patroni kills a script that still runs when the next callback comes.
//!
//! Callbacks make a planned switchover faster known, no more. The call of a promotion comes up to
//! 40 ms before or after the first write that the new primary takes (Patroni 4.1); a member that
//! was killed calls nobody. Probes find everything without them.

mod callback;
mod endpoint;
mod error;
mod members;
mod rest;
mod seeds;
mod tls;

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
pub use callback::{CallbackGuard, PatroniCallback};
pub use error::PatroniError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::header::HeaderValue;
pub use members::{Member, Members, MembersError};
use tokio::time::{Instant, sleep};

use self::{endpoint::Endpoint, rest::Client, seeds::Seeds};
use super::{Discovering, Discovery, Found, View};
use crate::error::BoxError;

/// How long one Patroni is waited for before the next is asked too.
const HEDGE: Duration = Duration::from_millis(250);

/// Keeps any setting within what clocks can say.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The hosts that Patroni's REST API names.
///
/// See the [page on Patroni](self) for what it does and never does.
///
/// ```
/// use std::time::Duration;
///
/// use leadpool::discovery::patroni::Patroni;
///
/// # fn f(ca: &[u8]) -> Result<(), leadpool::discovery::patroni::PatroniError> {
/// let patroni = Patroni::new(["https://10.0.0.1:8008", "https://10.0.0.2:8008"])?
///     .ca_certificate(ca)?
///     .basic_auth("reader", "secret")?
///     .zone_tag("az")
///     .timeout(Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
pub struct Patroni {
    seeds: Seeds,
    client: Client,
    zone_tag: String,
    timeout: Duration,
    refresh_interval: Duration,
    failover_interval: Duration,
}

impl Patroni {
    /// Hosts as these Patronis name them. Each URL is scheme, host and port:
    /// `http://10.0.0.1:8008`.
    ///
    /// Name the members' own REST APIs, at least two. A load balancer before them works too.
    ///
    /// # Errors
    ///
    /// [`PatroniError::NoUrls`] and [`PatroniError::Url`], which names the URL and says what is
    /// wrong with it.
    pub fn new<S: AsRef<str>>(urls: impl IntoIterator<Item = S>) -> Result<Self, PatroniError> {
        Ok(Self {
            seeds: Seeds::new(urls)?,
            client: Client::default(),
            zone_tag: "availability_zone".to_owned(),
            timeout: Duration::from_secs(2),
            refresh_interval: Duration::from_secs(30),
            failover_interval: Duration::from_secs(1),
        })
    }

    /// Trusts the CA certificates in this PEM text for `https`, and no others. Each call adds.
    ///
    /// Default: what the system trusts.
    ///
    /// # Errors
    ///
    /// [`PatroniError::Certificate`] when there is none in it.
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Result<Self, PatroniError> {
        self.client.tls.trust(pem.as_ref())?;
        Ok(self)
    }

    /// Presents this certificate (PEM, with its intermediates) and key (PEM, not encrypted) to a
    /// Patroni that asks for one (`restapi.verify_client: required`).
    ///
    /// # Errors
    ///
    /// [`PatroniError::Certificate`] when they can't be read, or don't belong together.
    pub fn client_certificate(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, PatroniError> {
        self.client.tls.present(chain.as_ref(), key.as_ref())?;
        self.seeds.forget();
        Ok(self)
    }

    /// Sends a user and a password with each question, to the URLs given and nowhere else.
    ///
    /// Patroni itself wants none for `GET /cluster`; a proxy before it may. Over `http` they
    /// travel in clear.
    ///
    /// # Errors
    ///
    /// [`PatroniError::Credentials`] when the user holds a colon, or either a control character.
    pub fn basic_auth(
        mut self,
        user: impl AsRef<str>,
        password: impl AsRef<str>,
    ) -> Result<Self, PatroniError> {
        let (user, password) = (user.as_ref(), password.as_ref());
        let error = |key, problem| Err(PatroniError::Credentials { key, problem });
        if user.contains(':') {
            return error(
                "user",
                "can't hold a colon: the header has no way to say it",
            );
        }
        if user.contains(char::is_control) {
            return error("user", "can't hold a control character");
        }
        if password.contains(char::is_control) {
            return error("password", "can't hold a control character");
        }
        let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let header = HeaderValue::from_str(&format!("Basic {login}"));
        let mut header = header.map_err(|_| PatroniError::Credentials {
            key: "password",
            problem: "can't be sent in a header",
        })?;
        header.set_sensitive(true);
        self.client.authorization = Some(header);
        self.seeds.forget();
        Ok(self)
    }

    /// The tag whose value is a member's zone. Default: `availability_zone`.
    #[must_use]
    pub fn zone_tag(mut self, name: impl Into<String>) -> Self {
        self.zone_tag = name.into();
        self
    }

    /// How long one question may take, all Patronis together; at most an hour. Default: 2 s.
    ///
    /// The next one is asked after 250 ms without an answer, or sooner if there are so many that
    /// the last would have less than half of the time; after an error at once.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often to ask while all is well. Default: 30 s.
    #[must_use]
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// How often to ask while a writer is missing. Default: 1 s.
    #[must_use]
    pub fn failover_interval(mut self, interval: Duration) -> Self {
        self.failover_interval = interval;
        self
    }

    /// Asks now. The first usable answer wins.
    ///
    /// # Errors
    ///
    /// What the one Patroni said, or [`PatroniError::AllFailed`] with what each of several said.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections; nothing else is lost.
    pub async fn ask(&self) -> Result<Found, PatroniError> {
        let order = self.seeds.in_order();
        let mut waiting = order.iter();
        let timeout = self.timeout.min(LONGEST_TIMEOUT);
        let deadline = Instant::now() + timeout;
        let all = u32::try_from(order.len()).unwrap_or(u32::MAX);
        let pause = HEDGE.min(timeout / all.saturating_mul(2));
        let mut asked = FuturesUnordered::new();
        let mut failed = Vec::new();
        loop {
            asked.extend(
                waiting
                    .next()
                    .map(|endpoint| self.ask_one(endpoint, deadline)),
            );
            tokio::select! {
                biased;
                Some(answer) = asked.next() => match answer {
                    Ok(found) => return Ok(found),
                    Err(error) => failed.push(error),
                },
                () = sleep(pause), if waiting.len() > 0 => {}
                else => break,
            }
        }
        match failed.pop() {
            Some(error) if failed.is_empty() => Err(error),
            last => Err(PatroniError::AllFailed(
                failed.into_iter().chain(last).collect(),
            )),
        }
    }

    async fn ask_one(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Found, PatroniError> {
        let members = self.client.members(endpoint, deadline).await?;
        let found = members.found(&self.zone_tag);
        if found.hosts.is_empty() {
            return Err(PatroniError::NoHosts {
                url: endpoint.to_string(),
            });
        }
        // What only an answer names must not be sent what is meant for the URLs given.
        let learn = !self.client.has_credentials();
        self.seeds.answered(endpoint, &members, learn);
        Ok(found)
    }
}

impl Discovery for Patroni {
    fn name(&self) -> &str {
        "patroni"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async { self.ask().await.map_err(BoxError::from) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(self.refresh_interval)
    }

    fn failover_interval(&self) -> Duration {
        self.failover_interval
    }
}

impl fmt::Debug for Patroni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patroni")
            .field("seeds", &self.seeds)
            .field("has_credentials", &self.client.has_credentials())
            .field("zone_tag", &self.zone_tag)
            .field("timeout", &self.timeout)
            .field("refresh_interval", &self.refresh_interval)
            .field("failover_interval", &self.failover_interval)
            .finish_non_exhaustive()
    }
}
