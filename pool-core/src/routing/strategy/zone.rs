//! By availability zone.

use std::sync::Arc;

use super::{Lookup, ReaderStrategy, Readers};
use crate::topology::HostView;

/// Prefers readers in one availability zone; another strategy picks among them. While none is
/// there, it picks among all.
///
/// Zones come from the configuration
/// ([`host_zone`](crate::config::ConfigBuilder::host_zone)) or from discovery.
///
/// ```
/// use leadpool::{Config, HostAddr, routing::{LeastConnections, ZoneAffinity}};
///
/// let config = Config::builder("postgres://db1,db2,db3/shop")
///     .host_zone(HostAddr::new("db2", 5432), "eu-west-1a")
///     .reader_strategy(ZoneAffinity::new("eu-west-1a", LeastConnections::new()))
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ZoneAffinity<S> {
    zone: Arc<str>,
    within: S,
}

impl<S: ReaderStrategy> ZoneAffinity<S> {
    /// Prefers readers in `zone`, and picks `within` them.
    #[must_use]
    pub fn new(zone: impl AsRef<str>, within: S) -> Self {
        Self {
            zone: zone.as_ref().into(),
            within,
        }
    }
}

impl<S: ReaderStrategy> ReaderStrategy for ZoneAffinity<S> {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let near = Near {
            readers,
            zone: &self.zone,
        };
        match near.len() {
            0 => self.within.pick(readers),
            count => {
                let picked = self.within.pick(&Readers::new(&near)).min(count - 1);
                near.place(picked).unwrap_or_default()
            }
        }
    }
}

/// The readers of one zone. Counted anew each time: there are few, and nothing is allocated.
struct Near<'a> {
    readers: &'a Readers<'a>,
    zone: &'a str,
}

impl Near<'_> {
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.readers.len()).filter(|at| {
            let zone = self.readers.host(*at).and_then(|host| host.zone.as_deref());
            zone == Some(self.zone)
        })
    }

    fn place(&self, nth: usize) -> Option<usize> {
        self.places().nth(nth)
    }
}

impl Lookup for Near<'_> {
    fn len(&self) -> usize {
        self.places().count()
    }

    fn host(&self, at: usize) -> Option<&HostView> {
        self.readers.host(self.place(at)?)
    }

    fn in_use(&self, at: usize) -> usize {
        self.place(at).map_or(0, |place| self.readers.in_use(place))
    }
}
