//! The project's own commands: `cargo xtask demo`, `nemesis`, `soak`, `reads`, `install` and `test`.

mod demo;
mod install;
mod nemesis;
mod postgres;
mod reads;
mod scratch;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Where the commands may fail, any error will do: it is printed and ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "leadpool's own commands")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs an application on a real cluster while its primary is killed, moved and frozen.
    Demo(demo::Args),
    /// Runs mixed transactions while everything goes wrong, and counts what was lost or doubled.
    Nemesis(nemesis::Args),
    /// Opens and breaks thousands of connections, and counts what is left of them.
    Soak(soak::Args),
    /// Reads what it has just written, from standbys that are behind, and counts what was not there.
    Reads(reads::Args),
    /// Installs what the tests use if it is there: Patroni, etcd, pg_auto_failover, repmgr, dnsmasq.
    Install,
    /// Runs every check and test.
    Test(test::Args),
}

/// How the servers replicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Replication {
    /// A COMMIT is answered once a standby has it: what is acknowledged is never lost.
    Synchronous,
    /// A failover may lose what was acknowledged shortly before.
    Asynchronous,
}

/// Runs a command to its end, or until it is interrupted: then too every server is stopped.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            done = command => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted; all servers are being stopped".into()),
        }
    })
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Nemesis(args) => nemesis::run(args),
        Command::Soak(args) => soak::run(args),
        Command::Reads(args) => reads::run(args),
        Command::Install => install::run(),
        Command::Test(args) => test::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
