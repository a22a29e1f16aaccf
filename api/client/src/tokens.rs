//! `/v1/tokens`.

use api::access::{CreateToken, CreatedToken, Token};
use reqwest::Method;

use crate::{Client, ClientError, DEADLINE, path::path_of};

impl Client {
    /// The caller's tokens.
    ///
    /// # Errors
    /// As every request.
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.get("/v1/tokens", &[]).await
    }

    /// The tokens of a user. A server of before 2026-12 lists the caller's instead: look
    /// whose they are.
    ///
    /// # Errors
    /// As every request; 403 for who is neither that user nor an admin.
    pub async fn tokens_of(&self, user: &str) -> Result<Vec<Token>, ClientError> {
        self.get("/v1/tokens", &[("user", user.to_owned())]).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// As every request; 409 if the name is taken.
    pub async fn create_token(&self, create: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.send_json(Method::POST, "/v1/tokens", create).await
    }

    /// Revokes one of the caller's tokens.
    ///
    /// # Errors
    /// As every request.
    pub async fn delete_token(&self, name: &str) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &path_of(["tokens", name])?).await
    }

    /// Revokes a token of a user. A server of before 2026-12 revokes the caller's of that name
    /// instead: ask it first by [`Self::tokens_of`] whether it knows of others.
    ///
    /// # Errors
    /// As every request; 403 for who is neither that user nor an admin.
    pub async fn delete_token_of(&self, user: &str, name: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &path_of(["tokens", name])?)?;
        self.answer(request.query(&[("user", user)]).timeout(DEADLINE)).await.map(drop)
    }
}
