//! `user`: who may use the cluster, and as whom their jobs run.

use api::access::{Account, User};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    columns,
    context::Session,
    each::each,
    error::Usage,
    output::Rows,
    quota::{self, QuotaFlag},
    table::{Style, cells, table},
    words::count,
};

/// Manage users and the UID and GIDs that their jobs run with.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a user.
    #[command(after_help = "Examples:
  bedplate user add ann --uid 1001 --gid 100 --groups 2000,2001
  bedplate token create laptop --user ann

UID, GID and groups are those of the site's file systems. A user without a UID and GID cannot run jobs.")]
    Add {
        /// Name: lower-case letters, digits and inner hyphens.
        name: String,
        #[command(flatten)]
        record: Record,
    },
    /// List users.
    List,
    /// Show a user.
    Show {
        /// Its name.
        name: String,
    },
    /// Change a user; fields without a flag stay as they are.
    #[command(after_help = "Examples:
  bedplate user set ann --groups 2000 --comment 'at the lab'
  bedplate user set ann --quota logs=20GiB,workflows=100
  bedplate user set ann --quota logs=default

`bedplate user quota ann` shows the quotas and what of them is used.")]
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        record: Record,
        /// Limits for this user, separated by commas: a number, a size such as 20GiB,
        /// none, or default.
        #[arg(long, value_name = "QUOTA=LIMIT,…", value_delimiter = ',')]
        quota: Vec<QuotaFlag>,
    },
    /// Show the quotas of a user and how much of them is used.
    Quota {
        /// Name [default: the user of the context]; other users: admins only.
        name: Option<String>,
    },
    /// Remove users with their tokens, sessions and workflows. Refused while a workflow of
    /// theirs has not ended.
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Log a user out everywhere: end all browser sessions.
    #[command(
        after_help = "The next request of each browser is refused. Streams that a browser has open already, such as a watch or a
terminal in a job, continue until they end. Tokens remain valid: `bedplate token delete` revokes them.

Examples:
  bedplate user logout
  bedplate user logout ann"
    )]
    Logout {
        /// Name [default: the user of the context]; other users: admins only.
        name: Option<String>,
    },
}

/// A user's record.
#[derive(Debug, Args)]
pub(super) struct Record {
    /// UID of the user's jobs, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    uid: Option<u32>,
    /// GID of the user's jobs, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    gid: Option<u32>,
    /// Supplementary GIDs, separated by commas.
    #[arg(long, value_name = "GID,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    groups: Option<Vec<u32>>,
    /// May do everything (`--admin`), or not (`--admin=false`).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    admin: Option<bool>,
    /// A remark for people.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// What `logout` did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct LoggedOut {
    /// The user.
    name: String,
    /// Sessions that were ended.
    ended: u64,
}

impl Rows for LoggedOut {
    const COLUMNS: &'static [&'static str] = columns::LOGGED_OUT;
}

impl Record {
    /// Puts what was said over what was there.
    fn over(self, user: User) -> anyhow::Result<User> {
        let before = user.account.as_ref();
        let uid = self.uid.or(before.map(|account| account.uid));
        let gid = self.gid.or(before.map(|account| account.gid));
        let groups = self.groups.or_else(|| before.map(|account| account.groups.clone()));
        let account = match (uid, gid, groups) {
            (Some(uid), Some(gid), groups) => {
                Some(Account { uid, gid, groups: groups.unwrap_or_default() })
            }
            (None, None, None) => None,
            _ => return Err(Usage("--uid and --gid go together".to_owned()).into()),
        };
        Ok(User {
            name: user.name,
            admin: self.admin.unwrap_or(user.admin),
            account,
            comment: self.comment.or(user.comment).filter(|comment| !comment.is_empty()),
        })
    }
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = session.client()?;
    match verb {
        Verb::Add { name, record } => {
            let user = record.over(User { name, admin: false, account: None, comment: None })?;
            let added = client.add_user(&user).await?;
            session.out.show(&added, |_| format!("added {}\n", added.name))
        }
        Verb::List => {
            let users = client.users().await?;
            session.out.show(&users, |style| user_table(*style, &users))
        }
        Verb::Show { name } => {
            let user = client.user(&name).await?;
            session.out.show(&user, |style| user_table(*style, std::slice::from_ref(&user)))
        }
        Verb::Set { name, record, quota } => {
            let changed = client.change_user(&record.over(client.user(&name).await?)?).await?;
            if !quota.is_empty() {
                quota::set(&client, &name, &quota).await?;
            }
            session.out.show(&changed, |_| format!("changed {}\n", changed.name))
        }
        Verb::Quota { name } => {
            let name = match name {
                Some(name) => name,
                None => client.whoami().await?.name,
            };
            let quotas = client.quotas(&name).await?;
            session.out.show(&quotas, |style| quota::quota_table(*style, &quotas))
        }
        Verb::Delete { names } => {
            let delete = async |name: &String| client.delete_user(name).await.map(|()| "deleted");
            each(session, &names, "deleted", delete).await
        }
        Verb::Logout { name } => {
            let name = match name {
                Some(name) => name,
                None => client.whoami().await?.name,
            };
            let ended = client.end_sessions(&name).await?.ended;
            let logged_out = LoggedOut { name, ended };
            session.out.show(&logged_out, |_| {
                let sessions = count(usize::try_from(ended).unwrap_or(usize::MAX), "session");
                format!("logged {} out of {sessions}\n", logged_out.name)
            })
        }
    }
}

fn user_table(style: Style, users: &[User]) -> String {
    let row = |user: &User| {
        let number = |of: &dyn Fn(&Account) -> u32| {
            user.account.as_ref().map_or_else(|| "-".to_owned(), |account| of(account).to_string())
        };
        let groups = user.account.iter().flat_map(|account| &account.groups).map(u32::to_string);
        cells([
            user.name.clone(),
            number(&|account| account.uid),
            number(&|account| account.gid),
            groups.collect::<Vec<_>>().join(","),
            if user.admin { "admin" } else { "" }.to_owned(),
            user.comment.clone().unwrap_or_default(),
        ])
    };
    table(style, &["NAME", "UID", "GID", "GROUPS", "ROLE", "COMMENT"], users.iter().map(row))
}
