//! Hosts that the configuration lists.

use std::time::Duration;

use super::{Discovering, Discovery, View};

/// The hosts as the configuration lists them, and no others.
///
/// ```
/// use leadpool::discovery::{Discovery, Fixed};
///
/// assert_eq!(Fixed::new().refresh_interval(), None);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Fixed {}

impl Fixed {
    /// A discovery that always names the hosts of the configuration.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl Discovery for Fixed {
    fn name(&self) -> &str {
        "configuration"
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(view.seeds().iter().cloned().collect()) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        None
    }
}
