//! What is measured: leadpool and other pools, all on the same server.

mod ground;
mod record;
mod rivals;
mod schedule;
mod tap;
mod turns;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime};
use leadpool_testkit::Cluster as Servers;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio_postgres::NoTls;

pub use self::{
    ground::{Ground, open_all},
    record::{Line, Record, is_recorded},
    rivals::{Contention, Doing, Error, Hold, Kind, Rival},
    schedule::{Slot, each, is_quick, lasts, rounds, slots},
    tap::{Counted, Counts, Tap},
    turns::{TimedTurn, Turn, in_timed_turns, in_turns, is_bench},
};

/// Runs a bench to its end, in a task: there a service's handlers run too.
///
/// # Errors
///
/// What the bench says.
pub fn run(bench: impl Future<Output = Result<(), Error>> + Send + 'static) -> Result<(), Error> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(bench);
        match tasks.join_next().await {
            Some(ended) => ended?,
            None => Ok(()),
        }
    })
}

/// A running cluster and a pool of each kind on its primary.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rivals {
    /// The pool under test, with default settings.
    pub leadpool: leadpool::Pool,
    /// The same, with a recorder that keeps its metrics.
    pub recorded: leadpool::Pool,
    /// A plain pool of the same size, which also checks nothing on checkout.
    pub bare: deadpool_postgres::Pool,
    /// Ends with this.
    pub servers: Servers,
}

impl Rivals {
    /// Starts a primary with so many standbys, and makes the table that transactions write to.
    ///
    /// # Errors
    ///
    /// What the servers or the pools say when they can't start.
    pub async fn start(standbys: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let servers = Servers::builder().standbys(standbys).start().await?;
        let admin = servers.connect(0).await?;
        admin
            .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)")
            .await?;
        let leadpool = leadpool::Pool::connect(&servers.url()).await?;
        let recorded = leadpool::Pool::connect(&servers.url()).await?;
        // The counters of a checkout are bound when the pool is made.
        let recorder = DebuggingRecorder::new();
        let recorded =
            metrics::with_local_recorder(&recorder, || leadpool::Pool::new(recorded.cluster()));
        let host: tokio_postgres::Config = servers.host_url(0)?.parse()?;
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let bare = deadpool_postgres::Pool::builder(Manager::from_config(host, NoTls, config))
            .max_size(leadpool.cluster().config().pool().writer_size)
            .runtime(Runtime::Tokio1)
            .build()?;
        drop(leadpool.get().await?);
        drop(recorded.get().await?);
        drop(recorded.get().await?);
        let is_seen = |value: &DebugValue| matches!(value, DebugValue::Counter(2));
        let series = recorder.snapshotter().snapshot().into_vec();
        if !series.iter().any(|(.., value)| is_seen(value)) {
            return Err("the recorder has not seen both checkouts".into());
        }
        drop(bare.get().await?);
        Ok(Self {
            leadpool,
            recorded,
            bare,
            servers,
        })
    }
}
