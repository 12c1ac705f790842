//! Where the rivals meet.

use leadpool_testkit::{Cluster, ClusterBuilder};

use crate::rivals::{Doing, Error, Kind, Rival};

/// How many connections the servers take: all rivals keep theirs open.
const CONNECTIONS: &str = "600";

/// A cluster with a table to write to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ground {
    /// Ends with this.
    pub servers: Cluster,
}

impl Ground {
    /// A primary with so many standbys.
    ///
    /// # Errors
    ///
    /// What the servers say when they can't start.
    #[must_use = "a future does nothing until it is awaited"]
    pub fn start(standbys: usize) -> Doing<'static, Self> {
        Box::pin(Self::start_as(Cluster::builder().standbys(standbys)))
    }

    /// The same behind proxies, which delay and count.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    #[must_use = "a future does nothing until it is awaited"]
    pub fn behind_proxies(standbys: usize) -> Doing<'static, Self> {
        let builder = Cluster::builder().standbys(standbys).proxies(true);
        Box::pin(Self::start_as(builder))
    }

    async fn start_as(builder: ClusterBuilder) -> Result<Self, Error> {
        let servers = builder
            .conf("max_connections", CONNECTIONS)
            // What a transaction waits for is the disk: it would hide what is measured.
            .conf("synchronous_commit", "off")
            .start()
            .await?;
        let admin = servers.connect(0).await?;
        admin
            .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint NOT NULL)")
            .await?;
        servers.wait_replayed().await?;
        Ok(Self { servers })
    }

    /// Where the primary is.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn url(&self) -> Result<String, Error> {
        Ok(self.servers.host_url(0)?)
    }
}

/// Opens all of them, with all their connections.
///
/// # Errors
///
/// What a rival says, with its name.
pub async fn open_all(
    kinds: &[Kind],
    url: &str,
    size: usize,
) -> Result<Vec<Box<dyn Rival>>, Error> {
    let mut rivals = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let opened = async {
            let rival = kind.open(url, size).await?;
            rival.open(size).await?;
            Ok::<_, Error>(rival)
        };
        let opened = opened.await;
        rivals.push(opened.map_err(|error| format!("{}: {error}", kind.name()))?);
    }
    Ok(rivals)
}
