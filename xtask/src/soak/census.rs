//! What this process and the servers hold at one moment.

use std::{
    alloc::System,
    fmt, fs,
    time::{Duration, Instant},
};

use cap::Cap;
use leadpool_testkit::Cluster as Servers;
use tokio::runtime::Handle;

use crate::Result;

/// Counts what is allocated. The pages of the process would tell less: the system's allocator keeps
/// hundreds of KiB of them after thousands of connects, of which nothing is in use.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// How long to wait for what was dropped to be gone.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// Everything on the servers but the monitors' sessions and our own.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND application_name NOT IN ('testkit', 'leadpool monitor')";

/// A count of all that may leak.
#[derive(Clone, Debug)]
pub(super) struct Census {
    /// Tasks of the runtime that have not ended.
    pub(super) tasks: usize,
    /// Open files of this process, sockets included.
    pub(super) files: usize,
    /// Sessions of pools on the servers.
    pub(super) sessions: usize,
    /// What this process has allocated and not given back, in bytes.
    pub(super) memory: usize,
}

impl Census {
    /// Whether this system can be counted.
    pub(super) fn is_possible() -> Result<()> {
        match fs::metadata("/proc/self/fd") {
            Ok(_) => Ok(()),
            Err(_) => Err("the soak reads /proc, which this system does not have".into()),
        }
    }

    pub(super) async fn take(servers: &Servers) -> Result<Self> {
        let mut sessions = 0;
        for host in 0..servers.hosts() {
            // A host that is down has none.
            if let Ok(client) = servers.connect(host).await {
                let row = client.query_one(SESSIONS, &[]).await?;
                sessions += usize::try_from(row.get::<_, i64>(0))?;
            }
        }
        // Its connections have a task each, which ends when it is polled next.
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            // One is what reads the folder.
            files: fs::read_dir("/proc/self/fd")?.count() - 1,
            sessions,
            memory: HEAP.allocated(),
        })
    }

    /// The same once so many files are open as `expected` has, and no more is held of the rest, or,
    /// if that does not come to pass, as it is then. A connection that is missing would hide as much
    /// memory as it takes.
    pub(super) async fn settled(servers: &Servers, expected: &Self) -> Self {
        let until = Instant::now() + SETTLES_WITHIN;
        let mut last = expected.clone();
        loop {
            if let Ok(census) = Self::take(servers).await {
                last = census;
                let is_settled = last.tasks <= expected.tasks
                    && last.files == expected.files
                    && last.sessions == 0;
                if is_settled {
                    return last;
                }
            }
            if Instant::now() >= until {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>4} tasks {:>4} files {:>3} sessions {:>7} KiB",
            self.tasks,
            self.files,
            self.sessions,
            self.memory / 1024
        )
    }
}

/// How much more memory may be held than before, in bytes: what differs by the moment, some 30 KiB. A
/// hundred bytes left behind by each of ten thousand connects would be about ten times as much.
pub(super) const MEMORY_ALLOWED: usize = 64 << 10;
