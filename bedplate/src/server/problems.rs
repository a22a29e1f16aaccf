//! What of single objects cannot be used: overlays on the disk, rows of the database, files of
//! images. The server starts without them, and holds the nodes that need them. And a clock, a
//! certificate authority, or a certificate of the site, whose dates do not fit.
//!
//! And what keeps a server of this user, who need not be the server's own, from starting:
//! [`check_owner`].

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path};

use database::{Database, DatabaseError};
use image_catalog::blobs;
use image_store::Inspection;
use provisioner::overlay::library::Library;
use rustix::{
    fs::{Access, access},
    process::geteuid,
};

use super::{DATABASE, LOCK, SCHEMAS, ServerError, alarms};
use crate::config::Checked;

/// Problems that are told. A disk that is gone damages everything, and the first lines say so.
const MAX_PROBLEMS: usize = 200;

/// What a check of the server found.
#[derive(Debug, Default)]
pub struct Problems {
    /// Why a server that this user starts would be refused; it is none of the lines.
    pub refused: Option<String>,
    /// A line each, no more than are read by people.
    pub lines: Vec<String>,
    /// How many more there are.
    pub left_out: usize,
}

/// What is told while the contents of files are read: bytes done, and bytes in all.
pub type OnRead<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Reads what the server will read, and tells what of it it will refuse. The files of images are
/// looked for with their sizes; with `deep` all of them are read and held against their digests.
/// Blocking for as long as that and reading the overlays takes.
pub async fn problems(config: &Checked, deep: Option<OnRead<'_>>) -> Problems {
    let provisioner = &config.provisioner;
    let mut lines =
        Library::load(&provisioner.shipped_overlays, &provisioner.site_overlays).problems();
    // An authority that cannot be read is a mistake, told by the check of the files.
    let dates = fleet::date_problem(&config.state_dir).ok().flatten();
    lines.extend(dates.map(|problem| problem.to_string()));
    // So is a certificate that cannot be used.
    lines.extend(config.api_certificate.as_ref().and_then(alarms::of_site_files));
    lines.extend(config.audit_head_file.as_deref().and_then(head_file_problem));
    let refused = check_owner(&config.state_dir).err();
    let opened = Database::open_to_read(&config.state_dir.join(DATABASE), SCHEMAS).await;
    let read = match opened {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(database)) => {
            let read = of_state(&database, config, deep).await;
            database.close().await;
            read.map_err(anyhow::Error::from)
        }
        Err(error) => Err(error.into()),
    };
    match read {
        Ok(problems) => lines.extend(problems),
        // Whose the files are says why.
        Err(_) if matches!(refused, Some(ServerError::OtherUser { .. })) => {}
        Err(error) => lines.push(format!("{error:#}")),
    }
    let left_out = lines.len().saturating_sub(MAX_PROBLEMS);
    lines.truncate(MAX_PROBLEMS);
    Problems { refused: refused.map(|error| error.to_string()), lines, left_out }
}

/// Whether a server of this user can use the files in the state directory that all else stands on.
/// Those in a directory that is closed to it are told when they are opened.
///
/// # Errors
/// [`ServerError::OwnUser`] to root, [`ServerError::OtherUser`] to others.
pub(super) fn check_owner(state_dir: &Path) -> Result<(), ServerError> {
    let own = geteuid();
    for name in [DATABASE, "bedplate.db-wal", "bedplate.db-shm", LOCK] {
        let path = state_dir.join(name);
        // What is not there is made; where this user may not look, nothing can be made either.
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        let uid = facts.uid();
        if own.is_root() && uid != 0 && name == DATABASE {
            return Err(ServerError::OwnUser { path: state_dir.to_owned(), uid });
        }
        if uid != own.as_raw() && access(&path, Access::READ_OK | Access::WRITE_OK).is_err() {
            return Err(ServerError::OtherUser { path, uid, own: own.as_raw() });
        }
    }
    Ok(())
}

/// Why heads of the audit log cannot be appended to a file. The server starts, and each is an
/// error in its log.
fn head_file_problem(file: &Path) -> Option<String> {
    let why = match fs::metadata(file) {
        Ok(facts) if facts.is_dir() => Some("it is a directory".to_owned()),
        Ok(_) => access(file, Access::WRITE_OK).err().map(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let directory = file.parent()?;
            let refused = access(directory, Access::WRITE_OK | Access::EXEC_OK).err();
            refused.map(|error| format!("cannot make a file in {}: {error}", directory.display()))
        }
        Err(error) => Some(error.to_string()),
    };
    why.map(|why| {
        format!(
            "heads of the audit log cannot be written to audit.head-file {}: {why}",
            file.display()
        )
    })
}

/// What is wrong with the rows of all roles, and with the files that they name.
async fn of_state(
    database: &Database,
    config: &Checked,
    deep: Option<OnRead<'_>>,
) -> Result<Vec<String>, DatabaseError> {
    let mut lines = provisioner::problems(database).await?;
    lines.extend(image_catalog::problems(database, &config.provisioner.substrate).await?);
    lines.extend(fleet::problems(database).await?);
    lines.extend(hardware::problems(database).await?);
    let key = access::audit_key(&config.state_dir).unwrap_or_else(|error| {
        lines.push(format!("{:#}", anyhow::Error::from(error)));
        None
    });
    lines.extend(access::audit_problems(database, key.as_deref()).await?);
    let workflows = controller::stored_workflows(database).await?;
    lines.extend(workflows.problems);
    let job_images = image_catalog::stored_job_images(database).await?;
    lines.extend(job_images.problems);
    let mut of_jobs = workflows.files;
    of_jobs.extend(job_images.files);
    let of_os = image_catalog::os_image_files(database).await?;
    let stores = [
        Inspection::new(blobs::of_os_images(&config.state_dir), of_os),
        Inspection::new(blobs::of_job_images(&config.state_dir), of_jobs),
    ];
    let Some(tell) = deep else {
        lines.extend(stores.iter().flat_map(|store| store.problems(None)));
        return Ok(lines);
    };
    let total: u64 = stores.iter().map(Inspection::bytes).sum();
    let mut done = 0;
    for store in &stores {
        let mut read = |bytes: u64| {
            done += bytes;
            tell(done, total);
        };
        lines.extend(store.problems(Some(&mut read)));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_file_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(head_file_problem(&at("heads")), None);
        fs::write(at("heads"), "").unwrap();
        assert_eq!(head_file_problem(&at("heads")), None);
        let told = head_file_problem(&at("none/heads")).unwrap();
        assert!(told.contains("cannot make a file in ") && told.contains("No such file"), "{told}");
        assert!(head_file_problem(directory.path()).unwrap().ends_with("it is a directory"));
        assert!(head_file_problem(&at("heads/heads")).is_some());
    }

    #[test]
    fn root_is_told_whose_the_state_is() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join(DATABASE);
        fs::write(&database, "").unwrap();
        assert!(check_owner(directory.path()).is_ok());
        // Only root can give it away.
        if std::os::unix::fs::chown(&database, Some(65_534), None).is_ok() {
            let refused = check_owner(directory.path()).unwrap_err().to_string();
            assert!(refused.contains("belongs to uid 65534, and this is root"), "{refused}");
        }
    }
}
