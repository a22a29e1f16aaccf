//! Says in the log whose certificate was refused and why; TLS itself tells only the client,
//! and only a code.

use std::sync::Arc;

use api::ids::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::EPOCH_URN;

use super::line_budget::LineBudget;
use crate::clock;

/// Another verifier, with a log line for a refusal, as long as there are not too many.
#[derive(Debug)]
pub(crate) struct Logged(pub(crate) Arc<dyn ClientCertVerifier>, pub(crate) LineBudget);

impl ClientCertVerifier for Logged {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            let allowed = self.1.take(clock::now());
            if let Some(more) = allowed.left_out {
                tracing::warn!("refused {more} more client certificates within a minute");
            }
            if allowed.line {
                let claimed =
                    common_name(end_entity).unwrap_or_else(|| "nobody that can be read".to_owned());
                let why = in_words(error);
                tracing::warn!("refused a client certificate that claims to be {claimed}: {why}");
            }
        })
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Why it was refused: of dates, both the certificate's and this server's, since one of two
/// clocks is wrong.
fn in_words(error: &Error) -> String {
    let moment = |time: &UnixTime| {
        Timestamp(0).plus_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    };
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => format!(
            "it ended on {}, and this server's clock says {}: the node was away for too long (reboot it), or one \
             of the two clocks is wrong",
            moment(not_after),
            moment(time)
        ),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            format!(
                "it begins on {}, and this server's clock says {}: this server's clock went back since it made the \
             certificate; set it",
                moment(not_before),
                moment(time)
            )
        }
        other => other.to_string(),
    }
}

/// The subject's common name, at most 80 characters.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    subject_name(&certificate)
}

fn subject_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.chars().take(80).collect())
}

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientName {
    /// The subject's common name.
    pub(crate) name: String,
    /// Which enrolment of the node it is of; 0 if it does not say so.
    pub(crate) epoch: u64,
    /// Its serial number, hexadecimal.
    pub(crate) serial: String,
}

impl ClientName {
    /// Reads a certificate that was verified; `None` if it is none of a node.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names =
            names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut epochs = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(EPOCH_URN),
            _ => None,
        });
        let epoch = epochs.next().map_or(Ok(0), str::parse::<u64>).ok()?;
        let serial = certificate.raw_serial_as_string().replace(':', "");
        let is_one = epochs.next().is_none();
        is_one.then_some(Self { name: subject_name(&certificate)?, epoch, serial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_with_both_clocks() {
        let at = |seconds: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let (early, late) = (at(1_795_464_000), at(1_795_550_400));
        let errors = [
            CertificateError::ExpiredContext { time: late, not_after: early },
            CertificateError::NotValidYetContext { time: early, not_before: late },
            CertificateError::UnknownIssuer,
        ];
        let text: Vec<String> =
            errors.into_iter().map(|error| in_words(&Error::InvalidCertificate(error))).collect();
        expect_test::expect![[r#"
            it ended on 2026-11-23T20:00:00Z, and this server's clock says 2026-11-24T20:00:00Z: the node was away for too long (reboot it), or one of the two clocks is wrong
            it begins on 2026-11-24T20:00:00Z, and this server's clock says 2026-11-23T20:00:00Z: this server's clock went back since it made the certificate; set it
            invalid peer certificate: UnknownIssuer"#]]
        .assert_eq(&text.join("\n"));
    }
}
