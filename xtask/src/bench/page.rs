//! The page of results, and the table in the project's README.

use std::fmt::Write as _;

use super::{
    goals::{self, OURS, State, is_peer},
    lines::Line,
    question::Question,
    replacement,
};
use crate::Result;

/// What stands between them in the README is written anew.
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// All that was found.
pub(super) fn whole(lines: &[Line], machine: &str) -> String {
    let mut page = String::from(
        "# Results\n\n\
        Written by `cargo xtask bench`; `--only QUESTION` asks one alone, `--quick` shows in minutes that all works. \
        All rivals ran in one process against one server on the same machine, by turns: each in every round, in an order that changes; \
        the first round does not count. All pools have the same size and otherwise their own defaults, except where a name says something else.\n\n\
        A figure is the median of the rounds, the range in brackets. \
        *of the first* is the median of the ratios to the first line within a round: what else the machine did has met both. \
        The values of each round are in `results.jsonl`.\n\n",
    );
    page.push_str(machine);
    page.push_str("\n## Goals\n\n| goal | | found |\n|---|---|---|\n");
    for goal in goals::judge(lines) {
        let state = match goal.state {
            State::Met => "met",
            State::Missed => "**missed**",
            State::NotMeasured => "not measured",
        };
        row(&mut page, &[goal.aim, state, &goal.found]);
    }
    for question in Question::all() {
        let name = question.name();
        let own = |line: &&Line| line.question == name;
        let own: Vec<&Line> = lines.iter().filter(own).collect();
        if own.is_empty() {
            continue;
        }
        let (asks, file) = (question.asks(), format!("{name}.svg"));
        page.push_str(&format!("\n## {asks}\n\n![{asks}]({file})\n"));
        for case in distinct(own.iter().map(|line| line.case.as_str())) {
            let of_case = own.iter().copied().filter(|line| line.case == case);
            table(&mut page, case, &of_case.collect::<Vec<_>>());
        }
    }
    page.push_str(&replacement::section(lines).unwrap_or_default());
    page
}

/// A row a rival, a column a measure.
fn table(page: &mut String, case: &str, lines: &[&Line]) {
    let measures = distinct(lines.iter().map(|line| line.measure.as_str()));
    let find = |rival: &str, measure: &str| {
        let mut lines = lines.iter();
        lines.find(|line| line.rival == rival && line.measure == measure)
    };
    let rivals = distinct(lines.iter().map(|line| line.rival.as_str()));
    let first = rivals.first().and_then(|rival| find(rival, measures[0]));
    let mut head = vec![case.to_owned()];
    for (at, measure) in measures.iter().enumerate() {
        let unit = lines.iter().find(|line| line.measure == *measure);
        let unit = unit.map_or("", |line| line.unit.as_str());
        head.push(match unit {
            "" => (*measure).to_owned(),
            unit => format!("{measure}, {unit}"),
        });
        if at == 0 {
            head.push("of the first".into());
        }
    }
    page.push('\n');
    row(page, &head);
    page.push_str(&format!("|---|{}\n", "--:|".repeat(head.len() - 1)));
    for rival in rivals {
        let mut cells = vec![rival.to_owned()];
        for (at, measure) in measures.iter().enumerate() {
            let line = find(rival, measure);
            cells.push(line.map_or_else(String::new, |line| figure(line)));
            if at == 0 {
                let ratio = line.zip(first).and_then(|(own, first)| own.ratio_to(first));
                cells.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")));
            }
        }
        row(page, &cells);
    }
}

pub(super) fn row(page: &mut String, cells: &[impl AsRef<str>]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    page.push_str(&format!("| {} |\n", cells.join(" | ")));
}

/// The median, and the range if there is one.
fn figure(line: &Line) -> String {
    let (least, most) = line.range();
    match least == most {
        true => short(least),
        false => format!(
            "{} ({} – {})",
            short(line.median()),
            short(least),
            short(most)
        ),
    }
}

/// Three digits at least, none behind the point where they mean nothing.
pub(super) fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == size.trunc() => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && digit != '-' && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match rest {
        "" => grouped,
        rest => format!("{grouped}.{rest}"),
    }
}

/// In the order in which they come first.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// The README with the table between its markers: a line for each example of a question.
pub(super) fn within(readme: &str, lines: &[Line]) -> Result<String> {
    let missing = || format!("README.md has no `{BEGIN}` before an `{END}`");
    let (before, rest) = readme.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let mut table = String::from(
        "Medians of one run of `cargo xtask bench`; all of it, and on what machine, in \
        [benches/results](benches/results/README.md). A pool that was not back 10 s \
        after a failover stands there with 10,000 ms.\n\n\
        | | leadpool | deadpool-postgres | best other |\n|---|--:|--:|--:|\n",
    );
    let examples = Question::all().iter().flat_map(|question| {
        question
            .examples()
            .iter()
            .map(move |case| (question, *case))
    });
    for (question, example) in examples {
        let name = question.name();
        let of_example: Vec<&Line> = lines
            .iter()
            .filter(|line| {
                line.question == name && line.case == example && line.measure == question.headline()
            })
            .collect();
        let Some(own) = of_example.iter().find(|line| line.rival == OURS) else {
            continue;
        };
        let unit = match own.unit.as_str() {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        let shown = |line: &Line| format!("{}{unit}", short(line.median()));
        let bare = of_example
            .iter()
            .find(|line| line.rival.starts_with("deadpool-postgres"));
        let others = of_example.iter().filter(|line| {
            let rival = &line.rival;
            is_peer(rival) && !rival.starts_with("deadpool")
        });
        let better = |one: &&&Line, other: &&&Line| {
            let order = one.median().total_cmp(&other.median());
            match question.headline() {
                "throughput" => order.reverse(),
                _ => order,
            }
        };
        let best = others.min_by(better);
        writeln!(
            table,
            "| {}: {} ({}) | {} | {} | {} |",
            question.asks(),
            question.headline(),
            example,
            shown(own),
            bare.map_or_else(String::new, |line| shown(line)),
            best.map_or_else(String::new, |line| format!(
                "{} ({})",
                shown(line),
                line.rival
            )),
        )?;
    }
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rival: &str, measure: &str, unit: &str, values: &[f64]) -> Line {
        Line {
            question: "checkout".into(),
            case: "idle, 1 task".into(),
            rival: rival.into(),
            measure: measure.into(),
            unit: unit.into(),
            values: values.into(),
        }
    }

    fn lines() -> Vec<Line> {
        let measure = "checkout and return";
        vec![
            line(
                "deadpool-postgres Fast",
                measure,
                "ns",
                &[400.0, 500.0, 450.0],
            ),
            line("leadpool", measure, "ns", &[440.0, 500.0, 504.0]),
            line("bb8, no test", measure, "ns", &[1500.0]),
            line("leadpool", "errors", "", &[0.0, 0.0]),
        ]
    }

    #[test]
    fn the_page_of_a_few_lines() {
        let page = whole(&lines(), "| | |\n|---|---|\n| cores | 2 |\n");
        let expected = "\
| idle, 1 task | checkout and return, ns | of the first | errors |
|---|--:|--:|--:|
| deadpool-postgres Fast | 450 (400 – 500) | 1.000 |  |
| leadpool | 500 (440 – 504) | 1.100 | 0 |
| bb8, no test | 1,500 | 3.750 |  |
";
        assert!(page.contains(expected), "{page}");
        assert!(page.contains("| cores | 2 |"), "{page}");
        assert!(
            page.contains("bare deadpool-postgres | **missed** | 1.100 times |"),
            "{page}"
        );
        assert!(
            page.contains("| failover: no errors | not measured |  |"),
            "{page}"
        );
        assert!(page.contains("](checkout.svg)"), "{page}");
        // Nothing of what was not asked.
        assert!(!page.contains("contention.svg"), "{page}");
    }

    #[test]
    fn the_readme_keeps_what_is_around_the_table() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let written = within(&readme, &lines()).unwrap();
        let row = "| Checkout and return of an idle connection: checkout and return (idle, 1 task) | 500 ns | 450 ns | 1,500 ns (bb8, no test) |";
        assert!(written.contains(row), "{written}");
        assert!(!written.contains("old"), "{written}");
        assert!(written.starts_with("before\n"), "{written}");
        assert!(written.ends_with("\nafter\n"), "{written}");
        assert_eq!(within(&written, &lines()).unwrap(), written);
        let error = within("nothing", &lines()).unwrap_err();
        assert!(error.to_string().contains(BEGIN), "{error}");
    }

    #[test]
    fn numbers_that_can_be_read() {
        let shown = [
            0.1234,
            1.234,
            12.34,
            123.4,
            1234.0,
            1_234_567.8,
            0.0,
            -1234.5,
        ];
        let shown: Vec<String> = shown.into_iter().map(short).collect();
        let expected = [
            "0.123",
            "1.23",
            "12.3",
            "123",
            "1,234",
            "1,234,568",
            "0",
            "-1,234",
        ];
        assert_eq!(shown, expected);
    }
}
