//! What the server tells of itself.

use api::alarm::{Alarm, Certificate};

use crate::{Client, ClientError};

impl Client {
    /// What wants attention before it fails. For admins.
    ///
    /// # Errors
    /// As every request.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, ClientError> {
        self.get("/v1/alarms", &[]).await
    }

    /// The certificates of the server.
    ///
    /// # Errors
    /// As every request; 404 from a server of before 2026-12.
    pub async fn certificates(&self) -> Result<Vec<Certificate>, ClientError> {
        self.get("/v1/certificates", &[]).await
    }
}
