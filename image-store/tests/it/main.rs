//! The store, image layouts and builds on real directories, with the real `tar2sqfs`.
//!
//! Tests that need root (a file system of their own that can be full) are named `privileged_…`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod attacks;
mod builds;
mod converter;
mod field;
mod image;
mod layouts;
mod space;
mod stores;
