//! Opening a connection to one host: in a thread, since libpq waits there, with a deadline of our
//! own, since libpq's is in whole seconds.

use std::{error::Error as StdError, fmt, io, sync::Arc, thread};

use diesel::{Connection as _, ConnectionError, PgConnection, RunQueryDsl as _, sql_types};
use leadpool::{
    adapter::{Generation, Login},
    credentials::CredentialError,
    failover::Report,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    login::conninfo,
    r2d2,
    session::{Customizer, Session},
    socket::Sockets,
};

/// Asked once for each connection. The port is that of the socket on this side, unless something in
/// between has changed it.
const FIRST_QUESTION: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS recovering, pg_catalog.inet_client_port() AS port";

/// What the server says of a new connection.
#[derive(diesel::QueryableByName)]
struct First {
    #[diesel(sql_type = sql_types::Bool)]
    recovering: bool,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Integer>)]
    port: Option<i32>,
}

/// What connections to a host are opened with.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) generation: Arc<Generation>,
    pub(super) sockets: Sockets,
    pub(super) customizer: Option<Arc<Customizer>>,
}

impl Opener {
    /// Opens a connection to the generation's host: admitted by its cap, within the connect
    /// timeout, and given up at once when the generation ends.
    ///
    /// A standby where the writer should be is refused here, before anybody gets the connection.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a thread may go on until libpq has come to its end; what it has
    /// opened is closed then.
    pub(super) async fn open(&self) -> Result<Session, ConnectFailure> {
        let generation = &self.generation;
        let limit = generation.config().pool().connect_timeout;
        let opening = async {
            let _admitted = generation.admission().await;
            timeout_at(Instant::now() + limit, self.log_in()).await
        };
        let opened = tokio::select! {
            biased;
            () = generation.retired() => return Err(self.refuse("was invalidated while connecting")),
            opened = opening => opened,
        };
        let Ok(opened) = opened else {
            generation.report(Report::Slow);
            return Err(self.refuse(&format!("gave no session within {limit:.1?}")));
        };
        let (session, recovering) = opened?;
        match (recovering, generation.is_writer()) {
            (true, true) => {
                generation.report(Report::RoleChanged);
                return Err(self.refuse("is in recovery"));
            }
            // A standby that was promoted a moment ago: good to know early.
            (false, false) => generation.report(Report::RoleChanged),
            _ => {}
        }
        generation.heard();
        Ok(session)
    }

    /// Asks for credentials, and once more if the host refuses them.
    async fn log_in(&self) -> Result<(Session, bool), ConnectFailure> {
        let (config, host) = (self.generation.config(), self.generation.host());
        let login = Login::ask(config, host, None).await;
        let login = login.map_err(ConnectFailure::Credentials)?;
        match self.connect(&login).await {
            Err(error) if error.is_refused_login() && login.is_provided() => {
                let other = Login::ask(config, host, Some(&login)).await;
                let other = other.map_err(ConnectFailure::Credentials)?;
                if other == login {
                    return Err(error);
                }
                self.connect(&other).await
            }
            connected => connected,
        }
    }

    async fn connect(&self, login: &Login) -> Result<(Session, bool), ConnectFailure> {
        let (config, host) = (self.generation.config(), self.generation.host());
        let conninfo = conninfo(config, host, login);
        let (answer, connected) = oneshot::channel();
        let opener = self.clone();
        // Not one of the runtime's: an application may keep those busy with waiting for this.
        let thread = thread::Builder::new().name("leadpool-connect".to_owned());
        let spawned = thread.spawn(move || {
            // If nobody waits for it any more, it is closed.
            drop(answer.send(opener.connect_here(&conninfo)));
        });
        spawned.map_err(ConnectFailure::Thread)?;
        match connected.await {
            Ok(connected) => connected,
            // A customizer has panicked.
            Err(_) => Err(self.refuse("was left by a panic while connecting")),
        }
    }

    /// Blocks.
    fn connect_here(self, conninfo: &str) -> Result<(Session, bool), ConnectFailure> {
        let mut conn = PgConnection::establish(conninfo).map_err(ConnectFailure::Connection)?;
        let asked = diesel::sql_query(FIRST_QUESTION).get_result::<First>(&mut conn);
        let first = asked.map_err(|error| ConnectFailure::Prepare(error.into()))?;
        let port = first.port.map(u16::try_from).and_then(Result::ok);
        let socket = port.and_then(|port| {
            let peer = self.generation.host().port();
            self.sockets.take_charge(port, peer)
        });
        if socket.is_none() {
            tracing::debug!(
                target: "leadpool::checkout",
                "no socket of this process has the port that the server sees: what is in flight \
                 on this connection can't be ended"
            );
        }
        if let Some(customizer) = &self.customizer {
            let customized = customizer.on_acquire(&mut conn);
            customized.map_err(ConnectFailure::Prepare)?;
        }
        let session = Session {
            conn: Some(conn),
            socket,
            generation: self.generation,
            customizer: self.customizer,
            taken: None,
        };
        Ok((session, first.recovering))
    }

    fn refuse(&self, why: &str) -> ConnectFailure {
        let why = format!("{} {why}", self.generation.host());
        self.generation.note_failure(why.clone());
        ConnectFailure::Refused(why)
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(super) enum ConnectFailure {
    /// By leadpool.
    Refused(String),
    /// What libpq says.
    Connection(ConnectionError),
    /// A statement on the new connection failed, perhaps the customizer's.
    Prepare(r2d2::Error),
    Credentials(CredentialError),
    /// The system gave no thread.
    Thread(io::Error),
}

impl ConnectFailure {
    /// Whether waiting may cure it. libpq passes on no SQLSTATE of a login that is refused, so the
    /// server's words decide; in other languages than English it is tried until the deadline.
    pub(super) fn is_curable(&self) -> bool {
        match self {
            Self::Connection(ConnectionError::BadConnection(text)) => {
                let is_missing = text.contains("FATAL:") && text.contains("does not exist");
                let is_permanent = is_missing
                    || self.is_refused_login()
                    || text.contains("certificate verify failed")
                    || text.contains("does not match host name")
                    || text.contains("no pg_hba.conf entry")
                    || text.contains("no password supplied")
                    || text.contains("is not permitted to log in");
                !is_permanent
            }
            Self::Connection(
                ConnectionError::InvalidCString(_) | ConnectionError::InvalidConnectionUrl(_),
            ) => false,
            Self::Credentials(error) => !error.is_permanent(),
            Self::Refused(_) | Self::Connection(_) | Self::Prepare(_) | Self::Thread(_) => true,
        }
    }

    /// Whether the host refused the password or token, so that another may be better.
    fn is_refused_login(&self) -> bool {
        matches!(
            self,
            Self::Connection(ConnectionError::BadConnection(text))
                if text.contains("FATAL:") && text.contains("authentication failed")
        )
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Connection(ConnectionError::BadConnection(text)) => f.write_str(text.trim_end()),
            Self::Connection(error) => fmt::Display::fmt(error, f),
            Self::Prepare(error) => write!(f, "preparing a new connection: {error}"),
            Self::Credentials(error) => fmt::Display::fmt(error, f),
            Self::Thread(error) => write!(f, "no thread to connect in: {error}"),
        }
    }
}

impl StdError for ConnectFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Connection(error) => Some(error),
            Self::Prepare(error) => Some(error),
            Self::Credentials(error) => error.source(),
            Self::Thread(error) => Some(error),
        }
    }
}
