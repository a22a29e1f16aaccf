//! What of single objects cannot be used: overlays on the disk, rows of the database, files of images.
//! The server starts without them, and holds the nodes that need them. And a clock, a certificate
//! authority, or a certificate of the site, whose dates do not fit.

use database::{Database, DatabaseError};
use image_store::Inspection;
use provisioner::overlay::library::Library;

use super::{DATABASE, SCHEMAS, alarms};
use crate::config::Checked;

/// Problems that are told. A disk that is gone damages everything, and the first lines say so.
const MAX_PROBLEMS: usize = 200;

/// What a check of the server found.
#[derive(Debug, Default)]
pub struct Problems {
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
    let mut lines = Library::load(&provisioner.shipped_overlays, &provisioner.site_overlays).problems();
    // An authority that cannot be read is a mistake, told by the check of the files.
    let dates = fleet::date_problem(&config.state_dir).ok().flatten();
    lines.extend(dates.map(|problem| problem.to_string()));
    // So is a certificate that cannot be used.
    lines.extend(config.api_certificate.as_ref().and_then(alarms::of_site_files));
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
        Err(error) => lines.push(format!("{error:#}")),
    }
    let left_out = lines.len().saturating_sub(MAX_PROBLEMS);
    lines.truncate(MAX_PROBLEMS);
    Problems { lines, left_out }
}

/// What is wrong with the rows of all roles, and with the files that they name.
async fn of_state(
    database: &Database,
    config: &Checked,
    deep: Option<OnRead<'_>>,
) -> Result<Vec<String>, DatabaseError> {
    let mut lines = provisioner::problems(database, &config.provisioner.substrate).await?;
    lines.extend(fleet::problems(database).await?);
    lines.extend(access::audit_problems(database).await?);
    let workflows = controller::stored_workflows(database).await?;
    lines.extend(workflows.problems);
    let images = provisioner::image_files(database).await?;
    let stores = [
        Inspection::new(config.state_dir.join("images"), images),
        Inspection::new(config.state_dir.join("jobs"), workflows.files),
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
