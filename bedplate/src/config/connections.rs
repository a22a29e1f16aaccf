//! How many connections the server has, as far as the configuration says it.

use rest::shell::Limits;

/// What is `None` is worked out from the descriptors that the process may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections of all listeners.
    pub connections: Option<usize>,
    /// Of them those without certificate or token.
    pub unproven: Option<usize>,
    /// Of these those of one address.
    pub unproven_per_address: Option<usize>,
}

impl ConnectionLimits {
    /// The limits of a process that may have so many descriptors. It cannot have more connections
    /// than that allows, and an eighth of them is held back for clients with certificate or token,
    /// whatever the configuration says.
    #[must_use]
    pub fn limits(&self, descriptors: usize) -> Limits {
        let mut limits = Limits::of_descriptors(descriptors, self.connections);
        if let Some(unproven) = self.unproven {
            let most = limits.connections - limits.connections / 8;
            limits.unproven = unproven.min(most);
            limits.unproven_per_address = limits.unproven_per_address.min(limits.unproven);
        }
        if let Some(per_address) = self.unproven_per_address {
            limits.unproven_per_address = per_address.min(limits.unproven);
        }
        if self.connections.is_some_and(|wanted| wanted > limits.connections) {
            tracing::warn!(
                "limits.connections: the process may have {descriptors} files open, so it takes {} \
                 connections; raise LimitNOFILE of the unit for more",
                limits.connections
            );
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_goes_before_what_is_worked_out_but_not_before_the_kernel() {
        let default = ConnectionLimits::default().limits(65_536);
        assert_eq!(default, Limits::of_descriptors(65_536, None));
        let written = ConnectionLimits {
            connections: Some(8_000),
            unproven: Some(2_000),
            unproven_per_address: Some(10),
        };
        let limits = written.limits(65_536);
        assert_eq!(
            [limits.connections, limits.unproven, limits.unproven_per_address],
            [8_000, 2_000, 10]
        );
        let limits = written.limits(2_048);
        assert_eq!(
            [limits.connections, limits.unproven, limits.unproven_per_address],
            [1_792, 1_568, 10]
        );
    }
}
