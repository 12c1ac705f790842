//! A name server whose records a test changes.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{
    Error,
    address::free_addr,
    daemon::Daemon,
    guardian::Guardian,
    process::{RunAs, signal},
    programs,
    wait::POLL,
};

const PACKAGES: [&str; 1] = ["dnsmasq-base"];
/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs dnsmasq as a child that ends with this shell. By itself it would outlive everything: it
/// leaves its folder, where the guardian looks for processes.
const WITH_PARENT: &str = r#"setpriv --pdeathsig TERM "$@" & wait"#;

/// A real name server, [dnsmasq](https://dnsmasq.org), on loopback and a port of its own, by UDP
/// and TCP. It asks nobody else: names that it has no records of do not exist (NXDOMAIN), and of
/// those that it has, other types are empty.
///
/// A change holds from the moment at which its method returns: for new questions, and also on TCP
/// connections, which are ended for it. The records' time to live is 0 s, unless
/// [set](Self::set_ttl). Addresses of one name are answered in changing order.
///
/// Dropping it ends it, and so does the end of the process.
///
/// ```no_run
/// use leadpool_testkit::NameServer;
///
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let names = NameServer::start().await?;
/// let [one, two] = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().expect("an address"));
/// names.set_hosts(&[(one, &["pg.test", "a.pg.test"]), (two, &["pg.test"])]).await?;
/// names.set_srv("_postgresql._tcp.pg.test", &[("a.pg.test", 5432, 0, 100)]).await?;
/// let server = names.addr(); // for a resolver's configuration
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NameServer {
    addr: SocketAddr,
    records: Mutex<Records>,
    program: PathBuf,
    daemon: Daemon,
    _dir: TempDir,
    _guardian: Guardian,
}

#[derive(Clone, Debug, Default)]
struct Records {
    hosts: String,
    services: BTreeMap<String, String>,
    ttl: u32,
}

impl NameServer {
    /// Whether it can run here.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] says what to install: the reason why a test is skipped.
    pub fn available() -> Result<(), Error> {
        find().map(drop)
    }

    /// The commands that install dnsmasq through the package manager of Debian and Ubuntu, each as
    /// its words; `None` elsewhere. They start no name server.
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        programs::install_command(&PACKAGES)
    }

    /// Starts one without any record.
    ///
    /// # Errors
    ///
    /// As [`available`](Self::available); it did not start: the error holds its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what it has started.
    pub async fn start() -> Result<Self, Error> {
        let program = find()?;
        let run_as = RunAs::find()?;
        let dir = tempfile::Builder::new()
            .prefix("leadpool-")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        run_as.make_dir(dir.path())?;
        let mut this = Self {
            addr: free_port()?,
            records: Mutex::new(Records::default()),
            program,
            _guardian: Guardian::start(dir.path())?,
            daemon: Daemon::new("dnsmasq", dir.path(), "dns", &run_as)?,
            _dir: dir,
        };
        for _ in 0..10 {
            match this.restart(&Records::default()).await {
                // Somebody was quicker.
                Err(Error::Program { log, .. }) if log.contains("already in use") => {
                    this.addr = free_port()?;
                }
                result => return result.map(|()| this),
            }
        }
        Err(this.daemon.error("found no free port in ten tries"))
    }

    /// Where it listens, by UDP and TCP.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces all addresses (A and AAAA records): each with the names that have it.
    ///
    /// # Errors
    ///
    /// [`Error::Record`] if a name is none; the server ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old records, or the new ones.
    pub async fn set_hosts(&self, hosts: &[(IpAddr, &[&str])]) -> Result<(), Error> {
        let mut records = self.records.lock().await;
        let mut text = String::new();
        for (ip, names) in hosts {
            for name in *names {
                checked(name)?;
                text.push_str(&format!("{ip} {name}\n"));
            }
        }
        records.hosts = text;
        self.daemon.write("hosts", &records.hosts)?;
        let before = self.times_read();
        if let Some(server) = self.pid() {
            signal(server, Signal::HUP);
        }
        let read = || async { Ok((self.times_read() > before).then_some(())) };
        self.daemon.until("the new addresses", LIMIT, read).await?;
        // Each has a copy of the old records.
        for connection in self.connections() {
            signal(connection, Signal::ALARM);
        }
        Ok(())
    }

    /// Replaces the services (SRV records) of one name: target, port, priority and weight of each.
    /// None takes the name away. The server is restarted for it: for some milliseconds questions
    /// are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Record`] if a name is none; the server did not start again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the server stopped, until the next change.
    pub async fn set_srv(
        &self,
        name: &str,
        services: &[(&str, u16, u16, u16)],
    ) -> Result<(), Error> {
        let mut records = self.records.lock().await;
        checked(name)?;
        let mut lines = String::new();
        for (target, port, priority, weight) in services {
            checked(target)?;
            let values = format!("{target},{port},{priority},{weight}");
            lines.push_str(&format!("srv-host={name},{values}\n"));
        }
        records.services.insert(name.to_owned(), lines);
        self.restart(&records).await
    }

    /// Sets how long resolvers may keep each record, in seconds. The server is restarted for it,
    /// as for [`set_srv`](Self::set_srv).
    ///
    /// # Errors
    ///
    /// The server did not start again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the server stopped, until the next change.
    pub async fn set_ttl(&self, seconds: u32) -> Result<(), Error> {
        let mut records = self.records.lock().await;
        records.ttl = seconds;
        self.restart(&records).await
    }

    async fn restart(&self, records: &Records) -> Result<(), Error> {
        self.stop();
        let hosts = self.daemon.write("hosts", &records.hosts)?;
        let mut conf = format!(
            "no-resolv\n\
             no-hosts\n\
             keep-in-foreground\n\
             user=\n\
             listen-address={ip}\n\
             bind-interfaces\n\
             port={port}\n\
             pid-file={pid}\n\
             log-facility=-\n\
             addn-hosts={hosts}\n\
             local=/#/\n\
             local-ttl={ttl}\n",
            ip = self.addr.ip(),
            port = self.addr.port(),
            pid = self.pid_file().display(),
            hosts = hosts.display(),
            ttl = records.ttl,
        );
        conf.extend(records.services.values().map(String::as_str));
        let conf = self.daemon.write("conf", &conf)?;
        let mut command = match programs::find("setpriv") {
            Some(_) => {
                let mut command = self.daemon.command("sh");
                command.args(["-c", WITH_PARENT, "sh"]).arg(&self.program);
                command
            }
            None => self.daemon.command(&self.program),
        };
        command.arg("-C").arg(conf);
        self.daemon.spawn(command)?;
        // It reads the addresses when it has begun to listen.
        let ready = || async { Ok((self.times_read() > 0).then_some(())) };
        self.daemon.until("dnsmasq to start", LIMIT, ready).await
    }

    /// How often it has read the addresses. It does nothing else meanwhile, so whoever asks after
    /// that is told the new ones.
    fn times_read(&self) -> usize {
        let line = format!("read {}/hosts - ", self.daemon.home().display());
        self.daemon.printed().matches(&line).count()
    }

    fn pid_file(&self) -> PathBuf {
        self.daemon.home().join("pid")
    }

    fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        text.trim().parse().ok()
    }

    /// The processes that serve one TCP connection each.
    fn connections(&self) -> Vec<i32> {
        let Some(server) = self.pid() else {
            return Vec::new();
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_child = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Behind the name, which is in parentheses: the state and the parent.
            let parent: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some(parent == server)
        };
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| is_child(pid) == Some(true))
            .collect()
    }

    /// Ends it with its connections, and waits for that.
    fn stop(&self) {
        let server = self.pid().filter(|_| !self.daemon.has_exited());
        if let Some(pid) = server {
            signal(pid, Signal::TERM);
            let begun = Instant::now();
            let runs = || Path::new(&format!("/proc/{pid}")).exists();
            while runs() && begun.elapsed() < LIMIT / 10 {
                std::thread::sleep(POLL);
            }
            if runs() {
                signal(pid, Signal::KILL);
            }
        }
        self.daemon.kill();
        let _ = fs::remove_file(self.pid_file());
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn find() -> Result<PathBuf, Error> {
    programs::find("dnsmasq")
        .ok_or_else(|| programs::missing("a name server", "`dnsmasq`", &PACKAGES))
}

/// A port that is free by TCP and UDP.
fn free_port() -> Result<SocketAddr, Error> {
    let mut addr = free_addr(Ipv4Addr::LOCALHOST.into())?;
    for _ in 0..10 {
        if UdpSocket::bind(addr).is_ok() {
            break;
        }
        addr = free_addr(Ipv4Addr::LOCALHOST.into())?;
    }
    Ok(addr)
}

/// Whether it is a name, and no other line of the configuration.
fn checked(name: &str) -> Result<(), Error> {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() < 64 && label.bytes().all(known)
    };
    if name.len() < 254 && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(Error::Record {
        name: name.to_owned(),
        problem: "is no host name: labels of letters, digits, `-` and `_`, with dots between",
    })
}
