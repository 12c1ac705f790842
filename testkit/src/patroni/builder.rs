//! Choosing and starting a cluster that Patroni keeps.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use super::{
    PatroniCluster, PatroniPrograms,
    certificate::Certificate,
    config,
    etcd::Etcd,
    member::{Member, Places},
    netns::Network,
};
use crate::{
    Error,
    address::{distinct_ip, free_port},
    guardian::Guardian,
    process::RunAs,
    wait::LIMIT,
};

/// Chooses what [`PatroniCluster::start`] starts.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let servers = leadpool_testkit::PatroniCluster::builder()
///     .hosts(2)
///     .failsafe(true)
///     .conf("log_statement", "all")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `start` is awaited"]
pub struct PatroniBuilder {
    hosts: usize,
    programs: Option<PatroniPrograms>,
    namespaces: bool,
    rest_tls: bool,
    settings: Settings,
}

/// What goes into the configuration files.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) ttl: u32,
    pub(super) loop_wait: u32,
    pub(super) retry_timeout: u32,
    pub(super) failsafe: bool,
    pub(super) synchronous: bool,
    pub(super) callback: Vec<String>,
    pub(super) conf: Vec<(String, String)>,
}

impl Default for PatroniBuilder {
    fn default() -> Self {
        Self {
            hosts: 3,
            programs: None,
            namespaces: false,
            rest_tls: false,
            settings: Settings {
                ttl: 5,
                loop_wait: 1,
                retry_timeout: 2,
                failsafe: false,
                synchronous: false,
                callback: Vec::new(),
                conf: Vec::new(),
            },
        }
    }
}

impl PatroniBuilder {
    /// How many hosts, 1 to 9; 3 if not set.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Which programs; what [`PatroniPrograms::find`] finds if not set.
    pub fn programs(mut self, programs: PatroniPrograms) -> Self {
        self.programs = Some(programs);
        self
    }

    /// After how many seconds without a word from the leader another one is chosen; 5 if not set.
    /// Newer Patronis would raise it to 20 ([Patroni documentation, dynamic
    /// configuration](https://patroni.readthedocs.io/en/latest/dynamic_configuration.html)), which
    /// is undone here.
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.settings.ttl = seconds;
        self
    }

    /// How many seconds pass between two looks of each Patroni; 1 if not set.
    pub fn loop_wait(mut self, seconds: u32) -> Self {
        self.settings.loop_wait = seconds;
        self
    }

    /// For how many seconds a Patroni tries again to reach etcd or PostgreSQL; 2 if not set.
    pub fn retry_timeout(mut self, seconds: u32) -> Self {
        self.settings.retry_timeout = seconds;
        self
    }

    /// Whether the leader stays while etcd is lost, if it sees all other hosts
    /// (`failsafe_mode`); off if not set.
    pub fn failsafe(mut self, failsafe: bool) -> Self {
        self.settings.failsafe = failsafe;
        self
    }

    /// Whether each commit waits for one standby (`synchronous_mode`); off if not set.
    pub fn synchronous(mut self, synchronous: bool) -> Self {
        self.settings.synchronous = synchronous;
        self
    }

    /// A command that Patroni runs when a host starts, stops, restarts, reloads or changes its
    /// role. It gets three more arguments: the action (`on_role_change`), the role (`replica`,
    /// `primary` or before Patroni 4 `master`) and the name of the cluster; and the host's index
    /// in the variable `TESTKIT_HOST`. It runs as the user that the servers run as.
    pub fn callback<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.settings.callback = argv.into_iter().map(Into::into).collect();
        self
    }

    /// Whether each host and etcd get a network namespace of their own, which
    /// [`PatroniCluster::partition`] needs; off if not set. See
    /// [`PatroniCluster::namespaces_permitted`].
    pub fn namespaces(mut self, namespaces: bool) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Whether the REST APIs speak TLS, with certificates of an authority that is made for this
    /// cluster ([`PatroniCluster::rest_ca_pem`]) by the program `openssl`; off if not set.
    pub fn rest_tls(mut self, tls: bool) -> Self {
        self.rest_tls = tls;
        self
    }

    /// Adds a setting of PostgreSQL, for all hosts.
    pub fn conf(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.conf.push((key.into(), value.into()));
        self
    }

    /// Starts it: returns when there is a leader and all others stream. Any host may be the
    /// leader.
    ///
    /// # Errors
    ///
    /// A setting makes no sense; a program is missing; the machine permits no namespaces; a
    /// server did not start: the error holds its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start(self) -> Result<PatroniCluster, Error> {
        self.check()?;
        let programs = match &self.programs {
            Some(programs) => programs.clone(),
            None => PatroniPrograms::find()?,
        };
        let run_as = RunAs::find()?;
        let dir = tempfile::Builder::new()
            .prefix("leadpool-")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        run_as.make_dir(dir.path())?;
        let guardian = Guardian::start(dir.path())?;
        let network = match self.namespaces {
            true => Some(Network::create(dir.path(), self.hosts, &run_as).await?),
            false => None,
        };
        let addresses = Addresses::choose(self.hosts, network.as_ref())?;
        let certificate = match self.rest_tls {
            true => {
                let ips: Vec<_> = addresses.hosts.iter().map(|(addr, _)| addr.ip()).collect();
                Some(Certificate::make(&dir.path().join("tls"), &ips, &run_as).await?)
            }
            false => None,
        };
        let tls = certificate.as_ref().map(|made| made.dir.as_path());
        let launcher = dir.path().join("launcher.py");
        write(&launcher, config::LAUNCHER)?;

        let mut members = Vec::new();
        for (index, (addr, rest)) in addresses.hosts.iter().enumerate() {
            let places = Places {
                index,
                name: format!("host{index}"),
                addr: *addr,
                rest: *rest,
                data_dir: dir.path().join(format!("d{index}")),
                work_dir: dir.path().join(format!("p{index}")),
                log: dir.path().join(format!("log{index}")),
                config: dir.path().join(format!("patroni{index}.json")),
                launcher: launcher.clone(),
                ca: tls.map(|tls| tls.join("ca.pem")),
                namespace: network
                    .as_ref()
                    .map(|network| network.host_namespace(index)),
            };
            let config =
                config::of_member(&self.settings, &programs, &places, addresses.etcd.0, tls);
            write(&places.config, &format!("{config:#}\n"))?;
            members.push(Arc::new(Member::new(places, &programs, &run_as)));
        }
        let etcd = Etcd::new(
            programs.etcd(),
            &run_as,
            dir.path(),
            addresses.etcd,
            network.as_ref().map(Network::etcd_namespace),
        );
        // From here on dropping the cluster ends what runs.
        let cluster = PatroniCluster {
            members,
            etcd,
            network,
            ca_pem: certificate.map(|made| made.ca_pem),
            programs,
            synchronous: self.settings.synchronous,
            limit: LIMIT + 3 * Duration::from_secs(self.settings.ttl.into()),
            _dir: dir,
            _guardian: guardian,
        };
        cluster.etcd.start().await?;
        for member in &cluster.members {
            member.start()?;
        }
        cluster.wait_healthy().await?;
        Ok(cluster)
    }

    fn check(&self) -> Result<(), Error> {
        let Settings {
            ttl,
            loop_wait,
            retry_timeout,
            ..
        } = self.settings;
        let refuse = |key, problem: String| Err(Error::Setting { key, problem });
        if !(1..=9).contains(&self.hosts) {
            return refuse("hosts", format!("{} is not between 1 and 9", self.hosts));
        }
        for (key, value) in [
            ("ttl", ttl),
            ("loop_wait", loop_wait),
            ("retry_timeout", retry_timeout),
        ] {
            if !(1..=3600).contains(&value) {
                return refuse(key, format!("{value} s is not between 1 and 3600"));
            }
        }
        // Or the leader may lose its lead while it still tries to reach etcd.
        let least = loop_wait + 2 * retry_timeout;
        if least > ttl {
            let problem = format!("{ttl} s is less than loop_wait + 2 * retry_timeout: {least} s");
            return refuse("ttl", problem);
        }
        Ok(())
    }
}

/// Who listens where: PostgreSQL and the REST API of each host, etcd for clients and for peers.
struct Addresses {
    hosts: Vec<(SocketAddr, SocketAddr)>,
    etcd: (SocketAddr, SocketAddr),
}

impl Addresses {
    /// The usual ports in networks of their own, and free ones on loopback.
    fn choose(hosts: usize, network: Option<&Network>) -> Result<Self, Error> {
        let (ips, etcd): (Vec<_>, _) = match network {
            Some(network) => (
                (0..hosts).map(|index| network.host_ip(index)).collect(),
                network.etcd_ip(),
            ),
            None => ((0..hosts).map(distinct_ip).collect(), distinct_ip(hosts)),
        };
        let (postgres, rest, clients, peers) = match network {
            Some(_) => (5432, 8008, 2379, 2380),
            None => (
                free_port(&ips)?,
                free_port(&ips)?,
                free_port(&[etcd])?,
                free_port(&[etcd])?,
            ),
        };
        let both = |ip| (SocketAddr::new(ip, postgres), SocketAddr::new(ip, rest));
        Ok(Self {
            hosts: ips.into_iter().map(both).collect(),
            etcd: (SocketAddr::new(etcd, clients), SocketAddr::new(etcd, peers)),
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(path.display().to_string()))
}
