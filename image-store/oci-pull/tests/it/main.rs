//! Pulls from registries that misbehave, and from a real one (`docker-registry`), all on loopback.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::cast_possible_truncation)]

mod bad_registries;
mod hosts;
mod reach;
mod real_registry;
mod registry;
mod waiting;
