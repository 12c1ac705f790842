//! Faults in random order, one over the other, by a seed.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use leadpool::{
    HostAddr,
    discovery::{Discovering, Discovery, View},
};
use leadpool_testkit::{Cluster, Trigger};
use tokio::time::sleep;

use super::{
    book::Book,
    faults::{Blow, Loss, MOMENTS, Trouble, Weather},
};
use crate::Result;

/// The hosts as an application would find them.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Arc<Mutex<Vec<HostAddr>>>);

impl Hosts {
    pub(super) fn set(&self, servers: &Cluster, removed: &[usize]) -> Result<()> {
        let present = (0..servers.hosts()).filter(|host| !removed.contains(host));
        let hosts = present.map(|host| {
            let addr = servers.proxy(host)?.addr();
            Ok(HostAddr::new(addr.ip().to_string(), addr.port()))
        });
        let hosts: Vec<HostAddr> = hosts.collect::<Result<_>>()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
        Ok(())
    }
}

impl Discovery for Hosts {
    fn name(&self) -> &str {
        "nemesis"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hosts.iter().cloned().collect();
        Box::pin(async move { Ok(found) })
    }

    fn vouches_for(&self, _: &HostAddr) -> bool {
        true
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }
}

/// Plays faults until its time is over, and leaves the cluster whole.
pub(super) struct Schedule<'a> {
    servers: &'a Cluster,
    book: &'a Book,
    hosts: Hosts,
    random: fastrand::Rng,
    is_synchronous: bool,
    /// Former primaries that nobody has told.
    stale: BTreeSet<usize>,
    removed: Vec<usize>,
    failovers: u64,
    begun: Instant,
    is_verbose: bool,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(
        servers: &'a Cluster,
        book: &'a Book,
        hosts: Hosts,
        seed: u64,
        is_synchronous: bool,
    ) -> Self {
        Self {
            servers,
            book,
            hosts,
            random: fastrand::Rng::with_seed(seed),
            is_synchronous,
            stale: BTreeSet::new(),
            removed: Vec::new(),
            failovers: 0,
            begun: Instant::now(),
            is_verbose: false,
        }
    }

    /// Prints each fault as it comes.
    pub(super) fn set_verbose(&mut self, is_verbose: bool) {
        self.is_verbose = is_verbose;
    }

    pub(super) fn failovers(&self) -> u64 {
        self.failovers
    }

    pub(super) async fn play(&mut self, until: Instant) -> Result<()> {
        self.calm(300..301).await;
        while Instant::now() < until {
            if self.random.bool() {
                self.weather().await?;
            }
            if self.random.u32(0..4) == 0 {
                self.trouble().await?;
            }
            if self.random.bool() {
                self.catch_commit()?;
                self.calm(20..120).await;
            }
            match self.random.u32(0..10) {
                0..5 => self.fail_over().await?,
                5..7 => self.switch_over().await?,
                _ => self.blow().await?,
            }
            self.calm(50..500).await;
            // A cluster with but one server in order gets help, others perhaps.
            if self.in_order().len() < 2 || self.random.bool() {
                self.heal().await?;
                self.calm(50..500).await;
            }
        }
        self.heal().await?;
        self.begin("after the last fault");
        self.calm(500..501).await;
        Ok(())
    }

    fn begin(&self, fault: &'static str) {
        self.book.pages().fault = fault;
        self.say(fault);
    }

    fn say(&self, what: &str) {
        if self.is_verbose {
            let at = self.begun.elapsed().as_secs_f64();
            let primary = self.servers.primary();
            eprintln!("{at:8.3} s, primary {primary}: {what}");
        }
    }

    async fn calm(&mut self, milliseconds: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.random.u64(milliseconds))).await;
    }

    /// The primary and its standbys.
    fn in_order(&self) -> Vec<usize> {
        (0..self.servers.hosts())
            .filter(|host| !self.stale.contains(host) && !self.removed.contains(host))
            .collect()
    }

    fn any_host(&mut self) -> usize {
        let hosts: Vec<usize> = (0..self.servers.hosts())
            .filter(|host| !self.removed.contains(host))
            .collect();
        hosts[self.random.usize(0..hosts.len())]
    }

    fn any_standby(&mut self) -> Option<usize> {
        let primary = self.servers.primary();
        let mut standbys = self.in_order();
        standbys.retain(|host| *host != primary);
        (!standbys.is_empty()).then(|| standbys[self.random.usize(0..standbys.len())])
    }

    async fn weather(&mut self) -> Result<()> {
        let weather = Weather::ALL[self.random.usize(0..Weather::ALL.len())];
        let proxy = self.servers.proxy(self.any_host())?;
        self.begin(weather.name());
        match weather {
            Weather::Cut => proxy.cut(),
            Weather::Refuse => proxy.refuse(),
            Weather::Delay => {
                let delay = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(0..15));
                let (there, back) = (delay(&mut self.random), delay(&mut self.random));
                proxy.delay(there, back);
            }
            Weather::BlackHole => proxy.black_hole(),
        }
        self.calm(20..300).await;
        // It lasts into the next fault, or not.
        if self.random.bool() {
            proxy.pass();
        }
        Ok(())
    }

    /// Something happens to the next COMMIT on the primary's way.
    fn catch_commit(&mut self) -> Result<()> {
        let moment = MOMENTS[self.random.usize(0..MOMENTS.len())];
        self.begin("a COMMIT caught");
        let proxy = self.servers.proxy(self.servers.primary())?;
        proxy.cut_at(Trigger::new("COMMIT", moment));
        Ok(())
    }

    async fn trouble(&mut self) -> Result<()> {
        let trouble = Trouble::ALL[self.random.usize(0..Trouble::ALL.len())];
        let Some(standby) = self.any_standby() else {
            return Ok(());
        };
        // A copy is waited for until all that run stream from the primary.
        if matches!(trouble, Trouble::Guest) && !self.stale.is_empty() {
            return Ok(());
        }
        self.begin(trouble.name());
        match trouble {
            Trouble::Stop => {
                self.servers.stop_immediate(standby).await?;
                self.calm(50..400).await;
                self.servers.start_host(standby).await?;
            }
            Trouble::Freeze => {
                self.servers.freeze(standby).await?;
                self.calm(50..400).await;
                self.servers.thaw(standby).await?;
            }
            Trouble::Guest => {
                let guest = self.servers.add_standby().await?;
                self.hosts.set(self.servers, &self.removed)?;
                self.calm(200..500).await;
                self.servers.remove_standby(guest).await?;
                self.removed.push(guest);
                self.hosts.set(self.servers, &self.removed)?;
            }
        }
        Ok(())
    }

    async fn blow(&mut self) -> Result<()> {
        let blow = Blow::ALL[self.random.usize(0..Blow::ALL.len())];
        let primary = self.servers.primary();
        self.begin(blow.name());
        match blow {
            Blow::Restart => {
                self.servers.kill(primary).await?;
                self.calm(0..300).await;
                self.servers.start_host(primary).await?;
            }
            Blow::RestartImmediate => {
                self.servers.stop_immediate(primary).await?;
                self.calm(0..300).await;
                self.servers.start_host(primary).await?;
            }
            Blow::CrashBackend => self.crash_backend(primary).await?,
            Blow::Terminate => self.servers.terminate_backends(primary).await?,
            Blow::Freeze => {
                self.servers.freeze(primary).await?;
                self.calm(50..700).await;
                self.servers.thaw(primary).await?;
            }
        }
        Ok(())
    }

    async fn crash_backend(&mut self, host: usize) -> Result<()> {
        let client = self.servers.connect(host).await?;
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
                   AND pid <> pg_backend_pid() LIMIT 1";
        if let Some(row) = client.query_opt(sql, &[]).await? {
            self.servers.crash_backend(host, row.get(0)).await?;
        }
        drop(client);
        // It recovers by itself.
        let begun = Instant::now();
        loop {
            sleep(Duration::from_millis(20)).await;
            match self.servers.connect(host).await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(20) => return Err(error.into()),
                Err(_) => {}
            }
        }
    }

    async fn switch_over(&mut self) -> Result<()> {
        let Some(next) = self.any_standby() else {
            return Ok(());
        };
        // Nobody hands the role to a standby that is not there.
        if !self.servers.has_followed(next).await? {
            return Ok(());
        }
        self.begin("switchover");
        self.servers.switchover(next).await?;
        self.failovers += 1;
        self.mend_parted().await
    }

    async fn fail_over(&mut self) -> Result<()> {
        let loss = if !self.is_synchronous && self.random.u32(0..7) == 0 {
            Loss::Usurped
        } else {
            Loss::SAFE[self.random.usize(0..Loss::SAFE.len())]
        };
        if self.any_standby().is_none() {
            return Ok(());
        }
        let (servers, old) = (self.servers, self.servers.primary());
        self.begin(loss.name());
        match loss {
            Loss::Kill => servers.kill(old).await?,
            Loss::KillPostmaster => servers.kill_postmaster(old).await?,
            Loss::StopFast => servers.stop_fast(old).await?,
            Loss::StopImmediate => servers.stop_immediate(old).await?,
            Loss::Freeze => servers.freeze(old).await?,
            Loss::Partition => servers.proxy(old)?.black_hole(),
            Loss::Usurped => {}
        }
        self.calm(50..500).await;
        servers.failover().await?;
        self.failovers += 1;
        self.stale.insert(old);
        self.mend_parted().await?;
        self.calm(50..500).await;
        // The old one comes back as it was, or stays away.
        match loss {
            Loss::Freeze => servers.thaw(old).await?,
            Loss::Partition => servers.proxy(old)?.pass(),
            Loss::Usurped => {}
            _ if self.random.u32(0..3) == 0 => servers.revive_stale(old).await?,
            _ => {}
        }
        Ok(())
    }

    /// Copies anew what had gone beyond the fork, as every manager does: promoted in its turn, it
    /// would take the cluster back into the history that was left.
    async fn mend_parted(&mut self) -> Result<()> {
        let primary = self.servers.primary();
        for host in self.in_order() {
            if host != primary && !self.servers.has_followed(host).await? {
                self.servers.rejoin(host).await?;
            }
        }
        Ok(())
    }

    async fn heal(&mut self) -> Result<()> {
        self.say("healing");
        self.servers.heal().await?;
        self.stale.clear();
        Ok(())
    }
}
