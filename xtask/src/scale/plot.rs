//! The plots.

use std::ops::Range;

use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
        PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::Color as _,
};

use super::{
    fleet::{Entry, Fleet},
    page::grouped,
    scenario::Fault,
    tally::{STEP, Tally},
};
use crate::Result;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (960, 420);
const TALL: (u32, u32) = (960, 840);

/// Told apart also by those who do not see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];

/// One line, and its name.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// What is seen of a chart.
struct View {
    title: String,
    x: (&'static str, Range<f64>),
    y: (&'static str, Range<f64>),
    is_log: (bool, bool),
}

/// All plots: names of files, and what is in them.
pub(super) fn plots(fleet: &Fleet<Tally>) -> Result<Vec<(String, String)>> {
    Ok(vec![
        ("scale-connects.svg".to_owned(), connects(fleet)?),
        ("scale-served.svg".to_owned(), served(fleet)?),
        ("scale-probes.svg".to_owned(), probes(fleet)?),
        ("scale-settings.svg".to_owned(), settings(fleet)?),
    ])
}

/// The failovers after a kill, with the cap or without.
fn killed(fleet: &Fleet<Tally>, is_capped: bool) -> impl Iterator<Item = &Entry<Tally>> {
    fleet.failovers.iter().filter(move |entry| {
        entry.scenario.fault == Some(Fault::Kill) && entry.scenario.is_capped == is_capped
    })
}

fn panel_name(what: &str, is_capped: bool) -> String {
    let cap = if is_capped { "with" } else { "without" };
    format!("{what}, {cap} the admission cap")
}

/// Seconds since the promotion.
fn relative(tally: &Tally, step: usize) -> f64 {
    let promoted = tally.step(tally.promoted_at);
    (step as f64 - promoted as f64) * STEP.as_secs_f64()
}

/// Until when there is something to be seen, in seconds since the promotion.
fn horizon<'a>(entries: impl Iterator<Item = &'a Entry<Tally>>) -> f64 {
    let ends = entries.map(|entry| entry.tally.ended_at.since(entry.tally.promoted_at));
    ends.max().unwrap_or_default().as_secs_f64()
}

fn connects(fleet: &Fleet<Tally>) -> Result<String> {
    draw(TALL, |area| {
        for (area, is_capped) in area.split_evenly((2, 1)).iter().zip([true, false]) {
            let lines = killed(fleet, is_capped).map(|entry| {
                let tally = &entry.tally;
                let new = tally.new_primary();
                let steps = tally.step(tally.fault_at)..tally.step(tally.ended_at);
                let rate = |step| {
                    let asked = new.pool_connects.at(step) + new.monitor_connects.at(step);
                    // What is nothing has no logarithm.
                    (asked as f64 / STEP.as_secs_f64()).max(1.0)
                };
                Line {
                    name: format!("{} clients", grouped(entry.scenario.clients.into())),
                    points: steps
                        .map(|step| (relative(tally, step), rate(step)))
                        .collect(),
                }
            });
            let what = "Connects at the promoted host after a kill";
            let view = View {
                title: panel_name(what, is_capped),
                x: (
                    "seconds since the promotion",
                    -6.0..horizon(fleet.failovers.iter()),
                ),
                y: ("connects asked for per second", 1.0..2e6),
                is_log: (false, true),
            };
            chart(area, &view, lines.collect())?;
        }
        Ok(())
    })
}

fn served(fleet: &Fleet<Tally>) -> Result<String> {
    draw(TALL, |area| {
        for (area, is_capped) in area.split_evenly((2, 1)).iter().zip([true, false]) {
            let lines = killed(fleet, is_capped).map(|entry| Line {
                name: format!("{} clients", grouped(entry.scenario.clients.into())),
                points: shares(
                    &entry.tally,
                    &entry.tally.first_served,
                    entry.scenario.clients.into(),
                ),
            });
            let what = "Clients that have got a connection to the new writer";
            let view = View {
                title: panel_name(what, is_capped),
                x: (
                    "seconds since the promotion",
                    0.0..horizon(fleet.failovers.iter()),
                ),
                y: ("%", 0.0..100.0),
                is_log: (false, false),
            };
            chart(area, &view, lines.collect())?;
        }
        Ok(())
    })
}

fn settings(fleet: &Fleet<Tally>) -> Result<String> {
    draw(SIZE, |area| {
        let entries = || fleet.tuned.iter().map(|(_, entry)| entry);
        let clients = entries().map(|entry| entry.scenario.clients).max();
        let lines = fleet.tuned.iter().enumerate().map(|(at, (_, entry))| Line {
            name: format!("row {}", at + 1),
            points: shares(&entry.tally, &entry.tally.served, entry.tally.waiting),
        });
        let view = View {
            title: format!(
                "Checkouts served, {} clients, by the rows of the table of settings",
                grouped(clients.unwrap_or_default().into())
            ),
            x: ("seconds since the promotion", 0.0..horizon(entries())),
            y: ("%", 0.0..100.0),
            is_log: (false, false),
        };
        chart(&area, &view, lines.collect())
    })
}

/// Which share of all `of` had come, in percent, over time.
fn shares(tally: &Tally, came: &[super::clock::Time], of: u64) -> Vec<(f64, f64)> {
    let steps = tally.step(tally.promoted_at)..=tally.step(tally.ended_at);
    let share = |step| {
        let here = came.partition_point(|at| tally.step(*at) < step);
        100.0 * here as f64 / of.max(1) as f64
    };
    steps
        .map(|step| (relative(tally, step), share(step)))
        .collect()
}

fn probes(fleet: &Fleet<Tally>) -> Result<String> {
    draw(SIZE, |area| {
        let of = |entries: Vec<&Entry<Tally>>, name: &str, rate: fn(&Tally) -> f64| Line {
            name: name.to_owned(),
            points: entries
                .iter()
                .map(|entry| {
                    (
                        f64::from(entry.scenario.clients),
                        rate(&entry.tally).max(0.1),
                    )
                })
                .collect(),
        };
        let idle = || fleet.idle.iter().collect();
        let killed = || killed(fleet, true).collect();
        let lines = vec![
            of(idle(), "idle", Tally::calm_probes),
            of(killed(), "writing", Tally::calm_probes),
            of(killed(), "no writer, on average", Tally::outage_probes),
            of(
                killed(),
                "no writer, the busiest second",
                Tally::most_probes,
            ),
            of(killed(), "after the change", Tally::probes_after_change),
        ];
        let most = fleet.idle.iter().map(|entry| entry.scenario.clients).max();
        let view = View {
            title: "Probes of one standby".to_owned(),
            x: ("clients", 10.0..f64::from(most.unwrap_or(10).max(11))),
            y: ("probes per second", 0.1..1e6),
            is_log: (true, true),
        };
        chart(&area, &view, lines)
    })
}

fn draw(size: (u32, u32), paint: impl FnOnce(Area<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    area.fill(&WHITE)?;
    paint(area)?;
    Ok(text)
}

fn chart(area: &Area<'_>, view: &View, lines: Vec<Line>) -> Result<()> {
    // Each kind of axis is a type of its own.
    macro_rules! on {
        ($x:expr, $y:expr) => {{
            let mut chart = ChartBuilder::on(area)
                .caption(&view.title, ("sans-serif", 18))
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(80)
                .build_cartesian_2d($x, $y)?;
            chart
                .configure_mesh()
                .x_desc(view.x.0)
                .y_desc(view.y.0)
                .x_label_formatter(&|x| label(*x))
                .y_label_formatter(&|y| label(*y))
                .light_line_style(WHITE)
                .draw()?;
            for (line, colour) in lines.into_iter().zip(COLOURS) {
                let style = colour.stroke_width(2);
                chart
                    .draw_series(LineSeries::new(line.points, style))?
                    .label(line.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .draw()?;
        }};
    }
    let (x, y) = (view.x.1.clone(), view.y.1.clone());
    match view.is_log {
        (false, false) => on!(x, y),
        (false, true) => on!(x, y.log_scale()),
        (true, _) => on!(x.log_scale(), y.log_scale()),
    }
    Ok(())
}

fn label(value: f64) -> String {
    if value.fract() == 0.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", grouped(value.abs() as u64))
    } else {
        format!("{value}")
    }
}
