//! A plot of each question: a panel a case, a bar a rival, and its range.

use std::path::Path;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    lines::Line,
    page::{distinct, short},
    question::Question,
};
use crate::Result;

const WIDTH: u32 = 860;
const ROW: i32 = 18;
const TITLE: i32 = 30;
const NAMES: i32 = 190;
const BARS: i32 = 480;
const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(170, 170, 170);

/// Draws the question's headline; nothing if there are no lines of it.
pub(super) fn draw(question: Question, lines: &[Line], path: &Path) -> Result<()> {
    let name = question.name();
    let drawn = |line: &&Line| line.question == name && line.measure == question.headline();
    let lines: Vec<&Line> = lines.iter().filter(drawn).collect();
    let cases = distinct(lines.iter().map(|line| line.case.as_str()));
    if cases.is_empty() {
        return Ok(());
    }
    let rows = i32::try_from(lines.len())? * ROW;
    let titles = i32::try_from(cases.len() + 1)? * TITLE;
    let height = u32::try_from(rows + titles + TITLE)?;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let fail = |error| format!("{}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| fail(error.to_string()))?;
    let text = |words: &str, at: (i32, i32), size: i32, align: HPos| {
        let style = ("sans-serif", size).into_text_style(&area);
        let style = style.pos(Pos::new(align, VPos::Center));
        let element = Text::new(words.to_owned(), at, style);
        area.draw(&element).map_err(|error| fail(error.to_string()))
    };
    text(question.asks(), (12, TITLE / 2), 17, HPos::Left)?;
    let mut y = TITLE;
    for case in cases {
        let of_case: Vec<&&Line> = lines.iter().filter(|line| line.case == case).collect();
        let unit = of_case.first().map_or("", |line| line.unit.as_str());
        let title = match unit {
            "" => format!("{case}: {}", question.headline()),
            unit => format!("{case}: {}, {unit}", question.headline()),
        };
        text(&title, (12, y + TITLE * 2 / 3), 14, HPos::Left)?;
        y += TITLE;
        let most = of_case.iter().map(|line| line.median());
        let most = most.fold(f64::MIN_POSITIVE, f64::max);
        // Whoever was slow once would make all others short.
        let x = |value: f64| NAMES + ((value / most).clamp(0.0, 1.1) * f64::from(BARS)) as i32;
        for line in of_case {
            let middle = y + ROW / 2;
            text(&line.rival, (NAMES - 8, middle), 12, HPos::Right)?;
            let color = match line.rival.starts_with("leadpool") {
                true => OURS,
                false => OTHERS,
            };
            let corners = [(NAMES, y + 3), (x(line.median()), y + ROW - 3)];
            let bar = Rectangle::new(corners, color.filled());
            area.draw(&bar).map_err(|error| fail(error.to_string()))?;
            let (least, most) = line.range();
            let ends = vec![(x(least), middle), (x(most), middle)];
            let range = PathElement::new(ends, BLACK);
            area.draw(&range).map_err(|error| fail(error.to_string()))?;
            let behind = x(line.median()).max(x(most)) + 6;
            text(&short(line.median()), (behind, middle), 12, HPos::Left)?;
            y += ROW;
        }
    }
    area.present().map_err(|error| fail(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_of_each_rival() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let line = |rival: &str, values: &[f64]| Line {
            question: "checkout".into(),
            case: "idle, 1 task".into(),
            rival: rival.into(),
            measure: "checkout and return".into(),
            unit: "ns".into(),
            values: values.into(),
        };
        let lines = [line("leadpool", &[480.0, 500.0]), line("bb8", &[1000.0])];
        draw(Question::Checkout, &lines, &path).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        for words in ["leadpool", "bb8", "490", "1,000", "idle, 1 task"] {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        // The background, and a bar each: half as long as the other.
        assert_eq!(drawn.matches("<rect").count(), 3, "{drawn}");
        assert!(drawn.contains(&format!("width=\"{BARS}\"")), "{drawn}");
        let none = dir.path().join("none.svg");
        draw(Question::Reads, &lines, &none).unwrap();
        assert!(!none.exists());
    }
}
