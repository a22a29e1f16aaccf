//! `/v1/users`.

use api::{
    access::{EndedSessions, User},
    quota::{SetQuotas, UserQuotas},
};
use reqwest::Method;

use crate::{Client, ClientError, DEADLINE, path::path_of};

impl Client {
    /// All users.
    ///
    /// # Errors
    /// As every request; 403 for who is no admin.
    pub async fn users(&self) -> Result<Vec<User>, ClientError> {
        self.get("/v1/users", &[]).await
    }

    /// A user.
    ///
    /// # Errors
    /// As every request.
    pub async fn user(&self, name: &str) -> Result<User, ClientError> {
        self.get(&path_of(["users", name])?, &[]).await
    }

    /// Adds a user.
    ///
    /// # Errors
    /// As every request; 409 if the name is taken.
    pub async fn add_user(&self, user: &User) -> Result<User, ClientError> {
        self.send_json(Method::POST, "/v1/users", user).await
    }

    /// Replaces a user's record.
    ///
    /// # Errors
    /// As every request.
    pub async fn change_user(&self, user: &User) -> Result<User, ClientError> {
        self.send_json(Method::PUT, &path_of(["users", &user.name])?, user).await
    }

    /// Removes a user with its tokens, its sessions and its workflows.
    ///
    /// # Errors
    /// As every request; 409 while workflows of the user are not over.
    pub async fn delete_user(&self, name: &str) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &path_of(["users", name])?).await
    }

    /// What a user may have at the server, and has.
    ///
    /// # Errors
    /// As every request; 403 for who is neither that user nor an admin.
    pub async fn quotas(&self, name: &str) -> Result<UserQuotas, ClientError> {
        self.get(&path_of(["users", name, "quotas"])?, &[]).await
    }

    /// Replaces a user's own limits.
    ///
    /// # Errors
    /// As every request; 403 for who is no admin.
    pub async fn set_quotas(
        &self,
        name: &str,
        limits: &SetQuotas,
    ) -> Result<UserQuotas, ClientError> {
        self.send_json(Method::PUT, &path_of(["users", name, "quotas"])?, limits).await
    }

    /// Logs a user out everywhere: ends all sessions of browsers. Tokens stay good.
    ///
    /// # Errors
    /// As every request; 403 for who is neither that user nor an admin.
    pub async fn end_sessions(&self, name: &str) -> Result<EndedSessions, ClientError> {
        let path = path_of(["users", name, "sessions"])?;
        let request = self.request(Method::DELETE, &path)?.timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }
}
