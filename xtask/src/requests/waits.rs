//! How long requests waited.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What counts as longer counts as this: ten minutes, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Waits, each within a thousandth of its length.
#[derive(Clone)]
pub(crate) struct Waits(Histogram<u64>);

/// What there is to say of them, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Default for Waits {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LONGEST, 3)
                .expect("invariant: the bounds of a histogram are constants that it takes"),
        )
    }
}

impl Waits {
    pub(super) fn add(&mut self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    #[cfg(test)]
    pub(super) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    #[cfg(test)]
    pub(super) fn min(&self) -> Duration {
        Duration::from_micros(self.0.min())
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let ms = |micros: u64| (micros as f64 / 100.0).round() / 10.0;
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        Quantiles {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_added() {
        let mut waits = Waits::default();
        for ms in 1..=1_000 {
            waits.add(Duration::from_millis(ms));
        }
        let found = waits.quantiles();
        let expected = [500.0, 990.0, 999.0, 1_000.0];
        for (found, expected) in [found.p50, found.p99, found.p999, found.max]
            .into_iter()
            .zip(expected)
        {
            assert!((found - expected).abs() <= expected / 900.0, "{found}");
        }
    }

    #[test]
    fn what_is_too_long_is_the_longest() {
        let mut waits = Waits::default();
        waits.add(Duration::MAX);
        assert!(waits.quantiles().max >= 600_000.0);
    }
}
