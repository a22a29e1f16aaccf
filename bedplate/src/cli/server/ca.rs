//! `server ca` and `server alarms`: when certificates end, and what else wants attention.

use std::path::PathBuf;

use anyhow::bail;
use api::alarm::{Alarm, Certificate};
use clap::Subcommand;

use crate::cli::{
    context::Session,
    output::print_note,
    table::{Style, cells, table},
    words::or_dash,
};

/// The certificate authority and the certificates of the server.
#[derive(Debug, Subcommand)]
pub(super) enum CaVerb {
    /// Show when the certificates of the server expire, who renews them, and what to do.
    #[command(
        after_help = "Warns 90 days before a certificate expires, or in the last quarter of its lifetime if that is shorter. With
--state-dir no server is contacted, so the certificates that its ports present are not shown.

Examples:
  bedplate server ca status
  bedplate server ca status --state-dir /var/lib/bedplate"
    )]
    Status {
        /// Read the state directory on this machine, as root, without contacting a server.
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
}

pub(super) async fn run(session: &Session, verb: CaVerb) -> anyhow::Result<()> {
    let CaVerb::Status { state_dir } = verb;
    let certificates = match state_dir {
        None => session.client()?.certificates().await?,
        Some(state_dir) => match bedplate::server::certificates_of(&state_dir)? {
            Some(certificates) => certificates,
            None => {
                bail!(
                    "there is no certificate authority in {}: no server was started",
                    state_dir.display()
                )
            }
        },
    };
    if !session.out.is_for_programs() {
        certificates
            .iter()
            .filter_map(|one| one.alarm.as_ref())
            .for_each(|text| print_note(&format!("alarm: {text}")));
    }
    session.out.show(&certificates, |style| certificate_table(*style, &certificates))
}

pub(super) async fn alarms(session: &Session) -> anyhow::Result<()> {
    let alarms = session.client()?.alarms().await?;
    session.out.show(&alarms, |style| alarm_table(*style, &alarms))
}

fn certificate_table(style: Style, certificates: &[Certificate]) -> String {
    let row = |one: &Certificate| {
        let life = || format!("each lives {} h", one.life_seconds / 3_600);
        cells([
            one.certificate.clone(),
            one.ends.map_or_else(life, |ends| ends.to_string()),
            or_dash(one.days_left),
            one.renewal.clone(),
            or_dash(one.fingerprint),
        ])
    };
    table(
        style,
        &["CERTIFICATE", "ENDS", "DAYS", "RENEWED", "FINGERPRINT"],
        certificates.iter().map(row),
    )
}

fn alarm_table(style: Style, alarms: &[Alarm]) -> String {
    if alarms.is_empty() {
        return "no alarms\n".to_owned();
    }
    let row =
        |one: &Alarm| cells([one.alarm.as_str().to_owned(), one.subject.clone(), one.text.clone()]);
    table(style, &["ALARM", "OF", "WHAT"], alarms.iter().map(row))
}

#[cfg(test)]
mod tests {
    use api::{
        alarm::AlarmKind,
        ids::{Digest, Timestamp},
    };

    use super::*;

    #[test]
    fn certificates_and_alarms() {
        let authority = Certificate {
            certificate: "authority".to_owned(),
            fingerprint: Some(Digest([7; 32])),
            begins: Some(Timestamp(0)),
            ends: Some(Timestamp(1_795_464_000_000_000)),
            days_left: Some(-2),
            life_seconds: 86_400,
            renewal: "by hand".to_owned(),
            alarm: None,
        };
        let nodes = Certificate {
            certificate: "nodes".to_owned(),
            fingerprint: None,
            begins: None,
            ends: None,
            days_left: None,
            ..authority.clone()
        };
        let shown = certificate_table(Style::PLAIN, &[authority, nodes]);
        let lines: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["CERTIFICATE", "ENDS", "DAYS", "RENEWED", "FINGERPRINT"]);
        assert_eq!(lines[1][..4], ["authority", "2026-11-23T20:00:00Z", "-2", "by hand"]);
        assert!(lines[1][4].starts_with("sha256:0707"), "{shown}");
        assert_eq!(lines[2], ["nodes", "each lives 24 h", "-", "by hand", "-"]);

        assert_eq!(alarm_table(Style::PLAIN, &[]), "no alarms\n");
        let alarm = Alarm {
            alarm: AlarmKind::TokenWithoutEnd,
            subject: "ann/old".to_owned(),
            ends: None,
            text: "it never expires".to_owned(),
        };
        let shown = alarm_table(Style::PLAIN, &[alarm]);
        assert_eq!(
            shown.lines().nth(1),
            Some("token-without-end  ann/old  it never expires"),
            "{shown}"
        );
    }
}
