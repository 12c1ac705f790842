//! `cargo xtask bench`: runs the questions of `benches` one after the other, and writes what they
//! found, as tables and as plots.

mod goals;
mod lines;
mod machine;
mod page;
mod plot;
mod question;
mod replacement;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use leadpool_testkit::PgInstall;
use tempfile::TempDir;

use self::{lines::Line, machine::Machine, question::Question};
use crate::{Result, cargo, postgres, scratch};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Minutes instead of half an hour: to see that all works, not to publish.
    #[arg(long)]
    quick: bool,
    /// Asks these questions alone; what was found before on the others stays.
    #[arg(long, value_enum, value_name = "QUESTION")]
    only: Vec<Question>,
    /// How many rounds count.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    let asked = match args.only.as_slice() {
        [] => Question::all(),
        named => named,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let results = root.join("benches/results");
    fs::create_dir_all(&results)?;
    build(asked)?;
    let machine = Machine::look(&root, &install, args.quick)?;
    let kept = results.join("results.jsonl");
    let mut lines = lines::read(&kept)?;
    let begun = Instant::now();
    for question in asked {
        let found = ask(*question, &args, &install)?;
        lines.retain(|line| line.question != question.name());
        lines.extend(found);
        // What was found stays when a later question fails.
        lines::write(&kept, &lines)?;
    }
    println!("\nasked within {:.0?}", begun.elapsed());
    write(&root, &results, &lines, &machine)
}

/// All at once, so that no build is beside a measurement.
fn build(asked: &[Question]) -> Result<()> {
    let mut cargo = cargo_bench(asked);
    cargo.arg("--no-run");
    succeed(&mut cargo)
}

fn cargo_bench(asked: &[Question]) -> Command {
    let mut command = cargo::command();
    command.args(["bench", "--package", "leadpool-benches"]);
    for question in asked {
        command.args(["--bench", &question.name()]);
    }
    command
}

/// Runs one bench to its end, and reads what it has found.
fn ask(question: Question, args: &Args, install: &PgInstall) -> Result<Vec<Line>> {
    println!("\n# {}", question.asks());
    let begun = Instant::now();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("lines");
    let mut command = cargo_bench(&[question]);
    command
        .env("PG_BIN", install.bin_dir())
        .env("LEADPOOL_BENCH_RESULTS", &file);
    if args.quick {
        command.env("LEADPOOL_BENCH_QUICK", "1");
    }
    if let Some(rounds) = args.rounds {
        command.env("LEADPOOL_BENCH_ROUNDS", rounds.to_string());
    }
    let scratch = scratch::in_memory();
    command.envs(
        scratch
            .as_ref()
            .map(TempDir::path)
            .map(|path| ("TMPDIR", path)),
    );
    succeed(&mut command)?;
    println!("took {:.0?}", begun.elapsed());
    lines::read(&file)
}

fn succeed(command: &mut Command) -> Result<()> {
    match command.status()?.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed").into()),
    }
}

/// The page, the plots, and the table in the project's own README.
fn write(root: &Path, results: &Path, lines: &[Line], machine: &Machine) -> Result<()> {
    for question in Question::all() {
        let plot = results.join(format!("{}.svg", question.name()));
        plot::draw(*question, lines, &plot)?;
    }
    let page = results.join("README.md");
    fs::write(&page, page::whole(lines, &machine.to_string()))?;
    let readme: PathBuf = root.join("README.md");
    let before = fs::read_to_string(&readme)?;
    fs::write(&readme, page::within(&before, lines)?)?;
    println!("written: {}", page.display());
    Ok(())
}
