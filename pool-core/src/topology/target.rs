//! What a checkout asks for.

use std::{fmt, str::FromStr};

/// What a checkout asks for: the values of libpq's `target_session_attrs`
/// ([PostgreSQL documentation, section 34.1.2][libpq]).
///
/// leadpool hands out a writer only when it is a primary that accepts writes, so `read-write`
/// and `primary` ask for the same thing; likewise `read-only` and `standby`.
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
    /// `prefer-standby`) and leadpool's own `prefer-primary`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s {
            "any" => Self::Any,
            "read-write" | "primary" => Self::Primary,
            "read-only" | "standby" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            "prefer-primary" => Self::PreferPrimary,
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
#[error("expected any, read-write, read-only, primary, standby, prefer-standby or prefer-primary")]
#[non_exhaustive]
pub struct UnknownTarget;
