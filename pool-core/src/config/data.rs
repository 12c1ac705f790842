//! A configuration as data: from a file, from the environment, from other sources that serde reads.

mod document;
mod own;

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    Config, ConfigBuilder, ConfigError, ContestedPolicy, FailoverMode, Recycling, check, conninfo,
    keys,
    knobs::{every_knob, is_secret, libpq_unit},
    value::{Raw, Value, problem},
};
use crate::{outcome::Proof, topology::Target};

macro_rules! settings {
    (
        libpq { $($key:ident),* $(,)? }
        settings { $($group:ident: $settings:ident { $($name:ident: $type:ty),* $(,)? })* }
        own { $($own:ident: $own_type:ty, [$owner:ident::$item:ident] => $apply:expr;)* }
    ) => {
        /// Everything that can be set, as data that may come from anywhere: a file, the
        /// environment, a secret store. Every field may be left out.
        ///
        /// Names and units are the builder's. How durations, lists and tables are written, which
        /// source counts more than another, and the tables of all keys: see
        /// [the manual](crate::manual::configuration).
        ///
        /// Reading it with serde finds no mistakes: [`build`](Self::build) tells of them, as of
        /// those that the fields make together, with an error that names the key. So no error of a
        /// file format can show the line that holds a password.
        ///
        /// Passwords show neither in `Debug` nor when it is written with serde: there `password`
        /// is left out, and so is a `url` that holds one.
        ///
        /// ```
        /// use leadpool::config::Settings;
        ///
        /// let settings: Settings = toml::from_str(
        ///     r#"
        ///     url = "postgres://app@db1,db2/shop"
        ///     writer_size = 32
        ///     checkout_timeout = "10s"
        ///     max_lag = "off"
        ///     "#,
        /// )?;
        /// let config = settings.build()?;
        /// assert_eq!(config.pool().writer_size, 32);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct Settings {
            /// A connection string, as [`Config::from_url`] takes it. Where a field says something
            /// else, the field counts; one for `host` or `hostaddr` replaces all of its hosts,
            /// addresses and ports.
            pub url: Option<String>,
            $(
                #[doc = concat!("libpq's `", stringify!($key), "`, as in a connection string.")]
                pub $key: Option<String>,
            )*
            $($(
                #[doc = concat!("[`", stringify!($name), "`](crate::config::", stringify!($settings), "::", stringify!($name), ").")]
                pub $name: Option<$type>,
            )*)*
            $(
                #[doc = concat!("[`", stringify!($own), "`](crate::config::", stringify!($owner), "::", stringify!($item), ").")]
                pub $own: Option<$own_type>,
            )*
            /// The first mistake in what it was read from.
            pub(super) mistake: Option<ConfigError>,
            /// Which variable each key was read from, for errors.
            pub(super) variables: BTreeMap<String, String>,
        }

        impl Settings {
            /// Reads one key.
            pub(super) fn set(&mut self, key: &str, raw: &Raw) -> Result<(), ConfigError> {
                let raw = &with_unit(key, raw);
                if key == "url" {
                    return once(&mut self.url, key, text(key, raw)?);
                }
                $(if key == stringify!($key) {
                    return once(&mut self.$key, key, text(key, raw)?);
                })*
                $($(if key == stringify!($name) {
                    return once(&mut self.$name, key, read(key, raw)?);
                })*)*
                $(if key == stringify!($own) {
                    return once(&mut self.$own, key, read(key, raw)?);
                })*
                Err(keys::refuse(key))
            }

            /// What is given, with its key.
            pub(super) fn given(&self) -> Vec<(&'static str, Raw)> {
                let mut given = Vec::new();
                let mut add = |key, value: Option<Raw>| given.extend(value.map(|raw| (key, raw)));
                add("url", self.url.as_ref().map(Value::write));
                $(add(stringify!($key), self.$key.as_ref().map(Value::write));)*
                $($(add(stringify!($name), self.$name.as_ref().map(Value::write));)*)*
                $(add(stringify!($own), self.$own.as_ref().map(Value::write));)*
                given
            }

            /// libpq's keys, as a connection string would have them.
            fn libpq(&self) -> Vec<(&'static str, &str)> {
                let mut pairs = Vec::new();
                $(pairs.extend(self.$key.as_deref().map(|value| (stringify!($key), value)));)*
                pairs
            }

            /// Sets the knobs that are given.
            pub(super) fn apply(self, mut to: ConfigBuilder) -> ConfigBuilder {
                $($(if let Some(value) = self.$name {
                    to = to.$name(value);
                })*)*
                $(if let Some(value) = self.$own {
                    to = set(to, value, $apply);
                })*
                to
            }

            fn forget(&mut self, key: &str) {
                $(if key == stringify!($key) {
                    self.$key = None;
                })*
                $($(if key == stringify!($name) {
                    self.$name = None;
                })*)*
                $(if key == stringify!($own) {
                    self.$own = None;
                })*
            }

            /// What the other gives counts more.
            pub(super) fn override_with(&mut self, other: Self) {
                // Its connection string too, which is below the fields of one and the same source.
                for key in other.keys_of_url() {
                    self.forget(&key);
                }
                let Self { mistake, variables, url, $($key,)* $($($name,)*)* $($own,)* } = other;
                self.url = url.or(self.url.take());
                $(self.$key = $key.or(self.$key.take());)*
                $($(self.$name = $name.or(self.$name.take());)*)*
                $(self.$own = $own.or(self.$own.take());)*
                self.variables.extend(variables);
                self.mistake = self.mistake.take().or(mistake);
            }

            /// Each knob by itself: a document, and the method of the builder.
            #[cfg(test)]
            fn check_each(check: fn(&'static str, Raw, &ConfigBuilder)) {
                $($(for value in <$type as Value>::samples() {
                    let raw = value.write();
                    let made = Config::builder("host=db1").$name(value);
                    check(stringify!($name), raw, &made);
                })*)*
            }

            /// What each knob is without a word, and what it takes.
            #[cfg(test)]
            pub(super) fn defaults() -> Vec<(&'static str, Option<Raw>, String)> {
                let builder = Config::builder("host=db1");
                vec![
                    $($((
                        stringify!($name),
                        Some(builder.$group.$name.write()),
                        <$type as Value>::takes(),
                    ),)*)*
                    $((stringify!($own), own::default_of(&builder, stringify!($own)), <$own_type as Value>::takes()),)*
                ]
            }
        }
    };
}
every_knob!(settings);

/// What says together which hosts there are.
const HOSTS: [&str; 3] = ["host", "hostaddr", "port"];

impl Settings {
    /// Checks everything.
    ///
    /// # Errors
    ///
    /// The first mistake found; it names the key, or the variable of the environment that the
    /// value came from, and never the value of a secret.
    pub fn build(mut self) -> Result<Config, ConfigError> {
        let variables = std::mem::take(&mut self.variables);
        let built = self.builder().build();
        built.map_err(|error| error.of_variable(|key| variables.get(key).cloned()))
    }

    /// A builder with these settings, which lets more be set in code. A mistake is told by
    /// [`ConfigBuilder::build`].
    ///
    /// ```
    /// use leadpool::{config::Settings, routing::LowestLag};
    ///
    /// let mut settings = Settings::default();
    /// settings.url = Some("postgres://app@db1,db2/shop".to_owned());
    /// let config = settings.builder().reader_strategy(LowestLag::new()).build()?;
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    pub fn builder(mut self) -> ConfigBuilder {
        let mut builder = ConfigBuilder::new("");
        let read = match self.mistake.take() {
            Some(mistake) => Err(mistake),
            None => self.pairs().and_then(|pairs| builder.read_pairs(pairs)),
        };
        builder.mistake = read.err();
        self.apply(builder)
    }

    /// What the connection string says something of. Hosts, addresses and ports go together. Of
    /// one that can't be read, nothing: `build` tells of it.
    pub(super) fn keys_of_url(&self) -> Vec<String> {
        let pairs = conninfo::parse(self.url.as_deref().unwrap_or_default(), keys::check);
        let mut keys: Vec<String> = pairs.into_iter().flatten().map(|(key, _)| key).collect();
        if keys.iter().any(|key| HOSTS.contains(&key.as_str())) {
            keys.extend(HOSTS.map(str::to_owned));
        }
        keys
    }

    /// What the connection string says, and what the fields say instead.
    fn pairs(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let given = self.given();
        check::rivals(|key| given.iter().any(|(known, _)| *known == key))?;
        let mut pairs = match &self.url {
            Some(url) => conninfo::parse(url, keys::check)?,
            None => Vec::new(),
        };
        check::rivals(|key| pairs.iter().any(|(known, _)| known == key))?;
        if self.host.is_some() || self.hostaddr.is_some() {
            pairs.retain(|(key, _)| !HOSTS.contains(&key.as_str()));
        }
        for (key, value) in self.libpq() {
            if value.contains('\0') {
                return Err(ConfigError::invalid(key, "can't hold a zero byte"));
            }
            pairs.retain(|(known, _)| known != key);
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(pairs)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_struct("Settings");
        for (key, raw) in self.given() {
            match is_secret(key) {
                true => map.field(key, &format_args!("***")),
                false => map.field(key, &format_args!("{raw}")),
            };
        }
        if let Some(mistake) = &self.mistake {
            map.field("mistake", mistake);
        }
        map.finish_non_exhaustive()
    }
}

/// So that closures of the list know their types.
fn set<T>(
    to: ConfigBuilder,
    value: T,
    apply: impl FnOnce(ConfigBuilder, T) -> ConfigBuilder,
) -> ConfigBuilder {
    apply(to, value)
}

/// Each key once.
fn once<T>(field: &mut Option<T>, key: &str, value: T) -> Result<(), ConfigError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(ConfigError::DuplicateKey {
            key: key.to_owned(),
        }),
    }
}

/// A number without a unit means libpq's own under libpq's own keys.
fn with_unit(key: &str, raw: &Raw) -> Raw {
    match (libpq_unit(key), raw) {
        (Some(unit), Raw::Int(number)) if *number >= 0 => Raw::Text(format!("{number}{unit}")),
        (Some(unit), Raw::Text(text))
            if !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit()) =>
        {
            Raw::Text(format!("{}{unit}", text.trim()))
        }
        _ => raw.clone(),
    }
}

fn read<T: Value>(key: &str, raw: &Raw) -> Result<T, ConfigError> {
    T::read(raw).map_err(|expected| ConfigError::invalid(key, problem(raw, &expected)))
}

/// The value of one of libpq's keys, as a connection string would have it.
fn text(key: &str, raw: &Raw) -> Result<String, ConfigError> {
    let refused = |problem: String| Err(ConfigError::invalid(key, problem));
    if is_secret(key) {
        return String::read(raw)
            .or_else(|_| refused("expected text, in quotes, without a zero byte".to_owned()));
    }
    if let Some(unit) = libpq_unit(key) {
        let time: Duration = read(key, raw)?;
        let (count, rest) = match unit {
            "ms" => (time.as_millis(), time.as_nanos() % 1_000_000),
            _ => (time.as_secs().into(), time.subsec_nanos().into()),
        };
        return match rest {
            0 => Ok(count.to_string()),
            _ => refused(format!("`{raw}`: expected whole {unit}, as in libpq")),
        };
    }
    match raw {
        Raw::Text(_) => read(key, raw),
        Raw::Int(number) => Ok(number.to_string()),
        Raw::Bool(switch) => Ok(u8::from(*switch).to_string()),
        Raw::List(items) => {
            let items = items.iter().map(|item| match text(key, item)? {
                item if item.contains(',') => refused(format!("`{item}`: expected one in each")),
                item => Ok(item),
            });
            let items: Vec<String> = items.collect::<Result<_, _>>()?;
            Ok(items.join(","))
        }
        Raw::Float(_) | Raw::Map(_) => refused(problem(raw, "text, in quotes")),
    }
}

#[cfg(test)]
mod tests;
