//! When to break a connection off.

/// Which moment of a message's way.
///
/// ```
/// use leadpool_testkit::{Moment, Trigger};
///
/// let trigger = Trigger::new("COMMIT", Moment::AfterForward);
/// assert_eq!(trigger.moment(), Moment::AfterForward);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment {
    /// The message never reaches the server.
    BeforeForward,
    /// The message reaches the server, and the connection ends at once: whether the server still
    /// answers is not waited for.
    AfterForward,
    /// The server has answered; the answer never reaches the client.
    BeforeAnswer,
    /// The server has answered, and the client is told so; but where the end of the answer should
    /// be (ReadyForQuery) the server says that it shuts down (FATAL, 57P01), and the connection
    /// ends. So a `COMMIT` has its tag, and an error behind it. Nothing else may be under way.
    ShutdownInAnswer,
    /// Of the server's answers so many reach the client whole (each up to its ReadyForQuery, that
    /// to this message's own burst first), and then the client's connection ends. The server's
    /// stays open until the server ends it. Nothing else may be under way.
    AfterAnswers(usize),
    /// The message reaches the server with the first letter of the text changed, so that it is
    /// refused; the connection lives on.
    Garbled,
    /// The message never reaches the server, and the client's connection ends. The server's stays
    /// open, as after a partition that the server has not noticed.
    Stranded,
    /// The message never reaches the server, and nobody is told: both connections stay open and
    /// silent.
    SilentBefore,
    /// The message reaches the server, and from there on both connections are silent.
    SilentAfter,
}

/// Breaks a connection off, or silences it, at a simple query or a prepared statement that contains a text.
///
/// ```
/// use leadpool_testkit::{Moment, Trigger};
///
/// let trigger = Trigger::new("INSERT INTO orders", Moment::BeforeForward);
/// # drop(trigger);
/// ```
#[derive(Clone, Debug)]
pub struct Trigger {
    text: String,
    moment: Moment,
}

impl Trigger {
    /// Waits for that text, and cuts at that moment.
    pub fn new(text: impl Into<String>, moment: Moment) -> Self {
        Self {
            text: text.into(),
            moment,
        }
    }

    /// The moment.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a whole frontend message matches: Query or Parse
    /// ([PostgreSQL documentation, section 55.7](https://www.postgresql.org/docs/current/protocol-message-formats.html)).
    pub(super) fn matches(&self, message: &[u8]) -> bool {
        let text = self.text.as_bytes();
        matches!(message.first(), Some(b'Q' | b'P'))
            && !text.is_empty()
            && message.windows(text.len()).any(|window| window == text)
    }
}

/// Changes the first letter of the text where it first stands.
pub(super) fn garble(bytes: &mut [u8], text: &str) {
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    if let Some(letter) = at.and_then(|at| bytes.get_mut(at)) {
        *letter = b'?';
    }
}

/// Cuts a client's stream into messages, or a server's from the first answer on.
#[derive(Debug, Default)]
pub(super) struct Messages {
    buffer: Vec<u8>,
    started: bool,
}

impl Messages {
    /// Of a session that has begun.
    pub(super) fn of_session() -> Self {
        Self {
            buffer: Vec::new(),
            started: true,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. The first ones of a connection (start-up, TLS request) have no
    /// type byte.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let header = usize::from(self.started);
        let length: [u8; 4] = self.buffer.get(header..header + 4)?.try_into().ok()?;
        let total = header + usize::try_from(u32::from_be_bytes(length)).ok()?.max(4);
        if self.buffer.len() < total {
            return None;
        }
        let message: Vec<u8> = self.buffer.drain(..total).collect();
        // TLS and GSSAPI requests (80877103, 80877104) are answered by one byte, and the start-up
        // message still comes.
        let request = message
            .get(4..8)
            .map(|code| code.starts_with(&[0x04, 0xd2, 0x16]));
        if !self.started && request != Some(true) {
            self.started = true;
        }
        Some(message)
    }
}

/// What a server says when it is shut down
/// ([PostgreSQL documentation, section 55.8](https://www.postgresql.org/docs/current/protocol-error-fields.html)).
pub(super) fn shutdown() -> Vec<u8> {
    let fields = b"SFATAL\0VFATAL\0C57P01\0\
                   Mterminating connection due to administrator command\0\0";
    let mut message = vec![b'E'];
    message.extend((u32::try_from(fields.len()).unwrap_or_default() + 4).to_be_bytes());
    message.extend(fields);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn messages_are_cut_wherever_the_chunks_end() {
        let mut stream = vec![0, 0, 0, 8, 0, 3, 0, 0];
        stream.extend(message(b'Q', b"BEGIN\0"));
        stream.extend(message(b'Q', b"COMMIT\0"));
        for chunk in 1..stream.len() {
            let mut messages = Messages::default();
            let mut found = Vec::new();
            for part in stream.chunks(chunk) {
                messages.push(part);
                while let Some(message) = messages.next() {
                    found.push(message);
                }
            }
            assert_eq!(found.len(), 3, "chunks of {chunk}");
            let trigger = Trigger::new("COMMIT", Moment::AfterForward);
            assert!(!trigger.matches(&found[1]));
            assert!(trigger.matches(&found[2]));
        }
    }
}
