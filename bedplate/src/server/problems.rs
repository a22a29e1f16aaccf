//! What of single objects cannot be used: overlays on the disk, rows of the database. The server
//! starts without them, and holds the nodes that need them. And a clock, or a certificate authority,
//! whose dates do not fit.

use database::Database;
use provisioner::overlay::library::Library;

use super::{DATABASE, SCHEMAS};
use crate::config::Checked;

/// Reads what the server will read, and tells what of it it will refuse, a line each. Blocking for
/// as long as reading the overlays takes.
pub async fn problems(config: &Checked) -> Vec<String> {
    let provisioner = &config.provisioner;
    let mut lines = Library::load(&provisioner.shipped_overlays, &provisioner.site_overlays).problems();
    // An authority that cannot be read is a mistake, told by the check of the files.
    let dates = fleet::date_problem(&config.state_dir).ok().flatten();
    lines.extend(dates.map(|problem| problem.to_string()));
    let opened = Database::open_to_read(&config.state_dir.join(DATABASE), SCHEMAS).await;
    let read = match opened {
        Ok(None) => return lines,
        Ok(Some(database)) => {
            let read = provisioner::problems(&database, &config.provisioner.substrate).await;
            database.close().await;
            read.map_err(anyhow::Error::from)
        }
        Err(error) => Err(error.into()),
    };
    match read {
        Ok(problems) => lines.extend(problems),
        Err(error) => lines.push(format!("{error:#}")),
    }
    lines
}
