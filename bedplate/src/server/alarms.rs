//! What wants an admin's attention: tokens without an end or near it, certificates near theirs, an
//! audit log that was changed, and what the server cannot work with.
//!
//! | who asks | gets |
//! |---|---|
//! | `GET /v1/alarms`, `bedplate server alarms` | all of them |
//! | `GET /v1/certificates`, `bedplate server ca status` | the server's certificates, each with its alarm |
//! | `GET /v1/health` | those of certificates, as warnings |
//! | Prometheus | how many there are |
//! | the log | all of them, at the start and once a day |

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use access::{Access, AccessError, AuditAlarms, Routes, TokenCounts, TokensToMend};
use api::{
    access::Token,
    alarm::{Alarm, AlarmKind, Certificate},
    ids::Timestamp,
    problem::Problem,
    rights::Action,
};
use axum::{Json, extract::State};
use fleet::{AuthorityError, AuthorityFacts, CertificateFacts, Fleet, NODE_CERTIFICATE_SECONDS};
use rest::{Page, PageParams, Paging, Refusal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use utoipa_axum::routes;

use super::{
    certificate::{CertificateFiles, SiteCertificate},
    clock,
    health::Health,
};

/// How often alarms are logged.
const TELL_AFTER: Duration = Duration::from_secs(86_400);

/// Alarms of one kind that are logged at a time, a line each. `bedplate server alarms` lists all.
const MAX_LINES: usize = 20;

/// What an alarm of the server itself is of.
const SERVER: &str = "server";

/// A day, seconds.
const DAY_SECONDS: i64 = 86_400;

/// A certificate is told to end so long before at most, seconds: 90 days.
const NOTICE_SECONDS: i64 = 90 * DAY_SECONDS;

/// What is looked at. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Alarms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    access: Access,
    fleet: Fleet,
    /// One that asks no alarms.
    health: Health,
    /// Known once the REST port has one.
    site: OnceLock<Arc<SiteCertificate>>,
}

impl Alarms {
    /// `health`: one without alarms.
    pub(super) fn new(access: Access, fleet: Fleet, health: Health) -> Self {
        Self(Arc::new(Inner { access, fleet, health, site: OnceLock::new() }))
    }

    /// From now on this certificate is looked at too. The first call counts.
    pub(super) fn follow_certificate(&self, site: Arc<SiteCertificate>) {
        let _ = self.0.site.set(site);
    }

    /// The routes.
    pub(super) fn routes(&self) -> Routes {
        Routes::new()
            .route(Action::AlarmList, routes!(list_alarms))
            .route(Action::CertificateList, routes!(list_certificates))
            .with_state(self.clone())
    }

    /// How many alarms there are of each kind. What cannot be read is logged and counts as none.
    pub(super) async fn counts(&self) -> Counts {
        let tokens = self.0.access.count_tokens_to_mend().await.unwrap_or_else(|error| {
            tracing::error!("the alarms are not known: {}", rest::causes(&error));
            TokenCounts::default()
        });
        counts(tokens, &self.of_server().await)
    }

    /// What is wrong with the server's certificates.
    pub(super) fn of_certificates(&self) -> Vec<String> {
        self.certificates().into_iter().filter_map(|certificate| certificate.alarm).collect()
    }

    /// Logs all alarms at once, and then every day until `stop`.
    pub(super) async fn log_daily(self, stop: CancellationToken) {
        let mut days = interval(TELL_AFTER);
        days.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = days.tick() => {}
            }
            match self.list().await {
                Ok(raised) => lines(&raised).iter().for_each(|line| tracing::warn!("{line}")),
                Err(error) => tracing::error!("the alarms are not known: {}", rest::causes(&error)),
            }
        }
    }

    fn certificates(&self) -> Vec<Certificate> {
        let Inner { fleet, site, .. } = &*self.0;
        let site = site.get().and_then(|site| site.facts());
        let server = Some(fleet.server_certificate_facts());
        certificates(fleet.authority_facts(), server, site, clock::now())
    }

    /// All alarms but those of tokens.
    async fn of_server(&self) -> Vec<Alarm> {
        let mut alarms: Vec<Alarm> =
            self.certificates().into_iter().filter_map(of_certificate).collect();
        alarms.extend(of_audit(self.0.access.audit_alarms()));
        alarms.extend(of_health(&self.0.health.problems().await));
        alarms
    }

    async fn list(&self) -> Result<Raised, AccessError> {
        let mut alarms = self.of_server().await;
        let TokensToMend { tokens, counts: of_tokens } = self.0.access.tokens_to_mend().await?;
        let counts = counts(of_tokens, &alarms);
        alarms.extend(tokens.iter().map(of_token));
        Ok(Raised { alarms, counts })
    }
}

/// How many alarms there are of each kind.
pub(super) type Counts = [(AlarmKind, u64); AlarmKind::ALL.len()];

/// The alarms at one time.
struct Raised {
    /// Of tokens not all, where there are too many.
    alarms: Vec<Alarm>,
    /// How many there are.
    counts: Counts,
}

impl Raised {
    fn of(&self, kind: AlarmKind) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter().filter(move |alarm| alarm.alarm == kind)
    }

    /// An alarm for all those of a kind that are not listed, if there are.
    fn of_left_out(&self) -> Vec<Alarm> {
        let left_out = self.counts.iter().filter_map(|&(kind, count)| {
            let left_out = count.saturating_sub(self.of(kind).count() as u64);
            let text = format!(
                "and {left_out} more alarms of this kind, which are listed when those before them are mended"
            );
            let alarm = Alarm { alarm: kind, subject: "others".to_owned(), ends: None, text };
            (left_out > 0).then_some(alarm)
        });
        left_out.collect()
    }
}

/// `of_server`: all but those of tokens.
fn counts(tokens: TokenCounts, of_server: &[Alarm]) -> Counts {
    AlarmKind::ALL.map(|kind| {
        let count = match kind {
            AlarmKind::TokenWithoutEnd => tokens.without_end,
            AlarmKind::TokenExpires => tokens.end_soon,
            AlarmKind::Certificate
            | AlarmKind::AuditLogBroken
            | AlarmKind::AuditKeyNew
            | AlarmKind::AuditLogFilling
            | AlarmKind::Health
            | AlarmKind::Unknown => {
                of_server.iter().filter(|alarm| alarm.alarm == kind).count() as u64
            }
        };
        (kind, count)
    })
}

/// The certificates of the server on a state directory that need not run: its authority's, and how
/// long those of nodes live. What its ports present is in the memory of the server alone. `None`:
/// it was never started.
///
/// # Errors
/// The authority cannot be read, or is damaged.
pub fn certificates_of(state_dir: &Path) -> Result<Option<Vec<Certificate>>, AuthorityError> {
    let authority = fleet::authority_facts(state_dir)?;
    Ok(authority.map(|authority| certificates(authority, None, None, clock::now())))
}

/// What is wrong with the dates of the site's certificate in these files. Blocking.
pub(super) fn of_site_files(files: &CertificateFiles) -> Option<String> {
    site(files.facts()?, clock::now()).alarm
}

fn site(facts: CertificateFacts, now: Timestamp) -> Certificate {
    let site = certificate("site", facts, "by the site: a new `api.certificate`", now);
    with_date_alarm(site, facts, "renew the files of `api.certificate` and `api.key`", now)
}

/// All certificates, with what is wrong with each.
fn certificates(
    authority: AuthorityFacts,
    server: Option<CertificateFacts>,
    of_site: Option<CertificateFacts>,
    now: Timestamp,
) -> Vec<Certificate> {
    let of_authority = Certificate {
        alarm: authority.problem.map(|problem| problem.to_string()),
        ..certificate(
            "authority",
            authority.certificate,
            "by an admin: a new `ca/`, and every node boots again",
            now,
        )
    };
    let of_server = server.map(|facts| {
        let own = certificate("server", facts, "by the server, 30 days before its end", now);
        with_date_alarm(own, facts, "restart the server, which makes another one", now)
    });
    let of_site = of_site.map(|facts| site(facts, now));
    let of_nodes = Certificate {
        certificate: "nodes".to_owned(),
        fingerprint: None,
        begins: None,
        ends: None,
        days_left: None,
        life_seconds: NODE_CERTIFICATE_SECONDS,
        renewal: "by the agent of each, after half of its life".to_owned(),
        alarm: None,
    };
    [Some(of_authority), of_server, of_site, Some(of_nodes)].into_iter().flatten().collect()
}

fn certificate(name: &str, facts: CertificateFacts, renewal: &str, now: Timestamp) -> Certificate {
    Certificate {
        certificate: name.to_owned(),
        fingerprint: Some(facts.fingerprint),
        begins: Some(facts.begins),
        ends: Some(facts.ends),
        days_left: Some(facts.ends.seconds().saturating_sub(now.seconds()).div_euclid(DAY_SECONDS)),
        life_seconds: facts.ends.seconds().saturating_sub(facts.begins.seconds()),
        renewal: renewal.to_owned(),
        alarm: None,
    }
}

/// Tells of an end that is near: 90 days before, and a quarter of its life before where it lives
/// shorter, so that what renews itself in time raises none.
fn with_date_alarm(
    certificate: Certificate,
    CertificateFacts { begins, ends, .. }: CertificateFacts,
    mend: &str,
    now: Timestamp,
) -> Certificate {
    let notice = NOTICE_SECONDS.min(certificate.life_seconds / 4);
    let name = &certificate.certificate;
    let alarm = if now < begins {
        Some(format!(
            "the {name} certificate begins on {begins}, which is to come: is the server's clock right?"
        ))
    } else if now >= ends {
        Some(format!("the {name} certificate has expired on {ends}: {mend}"))
    } else if now >= ends.plus_seconds(-notice) {
        Some(format!("the {name} certificate expires on {ends}: {mend}"))
    } else {
        None
    };
    Certificate { alarm, ..certificate }
}

fn of_certificate(certificate: Certificate) -> Option<Alarm> {
    let text = certificate.alarm?;
    let (alarm, ends) = (AlarmKind::Certificate, certificate.ends);
    Some(Alarm { alarm, subject: certificate.certificate, ends, text })
}

fn of_audit(AuditAlarms { broken, new_key, filling }: AuditAlarms) -> impl Iterator<Item = Alarm> {
    let found = [
        (AlarmKind::AuditLogBroken, broken),
        (AlarmKind::AuditLogFilling, filling),
        (AlarmKind::AuditKeyNew, new_key),
    ];
    found.into_iter().filter_map(|(alarm, text)| {
        Some(Alarm { alarm, subject: SERVER.to_owned(), ends: None, text: text? })
    })
}

fn of_health(problems: &[String]) -> Option<Alarm> {
    let text = problems.join("; ");
    let alarm = AlarmKind::Health;
    (!text.is_empty()).then(|| Alarm { alarm, subject: SERVER.to_owned(), ends: None, text })
}

fn of_token(token: &Token) -> Alarm {
    let Token { name, user, expires, .. } = token;
    let (alarm, text) = match expires {
        None => (
            AlarmKind::TokenWithoutEnd,
            format!(
                "token {name:?} of {user} never expires: where it is used, `bedplate token rotate` replaces it by one \
                 that does"
            ),
        ),
        Some(ends) => (
            AlarmKind::TokenExpires,
            format!(
                "token {name:?} of {user} expires on {ends}: where it is used, `bedplate token rotate` replaces it"
            ),
        ),
    };
    Alarm { alarm, subject: format!("{user}/{name}"), ends: *expires, text }
}

/// What is logged: no more than [`MAX_LINES`] of a kind.
fn lines(raised: &Raised) -> Vec<String> {
    let mut lines = Vec::new();
    for (kind, count) in raised.counts {
        lines.extend(raised.of(kind).take(MAX_LINES).map(|alarm| alarm.text.clone()));
        let left_out = count.saturating_sub(MAX_LINES as u64);
        if left_out > 0 {
            lines.push(format!(
                "and {left_out} more alarms of this kind ({}): `bedplate server alarms` lists them",
                kind.as_str()
            ));
        }
    }
    lines
}

/// What wants attention: tokens without an end, tokens and certificates that end soon, an audit log
/// that does not fit its heads or has a new key, a state directory without room. For admins.
#[utoipa::path(
    get, path = "/v1/alarms", tag = "server", params(PageParams),
    responses((status = OK, body = [Alarm]), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem))
)]
async fn list_alarms(State(alarms): State<Alarms>, paging: Paging) -> Result<Page<Alarm>, Refusal> {
    let raised = alarms.list().await;
    let raised = raised.map_err(|error| Refusal::internal("cannot list alarms", &error))?;
    let left_out = raised.of_left_out();
    let mut rows = raised.alarms;
    rows.extend(left_out);
    let key = |alarm: &Alarm| format!("{} {}", alarm.alarm.as_str(), alarm.subject);
    rows.sort_by_cached_key(key);
    paging.cut("alarms", rows, key, |one, after| one > after)
}

/// The certificates of the server: its authority's, those of its ports, and how long
/// those of nodes live.
#[utoipa::path(get, path = "/v1/certificates", tag = "server", responses((status = OK, body = [Certificate])))]
async fn list_certificates(State(alarms): State<Alarms>) -> Json<Vec<Certificate>> {
    Json(alarms.certificates())
}

#[cfg(test)]
mod tests {
    use api::ids::Digest;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

    fn facts(begins_days: i64, ends_days: i64) -> CertificateFacts {
        CertificateFacts {
            fingerprint: Digest([7; 32]),
            begins: NOW.plus_seconds(begins_days * DAY_SECONDS),
            ends: NOW.plus_seconds(ends_days * DAY_SECONDS),
        }
    }

    fn told(begins_days: i64, ends_days: i64) -> Option<String> {
        let authority = AuthorityFacts { certificate: facts(0, 3_650), problem: None };
        let all = certificates(authority, None, Some(facts(begins_days, ends_days)), NOW);
        assert_eq!(all.len(), 3);
        all.into_iter().find_map(|certificate| certificate.alarm)
    }

    #[test]
    fn an_end_is_told_in_time_and_not_of_what_renews_itself() {
        // A year: 90 days before.
        assert_eq!(told(-274, 91), None);
        assert!(
            told(-276, 89)
                .unwrap()
                .starts_with("the site certificate expires on 2027-02-20T20:00:00Z: renew")
        );
        // 90 days, which programs renew at 30: only when that did not happen.
        assert_eq!(told(-60, 30), None);
        assert!(told(-69, 21).is_some());
        assert!(told(-400, -1).unwrap().contains("has expired on"));
        assert!(told(1, 366).unwrap().contains("is the server's clock right?"));
    }

    #[test]
    fn days_are_whole_and_may_be_past() {
        let days = |ends: CertificateFacts| certificate("site", ends, "", NOW).days_left;
        assert_eq!(days(facts(0, 10)), Some(10));
        assert_eq!(days(facts(-9, -2)), Some(-2));
        let half = CertificateFacts { ends: NOW.plus_seconds(-1), ..facts(-1, 0) };
        assert_eq!(days(half), Some(-1), "it has ended");
    }

    #[test]
    fn what_the_server_cannot_work_with_is_an_alarm() {
        let broken = AuditAlarms {
            broken: Some("the audit log was cut off".to_owned()),
            ..AuditAlarms::default()
        };
        let mut alarms: Vec<Alarm> = of_audit(broken).collect();
        alarms.extend(of_health(&["no room".to_owned(), "no database".to_owned()]));
        alarms.extend(of_health(&[]));
        let told: Vec<_> = alarms.iter().map(|alarm| (alarm.alarm, alarm.text.as_str())).collect();
        let expected = [
            (AlarmKind::AuditLogBroken, "the audit log was cut off"),
            (AlarmKind::Health, "no room; no database"),
        ];
        assert_eq!(told, expected);
        let counts = counts(TokenCounts { without_end: 0, end_soon: 0 }, &alarms);
        assert_eq!(counts.iter().filter(|(_, count)| *count == 1).count(), 2, "{counts:?}");
    }

    #[test]
    fn the_log_gets_so_many_lines() {
        let token = |number: usize| Token {
            name: format!("t{number}"),
            user: "ann".to_owned(),
            created: NOW,
            expires: (number == 0).then_some(NOW),
            scope: None,
            last_used: None,
            last_source: None,
        };
        let alarms: Vec<Alarm> = (0..30).map(|number| of_token(&token(number))).collect();
        let tokens = TokenCounts { without_end: 29, end_soon: 1 };
        let mut raised = Raised { alarms, counts: counts(tokens, &[]) };
        assert_eq!(raised.of_left_out(), [], "all are listed");
        let lines = lines(&raised);
        assert_eq!(lines.len(), MAX_LINES + 2);
        assert!(lines[0].starts_with("token \"t1\" of ann never expires"), "{lines:?}");
        assert!(lines[MAX_LINES].starts_with("and 9 more alarms of this kind (token-without-end)"));
        assert!(
            lines[MAX_LINES + 1].starts_with("token \"t0\" of ann expires on 2026-11-23T20:00:00Z")
        );

        raised.counts = counts(TokenCounts { without_end: 5_000, ..tokens }, &[]);
        let left_out = raised.of_left_out();
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].text.starts_with("and 4971 more alarms of this kind"), "{left_out:?}");
    }
}
