//! The project's own commands: `cargo xtask demo`, `nemesis`, `requests`, `soak`, `reads`, `bench`, `scale`, `install` and `test`.

#[cfg(feature = "exercises")]
mod bench;
mod cargo;
#[cfg(feature = "exercises")]
mod demo;
mod install;
#[cfg(feature = "exercises")]
mod live;
#[cfg(feature = "exercises")]
mod nemesis;
mod postgres;
#[cfg(feature = "exercises")]
mod reads;
#[cfg(not(feature = "diesel-blocking"))]
mod rebuilt;
#[cfg(feature = "exercises")]
mod requests;
#[cfg(feature = "scale")]
mod scale;
mod scratch;
#[cfg(feature = "exercises")]
mod servers;
#[cfg(feature = "exercises")]
mod soak;
mod test;

#[cfg(not(feature = "exercises"))]
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where the commands may fail, any error will do: it is printed and ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "leadpool's own commands")]
#[cfg_attr(
    not(feature = "exercises"),
    command(
        after_help = "Built when they are called: demo, nemesis, requests, soak, reads, bench, scale."
    )
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "exercises")]
    /// Runs an application on a real cluster while its primary is killed, moved and frozen.
    Demo(demo::Args),
    #[cfg(feature = "exercises")]
    /// Runs mixed transactions while everything goes wrong, and counts what was lost or doubled.
    Nemesis(nemesis::Args),
    #[cfg(feature = "exercises")]
    /// Asks a web application hundreds of times a second while its primary is killed, moved and
    /// frozen, and counts what its clients were told.
    Requests(requests::Args),
    #[cfg(feature = "exercises")]
    /// Opens and breaks thousands of connections, and counts what is left of them.
    Soak(soak::Args),
    #[cfg(feature = "exercises")]
    /// Reads what it has just written, from standbys that are behind, and counts what was not there.
    Reads(reads::Args),
    #[cfg(feature = "exercises")]
    /// Measures leadpool beside other pools, and writes tables and plots to `benches/results`.
    Bench(bench::Args),
    #[cfg(feature = "scale")]
    /// Plays one failover of up to ten thousand clients in virtual time, and writes tables and plots.
    Scale(scale::Args),
    /// Installs what the tests use if it is there: Patroni, etcd, pg_auto_failover, repmgr, dnsmasq,
    /// Chromium.
    Install,
    /// Runs every check and test.
    Test(test::Args),
    #[cfg(not(feature = "exercises"))]
    #[command(external_subcommand)]
    Exercise(Vec<OsString>),
}

/// How the servers replicate.
#[cfg(feature = "exercises")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Replication {
    /// A COMMIT is answered once a standby has it: what is acknowledged is never lost.
    Synchronous,
    /// A failover may lose what was acknowledged shortly before.
    Asynchronous,
}

#[cfg(feature = "exercises")]
fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().build()?)
}

#[cfg(feature = "exercises")]
/// Runs a command to its end, or until it is interrupted: then too every server is stopped.
fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    runtime()?.block_on(async {
        tokio::select! {
            done = command => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted; all servers are being stopped".into()),
        }
    })
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        #[cfg(feature = "exercises")]
        Command::Demo(args) => demo::run(args),
        #[cfg(feature = "exercises")]
        Command::Nemesis(args) => nemesis::run(args),
        #[cfg(feature = "exercises")]
        Command::Requests(args) => requests::run(args),
        #[cfg(feature = "exercises")]
        Command::Soak(args) => soak::run(args),
        #[cfg(feature = "exercises")]
        Command::Reads(args) => reads::run(args),
        #[cfg(feature = "exercises")]
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "scale")]
        Command::Scale(args) => scale::run(args),
        Command::Install => install::run(),
        Command::Test(args) => test::run(&args),
        // Those need all pools: who only tests does not wait until they are built a second time.
        #[cfg(not(feature = "exercises"))]
        Command::Exercise(words) => {
            let none = std::iter::empty::<(&str, &str)>;
            match words.first().is_some_and(|word| word == "scale") {
                true => rebuilt::run_optimised("scale", words, none()),
                false => rebuilt::run("exercises", words, none()),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_agree_with_each_other() {
        Args::command().debug_assert();
    }
}
