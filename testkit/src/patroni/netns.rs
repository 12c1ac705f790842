//! A network of its own for each host, so that it can be partitioned.
//!
//! A namespace a host and one for etcd, each with one end of a virtual cable whose other end is
//! in a bridge. The bridge has a namespace of its own as well: in the machine's, filters that
//! were made for containers would apply to it. One more cable leads from the bridge to the
//! machine's own network, where the test and its clients are. The namespaces carry the name of
//! the cluster's folder: the guardian deletes them by it, and the cables with them.

use std::{
    fmt::Write as _,
    fs,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::geteuid;
use tokio::net::TcpStream;

use crate::{Error, guardian::Guardian, process::RunAs, wait};

/// What a host loses sight of, in both directions. Packets vanish; nothing is refused.
///
/// ```no_run
/// # async fn f(servers: leadpool_testkit::PatroniCluster) -> Result<(), leadpool_testkit::Error> {
/// use leadpool_testkit::Partition;
///
/// let leader = servers.leader().await?;
/// servers.partition(leader, Partition::FromEtcdAndHosts).await?; // clients still reach it
/// let new = servers.wait_new_leader(leader).await?;
/// servers.heal_network().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partition {
    /// etcd. The other hosts and clients reach it.
    FromEtcd,
    /// All other hosts. etcd and clients reach it.
    FromHosts,
    /// etcd and all other hosts. Clients reach it.
    FromEtcdAndHosts,
    /// Everybody: its cable is pulled.
    FromAll,
}

/// The network of a cluster.
#[derive(Debug)]
pub(super) struct Network {
    prefix: String,
    subnet: [u8; 3],
    hosts: usize,
    /// Where files for `ip` and `iptables-restore` are written.
    dir: PathBuf,
    run_as: RunAs,
}

impl Network {
    /// Makes it for the cluster in that folder, which has a guardian already.
    pub(super) async fn create(dir: &Path, hosts: usize, run_as: &RunAs) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Err(unavailable("only root may make them"));
        }
        let mut network = Self {
            prefix: dir
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            subnet: [0; 3],
            hosts,
            dir: dir.join("net"),
            run_as: run_as.clone(),
        };
        fs::create_dir_all(&network.dir).map_err(Error::io("a folder for the network"))?;
        // In the order of their addresses.
        let ends: Vec<String> = (0..hosts).map(host).chain(["etcd".to_owned()]).collect();

        let mut batch = format!("netns add {}\n", network.namespace("switch"));
        for end in &ends {
            let _ = writeln!(batch, "netns add {}", network.namespace(end));
        }
        network.ip_batch(None, &batch).await?;
        let uplink = network.plug_in().await?;

        let mut batch = "link add name bridge0 type bridge\n\
                         link set dev bridge0 up\n\
                         link set dev uplink master bridge0 up\n"
            .to_owned();
        for end in &ends {
            let namespace = network.namespace(end);
            let _ = write!(
                batch,
                "link add name {end} type veth peer name eth0 netns {namespace}\n\
                 link set dev {end} master bridge0 up\n"
            );
        }
        network.ip_batch(Some("switch"), &batch).await?;
        for (last, end) in (1..).zip(&ends) {
            let batch = format!(
                "link set dev lo up\naddr add {}/24 dev eth0\nlink set dev eth0 up\n",
                network.ip(last)
            );
            network.ip_batch(Some(end), &batch).await?;
        }
        let batch = format!(
            "addr add {}/24 dev {uplink}\nlink set dev {uplink} up\n",
            network.ip(254)
        );
        network.ip_batch(None, &batch).await?;
        Ok(network)
    }

    /// Connects the bridge with the machine's own network, and claims a subnet by the name of the
    /// cable's end there. They are of the block for tests of networks
    /// ([RFC 2544, appendix C.2.2](https://www.rfc-editor.org/rfc/rfc2544#appendix-C.2.2)), which
    /// is nobody's.
    async fn plug_in(&mut self) -> Result<String, Error> {
        let mut last = None;
        for attempt in 0..64_u64 {
            let [.., second, third] = RandomState::new().hash_one(attempt).to_be_bytes();
            let second = 18 + second % 2;
            let name = format!("leadpool{second}-{third}");
            let mut ip = Command::new("ip");
            ip.args(["link", "add", &name, "type", "veth"])
                .args(["peer", "name", "uplink", "netns"])
                .arg(self.namespace("switch"));
            match self.run_as.run(ip).await {
                Ok(_) => {
                    self.subnet = [198, second, third];
                    return Ok(name);
                }
                Err(Error::Command { output, .. }) if output.contains("exists") => {
                    last = Some(output);
                }
                Err(error) => return Err(error),
            }
        }
        Err(unavailable(format!("no subnet is free: {last:?}")))
    }

    async fn ip_batch(&self, end: Option<&str>, commands: &str) -> Result<(), Error> {
        let file = self.dir.join(end.unwrap_or("machine"));
        fs::write(&file, commands).map_err(Error::io("commands for `ip`"))?;
        let mut ip = Command::new("ip");
        if let Some(end) = end {
            ip.arg("-n").arg(self.namespace(end));
        }
        ip.arg("-batch").arg(file);
        self.run_as.run(ip).await.map(drop)
    }

    fn ip(&self, last: u8) -> IpAddr {
        let [first, second, third] = self.subnet;
        IpAddr::V4(Ipv4Addr::new(first, second, third, last))
    }

    pub(super) fn host_ip(&self, index: usize) -> IpAddr {
        self.ip(u8::try_from(index + 1).unwrap_or(u8::MAX))
    }

    pub(super) fn etcd_ip(&self) -> IpAddr {
        self.host_ip(self.hosts)
    }

    pub(super) fn host_namespace(&self, index: usize) -> String {
        self.namespace(&host(index))
    }

    pub(super) fn etcd_namespace(&self) -> String {
        self.namespace("etcd")
    }

    fn namespace(&self, end: &str) -> String {
        format!("{}-{end}", self.prefix)
    }

    /// Cuts a host off; what it was cut off from before, it sees again.
    pub(super) async fn partition(&self, index: usize, from: Partition) -> Result<(), Error> {
        let others = (0..self.hosts)
            .filter(|other| *other != index)
            .map(|other| self.host_ip(other));
        let peers: Vec<IpAddr> = match from {
            Partition::FromEtcd => vec![self.etcd_ip()],
            Partition::FromHosts => others.collect(),
            Partition::FromEtcdAndHosts => others.chain([self.etcd_ip()]).collect(),
            Partition::FromAll => {
                return self
                    .filter(
                        index,
                        "-A INPUT ! -i lo -j DROP\n-A OUTPUT ! -o lo -j DROP\n",
                    )
                    .await;
            }
        };
        let mut rules = String::new();
        for peer in peers {
            let _ = write!(
                rules,
                "-A INPUT -s {peer} -j DROP\n-A OUTPUT -d {peer} -j DROP\n"
            );
        }
        self.filter(index, &rules).await
    }

    /// Lets everybody see everybody.
    pub(super) async fn heal(&self) -> Result<(), Error> {
        for index in 0..self.hosts {
            self.filter(index, "").await?;
        }
        Ok(())
    }

    /// Replaces a host's packet filter, at one go.
    async fn filter(&self, index: usize, rules: &str) -> Result<(), Error> {
        let file = self.dir.join(format!("filter{index}"));
        fs::write(&file, format!("*filter\n{rules}COMMIT\n")).map_err(Error::io("a filter"))?;
        let mut restore = Command::new("iptables-restore");
        restore.args(["-w", "5"]).arg(file);
        let command = enter(Some(&self.host_namespace(index)), restore);
        self.run_as.run(command).await.map(drop)
    }
}

fn host(index: usize) -> String {
    format!("host{index}")
}

/// Makes a command run in a namespace, with the same process id as the one spawned. What it
/// prints is to be said afterwards.
pub(super) fn enter(namespace: Option<&str>, command: Command) -> Command {
    let Some(namespace) = namespace else {
        return command;
    };
    let mut entered = Command::new("nsenter");
    entered
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(std::process::Stdio::null());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => entered.env(key, value),
            None => entered.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        entered.current_dir(dir);
    }
    entered
}

/// See [`PatroniCluster::namespaces_permitted`](crate::PatroniCluster::namespaces_permitted).
pub(super) async fn permitted() -> Result<(), Error> {
    let dir = tempfile::Builder::new()
        .prefix("leadpool-")
        .tempdir()
        .map_err(Error::io("making a temporary folder"))?;
    let _guardian = Guardian::start(dir.path())?;
    try_out(dir.path()).await.map_err(|error| match error {
        Error::Unavailable { .. } => error,
        error => unavailable(error.to_string()),
    })
}

/// Makes a network, and looks whether packets pass until they are not to.
async fn try_out(dir: &Path) -> Result<(), Error> {
    let network = Network::create(dir, 1, &RunAs::find()?).await?;
    // Nobody listens on that port: an answer is a refusal.
    let addr = SocketAddr::new(network.host_ip(0), 9);
    let knock = |patience| tokio::time::timeout(patience, TcpStream::connect(addr));
    let answers = || async {
        let answer = knock(Duration::from_millis(500)).await;
        Ok(matches!(answer, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused))
    };
    // The kernel may take a second to notice that cables are plugged in.
    let late = |waited| unavailable(format!("packets did not pass in {waited:.1?}"));
    wait::until(Duration::from_secs(10), answers, late).await?;
    network.partition(0, Partition::FromAll).await?;
    match knock(Duration::from_millis(100)).await {
        Err(_) => Ok(()),
        Ok(answer) => Err(unavailable(format!("packets are not dropped: {answer:?}"))),
    }
}

fn unavailable(problem: impl Into<String>) -> Error {
    Error::Unavailable {
        what: "network namespaces",
        problem: problem.into(),
    }
}
