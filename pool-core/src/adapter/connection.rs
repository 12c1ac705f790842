//! Connections of leadpool's own, for drivers on top of tokio-postgres.

use std::{error::Error as StdError, fmt, sync::Arc};

use tokio::task::AbortHandle;
use tokio_postgres::Client;

use crate::{
    connect::{Answers, TlsConnector},
    error::BoxError,
    native::{Native, connect},
    pool::{Driver as _, Generation},
};

/// A connection that leadpool has opened for another driver: with the cluster's credentials, TLS
/// and session settings, to a host in the role that it should have.
///
/// Its task tells the monitor what it sees, and ends with the generation, whereupon queries in
/// flight fail at once. It also ends some time after the client was dropped, when what had been
/// sent is answered; [`task`](Self::task) ends it at once.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leadpool::adapter::{Connection, Generation};
/// # async fn f(generation: Arc<Generation>) -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::open(&generation).await?;
/// connection.client.batch_execute("SELECT 1").await?;
/// connection.task.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Connection {
    /// What sends statements.
    pub client: Client,
    /// What the server has answered.
    pub answers: Arc<Answers>,
    /// Ends it.
    pub task: AbortHandle,
}

impl Connection {
    /// Opens a connection to the generation's host: admitted by its cap, within the connect
    /// timeout, and given up at once when the generation ends. The hooks of
    /// [`on_connect`](crate::config::ConfigBuilder::on_connect) have run.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it has opened.
    pub async fn open(generation: &Arc<Generation>) -> Result<Self, ConnectFailed> {
        let answers = Arc::new(Answers::default());
        let (client, task) = connect::open(generation, Some(&answers))
            .await
            .map_err(ConnectFailed)?;
        Ok(Self {
            client,
            answers,
            task: task.abort_handle(),
        })
    }
}

/// Why a connection could not be opened.
///
/// ```no_run
/// # fn f(failed: leadpool::adapter::ConnectFailed) {
/// if failed.is_curable() {
///     eprintln!("later, perhaps: {failed}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ConnectFailed(tokio_postgres::Error);

impl ConnectFailed {
    /// Whether waiting may cure it.
    #[must_use]
    pub fn is_curable(&self) -> bool {
        Native::is_curable(&self.0)
    }

    /// What the application is shown of it.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        Native::into_source(self.0)
    }
}

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for ConnectFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// What encrypts a request to cancel what runs on a connection, for
/// [`CancelToken::cancel_query`](tokio_postgres::CancelToken::cancel_query).
#[must_use]
pub fn canceller(generation: &Generation, answers: &Answers) -> TlsConnector {
    let config = generation.config();
    let connector = TlsConnector::new(config.tls_files(), config);
    match answers.is_plain() {
        true => connector.plain(),
        false => connector,
    }
}
