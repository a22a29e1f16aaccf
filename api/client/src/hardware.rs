//! What nodes told of their hardware.

use api::{ids::NodeName, inventory::Inventory};
use reqwest::Method;

use crate::{Client, ClientError, DEADLINE};

impl Client {
    /// The hardware that the node reported last.
    ///
    /// # Errors
    /// As every request; 404 if it never reported any.
    pub async fn inventory(&self, name: &NodeName) -> Result<Inventory, ClientError> {
        self.get(&format!("/v1/nodes/{name}/inventory"), &[]).await
    }

    /// The topology of a node, hwloc's XML.
    ///
    /// # Errors
    /// As every request; 404 if it never sent one.
    pub async fn topology(&self, name: &NodeName) -> Result<String, ClientError> {
        let request = self.request(Method::GET, &format!("/v1/nodes/{name}/topology.xml"))?.timeout(DEADLINE);
        self.answer(request).await?.text().await.map_err(ClientError::Answer)
    }
}
