//! `cargo xtask demo --web`: a cluster, a web service on it, and faults when somebody asks for them.

mod orders;
mod service;

use std::{net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use leadpool_testkit::PgInstall;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    orders::{Order, Orders},
    service::{Example, Service},
};
use crate::{
    Result,
    requests::{self, Book, Load, Plan},
    runtime,
    servers::{self, Fault, Kind, Stack},
};

/// How many requests may be under way, where nobody says otherwise.
const IN_FLIGHT: u32 = 4_000;
/// How many notes there may be, roughly. The services list all of them.
const NOTES: i64 = 100;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Start a web service and its cluster, and let the primary be lost at will.
    #[arg(
        long,
        conflicts_with_all = ["driver", "faults", "rounds", "workers", "readers", "json", "compare"],
    )]
    pub(super) web: bool,
    /// Which of the examples. It is built first.
    #[arg(long, value_enum, default_value = "axum", requires = "web")]
    service: Example,
    /// A program in place of an example. It gets DATABASE_URL, and LISTEN as the address to listen
    /// on, and says "listening on" which it does. SIGTERM ends it.
    #[arg(long, requires = "web", conflicts_with = "service")]
    program: Option<PathBuf>,
    /// Where the service listens; port 0 is any that is free.
    #[arg(long, requires = "web", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Lose the primary without being asked, by turns, so many seconds after the last time.
    #[arg(long, requires = "web", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    auto: Option<u64>,
    /// Send so many requests in each second, and print how they were answered. Only the last notes
    /// are kept then.
    #[arg(long, requires = "web", value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests: Option<u32>,
}

pub(super) fn run(args: &super::Args, install: &PgInstall) -> Result<()> {
    let program = match &args.web.program {
        Some(program) => program.clone(),
        None => args.web.service.build()?,
    };
    // Interrupts are for the demo, which ends the service before the servers.
    runtime()?.block_on(play(args, install, program))
}

async fn play(args: &super::Args, install: &PgInstall, program: PathBuf) -> Result<()> {
    let mut told = pin!(leadpool::shutdown::signal());
    let mut stage = tokio::select! {
        stage = Stage::start(args, install, program) => stage?,
        _ = &mut told => return Err("interrupted; all servers are being stopped".into()),
    };
    let faults = match args.stack {
        Kind::Plain => Orders::PLAIN,
        Kind::Patroni => Orders::PATRONI,
    };
    stage.introduce()?;
    println!("{}", Orders::help(faults));
    let mut orders = Orders::new(faults, args.web.auto.map(Duration::from_secs));
    loop {
        let order = tokio::select! {
            order = orders.next() => order,
            _ = &mut told => break,
            ended = stage.service.ended() => return Err(ended.into()),
        };
        match order {
            Order::End => break,
            Order::Help => println!("{}", Orders::help(faults)),
            Order::Lose(fault) => tokio::select! {
                lost = stage.lose(fault) => {
                    lost?;
                    orders.rest();
                }
                _ = &mut told => break,
            },
        }
    }
    stage.end().await
}

/// The cluster, the service on it, and who asks it.
struct Stage {
    servers: Arc<Stack>,
    service: Service,
    hold: Duration,
    load: Option<(Load, Arc<Book>)>,
    /// Keeps the table short.
    sweeper: JoinSet<()>,
}

impl Stage {
    async fn start(args: &super::Args, install: &PgInstall, program: PathBuf) -> Result<Self> {
        let what = Stack::describe(args.stack, args.replication);
        println!("starting {what}");
        let places = match args.web.requests {
            // The service inherits the limit.
            Some(_) => requests::places(IN_FLIGHT)?,
            None => 0,
        };
        let servers = Arc::new(Stack::start(args.stack, install, args.replication).await?);
        let (tokens, key) = requests::tokens()?;
        servers.prepare(&tokens).await?;
        let url = servers.urls().0 + &key;
        let folder = servers.folder("service")?;
        let service = Service::start(&program, &folder, &url, args.web.listen).await?;
        let mut sweeper = JoinSet::new();
        let load = args.web.requests.map(|rate| {
            sweeper.spawn(sweep(servers.clone()));
            let book = Arc::new(Book::default());
            let plan = Plan {
                address: service.address,
                rate,
                most: places,
                seed: args.seed,
            };
            (Load::start(plan, book.clone()), book)
        });
        Ok(Self {
            servers,
            service,
            hold: Duration::from_secs(args.hold_seconds),
            load,
            sweeper,
        })
    }

    fn introduce(&self) -> Result<()> {
        let address = self.service.address;
        println!("service    http://{address}/notes");
        println!("dashboard  http://{address}/dashboard");
        for host in 0..self.servers.hosts() {
            println!("host {host}     {}", self.servers.host_url(host)?);
        }
        Ok(())
    }

    /// Loses the primary, and brings it back as a standby.
    async fn lose(&self, fault: Fault) -> Result<()> {
        println!("{}: the primary is being lost", fault.name());
        let observed = servers::apply(fault, &self.servers).await?;
        let gap = (observed.accepted_at - observed.began).as_millis();
        let (old, new) = (observed.old_primary, observed.new_primary);
        println!(
            "host {new} is the primary in place of host {old}, and took its first write after {gap} ms"
        );
        sleep(self.hold).await;
        self.servers.aftermath(fault, old, self.hold).await?;
        self.servers.heal(fault, old).await?;
        println!("host {old} is a standby");
        Ok(())
    }

    /// Ends all of it: who asks, the service, the servers.
    async fn end(mut self) -> Result<()> {
        let book = match self.load {
            None => None,
            Some((load, book)) => {
                println!("waiting for the last answers");
                load.stop().await?;
                Some(book)
            }
        };
        self.sweeper.shutdown().await;
        println!("ending the service");
        self.service.end().await?;
        if let Some(book) = book {
            let totals = book.totals();
            print!("\n{}", requests::answers(&[("the service", &totals)]));
            print!("{}", requests::texts("the service", &totals));
        }
        println!("everything has ended");
        Ok(())
    }
}

async fn sweep(servers: Arc<Stack>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        // While there is no primary it waits for the next time.
        drop(timeout(Duration::from_secs(5), sweep_once(&servers)).await);
    }
}

async fn sweep_once(servers: &Stack) -> Result<()> {
    let client = servers.connect(servers.primary().await?).await?;
    let sweep = "DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - $1";
    client.execute(sweep, &[&NOTES]).await?;
    Ok(())
}
