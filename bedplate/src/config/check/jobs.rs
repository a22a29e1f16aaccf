//! `jobs`.

use api::{
    problem::Diagnostic,
    run::{DEFAULT_LOG_MIB, DEFAULT_VOLUME_GIB, LOG_MIB, VOLUME_GIB},
};
use image_catalog::ImageLimits;

use super::super::raw::{Raw, diagnostic};

/// What the section says.
pub(super) struct Jobs {
    /// How much is kept of the log of a job, bytes.
    pub(super) log_bytes: u64,
    /// What a volume may hold of which the document does not say it, bytes.
    pub(super) volume_bytes: u64,
    /// What is kept of images that no workflow needs.
    pub(super) images: ImageLimits,
}

pub(super) fn check(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> Jobs {
    Jobs {
        log_bytes: job_log_bytes(raw, diagnostics),
        volume_bytes: volume_bytes(raw, diagnostics),
        images: job_images(raw, diagnostics),
    }
}

fn job_log_bytes(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> u64 {
    let mib = raw.job_log_mib.as_ref().map_or(DEFAULT_LOG_MIB, |mib| mib.value);
    if let Some(written) = raw.job_log_mib.as_ref().filter(|mib| !LOG_MIB.contains(&mib.value)) {
        let message = format!("{mib} is not between {} and {}", LOG_MIB.start(), LOG_MIB.end());
        let hint = "it is kept in the memory of the node; larger results belong in a file";
        diagnostics.push(diagnostic(written.at, "jobs.log-mib", message, Some(hint.to_owned())));
    }
    u64::from(mib) << 20
}

fn volume_bytes(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> u64 {
    let gib = raw.volume_gib.as_ref().map_or(DEFAULT_VOLUME_GIB, |gib| gib.value);
    if let Some(written) = raw.volume_gib.as_ref().filter(|gib| !VOLUME_GIB.contains(&gib.value)) {
        let message =
            format!("{gib} is not between {} and {}", VOLUME_GIB.start(), VOLUME_GIB.end());
        let hint = "a workflow that wants another size says so in its document".to_owned();
        diagnostics.push(diagnostic(written.at, "jobs.volume-gib", message, Some(hint)));
    }
    u64::from(gib) << 30
}

fn job_images(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> ImageLimits {
    let keys = [
        ("image-days", &raw.job_image_days, ImageLimits::DAYS),
        ("image-gib", &raw.job_image_gib, ImageLimits::GIB),
    ];
    for (key, written, range) in keys {
        if let Some(written) = written.as_ref().filter(|written| !range.contains(&written.value)) {
            let message =
                format!("{} is not between {} and {}", written.value, range.start(), range.end());
            let hint = "leave it out for the default; what workflows use is kept in any case";
            diagnostics.push(diagnostic(
                written.at,
                &format!("jobs.{key}"),
                message,
                Some(hint.to_owned()),
            ));
        }
    }
    ImageLimits {
        days: raw.job_image_days.as_ref().map_or(ImageLimits::DEFAULT_DAYS, |days| days.value),
        bytes: raw.job_image_gib.as_ref().map(|gib| u64::from(gib.value) << 30),
    }
}
