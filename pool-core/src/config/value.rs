//! The values of settings: how each kind is written in a document, in the environment and in a URL.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{ContestedPolicy, FailoverMode, Recycling, duration};
use crate::{outcome::Proof, topology::Target};

/// What a document says, before it is known what it should be. From the environment and from URLs
/// all is text, so every kind of value is read from text too.
#[derive(Clone, PartialEq)]
pub(super) enum Raw {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A kind of value. `read` tells what was expected; the value itself is put into the error by
/// [`problem`], unless it is a secret.
pub(super) trait Value: Sized {
    /// What it takes, for the manual.
    fn takes() -> String;
    fn read(raw: &Raw) -> Result<Self, String>;
    /// Written so that it is read as the same.
    fn write(&self) -> Raw;
    /// Some values, one of which is nobody's default.
    #[cfg(test)]
    fn samples() -> Vec<Self>;
}

/// The error's text for a value that was not what was expected.
pub(super) fn problem(raw: &Raw, expected: &str) -> String {
    match raw {
        Raw::List(_) => format!("a list: expected {expected}"),
        Raw::Map(_) => format!("a table: expected {expected}"),
        raw => format!("`{raw}`: expected {expected}"),
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Map(pairs) => {
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}={value}", if at == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

macro_rules! counts {
    ($($type:ident),*) => {
        $(impl Value for $type {
            fn takes() -> String {
                "count".to_owned()
            }

            fn read(raw: &Raw) -> Result<Self, String> {
                let number = match raw {
                    Raw::Int(number) => Some(*number),
                    Raw::Text(text) => text.trim().parse().ok(),
                    _ => None,
                };
                let number = number.and_then(|number| Self::try_from(number).ok());
                number.ok_or_else(|| format!("a whole number from 0 to {}", Self::MAX))
            }

            fn write(&self) -> Raw {
                i128::try_from(*self).map_or_else(|_| Raw::Text(self.to_string()), Raw::Int)
            }

            #[cfg(test)]
            fn samples() -> Vec<Self> {
                vec![0, 7, Self::MAX]
            }
        })*
    };
}
counts!(usize, u32, u64);

impl Value for bool {
    fn takes() -> String {
        "`true` or `false`".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = match raw {
            Raw::Bool(value) => return Ok(*value),
            raw => raw.to_string().to_ascii_lowercase(),
        };
        match text.trim() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn write(&self) -> Raw {
        Raw::Bool(*self)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![true, false]
    }
}

impl Value for f64 {
    fn takes() -> String {
        "number".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let number = match raw {
            Raw::Float(number) => Some(*number),
            Raw::Int(_) | Raw::Text(_) => raw.to_string().trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| "a number, as in `0.2`".to_owned())
    }

    fn write(&self) -> Raw {
        Raw::Float(*self)
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![0.0, 0.375, 1e30]
    }
}

impl Value for Duration {
    fn takes() -> String {
        "duration".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let read = match raw {
            Raw::Text(_) | Raw::Int(_) => duration::read(&raw.to_string()),
            Raw::Map(pairs) => parts(pairs),
            _ => None,
        };
        read.ok_or_else(|| duration::EXPECTED.to_owned())
    }

    fn write(&self) -> Raw {
        Raw::Text(duration::write(*self))
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        [0, 1, 1_500_000, 90_000_000_000]
            .map(Self::from_nanos)
            .to_vec()
    }
}

/// `{ secs, nanos }`, as deadpool's files have it.
fn parts(pairs: &[(String, Raw)]) -> Option<Duration> {
    let (mut secs, mut nanos) = (None, 0);
    for (key, value) in pairs {
        match key.as_str() {
            "secs" => secs = Some(u64::read(value).ok()?),
            "nanos" => nanos = u32::read(value).ok()?,
            _ => return None,
        }
    }
    duration::from_parts(secs?, nanos)
}

/// What can be switched off, by the word `off`.
impl<T: Value> Value for Option<T> {
    fn takes() -> String {
        format!("{}, or `off`", T::takes())
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let is_off = match raw {
            Raw::Text(text) => text.trim().eq_ignore_ascii_case("off"),
            _ => false,
        };
        match is_off {
            true => Ok(None),
            false => match T::read(raw) {
                Ok(value) => Ok(Some(value)),
                Err(expected) => Err(format!("{expected}, or `off`")),
            },
        }
    }

    fn write(&self) -> Raw {
        match self {
            Some(value) => value.write(),
            None => Raw::Text("off".to_owned()),
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        T::samples().into_iter().map(Some).chain([None]).collect()
    }
}

impl Value for String {
    fn takes() -> String {
        "text".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) if text.contains('\0') => Err("text without a zero byte".to_owned()),
            Raw::Text(text) => Ok(text.clone()),
            _ => Err("text, in quotes".to_owned()),
        }
    }

    fn write(&self) -> Raw {
        Raw::Text(self.clone())
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        ["", "a b", " =,\\'\"\u{e9}"].map(str::to_owned).to_vec()
    }
}

/// A list, or text with commas between.
impl Value for Vec<String> {
    fn takes() -> String {
        "list, or text with commas".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::List(items) => items.iter().map(String::read).collect(),
            raw => {
                let text = String::read(raw).map_err(|_| Self::takes())?;
                Ok(text.split(',').map(|item| item.trim().to_owned()).collect())
            }
        }
    }

    fn write(&self) -> Raw {
        Raw::List(self.iter().map(Value::write).collect())
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![vec!["a".to_owned(), "b c".to_owned()]]
    }
}

/// A table, or text as `key=value,key=value`.
impl<T: Value> Value for BTreeMap<String, T> {
    fn takes() -> String {
        format!("table of {}, or `key=value,...`", T::takes())
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let pairs = match raw {
            Raw::Map(pairs) => pairs.clone(),
            Raw::Text(text) => {
                let pairs = text.split(',').map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    Some((key.trim().to_owned(), Raw::Text(value.trim().to_owned())))
                });
                pairs.collect::<Option<_>>().ok_or_else(Self::takes)?
            }
            _ => return Err(Self::takes()),
        };
        let mut map = Self::new();
        for (key, value) in pairs {
            let value = T::read(&value).map_err(|expected| format!("for each key {expected}"))?;
            if map.insert(key, value).is_some() {
                return Err("each key once".to_owned());
            }
        }
        Ok(map)
    }

    fn write(&self) -> Raw {
        Raw::Map(
            self.iter()
                .map(|(key, value)| (key.clone(), value.write()))
                .collect(),
        )
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![
            T::samples()
                .into_iter()
                .enumerate()
                .map(|(at, value)| (format!("k{at}"), value))
                .collect(),
        ]
    }
}

/// Kinds that are one of a few words, in capitals or not, with hyphens or underscores.
macro_rules! words {
    ($($type:ty { $($word:literal = $variant:ident),* $(,)? })*) => {
        $(impl Value for $type {
            fn takes() -> String {
                [$(concat!("`", $word, "`")),*].join(", ")
            }

            fn read(raw: &Raw) -> Result<Self, String> {
                let text = match raw {
                    Raw::Text(text) => text.trim().to_ascii_lowercase().replace('_', "-"),
                    _ => String::new(),
                };
                match text.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err([$($word),*].join(", ")),
                }
            }

            fn write(&self) -> Raw {
                Raw::Text(match self { $(Self::$variant => $word),* }.to_owned())
            }

            #[cfg(test)]
            fn samples() -> Vec<Self> {
                vec![$(Self::$variant),*]
            }
        })*
    };
}
words! {
    ContestedPolicy {
        "refuse" = Refuse,
        "stay-with-current" = StayWithCurrent,
    }
    FailoverMode {
        "strict-writer" = StrictWriter,
        "reader-or-writer" = ReaderOrWriter,
        "strict-reader" = StrictReader,
    }
    Proof {
        "strict" = Strict,
        "one-recovery" = OneRecovery,
    }
}

impl Value for Recycling {
    fn takes() -> String {
        "`fast`, `clean`, `verified`, or `own:` and statements".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let expected = || "fast, clean, verified, or own: and statements".to_owned();
        match raw {
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "fast" => Ok(Self::Fast),
                "clean" => Ok(Self::Clean),
                "verified" => Ok(Self::Verified),
                _ => match text.trim_start().split_once(':') {
                    Some((word, sql)) if word.trim_end().eq_ignore_ascii_case("own") => {
                        Ok(Self::Own(sql.trim().to_owned()))
                    }
                    _ => Err(expected()),
                },
            },
            Raw::Map(pairs) => match pairs.as_slice() {
                [(word, Raw::Text(sql))] if word.eq_ignore_ascii_case("own") => {
                    Ok(Self::Own(sql.clone()))
                }
                _ => Err(expected()),
            },
            _ => Err(expected()),
        }
    }

    fn write(&self) -> Raw {
        Raw::Text(match self {
            Self::Fast => "fast".to_owned(),
            Self::Clean => "clean".to_owned(),
            Self::Verified => "verified".to_owned(),
            Self::Own(sql) => format!("own:{sql}"),
        })
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        let own = Self::Own("RESET ALL; SELECT 'a:b'".to_owned());
        vec![Self::Fast, Self::Clean, Self::Verified, own]
    }
}

impl Value for Target {
    fn takes() -> String {
        "as `target_session_attrs`".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = String::read(raw)?;
        text.parse().map_err(|_| {
            "any, read-write, read-only, primary, standby, prefer-standby, prefer-primary or \
             strict-reader"
                .to_owned()
        })
    }

    fn write(&self) -> Raw {
        Raw::Text(self.as_str().to_owned())
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![
            Self::Primary,
            Self::Standby,
            Self::ReadOnly,
            Self::StrictReader,
            Self::Any,
        ]
    }
}
