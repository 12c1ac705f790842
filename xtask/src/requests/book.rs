//! What the clients were told, to be compared with what is in the table.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use super::waits::Waits;

/// How many different texts are kept for a person to read.
const TEXTS: usize = 20;
/// And how much of each.
const LENGTH: usize = 400;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// To write the note of this number.
    Post(u64),
    /// The last notes.
    Get,
}

impl Asked {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Post(_) => Method::Post,
            Self::Get => Method::Get,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Post,
    Get,
}

impl Method {
    pub(crate) const ALL: [Self; 2] = [Self::Post, Self::Get];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Get => "GET",
        }
    }
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Status(u16),
    /// It could not connect, or the connection ended before the answer.
    Broken,
    /// Nothing, until it gave up.
    Silence,
}

impl Answer {
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Broken => "connection error".to_owned(),
            Self::Silence => "no answer".to_owned(),
        }
    }
}

/// What became of the note of one number, as far as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    NotAcknowledged,
    Acknowledged,
}

/// What the clients were told. It holds a byte for each note, and else as much after a day as after
/// a minute.
#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// By number.
    notes: Vec<Note>,
    answers: BTreeMap<(Method, Answer), u64>,
    all: Waits,
    successes: Waits,
    /// Of the answers since the last mark.
    longest: Duration,
    crowded: u64,
    unsent: u64,
    under_way: u64,
    texts: BTreeMap<String, u64>,
}

/// What was told in all.
pub(crate) struct Totals {
    pub(crate) answers: BTreeMap<(Method, Answer), u64>,
    /// Of all answers, those included that never came.
    pub(crate) all: Waits,
    /// Of those with a status of 2xx.
    pub(crate) successes: Waits,
    /// Requests that could not be sent when they were due, since too many were under way.
    pub(crate) crowded: u64,
    /// And those that never were, until a minute after the end.
    pub(crate) unsent: u64,
    /// What the answers that are no successes said, and what the application's log says of them.
    pub(crate) texts: BTreeMap<String, u64>,
}

/// What the table has to say of what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    /// Acknowledged, and not there.
    pub(crate) lost: u64,
    /// There more than once.
    pub(crate) doubled: u64,
    /// There, though its client was told nothing or an error.
    pub(crate) unacknowledged: u64,
    /// There, and nobody has asked for it.
    pub(crate) strange: u64,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins: one that writes gets the next number.
    pub(super) fn ask(&self, method: Method) -> Asked {
        let mut pages = self.pages();
        pages.under_way += 1;
        match method {
            Method::Get => Asked::Get,
            Method::Post => {
                pages.notes.push(Note::NotAcknowledged);
                Asked::Post(pages.notes.len() as u64 - 1)
            }
        }
    }

    /// It ended, so long after it was due.
    pub(super) fn enter(&self, asked: Asked, wait: Duration, answer: Answer) {
        let mut pages = self.pages();
        pages.under_way = pages.under_way.saturating_sub(1);
        *pages.answers.entry((asked.method(), answer)).or_default() += 1;
        pages.all.add(wait);
        pages.longest = pages.longest.max(wait);
        if !answer.is_success() {
            return;
        }
        pages.successes.add(wait);
        if let Asked::Post(number) = asked {
            let note = usize::try_from(number).ok();
            if let Some(note) = note.and_then(|number| pages.notes.get_mut(number)) {
                *note = Note::Acknowledged;
            }
        }
    }

    /// What an answer said that is no success, or the application's log of it.
    pub(super) fn note(&self, what: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        // Without the numbers, which differ each time.
        let text = text.chars().filter(|c| !c.is_ascii_digit()).take(LENGTH);
        let text = format!("{what}: {}", text.collect::<String>());
        let mut pages = self.pages();
        if pages.texts.len() < TEXTS || pages.texts.contains_key(&text) {
            *pages.texts.entry(text).or_default() += 1;
        }
    }

    /// A request is due, and too many are under way.
    pub(super) fn crowded(&self) {
        self.pages().crowded += 1;
    }

    /// So many were due at the end, and had not been sent.
    pub(super) fn unsent(&self, requests: u64) {
        self.pages().unsent += requests;
    }

    /// Forgets the longest wait.
    pub(super) fn mark(&self) {
        self.pages().longest = Duration::ZERO;
    }

    /// The longest wait of the answers since the mark.
    pub(super) fn since_mark(&self) -> Duration {
        self.pages().longest
    }

    /// What the live line shows.
    pub(crate) fn progress(&self) -> String {
        let pages = self.pages();
        let successes = pages.answers.iter();
        let successes = successes.filter(|((_, answer), _)| answer.is_success());
        let successes: u64 = successes.map(|(_, count)| count).sum();
        let others = pages.answers.values().sum::<u64>() - successes;
        format!(
            "{successes} answered 2xx, {others} otherwise | {} under way",
            pages.under_way
        )
    }

    pub(crate) fn totals(&self) -> Totals {
        let pages = self.pages();
        Totals {
            answers: pages.answers.clone(),
            all: pages.all.clone(),
            successes: pages.successes.clone(),
            crowded: pages.crowded,
            unsent: pages.unsent,
            texts: pages.texts.clone(),
        }
    }

    /// How many notes were asked for.
    pub(super) fn notes(&self) -> u64 {
        self.pages().notes.len() as u64
    }

    /// Compares what was told with the table: each number that is there, with how many times.
    pub(super) fn compare(&self, there: impl IntoIterator<Item = (i64, i64)>) -> Verdict {
        let pages = self.pages();
        let acknowledged = pages.notes.iter();
        let acknowledged = acknowledged.filter(|note| **note == Note::Acknowledged);
        let acknowledged = acknowledged.count() as u64;
        let mut verdict = Verdict {
            acknowledged,
            lost: acknowledged,
            ..Verdict::default()
        };
        for (number, times) in there {
            let note = usize::try_from(number).ok();
            match note.and_then(|number| pages.notes.get(number)) {
                Some(Note::Acknowledged) => verdict.lost -= 1,
                Some(Note::NotAcknowledged) => verdict.unacknowledged += 1,
                None => verdict.strange += 1,
            }
            verdict.doubled += u64::from(times > 1);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Four notes, of which the last was answered with 500.
    fn book() -> Book {
        let book = Book::default();
        for status in [201, 201, 201, 500] {
            let asked = book.ask(Method::Post);
            book.enter(asked, MS, Answer::Status(status));
        }
        book
    }

    #[test]
    fn each_acknowledged_note_is_there_once() {
        let verdict = book().compare([(0, 1), (1, 1), (2, 1)]);
        let sound = Verdict {
            acknowledged: 3,
            ..Verdict::default()
        };
        assert_eq!(verdict, sound);
    }

    #[test]
    fn a_lost_note_is_told() {
        assert_eq!(book().compare([(0, 1), (2, 1)]).lost, 1);
        assert_eq!(book().compare([]).lost, 3);
    }

    #[test]
    fn a_doubled_note_is_told_acknowledged_or_not() {
        let verdict = book().compare([(0, 1), (1, 2), (2, 1), (3, 3)]);
        assert_eq!((verdict.doubled, verdict.lost), (2, 0));
    }

    #[test]
    fn a_note_that_is_there_in_spite_of_its_answer_is_told() {
        let verdict = book().compare([(0, 1), (1, 1), (2, 1), (3, 1)]);
        assert_eq!((verdict.unacknowledged, verdict.lost), (1, 0));
    }

    #[test]
    fn notes_that_nobody_asked_for_are_told() {
        let verdict = book().compare([(-1, 1), (0, 1), (1, 1), (2, 1), (4, 1)]);
        assert_eq!((verdict.strange, verdict.lost), (2, 0));
    }

    #[test]
    fn what_is_not_answered_is_not_acknowledged() {
        let book = book();
        let asked = book.ask(Method::Post);
        book.ask(Method::Post);
        book.enter(asked, MS, Answer::Broken);
        assert_eq!(book.compare([(0, 1), (1, 1), (2, 1)]).lost, 0);
        assert_eq!(book.notes(), 6);
    }

    #[test]
    fn each_answer_counts_under_its_method() {
        let book = book();
        let asked = book.ask(Method::Get);
        book.enter(asked, 9 * MS, Answer::Status(503));
        let totals = book.totals();
        let answers: Vec<_> = totals.answers.into_iter().collect();
        let expected = [
            ((Method::Post, Answer::Status(201)), 3),
            ((Method::Post, Answer::Status(500)), 1),
            ((Method::Get, Answer::Status(503)), 1),
        ];
        assert_eq!(answers, expected);
        assert_eq!(book.progress(), "3 answered 2xx, 2 otherwise | 0 under way");
    }

    #[test]
    fn waits_of_all_answers_and_of_successes() {
        let book = book();
        let asked = book.ask(Method::Get);
        book.enter(asked, 400 * MS, Answer::Silence);
        let totals = book.totals();
        assert!(totals.all.max() >= 400 * MS);
        assert!(totals.successes.max() < 2 * MS);
    }

    #[test]
    fn the_longest_wait_is_that_since_the_mark() {
        let book = book();
        let asked = book.ask(Method::Get);
        book.enter(asked, 400 * MS, Answer::Status(200));
        assert_eq!(book.since_mark(), 400 * MS);
        book.mark();
        let asked = book.ask(Method::Get);
        book.enter(asked, 3 * MS, Answer::Status(200));
        assert_eq!(book.since_mark(), 3 * MS);
    }

    #[test]
    fn texts_are_few() {
        let book = Book::default();
        for number in 0..100 {
            book.note("503", &format!("host {number} is gone"));
        }
        assert_eq!(book.totals().texts["503: host  is gone"], 100);
        for number in 1..100 {
            book.note("503", &"a".repeat(number));
        }
        assert_eq!(book.totals().texts.len(), TEXTS);
    }
}
