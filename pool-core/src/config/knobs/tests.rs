//! The manual's tables: made from the list and from the documentation of the settings.

use std::{collections::BTreeMap, fs, path::Path};

use super::*;
use crate::config::{
    Settings, duration,
    env::{Use, VARIABLES},
    keys,
    value::Raw,
};

/// The page, as a path within the crate.
const PAGE: &str = "src/manual/configuration.md";

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All of this module's source, one file after the other.
fn source() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// The documentation that stands before a place.
fn doc_before(text: &str) -> String {
    let lines = text.lines().rev().skip(1);
    let lines = lines.skip_while(|line| line.trim().starts_with("#["));
    let mut doc: Vec<&str> = lines
        .map_while(|line| line.trim().strip_prefix("///"))
        .map(str::trim)
        .collect();
    doc.reverse();
    doc.join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The fields of a settings struct, each with its documentation.
fn fields(source: &str, settings: &str) -> BTreeMap<String, String> {
    let head = format!("pub struct {settings} {{");
    let start = source
        .find(&head)
        .unwrap_or_else(|| panic!("no {head} in src/config"));
    let body = &source[start..];
    let body = &body[..body.find("\n}").unwrap()];
    let mut fields = BTreeMap::new();
    for (at, mark) in body.match_indices("\n    pub ") {
        let name = body[at + mark.len()..].split(':').next().unwrap();
        // With a line of its own, which is the field's.
        fields.insert(name.to_owned(), doc_before(&body[..at + mark.len()]));
    }
    fields
}

/// The documentation of each knob, beside the name of the struct that has it.
fn documented() -> Vec<(&'static str, String, String)> {
    let source = source();
    let rows = DOCUMENTED.iter().map(|(knob, place)| {
        let (owner, item) = place.split_once("::").unwrap();
        let doc = if owner == "ConfigBuilder" {
            let at = source.find(&format!("    pub fn {item}(")).unwrap();
            doc_before(&source[..at + 1])
        } else {
            let mut fields = fields(&source, owner);
            fields
                .remove(item)
                .unwrap_or_else(|| panic!("{owner} has no field {item}"))
        };
        (*knob, owner.to_owned(), doc)
    });
    rows.collect()
}

#[test]
fn every_field_of_the_settings_has_its_knob() {
    let source = source();
    let places: Vec<&str> = DOCUMENTED.iter().map(|(_, place)| *place).collect();
    let structs = source.match_indices("\npub struct ").map(|(at, mark)| {
        source[at + mark.len()..]
            .split([' ', '(', '<'])
            .next()
            .unwrap()
    });
    let mut count = 0;
    for settings in structs.filter(|name| name.ends_with("Settings") && *name != "Settings") {
        for field in fields(&source, settings).keys() {
            let place = format!("{settings}::{field}");
            assert!(
                places.contains(&place.as_str()),
                "{place} has no line in config/knobs.rs"
            );
            count += 1;
        }
    }
    assert!(count > 30, "the settings were not found: {count}");
}

#[test]
fn every_knob_tells_its_true_default() {
    let defaults = Settings::defaults();
    for (knob, _, doc) in documented() {
        let (_, default, _) = defaults.iter().find(|(name, ..)| *name == knob).unwrap();
        let Some((_, told)) = doc.split_once("Default") else {
            panic!("{knob}: its documentation tells no default");
        };
        let told = told.trim_start_matches([':', ' ']);
        assert!(
            tells(told, default.as_ref()),
            "{knob}: {default:?} is told as: {told}",
            default = default.as_ref().map(ToString::to_string)
        );
    }
}

/// Whether a sentence begins with a value.
fn tells(told: &str, default: Option<&Raw>) -> bool {
    let ends = [", ", ": ", "; ", ". "]
        .iter()
        .filter_map(|end| told.find(end));
    let word = told[..ends.min().unwrap_or(told.len())].trim_end_matches('.');
    let word = word
        .split("](")
        .next()
        .unwrap()
        .replace(['`', '[', ']'], "");
    let word = word.rsplit("::").next().unwrap().trim_start_matches("the ");
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let number = word.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = word.split_at(number.unwrap_or(word.len()));
    match default {
        None => plain(word) == "none",
        Some(Raw::Text(text)) if text == "off" => plain(word) == "none",
        Some(Raw::Text(text)) => match duration::read(text) {
            Some(expected) => {
                let units = [
                    ("day", "d"),
                    ("hour", "h"),
                    ("min", "min"),
                    ("ms", "ms"),
                    ("s", "s"),
                ];
                let unit = units.iter().find(|(word, _)| unit.trim().starts_with(word));
                let read =
                    duration::read(&format!("{number}{}", unit.map_or("", |(_, unit)| unit)));
                read == Some(expected)
            }
            None => plain(word) == plain(text),
        },
        Some(raw) => word.trim() == raw.to_string(),
    }
}

/// Documentation as a cell of a table: links to what this crate's paths name stay, others become
/// plain code.
fn cell(doc: &str) -> String {
    let mut cell = String::new();
    let mut rest = doc;
    while let Some(at) = rest.find('[') {
        cell.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((text, after)) = rest.split_once(']') else {
            break;
        };
        match after
            .strip_prefix('(')
            .and_then(|link| link.split_once(')'))
        {
            Some((link, after)) if link.starts_with("crate::") || link.starts_with("http") => {
                cell.push_str(&format!("[{text}]({link})"));
                rest = after;
            }
            Some((_, after)) => {
                cell.push_str(text);
                rest = after;
            }
            None => {
                cell.push_str(text);
                rest = after;
            }
        }
    }
    cell.push_str(rest);
    cell.replace('|', "\\|")
}

fn knob_tables() -> String {
    let source = source();
    let defaults = Settings::defaults();
    let documented = documented();
    let mut owners: Vec<&str> = Vec::new();
    for (_, owner, _) in &documented {
        if !owners.contains(&owner.as_str()) {
            owners.push(owner);
        }
    }
    let mut text = String::new();
    for owner in owners {
        let title = match owner {
            "ConfigBuilder" => "What is asked for, and of whom.".to_owned(),
            _ => {
                let at = source.find(&format!("pub struct {owner} {{")).unwrap();
                let doc = doc_before(&source[..at + 1]);
                doc.split(" ```").next().unwrap().to_owned()
            }
        };
        text.push_str(&format!("## {}\n\n", title.trim_end_matches('.')));
        text.push_str(
            "| name | environment | takes | default | meaning |\n|---|---|---|---|---|\n",
        );
        for (knob, _, doc) in documented.iter().filter(|(_, of, _)| of == owner) {
            let (_, default, takes) = defaults.iter().find(|(name, ..)| name == knob).unwrap();
            let default = default
                .as_ref()
                .map_or_else(String::new, |raw| format!("`{raw}`"));
            text.push_str(&format!(
                "| `{knob}` | `LEADPOOL__{}` | {takes} | {default} | {} |\n",
                knob.to_uppercase(),
                cell(doc)
            ));
        }
        text.push('\n');
    }
    text
}

fn variable_table() -> String {
    let mut text = "| variable | what it is |\n|---|---|\n".to_owned();
    for (name, used) in VARIABLES {
        let what = match used {
            Use::Key(key) => match keys::check(key) {
                Ok(()) => format!("`{key}`"),
                Err(error) => format!("an error: {error}"),
            },
            Use::Session(setting) => format!("the session's `{setting}`, added to `options`"),
            Use::Service => match *name {
                "PGSERVICE" => "the service whose keys are read".to_owned(),
                "PGSERVICEFILE" => {
                    "the file that describes services, `~/.pg_service.conf` if not set".to_owned()
                }
                _ => "the folder of `pg_service.conf`, the file for all users".to_owned(),
            },
            Use::Ignored(reason) => format!("passed over: {reason}"),
        };
        text.push_str(&format!("| `{name}` | {what} |\n"));
    }
    text.push('\n');
    text
}

/// Puts what is made between the marks in the page.
fn with_tables(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in [("knobs", knob_tables()), ("variables", variable_table())] {
        let (begin, end) = (
            format!("<!-- {name} -->\n"),
            format!("<!-- end of {name} -->"),
        );
        let start = page
            .find(&begin)
            .unwrap_or_else(|| panic!("{PAGE} has no {begin}"))
            + begin.len();
        let stop = page
            .find(&end)
            .unwrap_or_else(|| panic!("{PAGE} has no {end}"));
        page.replace_range(start..stop, &format!("\n{table}"));
    }
    page
}

#[test]
fn the_manual_has_every_knob_and_every_variable() {
    let page = file(PAGE);
    let made = with_tables(&page);
    if std::env::var_os("LEADPOOL_REWRITE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE), &made).unwrap();
        return;
    }
    for (is, should) in page.lines().zip(made.lines()) {
        assert_eq!(
            is, should,
            "{PAGE} is out of date: LEADPOOL_REWRITE=1 cargo test -p leadpool --lib config::knobs"
        );
    }
    assert_eq!(
        page.lines().count(),
        made.lines().count(),
        "{PAGE} is out of date"
    );
}

#[test]
fn the_manual_has_every_key_of_libpq() {
    let page = file(PAGE);
    for key in LIBPQ {
        assert!(
            page.contains(&format!("\n| `{key}` |")),
            "{key} has no row in {PAGE}"
        );
    }
}
