//! What the overlays of a node become: archives for nodes, files for who looks at them. All of it
//! is blocking: host keys are read or made, templates rendered.

use api::{
    ids::NodeName,
    machine::MachineSpec,
    overlay::{Generation, MAX_ARCHIVE_BYTES},
};
use bytes::Bytes;
use rest::Abandoned;

use super::{OverlaySet, OverlaysError, Provisioner};
use crate::overlay::{Entry, archive, renderer::RenderError};

impl Provisioner {
    /// The rendered archive of a node. Blocking: reads or makes a host key, renders.
    ///
    /// # Errors
    /// See [`OverlaysError`].
    pub(crate) fn archive(&self, name: &NodeName, set: OverlaySet) -> Result<Bytes, OverlaysError> {
        let entries = match set {
            OverlaySet::Boot => self.entries(name, |spec| spec.boot_overlays.clone(), &|| true)?,
            OverlaySet::Runtime => {
                self.entries(name, |spec| spec.runtime_overlays.clone(), &|| true)?
            }
        };
        // Before they are copied into an archive.
        check_size(entries.iter().map(Entry::bytes).sum())?;
        let packed = archive::pack(&entries);
        let packed = packed.map_err(|error| RenderError::Pack { cause: error.to_string() })?;
        check_size(packed.len() as u64)?;
        Ok(packed)
    }

    /// The name of the archive of a node's runtime overlays. Blocking, likewise.
    ///
    /// # Errors
    /// See [`OverlaysError`].
    pub(crate) fn generation(&self, name: &NodeName) -> Result<Generation, OverlaysError> {
        let generation = archive::generation(&self.entries(
            name,
            |spec| spec.runtime_overlays.clone(),
            &|| true,
        )?);
        check_size(generation.size)?;
        Ok(generation)
    }

    /// The files that one overlay puts on a node, as long as a client waits. Blocking, likewise.
    ///
    /// # Errors
    /// See [`OverlaysError`].
    pub(crate) fn render(
        &self,
        name: &NodeName,
        overlay: &str,
        abandoned: &Abandoned,
    ) -> Result<Vec<Entry>, OverlaysError> {
        self.entries(name, |_| vec![overlay.to_owned()], &|| !abandoned.is_set())
    }

    /// What some overlays put on a node, as long as it is waited for.
    fn entries(
        &self,
        name: &NodeName,
        overlays: impl FnOnce(&MachineSpec) -> Vec<String>,
        is_waited_for: &dyn Fn() -> bool,
    ) -> Result<Vec<Entry>, OverlaysError> {
        let (view, library) = (self.view(), self.library());
        let (node, spec) = self.node(&view, name)?;
        let overlays = overlays(spec);
        let variables = self.variables(&view, node, spec, &library, &overlays)?;
        Ok(self.0.renderer.entries_while(&library, &overlays, &variables, is_waited_for)?)
    }
}

/// Nodes refuse what is larger, so it is not offered.
fn check_size(bytes: u64) -> Result<(), RenderError> {
    if bytes > MAX_ARCHIVE_BYTES { Err(RenderError::TooLarge { bytes }) } else { Ok(()) }
}
