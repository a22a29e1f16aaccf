//! Users: who they are, and the numbers that their jobs run with.

use std::collections::BTreeMap;

use api::access::{Account, User};

use crate::{Access, AccessError, clock, record_change};

/// Supplementary groups of a user: the limit of NFS with AUTH_SYS is 16, that of Linux 65,536.
const MAX_GROUPS: usize = 1_024;

/// RFC 1123 labels, the rule of a profile's name too.
pub(crate) fn is_label(name: &str) -> bool {
    name.parse::<api::ids::ProfileName>().is_ok()
}

/// The rules of a record.
fn check(user: &User) -> Result<(), AccessError> {
    let refuse = |why: String| Err(AccessError::UserRecord(why));
    if !is_label(&user.name) {
        let name: String = user.name.chars().take(80).collect();
        return refuse(format!(
            "{name:?} cannot name a user: use 1 to 63 lower-case letters, digits and inner hyphens"
        ));
    }
    if let Some(Account { uid, gid, groups }) = &user.account {
        if [uid, gid].into_iter().chain(groups).any(|&id| id == 0 || id == u32::MAX) {
            return refuse(format!(
                "uid, gid and groups are from 1 to {}; jobs do not run as root",
                u32::MAX - 1
            ));
        }
        if groups.len() > MAX_GROUPS {
            return refuse(format!("{} groups; a user has at most {MAX_GROUPS}", groups.len()));
        }
    }
    Ok(())
}

impl Access {
    /// All users, by name.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn users(&self) -> Result<Vec<User>, AccessError> {
        Ok(self.inner.store.users().await?)
    }

    /// A user.
    ///
    /// # Errors
    /// [`AccessError::UnknownUser`], [`AccessError::Store`].
    pub async fn user(&self, name: &str) -> Result<User, AccessError> {
        let found = self.inner.store.user(name).await?;
        found.ok_or_else(|| AccessError::UnknownUser { user: name.to_owned() })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`AccessError::UserRecord`], [`AccessError::UserExists`], [`AccessError::Store`].
    pub async fn add_user(&self, user: &User) -> Result<(), AccessError> {
        check(user)?;
        let _turn = self.inner.users_lock.lock().await;
        record_change(&user.name, None::<&User>, Some(user));
        if self.inner.store.add_user(user).await? {
            return Ok(());
        }
        Err(AccessError::UserExists { user: user.name.clone() })
    }

    /// Changes a user; its name stays.
    ///
    /// # Errors
    /// [`AccessError::UserRecord`], [`AccessError::UnknownUser`], [`AccessError::LastAdmin`],
    /// [`AccessError::Store`].
    pub async fn change_user(&self, user: &User) -> Result<(), AccessError> {
        check(user)?;
        let _turn = self.inner.users_lock.lock().await;
        if !user.admin {
            self.require_an_admin(&user.name).await?;
        }
        let before = self.inner.store.user(&user.name).await?;
        record_change(&user.name, before.as_ref(), Some(user));
        if self.inner.store.change_user(user).await? {
            self.inner.quotas.forget_limits();
            return Ok(());
        }
        Err(AccessError::UnknownUser { user: user.name.clone() })
    }

    /// Removes a user with all that other roles hold of it ([`crate::Holdings`]); its tokens are
    /// refused from now on.
    ///
    /// # Errors
    /// [`AccessError::UnknownUser`], [`AccessError::LastAdmin`], [`AccessError::LastAdminEmptied`],
    /// [`AccessError::StillHeld`], [`AccessError::Store`].
    pub async fn remove_user(&self, name: &str) -> Result<(), AccessError> {
        // What was true before another removal is no reason to free anything.
        let removal_lock = self.inner.quotas.removal_lock().await;
        self.require_an_admin(name).await?;
        let before = self.user(name).await?;
        // The row goes with the first thing that is freed, and the user may stay yet.
        let leaving = BTreeMap::from([("leaving", &before)]);
        record_change(name, Some(&leaving), None::<&User>);
        // Whoever changes other users doesn't wait for it.
        let _leaving = self.let_go(removal_lock, name).await?;
        let _turn = self.inner.users_lock.lock().await;
        // Another admin may be none any more.
        self.require_an_admin(name).await.map_err(|error| match error {
            AccessError::LastAdmin { user } => AccessError::LastAdminEmptied { user },
            error => error,
        })?;
        if self.inner.store.remove_user(name).await? {
            self.inner.quotas.forget_limits();
            return Ok(());
        }
        Err(AccessError::UnknownUser { user: name.to_owned() })
    }

    /// Refuses what would leave no admin who can ask: one with a token that has not ended
    /// and has no scope.
    async fn require_an_admin(&self, but: &str) -> Result<(), AccessError> {
        let is_admin = self.inner.store.user(but).await?.is_some_and(|user| user.admin);
        if !is_admin {
            return Ok(());
        }
        let tokens = self.inner.store.tokens_of_admins(clock::now()).await?;
        if tokens.iter().all(|(owner, _)| owner == but) {
            return Err(AccessError::LastAdmin { user: but.to_owned() });
        }
        Ok(())
    }
}
