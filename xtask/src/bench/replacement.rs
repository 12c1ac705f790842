//! The page's word on the pool that leadpool stands on, and on what could stand in its place.

use super::{
    goals::{BARE, OURS, is_peer},
    lines::Line,
    page::{distinct, row},
};

/// By their names among the rivals.
const SKETCH: &str = "sketch";
const NO_DEADLINE: &str = "sketch, no deadline";

const WHY: &str = "\n## What deadpool-postgres costs, and what another pool would bring\n\n\
leadpool hands out deadpool-postgres' own connections, so that an application keeps its types. \
So each checkout and each return goes through deadpool's semaphore and its list of idle connections, \
and leadpool can only add to what that takes. *sketch* shows what is possible without it: \
whoever returns a connection hands it to the one who has waited longest. \
It has the deadline that a checkout of leadpool has, once; it is no pool, opens nothing again, and is not judged. \
Times faster than bare deadpool-postgres, as medians of the ratios within a round:\n\n";

const PROPOSAL: &str = "\n\
Where nobody waits, leadpool adds little. Where tasks wait, it adds what bare deadpool-postgres does not have: \
a deadline, a limit and a count of those who wait, a measure of how long, \
and a look at the host when it takes long. The two sketches differ by the deadline alone: \
a timer of Tokio is registered and removed for each wait, under a lock that all threads share.\n\n\
**Proposal**, nothing of which is done: a queue of leadpool's own for each host, which hands connections over as the sketch does, \
and one timer for all who wait in it. Beside the figures above it would make a connection fit, or closed, \
when it is returned instead of when it is taken, and a pause or a failover would find its waiters in one place. \
It would cost what leadpool promises: `Pool::get` would return a type of leadpool's own. \
It can dereference to `deadpool_postgres::ClientWrapper`, as deadpool's does, \
so most code would compile as it is; what names `deadpool_postgres::Client`, or calls `Object::take`, would not. \
So it is for a next major version, with `Pool::deadpool_pool` for whatever insists on the type.\n";

/// Nothing if there was no sketch among the rivals.
pub(super) fn section(lines: &[Line]) -> Option<String> {
    let mut page = String::from(WHY);
    row(&mut page, &["", OURS, "best peer", SKETCH, NO_DEADLINE]);
    page.push_str("|---|--:|--:|--:|--:|\n");
    let of = |question, measure| {
        let lines = lines.iter();
        lines.filter(move |line| line.question == question && line.measure == measure)
    };
    let mut rows = 0;
    for (question, measure) in [
        ("checkout", "checkout and return"),
        ("contention", "throughput"),
    ] {
        for case in distinct(of(question, measure).map(|line| line.case.as_str())) {
            let find = |rival: &str| {
                of(question, measure).find(|line| line.case == case && line.rival == rival)
            };
            let Some((bare, _)) = find(BARE).zip(find(SKETCH)) else {
                continue;
            };
            // Of a time, less is more.
            let faster = |line: &Line| match measure {
                "throughput" => line.ratio_to(bare),
                _ => bare.ratio_to(line),
            };
            let shown = |rival| {
                let ratio = find(rival).and_then(faster);
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
            };
            let peers = of(question, measure)
                .filter(|line| line.case == case && is_peer(&line.rival) && line.rival != BARE);
            let best = peers
                .filter_map(|line| Some((faster(line)?, &line.rival)))
                .max_by(|one, other| one.0.total_cmp(&other.0));
            let best = best.map_or_else(String::new, |(ratio, rival)| {
                format!("{ratio:.2} ({rival})")
            });
            row(
                &mut page,
                &[
                    case,
                    &shown(OURS),
                    &best,
                    &shown(SKETCH),
                    &shown(NO_DEADLINE),
                ],
            );
            rows += 1;
        }
    }
    page.push_str(PROPOSAL);
    (rows > 0).then_some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(question: &str, case: &str, rival: &str, measure: &str, values: &[f64]) -> Line {
        Line {
            question: question.into(),
            case: case.into(),
            rival: rival.into(),
            measure: measure.into(),
            unit: String::new(),
            values: values.into(),
        }
    }

    #[test]
    fn faster_is_more_of_times_and_of_throughputs() {
        let time = |rival, values| line("checkout", "idle", rival, "checkout and return", values);
        let tasks = |rival, values| line("contention", "64 on 8", rival, "throughput", values);
        let lines = [
            time(BARE, &[400.0, 440.0]),
            time(OURS, &[500.0, 550.0]),
            time("mobc", &[800.0, 880.0]),
            time(SKETCH, &[200.0, 220.0]),
            tasks(BARE, &[100.0]),
            tasks(OURS, &[50.0]),
            tasks("bb8", &[70.0]),
            tasks("mobc", &[30.0]),
            tasks(SKETCH, &[90.0]),
            tasks(NO_DEADLINE, &[150.0]),
            line("contention", "64 on 8", SKETCH, "p99", &[1.0]),
        ];
        let section = section(&lines).unwrap();
        let expected = "\
|  | leadpool | best peer | sketch | sketch, no deadline |
|---|--:|--:|--:|--:|
| idle | 0.80 | 0.50 (mobc) | 2.00 |  |
| 64 on 8 | 0.50 | 0.70 (bb8) | 0.90 | 1.50 |
";
        assert!(section.contains(expected), "{section}");
    }

    #[test]
    fn there_is_nothing_to_say_without_a_sketch() {
        let bare = line("checkout", "idle", BARE, "checkout and return", &[400.0]);
        assert_eq!(section(&[bare]), None);
    }
}
