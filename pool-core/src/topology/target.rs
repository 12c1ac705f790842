//! What a checkout asks for.

use std::{fmt, str::FromStr};

/// What a checkout asks for: the values of libpq's `target_session_attrs`
/// ([PostgreSQL documentation, section 34.1.2][libpq]).
///
/// One of them is stricter than libpq's: leadpool hands out a writer only when it accepts writes,
/// so `primary` asks for the same as `read-write`, and a primary with
/// `default_transaction_read_only = on` serves neither. The failover modes of the AWS drivers are
/// targets too: see [`FailoverMode`].
///
/// ```
/// use leadpool::Target;
///
/// let target: Target = "prefer-standby".parse()?;
/// assert_eq!(target, Target::PreferStandby);
/// assert_eq!(target.to_string(), "prefer-standby");
/// # Ok::<(), leadpool::config::UnknownTarget>(())
/// ```
///
/// [libpq]: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The writer, and nothing else: waits for one while there is none.
    #[default]
    Primary,
    /// A standby, and nothing else: waits for one while there is none.
    Standby,
    /// A host that refuses writes: a standby, or a primary that was closed for writes.
    ReadOnly,
    /// A standby; the writer only in a cluster of one host. Else it waits for a standby while there
    /// is none: the strict reader of the AWS drivers.
    StrictReader,
    /// The writer; a standby while there is no writer.
    PreferPrimary,
    /// A standby; the writer while no standby is usable.
    PreferStandby,
    /// Any usable host, standbys first.
    Any,
}

impl Target {
    /// The value as libpq spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::ReadOnly => "read-only",
            Self::StrictReader => "strict-reader",
            Self::PreferPrimary => "prefer-primary",
            Self::PreferStandby => "prefer-standby",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    /// Accepts libpq's six values (`any`, `read-write`, `read-only`, `primary`, `standby`,
    /// `prefer-standby`) and leadpool's own `prefer-primary` and `strict-reader`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s {
            "any" => Self::Any,
            "read-write" | "primary" => Self::Primary,
            "standby" => Self::Standby,
            "read-only" => Self::ReadOnly,
            "strict-reader" => Self::StrictReader,
            "prefer-standby" => Self::PreferStandby,
            "prefer-primary" => Self::PreferPrimary,
            _ => return Err(UnknownTarget),
        })
    }
}

/// The failover modes of the AWS drivers (`FailoverMode`, `failover_mode`): which hosts a pool
/// fails over to.
///
/// ```
/// use leadpool::{Target, config::FailoverMode};
///
/// let mode: FailoverMode = "READER_OR_WRITER".parse()?;
/// assert_eq!(Target::from(mode), Target::PreferStandby);
/// # Ok::<(), leadpool::config::UnknownTarget>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailoverMode {
    /// Follows the writer, and fails if there is none in time.
    StrictWriter,
    /// Any usable reader, else the writer.
    ReaderOrWriter,
    /// Readers only; the writer only in a cluster of one host.
    StrictReader,
}

impl From<FailoverMode> for Target {
    fn from(mode: FailoverMode) -> Self {
        match mode {
            FailoverMode::StrictWriter => Self::Primary,
            FailoverMode::ReaderOrWriter => Self::PreferStandby,
            FailoverMode::StrictReader => Self::StrictReader,
        }
    }
}

impl FromStr for FailoverMode {
    type Err = UnknownTarget;

    /// Accepts the drivers' spellings, in capitals or not, with `_` or `-`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s.to_ascii_lowercase().replace('-', "_").as_str() {
            "strict_writer" => Self::StrictWriter,
            "reader_or_writer" => Self::ReaderOrWriter,
            "strict_reader" => Self::StrictReader,
            _ => return Err(UnknownTarget),
        })
    }
}

/// A text that names no [`Target`].
///
/// ```
/// use leadpool::Target;
///
/// assert!("writer".parse::<Target>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected any, read-write, read-only, primary, standby, prefer-standby, prefer-primary or \
     strict-reader"
)]
#[non_exhaustive]
pub struct UnknownTarget;
