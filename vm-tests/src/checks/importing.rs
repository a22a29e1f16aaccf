//! Importing the node image from the registry.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api::{
    ids::ImageName,
    image::{ImportImage, OperationState},
};

use crate::{check::Memory, clock, cluster::Cluster, registry::Registry};

/// How long an import may take; it takes about fifteen seconds on two cores.
const IMPORT_LIMIT: Duration = Duration::from_secs(180);

/// `kill -9` in the middle of an import; the server carries on with it when it is back.
pub(crate) fn outlives_kill(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let server = &mut cluster.server;
    let import = ImportImage {
        source: Registry::source(),
        name: None,
        insecure: false,
        platform: None,
        retry: false,
    };
    let operation = server.ask(|client| async move { client.import(&import).await })?;
    clock::wait_for("the import to move bytes", IMPORT_LIMIT, || {
        let now = server.ask(|client| async move { client.operation(operation.id).await })?;
        match now.state {
            OperationState::Running { bars, .. } => {
                Ok(bars.iter().any(|bar| bar.done > 0).then_some(()))
            }
            ended => bail!("the import ended before it could be killed: {ended:?}"),
        }
    })?;
    server.kill()?;
    server.restart().context("after kill -9 in the middle of an import")?;
    let result = clock::wait_for("the import to end", IMPORT_LIMIT, || {
        let now = server.ask(|client| async move { client.operation(operation.id).await })?;
        match now.state {
            OperationState::Running { .. } => Ok(None),
            OperationState::Done { result } => Ok(Some(result)),
            OperationState::Failed { error } => bail!("the import failed after kill -9: {error}"),
        }
    })?;
    ensure!(result == "debian-node@1", "the import made {result}, not debian-node@1");
    Ok(())
}

/// The same source again, as a person imports it: the same bytes.
pub(crate) fn by_command_line(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let server = &cluster.server;
    server.cli(&["image", "import", &Registry::source()])?;
    let name: ImageName = "debian-node".parse()?;
    let image = server.ask(|client| async move { client.image(&name).await })?;
    let (first, last) = (image.versions.last(), image.versions.first());
    let (first, last) = first.zip(last).context("the image has no version")?;
    ensure!(first.source == Registry::source(), "the image came from {}", first.source);
    ensure!(first.root.digest == last.root.digest, "the same image gave another root: {image:?}");
    ensure!(
        first.kernels == last.kernels,
        "the same image gave another kernel or stage 1: {image:?}"
    );
    let listed = server.cli(&["image", "list"])?;
    ensure!(
        listed.contains("debian-node"),
        "`bedplate image list` does not show the image:\n{listed}"
    );
    Ok(())
}
