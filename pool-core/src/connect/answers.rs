//! What a server answers, noted in the stream of its bytes.
//!
//! Some drivers keep to themselves with which SQLSTATE a statement failed, or whether COMMIT was
//! answered. Where the connection is leadpool's own, both can be read along.

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// How many errors are kept: those of a transaction in which several statements failed.
const KEPT: usize = 8;
/// How much of an error is read: its code comes before its message, and that before all else.
const OF_ERROR: usize = 4_096;
/// How much of a command's tag is read: enough to tell `COMMIT` from what begins with it.
const OF_TAG: usize = 16;
const LETTER_AND_LENGTH: usize = 5;

/// What the server has answered on one connection: its last errors, and how often it has
/// committed.
///
/// ```no_run
/// # async fn f(connection: leadpool::adapter::Connection) {
/// use leadpool::adapter::Answers;
///
/// let answers: &Answers = &connection.answers;
/// let error = connection.client.batch_execute("SELECT 1/0").await.unwrap_err();
/// assert_eq!(answers.sqlstate("division by zero").as_deref(), Some("22012"));
/// # }
/// ```
#[derive(Default)]
pub struct Answers {
    /// Every `COMMIT` that was answered with that tag.
    commits: AtomicU64,
    is_noted: AtomicBool,
    is_plain: AtomicBool,
    /// Of each its SQLSTATE, and a hash of its message; the newest last.
    errors: Mutex<VecDeque<(String, Option<u64>)>>,
    hashes: RandomState,
}

impl Answers {
    /// The SQLSTATE of the last error that had this message. It is the server's whole message
    /// (field `M`), as drivers pass it on.
    #[must_use]
    pub fn sqlstate(&self, message: &str) -> Option<String> {
        let hash = Some(self.hashes.hash_one(message.as_bytes()));
        let errors = self.lock();
        let found = errors.iter().rev().find(|(_, of)| *of == hash);
        found.map(|(code, _)| code.clone())
    }

    /// The SQLSTATE of the last error.
    #[must_use]
    pub fn last_sqlstate(&self) -> Option<String> {
        self.lock().back().map(|(code, _)| code.clone())
    }

    /// How often `COMMIT` was answered with `COMMIT`, and not with `ROLLBACK` or an error.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Whether there is anything to be read here: not on a Unix socket, over which the driver reads
    /// by itself.
    #[must_use]
    pub fn are_noted(&self) -> bool {
        self.is_noted.load(Ordering::Acquire)
    }

    /// Whether the connection is not encrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_plain.load(Ordering::Acquire)
    }

    /// They are going to be read of this stream.
    pub(super) fn note_stream(&self, is_plain: bool) {
        self.is_plain.store(is_plain, Ordering::Release);
        self.is_noted.store(true, Ordering::Release);
    }

    fn note_error(&self, fields: &[u8]) {
        let Some(code) = field(fields, b'C') else {
            return;
        };
        let hash = field(fields, b'M').map(|message| self.hashes.hash_one(message));
        let mut errors = self.lock();
        if errors.len() == KEPT {
            errors.pop_front();
        }
        errors.push_back((String::from_utf8_lossy(code).into_owned(), hash));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Option<u64>)>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("last", &self.last_sqlstate())
            .field("commits", &self.commits())
            .finish_non_exhaustive()
    }
}

/// A field of an error: each is a letter and a text that ends with a zero
/// ([PostgreSQL documentation, section 55.8](https://www.postgresql.org/docs/current/protocol-error-fields.html)).
/// `None` if it is not there, or not to its end.
fn field(mut fields: &[u8], letter: u8) -> Option<&[u8]> {
    loop {
        let (&of, rest) = fields.split_first().filter(|(of, _)| **of != 0)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        if of == letter {
            return Some(&rest[..end]);
        }
        fields = &rest[end + 1..];
    }
}

/// Reads along.
///
/// Each message is a letter, a length that counts itself (4 bytes), and a body
/// ([PostgreSQL documentation, section 55.7](https://www.postgresql.org/docs/current/protocol-message-formats.html)).
#[derive(Debug)]
pub(super) struct AnswerReader {
    answers: Arc<Answers>,
    /// The beginning of the message under way.
    head: Vec<u8>,
    /// How many bytes of its rest are to come.
    skip: usize,
    /// What came is no message: the driver is going to say so.
    is_lost: bool,
}

impl AnswerReader {
    pub(super) fn new(answers: Arc<Answers>) -> Self {
        Self {
            answers,
            head: Vec::new(),
            skip: 0,
            is_lost: false,
        }
    }

    /// Takes in what the server has sent, in whatever pieces.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_lost {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            bytes = self.fill(bytes, LETTER_AND_LENGTH);
            let Some(body) = self.body() else {
                continue;
            };
            let most = match self.head[0] {
                b'E' => OF_ERROR,
                b'C' => OF_TAG,
                _ => 0,
            };
            let wanted = LETTER_AND_LENGTH + body.min(most);
            bytes = self.fill(bytes, wanted);
            if self.head.len() == wanted {
                self.note();
                self.skip = body - body.min(most);
                self.head.clear();
            }
        }
    }

    /// Adds to the head until it has as many bytes; says what is left.
    fn fill<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let missing = wanted.saturating_sub(self.head.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.head.extend_from_slice(taken);
        rest
    }

    /// How long the body of the message is, once its length is there.
    fn body(&mut self) -> Option<usize> {
        let length = self.head.get(1..LETTER_AND_LENGTH)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let body = usize::try_from(length)
            .ok()
            .and_then(|all| all.checked_sub(4));
        self.is_lost = body.is_none();
        body
    }

    fn note(&self) {
        let body = &self.head[LETTER_AND_LENGTH..];
        match self.head[0] {
            b'E' => self.answers.note_error(body),
            b'C' if body == b"COMMIT\0" => {
                self.answers.commits.fetch_add(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[letter], length.to_be_bytes().as_slice(), body].concat()
    }

    fn error(code: &str, message_text: &str) -> Vec<u8> {
        let fields = format!("SFEHLER\0VERROR\0C{code}\0M{message_text}\0Fa.c\0\0");
        message(b'E', fields.as_bytes())
    }

    fn read(bytes: &[u8], cuts: &[usize]) -> Arc<Answers> {
        let answers = Arc::new(Answers::default());
        let mut reader = AnswerReader::new(answers.clone());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            reader.take(&bytes[piece[0]..piece[1]]);
        }
        answers
    }

    fn session() -> Vec<u8> {
        [
            message(b'R', &[0; 4]),
            message(b'Z', b"I"),
            error("40P01", "deadlock detected"),
            message(b'D', &[b'E'; 300]),
            error("25P02", "current transaction is aborted"),
            message(b'C', b"COMMIT\0"),
            message(b'C', b"COMMIT PREPARED\0"),
            message(b'C', b"ROLLBACK\0"),
            message(b'1', b""),
            message(b'C', b"COMMIT\0"),
        ]
        .concat()
    }

    proptest! {
        #[test]
        fn in_whatever_pieces(cuts: Vec<usize>) {
            let answers = read(&session(), &cuts);
            prop_assert_eq!(answers.commits(), 2);
            prop_assert_eq!(answers.sqlstate("deadlock detected"), Some("40P01".to_owned()));
            prop_assert_eq!(answers.last_sqlstate(), Some("25P02".to_owned()));
            prop_assert_eq!(answers.sqlstate("nothing of the kind"), None);
        }

        #[test]
        fn whatever_comes(bytes: Vec<u8>, cuts: Vec<usize>) {
            read(&bytes, &cuts);
        }
    }

    #[test]
    fn an_error_of_any_length() {
        let long = "x".repeat(3 * OF_ERROR);
        let answers = read(&[error("P0001", &long), error("22012", "b")].concat(), &[]);
        assert_eq!(answers.sqlstate("b").as_deref(), Some("22012"));
        assert_eq!(answers.sqlstate(&long), None);
        let answers = read(&error("P0001", &long), &[]);
        assert_eq!(answers.last_sqlstate().as_deref(), Some("P0001"));
    }

    #[test]
    fn the_last_ones_are_kept() {
        let many: Vec<u8> = (0..20)
            .flat_map(|n| error(&format!("{n:05}"), &n.to_string()))
            .collect();
        let answers = read(&many, &[]);
        assert_eq!(answers.sqlstate("19").as_deref(), Some("00019"));
        assert_eq!(answers.sqlstate("11"), None);
    }

    #[test]
    fn the_same_text_has_its_last_code() {
        let answers = read(&[error("00001", "a"), error("00002", "a")].concat(), &[]);
        assert_eq!(answers.sqlstate("a").as_deref(), Some("00002"));
    }
}
