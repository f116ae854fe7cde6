//! How long to wait before dialling again.

use super::limits::{REDIAL_DELAY_MAX, REDIAL_DELAY_MIN};
use std::time::Duration;

/// Delays that double from [`REDIAL_DELAY_MIN`] to [`REDIAL_DELAY_MAX`], each shortened by a random part of up to half:
/// nodes that lost a peer at the same moment don't come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { ceiling: REDIAL_DELAY_MIN }
    }

    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.ceiling.mul_f64(rand::random_range(0.5..=1.0));
        self.ceiling = (self.ceiling * 2).min(REDIAL_DELAY_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_shortened_by_half_at_most() {
        let mut backoff = Backoff::new();
        let mut ceiling = REDIAL_DELAY_MIN;
        for _ in 0..20 {
            let delay = backoff.next_delay();
            assert!(delay >= ceiling / 2 && delay <= ceiling, "{delay:?} for {ceiling:?}");
            ceiling = (ceiling * 2).min(REDIAL_DELAY_MAX);
        }
        assert_eq!(ceiling, REDIAL_DELAY_MAX);
    }
}
