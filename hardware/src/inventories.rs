//! What agents reported of their hardware: inventories and topologies, kept and asked for.

use std::borrow::Cow;

use api::{
    ids::{Digest, NodeId, Timestamp},
    inventory::Inventory,
    status::Severity,
    visible,
};
use async_trait::async_trait;
use fleet::{HardwareReports, InventoryMoment, KeptInventory, StoreError};
use serde_json::Value;
use sha2::Digest as _;

use crate::{
    Hardware, changes,
    metrics::Facts,
    store::{InventoryRow, Store, TopologyRow},
    topology,
};

/// Inventories that a new one is compared with: the last, and some before it for what the last does
/// not tell.
const COMPARED_INVENTORIES: u32 = 4;

/// Nodes in a page of inventories: some MB.
const PAGE: u32 = 64;

impl Hardware {
    /// The newest inventory of a node, with the names of its PCI devices; `None` if it never sent
    /// one.
    ///
    /// # Errors
    /// [`StoreError`]; it is [`StoreError::Decode`] if what is kept cannot be read.
    pub async fn inventory(&self, id: NodeId) -> Result<Option<Inventory>, StoreError> {
        let mut inventory = newest(self.inner.store.as_ref(), id).await?;
        if let Some(inventory) = &mut inventory {
            self.inner.pci_names.fill(inventory);
        }
        Ok(inventory)
    }

    /// The newest inventory of each of the nodes that come behind one, by their ids, or why it
    /// cannot be read; a page of [`PAGE`] at most, and an empty one at the end. Nodes that never
    /// sent one are left out.
    ///
    /// # Errors
    /// [`StoreError`]: the page cannot be read.
    pub async fn inventories_after(
        &self,
        after: Option<NodeId>,
    ) -> Result<Vec<(NodeId, Result<Inventory, StoreError>)>, StoreError> {
        let rows = self.inner.store.newest_inventories(after, PAGE).await?;
        let hardware = self.clone();
        let read = move |(id, row): (NodeId, InventoryRow)| {
            let mut inventory = decoded(id, &row);
            if let Ok(inventory) = &mut inventory {
                hardware.inner.pci_names.fill(inventory);
            }
            (id, inventory)
        };
        // Inventories have up to some hundred KB each.
        tokio::task::spawn_blocking(move || rows.into_iter().map(read).collect()).await.map_err(
            |error| StoreError::Decode { subject: "inventories".to_owned(), source: error.into() },
        )
    }

    /// The newest topology of a node, hwloc's XML; `None` if it never sent one.
    ///
    /// # Errors
    /// As [`Self::inventory`].
    pub async fn topology(&self, id: NodeId) -> Result<Option<String>, StoreError> {
        let Some(row) = self.inner.store.topology(id).await? else { return Ok(None) };
        Ok(Some(aside(id, move || topology::unpack(&row.document)).await?))
    }
}

#[async_trait]
impl HardwareReports for Hardware {
    /// Its texts are kept clean.
    async fn keep_inventory(
        &self,
        node: NodeId,
        inventory: &Inventory,
        moment: InventoryMoment,
        at: Timestamp,
    ) -> Result<KeptInventory, StoreError> {
        let (inventory, document) = cleaned(inventory).map_err(|source| StoreError::Decode {
            subject: format!("inventory of {node}"),
            source: source.into(),
        })?;
        let inventory = inventory.as_ref();
        let digest = Digest(sha2::Sha256::digest(document.as_bytes()).into());
        let kept = self.inner.store.inventories(node, COMPARED_INVENTORIES).await?;
        let changed =
            self.inner.store.put_inventory(node, &InventoryRow { at, digest, document }).await?;
        self.inner.facts.put(node, Some(Facts::of(inventory)));
        let news = if changed { news(kept, inventory, moment) } else { Vec::new() };
        Ok(KeptInventory { changed, news })
    }

    async fn keep_topology(
        &self,
        node: NodeId,
        xml: String,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let size = u64::try_from(xml.len()).unwrap_or(u64::MAX);
        let document = aside(node, move || topology::pack(&xml)).await?;
        self.inner.store.put_topology(node, &TopologyRow { at, size, document }).await
    }
}

/// Works on the topology of a node on a thread that may be busy with it.
async fn aside<T: Send + 'static>(
    id: NodeId,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
        .and_then(|done| done);
    done.map_err(|error| StoreError::Decode {
        subject: format!("topology of {id}"),
        source: error.into(),
    })
}

/// An inventory whose texts are lines that do nothing to a terminal ([`visible`]), and its JSON.
fn cleaned(inventory: &Inventory) -> serde_json::Result<(Cow<'_, Inventory>, String)> {
    let document = serde_json::to_string(inventory)?;
    // Of what is hidden JSON escapes the controls. Nearly all inventories have none of either.
    if !document.contains('\\') && !document.contains(visible::is_hidden) {
        return Ok((Cow::Borrowed(inventory), document));
    }
    let mut tree = serde_json::from_str(&document)?;
    clean(&mut tree);
    let inventory = serde_json::from_value(tree)?;
    let document = serde_json::to_string(&inventory)?;
    Ok((Cow::Owned(inventory), document))
}

/// The tree is no deeper than the type that it was made from.
fn clean(tree: &mut Value) {
    match tree {
        Value::String(text) if text.contains(visible::is_hidden) => {
            *text = visible::line(text).into_owned()
        }
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(values) => {
            let cleaned = |(name, mut value): (String, Value)| {
                clean(&mut value);
                (visible::line(&name).into_owned(), value)
            };
            *values = std::mem::take(values).into_iter().map(cleaned).collect();
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What the history says of an inventory that is another than the last.
fn news(
    kept: Vec<InventoryRow>,
    now: &Inventory,
    moment: InventoryMoment,
) -> Vec<(Severity, String)> {
    let bare = |line: &str| vec![(Severity::Info, line.to_owned())];
    // One of an older version that cannot be read any more is as good as none.
    let kept = kept.iter().filter_map(|row| serde_json::from_str(&row.document).ok()).collect();
    let Some(before) = changes::remembered(kept) else { return bare("sent its first inventory") };
    let news = changes::changes(&before, now, moment);
    match news.is_empty() {
        true if changes::is_only_counters(&before, now) => Vec::new(),
        true => bare("sent a new inventory"),
        false => news,
    }
}

/// The newest inventory of a node as it is kept.
pub(crate) async fn newest(store: &dyn Store, id: NodeId) -> Result<Option<Inventory>, StoreError> {
    let newest = store.inventories(id, 1).await?.pop();
    newest.map(|row| decoded(id, &row)).transpose()
}

fn decoded(id: NodeId, row: &InventoryRow) -> Result<Inventory, StoreError> {
    serde_json::from_str(&row.document).map_err(|source| StoreError::Decode {
        subject: format!("inventory of {id}"),
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_kept_with_clean_texts() {
        let inventory = |product: &str| -> Inventory {
            serde_json::from_value(serde_json::json!({
                "memory-bytes": 1024, "system": {"product": product},
            }))
            .unwrap()
        };
        let plain = inventory("R650 \"x\" ümläut");
        let (kept, document) = cleaned(&plain).unwrap();
        assert_eq!((kept.as_ref(), document), (&plain, serde_json::to_string(&plain).unwrap()));
        let hostile = inventory("R650\x1b[2J\nn1 is fine\u{202e}\u{9b}");
        let (kept, document) = cleaned(&hostile).unwrap();
        assert_eq!(kept.as_ref(), &inventory("R650\\x1b[2J\\nn1 is fine\\u{202e}\\u{9b}"));
        assert!(!document.contains(visible::is_hidden), "{document}");
        assert_eq!(serde_json::from_str::<Inventory>(&document).unwrap(), *kept);
    }
}
