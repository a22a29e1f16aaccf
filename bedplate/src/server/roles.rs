//! The roles that own images, nodes and workflows: opened in their order on one database, and run.
//!
//! Images have tables that the provisioner's and the controller's steps make, so both bring theirs
//! up to date first; then the images are opened, which both use.

use std::sync::Arc;

use access::{Access, Routes};
use axum::Router;
use controller::{Controller, ControllerConfig};
use database::Database;
use fleet::Fleet;
use hardware::Hardware;
use image_catalog::{CatalogConfig, ImageCatalog};
use image_store::Converter;
use provisioner::Provisioner;
use rest::shell::Shell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::config::{self, Checked};

/// Images, nodes and workflows.
#[derive(Debug, Clone)]
pub(super) struct OwnRoles {
    pub(super) images: ImageCatalog,
    pub(super) provisioner: Provisioner,
    pub(super) controller: Controller,
}

impl OwnRoles {
    /// Opens them. Nothing is served before [`Self::spawn`].
    pub(super) async fn open(
        config: &Checked,
        database: &Database,
        access: &Access,
        (fleet, hardware): (&Fleet, &Hardware),
        converter: Converter,
    ) -> Result<Self, ServerError> {
        provisioner::migrate(database, fleet).await?;
        controller::migrate(database).await?;
        let of_images = CatalogConfig {
            state_dir: config.state_dir.clone(),
            substrate: config.provisioner.substrate.clone(),
            registries: config.registries.clone(),
            converter,
            job_images: config.job_images,
        };
        let images = ImageCatalog::open(database.clone(), of_images, access.clone()).await?;
        let provisioner = Provisioner::open(
            database.clone(),
            config.provisioner.clone(),
            images.os_images().clone(),
            fleet.clone(),
            access.clone(),
        );
        let provisioner = provisioner.await?;
        let of_workflows = ControllerConfig {
            state_dir: config.state_dir.clone(),
            forbidden: config.out_of_reach_of_jobs(),
            transfers_forbidden: config.out_of_reach_of_transfers(&config::machine_addresses()),
            log_limit_bytes: config.job_log_bytes,
            volume_bytes: config.volume_bytes,
            images: images.job_images().clone(),
        };
        let nodes = (fleet.clone(), hardware.clone());
        let controller =
            Controller::open(database.clone(), of_workflows, nodes, access.clone()).await?;
        Ok(Self { images, provisioner, controller })
    }

    /// Their REST routes.
    pub(super) fn rest(&self) -> Routes {
        let of_images = self.images.rest(Arc::new(self.provisioner.clone()));
        self.provisioner.rest().merge(of_images).merge(self.controller.rest())
    }

    /// Their routes for nodes.
    pub(super) fn node_routes(&self) -> Router {
        self.provisioner.node_routes().merge(self.controller.node_routes())
    }

    /// Runs them until `stop`.
    pub(super) fn spawn(
        self,
        shell: Shell,
        parts: &mut JoinSet<Result<(), ServerError>>,
        stop: &CancellationToken,
    ) {
        let Self { images, provisioner, controller } = self;
        let [images_stop, provisioner_stop, controller_stop] = [(); 3].map(|()| stop.clone());
        parts.spawn(async move {
            images.serve(images_stop).await;
            Ok(())
        });
        parts.spawn(async move { Ok(provisioner.serve(&shell, provisioner_stop).await?) });
        parts.spawn(async move {
            controller.serve(controller_stop).await;
            Ok(())
        });
    }
}
