//! The manual, the dashboard, the alerts and the source are held to the tables.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{METRICS, Metric, MetricKind, TRACES};

const MANUAL: &str = include_str!("../manual/observability.md");
const DASHBOARD: &str = include_str!("../../dashboards/leadpool.json");
const ALERTS: &str = include_str!("../../dashboards/alerts.yml");

/// Metrics that are on no panel, each with the reason.
const EXEMPT: [&str; 0] = [];

#[test]
fn names_are_what_prometheus_wants() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("leadpool_"), "{name}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        let is_counter = metric.kind == MetricKind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        if metric.unit != "count" {
            assert!(name.ends_with(metric.unit), "{name} in {}", metric.unit);
        }
        assert_eq!(metric.labels.first(), Some(&"pool"), "{name}");
    }
}

#[test]
fn spans_and_events_have_names_of_their_own() {
    let mut names = BTreeSet::new();
    for row in TRACES {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        assert!(row.name.starts_with("leadpool."), "{}", row.name);
        assert!(row.target.starts_with("leadpool::"), "{}", row.name);
        assert!(
            row.fields.len() <= 32,
            "{}: more than tracing takes",
            row.name
        );
    }
}

/// What stands between two comments of the manual.
fn section(name: &str) -> &'static str {
    let begin = format!("<!-- {name} -->");
    let (_, rest) = MANUAL.split_once(&begin).unwrap();
    rest.split_once("<!-- end -->").unwrap().0.trim()
}

fn in_code(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[test]
fn the_manual_has_the_tables() {
    let mut table = "| metric | kind | labels | |\n|---|---|---|---|".to_owned();
    for metric in METRICS {
        let (name, kind, about) = (metric.name, metric.kind, metric.about);
        let labels = in_code(metric.labels);
        table.push_str(&format!("\n| `{name}` | {kind} | {labels} | {about} |"));
    }
    assert!(section("metrics") == table, "the manual wants\n{table}");

    let mut table = "| name | kind | target, level | fields | |\n|---|---|---|---|---|".to_owned();
    for row in TRACES {
        let (name, kind, target, about) = (row.name, row.kind, row.target, row.about);
        let level = row.level.to_string().to_lowercase();
        let fields = in_code(row.fields);
        table.push_str(&format!(
            "\n| `{name}` | {kind} | `{target}`, {level} | {fields} | {about} |"
        ));
    }
    assert!(section("traces") == table, "the manual wants\n{table}");
}

/// The macros of `tracing` that tell something.
const MACROS: [&str; 12] = [
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
];

/// Each use of such a macro, from its path to its last bracket.
fn calls(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices('!') {
        let name = code[..at].trim_end_matches(is_word).len();
        if !MACROS.contains(&&code[name..at]) || !code[at + 1..].starts_with(['(', '[', '{']) {
            continue;
        }
        let path = code[..name]
            .trim_end_matches(|c| is_word(c) || c == ':')
            .len();
        let mut depth = 0;
        let last = code[at..].find(|c| {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(c, ')' | ']' | '}')
        });
        found.push(&code[path..at + last.unwrap()]);
    }
    found
}

/// Whether name, target and level are those of one row.
fn is_by_row(call: &str) -> bool {
    let Some((_, row)) = call.split_once("rows::") else {
        return false;
    };
    let row = row.split(|c| !is_word(c) && c != '$').next().unwrap();
    let of_row = |part| call.contains(&format!("rows::{row}.{part},"));
    ["tracing::event!(", "tracing::span!("]
        .iter()
        .any(|begin| call.starts_with(begin))
        && ["name", "target", "level"].into_iter().all(of_row)
}

/// The source without unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if is_test {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let lines = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                let code = lines.map(|line| format!("{line}\n")).collect();
                sources.push((path, code));
            }
        }
    }
    sources
}

#[test]
fn whatever_is_told_is_a_row() {
    let mut known = 0;
    for (path, code) in sources() {
        for call in calls(&code) {
            let path = path.display();
            assert!(is_by_row(call), "{path}: no row of the table has\n{call}");
            known += 1;
        }
        let is_instrumented = code.contains("#[instrument") || code.contains("tracing::instrument");
        assert!(!is_instrumented, "{}: a span of no row", path.display());
    }
    assert!(known > 15, "only {known} were found");
}

#[test]
fn what_is_told_without_a_row_is_found() {
    for wrong in [
        r#"tracing::warn!("a");"#,
        r#"warn!(x, "a (b)");"#,
        r#"tracing::event!(Level::INFO, "a");"#,
        r#"tracing::info_span!["a"];"#,
        r#"tracing::event!(name: rows::A.name, target: "b", rows::A.level, "a");"#,
        r#"tracing::event!(name: rows::A.name, target: rows::B.target, rows::A.level, "a");"#,
    ] {
        let found = calls(wrong);
        assert_eq!(found.len(), 1, "{wrong}");
        assert!(!is_by_row(found[0]), "{wrong}");
    }
    assert!(calls("#[error(\"a\")] panic!(); terror!(a); is_error != (b)").is_empty());
}

/// One use of a metric in an expression.
struct Use {
    metric: &'static Metric,
    /// `_bucket`, `_sum`, `_count` of a histogram.
    part: String,
    function: String,
    is_range: bool,
    labels: Vec<String>,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where leadpool's metrics are used in an expression.
fn uses(expression: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("leadpool_") {
        let before = &expression[..at];
        if before.ends_with(is_word) {
            continue;
        }
        let rest = &expression[at..];
        let name = rest.split(|c| !is_word(c)).next().unwrap();
        let (metric, part) = metric(name)
            .unwrap_or_else(|| panic!("there is no metric {name}, used in\n{expression}"));
        let mut rest = rest[name.len()..].trim_start();
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let (matchers, behind) = inside.split_once('}').unwrap();
            labels = matchers
                .split(',')
                .map(|matcher| matcher.trim().split(|c| !is_word(c)).next().unwrap())
                .map(str::to_owned)
                .collect();
            rest = behind.trim_start();
        }
        let function = before.trim_end().strip_suffix('(').unwrap_or_default();
        let function = function.rsplit(|c| !is_word(c)).next().unwrap();
        found.push(Use {
            metric,
            part,
            function: function.to_owned(),
            is_range: rest.starts_with('['),
            labels,
        });
    }
    found
}

fn metric(name: &str) -> Option<(&'static Metric, String)> {
    METRICS.iter().find_map(|metric| {
        let part = name.strip_prefix(metric.name)?;
        let fits = match metric.kind {
            MetricKind::Histogram => ["_bucket", "_sum", "_count"].contains(&part),
            MetricKind::Counter | MetricKind::Gauge => part.is_empty(),
        };
        fits.then(|| (metric, part.to_owned()))
    })
}

/// The labels that results are grouped by.
fn grouped(expression: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    for (at, by) in expression.match_indices("by (") {
        let inside = &expression[at + by.len()..];
        let inside = inside.split_once(')').unwrap().0;
        labels.extend(inside.split(',').map(str::trim));
    }
    labels
}

/// Holds an expression to the table, and gives the metrics that are in it.
fn check(expression: &str) -> Vec<&'static str> {
    let uses = uses(expression);
    assert!(!uses.is_empty(), "nothing of leadpool's in\n{expression}");
    for found in &uses {
        let name = found.metric.name;
        let counts = ["rate", "increase"].contains(&&*found.function);
        match found.metric.kind {
            MetricKind::Counter | MetricKind::Histogram => assert!(
                counts && found.is_range,
                "{name} wants a rate or an increase in\n{expression}"
            ),
            MetricKind::Gauge => assert!(
                !counts && !found.is_range,
                "{name} is a gauge, used as a counter in\n{expression}"
            ),
        }
        let is_bucket = found.part == "_bucket";
        assert_eq!(
            is_bucket,
            expression.contains("histogram_quantile("),
            "{expression}"
        );
        assert!(
            !is_bucket || grouped(expression).contains(&"le"),
            "{expression}"
        );
        let own = found.labels.iter().map(String::as_str);
        for label in own.chain(grouped(expression)) {
            assert!(
                found.metric.labels.contains(&label) || (is_bucket && label == "le"),
                "{name} has no label {label}, used in\n{expression}"
            );
        }
    }
    uses.iter().map(|found| found.metric.name).collect()
}

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => strings(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    let expected = [
        "Failover",
        "Pool",
        "Waits",
        "Transactions",
        "Probes and lag",
    ];
    assert_eq!(rows, expected);
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    let shown: BTreeSet<_> = expressions.iter().flat_map(|text| check(text)).collect();
    for metric in METRICS {
        assert_ne!(
            shown.contains(metric.name),
            EXEMPT.contains(&metric.name),
            "{} belongs on a panel, or to the exempt",
            metric.name
        );
    }
    let mut sources = Vec::new();
    strings(&dashboard, "uid", &mut sources);
    sources.retain(|uid| *uid != "leadpool");
    assert!(
        sources.iter().all(|uid| *uid == "${datasource}"),
        "{sources:?}"
    );
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels of one id");
    // What the variable lists its values from.
    assert!(DASHBOARD.contains("label_values(leadpool_phase, pool)"));
}

#[test]
fn alerts_ask_for_what_there_is() {
    let lines = || ALERTS.lines().map(str::trim);
    let expressions: Vec<_> = lines()
        .filter_map(|line| line.strip_prefix("expr: "))
        .collect();
    expressions.iter().for_each(|text| drop(check(text)));
    let count = |prefix: &str| lines().filter(|line| line.starts_with(prefix)).count();
    assert!(expressions.len() > 5);
    assert_eq!(count("- alert: "), expressions.len());
    assert_eq!(count("labels: { severity: "), expressions.len());
    assert_eq!(count("summary: "), expressions.len());
}

#[test]
fn a_wrong_expression_is_found() {
    for wrong in [
        "leadpool_no_such_thing",
        "leadpool_failovers_total",
        "rate(leadpool_phase[5m])",
        "sum by (host) (rate(leadpool_failovers_total[5m]))",
        "leadpool_phase{role=\"primary\"}",
        "rate(leadpool_writer_gap_seconds[5m])",
        "sum(rate(leadpool_writer_gap_seconds_bucket[5m]))",
        "histogram_quantile(0.5, sum by (pool) (rate(leadpool_writer_gap_seconds_bucket[5m])))",
    ] {
        assert!(
            std::panic::catch_unwind(|| check(wrong)).is_err(),
            "{wrong}"
        );
    }
}
