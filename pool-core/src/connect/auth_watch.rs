//! What a server asks for before it lets anybody in, watched in the stream of its bytes.
//!
//! The driver answers every request that it understands; it can't be told to refuse one. So the
//! bytes of its stream are read along: a request that is not allowed ends the stream before the
//! driver has seen it, and nothing is answered.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::answers::{AnswerReader, Answers};
use crate::credentials::{AuthMethod, AuthRefused, RequireAuth};

/// Reads along until the server lets the client in.
///
/// Each message is a letter, a length that counts itself (4 bytes), and a body; that of a request
/// to log in (`R`) begins with the number of the method
/// ([PostgreSQL documentation, section 55.7](https://www.postgresql.org/docs/current/protocol-message-formats.html)).
#[derive(Debug)]
pub(super) struct AuthWatch {
    allowed: RequireAuth,
    /// The beginning of the message under way: up to the method, as far as it has come.
    head: Vec<u8>,
    /// How many bytes of its rest are to come.
    skip: usize,
    /// Whether the server has asked for anything.
    asked: bool,
}

/// What the bytes so far say.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    More,
    /// The client is in: what follows is of no interest.
    LetIn,
}

const LETTER_AND_LENGTH: usize = 5;
const WITH_METHOD: usize = 9;

impl AuthWatch {
    pub(super) fn new(allowed: RequireAuth) -> Self {
        Self {
            allowed,
            head: Vec::with_capacity(WITH_METHOD),
            skip: 0,
            asked: false,
        }
    }

    /// Takes in what the server has sent, in whatever pieces.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<Seen> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = match self.head.first() {
                Some(b'R') => WITH_METHOD,
                _ => LETTER_AND_LENGTH,
            };
            // The letter decides how much is wanted.
            let wanted = if self.head.is_empty() { 1 } else { wanted };
            let taken = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.head.len() < wanted || wanted == 1 {
                continue;
            }
            if self.message()? == Seen::LetIn {
                return Ok(Seen::LetIn);
            }
        }
        Ok(Seen::More)
    }

    /// Judges the message whose beginning is there.
    fn message(&mut self) -> io::Result<Seen> {
        let number = |at: usize| {
            let bytes = self.head.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let method = number(LETTER_AND_LENGTH);
        // Without the letter, which the length does not count.
        let length = number(1).and_then(|length| usize::try_from(length).ok());
        self.skip = length
            .and_then(|length| length.checked_add(1)?.checked_sub(self.head.len()))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "no message is that short")
            })?;
        self.head.clear();
        match method {
            Some(method) => self.request(method),
            None => Ok(Seen::More),
        }
    }

    fn request(&mut self, method: u32) -> io::Result<Seen> {
        let asked = match method {
            0 if self.asked => return Ok(Seen::LetIn),
            0 => AuthMethod::None,
            3 => AuthMethod::Password,
            5 => AuthMethod::Md5,
            6 => AuthMethod::Creds,
            // The request, and how it goes on.
            7 | 8 => AuthMethod::Gss,
            9 => AuthMethod::Sspi,
            // Of the mechanisms that are offered the driver takes SCRAM, or none.
            10..=12 => AuthMethod::ScramSha256,
            _ => AuthMethod::Unknown,
        };
        if !self.allowed.allows(asked) {
            let refused = AuthRefused::new(asked, self.allowed.clone());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
        }
        self.asked = true;
        match asked {
            AuthMethod::None => Ok(Seen::LetIn),
            _ => Ok(Seen::More),
        }
    }
}

/// A stream whose server is watched until it lets the client in, and whose answers are read along.
#[derive(Debug)]
#[expect(unnameable_types, reason = "the driver's trait makes it public")]
pub struct Watched<S> {
    stream: S,
    watch: Option<AuthWatch>,
    answers: Option<AnswerReader>,
}

impl<S> Watched<S> {
    /// Watches a stream from its first byte on, and notes its answers; with `None` it is only
    /// passed through.
    pub(super) fn new(
        stream: S,
        allowed: Option<RequireAuth>,
        answers: Option<Arc<Answers>>,
    ) -> Self {
        Self {
            stream,
            watch: allowed.map(AuthWatch::new),
            answers: answers.map(AnswerReader::new),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let (Poll::Ready(Ok(())), Some(answers)) = (&polled, &mut this.answers) {
            answers.take(&buf.filled()[before..]);
        }
        if let (Poll::Ready(Ok(())), Some(watch)) = (&polled, &mut this.watch) {
            match watch.take(&buf.filled()[before..]) {
                Ok(Seen::More) => {}
                Ok(Seen::LetIn) => this.watch = None,
                Err(refused) => {
                    // The driver must not see the request: it would answer.
                    buf.set_filled(before);
                    return Poll::Ready(Err(refused));
                }
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

#[cfg(test)]
mod tests;
