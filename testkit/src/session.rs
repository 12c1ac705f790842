//! Connecting to a server, mostly as its superuser.

use std::{net::SocketAddr, time::Duration};

use tokio_postgres::{Client, NoTls};

use crate::Error;

/// Connects, in five seconds at most for TCP; a server that accepts and stays silent is for the
/// caller to bound. The connection's task ends with the client.
pub(crate) async fn open(host: usize, addr: SocketAddr) -> Result<Client, Error> {
    open_as(host, addr, "postgres", "postgres").await
}

/// The same as somebody else.
pub(crate) async fn open_as(
    host: usize,
    addr: SocketAddr,
    user: &str,
    database: &str,
) -> Result<Client, Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(addr.ip().to_string())
        .port(addr.port())
        .user(user)
        .dbname(database)
        .connect_timeout(Duration::from_secs(5))
        .application_name("testkit");
    let (client, connection) = config.connect(NoTls).await.map_err(Error::sql(host))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the client, or the server"
    )]
    drop(tokio::spawn(connection));
    Ok(client)
}
