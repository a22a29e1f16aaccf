//! The program as people use it: `bedplate server` on loopback with a state directory of its own,
//! and the command line against it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod answers;
mod apply;
mod attacks;
mod audit;
mod certificate;
mod command_line;
mod configuration;
mod contexts;
mod damage;
mod full_disk;
mod health;
mod images;
mod inventory;
mod labels;
mod metrics;
mod nodes;
mod output;
mod overlays;
mod own_user;
mod packaging;
mod quotas;
mod reach;
mod recover;
mod server;
mod several;
mod strangers;
mod upgrade;
mod workflows;
