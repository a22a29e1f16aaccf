//! What nodes told of their hardware, and which nodes have which labels.

use api::{
    ids::NodeName,
    inventory::{Answer, Inventory},
    labels::Selector,
    machine::Node,
};
use reqwest::Method;

use crate::{Client, ClientError, DEADLINE, pages::PAGE_ROWS, path::path_of};

impl Client {
    /// The hardware that the node reported last.
    ///
    /// # Errors
    /// As every request; 404 if it never reported any.
    pub async fn inventory(&self, name: &NodeName) -> Result<Inventory, ClientError> {
        self.get(&path_of(["nodes", name.as_str(), "inventory"])?, &[]).await
    }

    /// The topology of a node, hwloc's XML.
    ///
    /// # Errors
    /// As every request; 404 if it never sent one.
    pub async fn topology(&self, name: &NodeName) -> Result<String, ClientError> {
        let request = self
            .request(Method::GET, &path_of(["nodes", name.as_str(), "topology.xml"])?)?
            .timeout(DEADLINE);
        self.answer(request).await?.text().await.map_err(ClientError::Answer)
    }

    /// Nodes with such labels, in the order of a host list, or all of them by name. On a server of
    /// before labels no node has one.
    ///
    /// # Errors
    /// As every request.
    pub async fn labelled_nodes(
        &self,
        names: Option<&str>,
        labels: &Selector,
    ) -> Result<Vec<Node>, ClientError> {
        let mut query = vec![("labels", labels.to_string())];
        match names {
            Some(names) => query.push(("names", names.to_owned())),
            None => query.push(("limit", PAGE_ROWS.to_string())),
        }
        let first = self.request(Method::GET, "/v1/nodes")?.query(&query);
        let (mut nodes, mut next): (Vec<Node>, _) = self.get_page(first).await?;
        while let Some(query) = next {
            let behind = self.request(Method::GET, &format!("/v1/nodes{query}"))?;
            let (page, after): (Vec<Node>, _) = self.get_page(behind).await?;
            nodes.extend(page);
            next = after;
        }
        nodes.retain(|node| labels.matches(&node.labels));
        Ok(nodes)
    }

    /// Nodes whose hardware is as an expression says. `names`: a host list; `labels`: those of them
    /// with such labels; `columns`: fields, without which whole inventories come. Without a host
    /// list the nodes are fetched in pages, by name; with one they come at once, in its order.
    ///
    /// # Errors
    /// As every request; 422 with the place of a mistake in expression or columns, and for more
    /// whole inventories of a host list than fit into one answer.
    pub async fn query_inventory(
        &self,
        filter: Option<&str>,
        names: Option<&str>,
        columns: Option<&str>,
        labels: Option<&Selector>,
    ) -> Result<Answer, ClientError> {
        let labels = labels.map(Selector::to_string);
        let query = [
            ("filter", filter),
            ("names", names),
            ("columns", columns),
            ("labels", labels.as_deref()),
        ];
        let mut query: Vec<(&str, String)> =
            query.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect();
        if names.is_none() {
            query.push(("limit", PAGE_ROWS.to_string()));
        }
        let first = self.request(Method::GET, "/v1/inventory")?.query(&query);
        let (mut answer, mut next): (Answer, _) = self.get_page(first).await?;
        while let Some(query) = next {
            let behind = self.request(Method::GET, &format!("/v1/inventory{query}"))?;
            let (page, after): (Answer, _) = self.get_page(behind).await?;
            answer.nodes.extend(page.nodes);
            answer.unclear.extend(page.unclear);
            next = after;
        }
        Ok(answer)
    }

    /// Metrics for Prometheus, OpenMetrics text.
    ///
    /// # Errors
    /// As every request.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let request = self.request(Method::GET, "/metrics")?.timeout(DEADLINE);
        self.answer(request).await?.text().await.map_err(ClientError::Answer)
    }
}
