//! Hosts that the configuration lists.

use std::time::Duration;

use super::{Discovering, Discovery};
use crate::topology::HostAddr;

/// The hosts as the configuration lists them: the default.
///
/// ```
/// use leadpool::{HostAddr, discovery::{Discovery, Fixed}};
///
/// let fixed = Fixed::new([HostAddr::new("db1", 5432), HostAddr::new("db2", 5432)]);
/// assert_eq!(fixed.refresh_interval(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    hosts: Vec<HostAddr>,
}

impl Fixed {
    /// A discovery that always names these hosts.
    pub fn new(hosts: impl IntoIterator<Item = HostAddr>) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
        }
    }
}

impl Discovery for Fixed {
    fn discover(&self) -> Discovering<'_> {
        Box::pin(async { Ok(self.hosts.clone()) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        None
    }
}
