//! Who serves a read that must have seen something.

use std::fmt;

use super::Standing;

/// Who served a consistent read, and what became of its token.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool, token: leadpool::consistency::ConsistencyToken)
/// # -> Result<(), leadpool::Error> {
/// use std::time::Duration;
/// use leadpool::consistency::Standing;
///
/// let (client, served) = pool.timeout_reader_at(&token, Duration::from_secs(2)).await?;
/// if served.standing == Standing::Lost {
///     eprintln!("what you wrote was lost in a failover; this is what there is");
/// }
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Who served it.
    pub by: ServedBy,
    /// What became of the token, as far as this application has seen.
    pub standing: Standing,
}

impl Served {
    pub(crate) fn new(by: ServedBy, standing: Standing) -> Self {
        Self { by, standing }
    }
}

/// Who served a consistent read.
///
/// ```
/// assert_eq!(leadpool::consistency::ServedBy::Waited.to_string(), "waited");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServedBy {
    /// A standby that was known to have replayed the position.
    Standby,
    /// A standby that was asked or waited for.
    Waited,
    /// The writer.
    Writer,
}

impl ServedBy {
    /// As metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Waited => "waited",
            Self::Writer => "writer",
        }
    }
}

impl fmt::Display for ServedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
