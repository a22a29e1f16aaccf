//! `/v1/overlays`.

use api::{
    ids::{NodeName, OverlayName},
    overlay::{Overlay, RenderedFile},
};
use reqwest::{Method, StatusCode};

use crate::{Client, ClientError, DEADLINE, path::path_of};

impl Client {
    /// Overlays.
    ///
    /// # Errors
    /// As every request.
    pub async fn overlays(&self) -> Result<Vec<Overlay>, ClientError> {
        self.get("/v1/overlays", &[]).await
    }

    /// One overlay.
    ///
    /// # Errors
    /// As every request.
    pub async fn overlay(&self, name: &OverlayName) -> Result<Overlay, ClientError> {
        self.get(&path_of(["overlays", name.as_str()])?, &[]).await
    }

    /// An overlay as a node gets it; one file, or all.
    ///
    /// # Errors
    /// As every request; a template's mistake with file and line.
    pub async fn render(
        &self,
        overlay: &OverlayName,
        node: &NodeName,
        path: Option<&str>,
    ) -> Result<Vec<RenderedFile>, ClientError> {
        let mut query = vec![("node", node.to_string())];
        query.extend(path.map(|path| ("path", path.to_owned())));
        self.get(&path_of(["overlays", overlay.as_str(), "render"])?, &query).await
    }

    /// A file of an overlay as its author wrote it, templates before rendering. `path` is the
    /// path on the node.
    ///
    /// # Errors
    /// As every request; 404 if the overlay has no such file.
    pub async fn overlay_file(
        &self,
        overlay: &OverlayName,
        path: &str,
    ) -> Result<Vec<u8>, ClientError> {
        let path = of_file(overlay, path)?;
        let response = self.answer(self.request(Method::GET, &path)?.timeout(DEADLINE)).await?;
        Ok(response.bytes().await.map_err(ClientError::Answer)?.into())
    }

    /// Writes a file of a site overlay. `path` is the path on the node.
    ///
    /// # Errors
    /// As every request.
    pub async fn put_overlay_file(
        &self,
        overlay: &OverlayName,
        path: &str,
        mode: u32,
        template: bool,
        content: Vec<u8>,
    ) -> Result<(), ClientError> {
        let query = [("mode", format!("{mode:04o}")), ("template", template.to_string())];
        let path = of_file(overlay, path)?;
        let request =
            self.request(Method::PUT, &path)?.query(&query).body(content).timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    /// Removes a file of a site overlay.
    ///
    /// # Errors
    /// As every request.
    pub async fn delete_overlay_file(
        &self,
        overlay: &OverlayName,
        path: &str,
    ) -> Result<(), ClientError> {
        let path = of_file(overlay, path)?;
        self.send_empty(Method::DELETE, &path).await
    }

    /// Deletes a site overlay. Gives the shipped overlay of the same name, where there is one: it
    /// is the one that counts from now on.
    ///
    /// # Errors
    /// As every request; 404 without such an overlay, 409 while nodes or profiles use it or if it
    /// only ships.
    pub async fn delete_overlay(&self, name: &OverlayName) -> Result<Option<Overlay>, ClientError> {
        let path = path_of(["overlays", name.as_str()])?;
        let response = self.answer(self.request(Method::DELETE, &path)?.timeout(DEADLINE)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        response.json().await.map(Some).map_err(ClientError::Answer)
    }
}

/// A file of an overlay, whose path on the node goes on in that of the URL.
fn of_file(overlay: &OverlayName, file: &str) -> Result<String, ClientError> {
    path_of(
        ["overlays", overlay.as_str(), "files"]
            .into_iter()
            .chain(file.trim_start_matches('/').split('/')),
    )
}
