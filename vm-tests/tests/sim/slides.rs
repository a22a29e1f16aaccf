//! The documents that the project was shown with: each starts, or is refused only for
//! what is to come.

use std::fs;

use api::workflow::State;
use expect_test::expect;
use harness::workspace;

use crate::{
    cluster::{IMAGE, in_namespace},
    workflows::{cluster, end, start},
};

#[test]
fn every_document_of_the_slides_starts_or_wants_what_is_to_come() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let directory = workspace::root()?.join("vm-tests/documents/slides");
        let mut paths: Vec<_> = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        paths.sort();
        let mut told = String::new();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)?;
            let checked = ann.validate_workflow(text.clone()).await?;
            for diagnostic in checked.diagnostics.iter().chain(&checked.warnings) {
                told += &format!("{name}:{diagnostic}\n");
            }
            if checked.diagnostics.is_empty() {
                let images = text.lines().map(|line| match line.split_once("docker://") {
                    Some((before, _)) => format!("{before}docker://{IMAGE}\n"),
                    None => format!("{line}\n"),
                });
                let id = start(&ann, images.collect()).await?;
                assert_eq!(end(&ann, &id).await?.summary.state, State::Finished, "{name}");
                told += &format!("{name}: finished\n");
            }
        }
        expect![[r#"
            array.yaml: finished
            blast.yaml:9:11: volumes.v1.egress[0].destination: s3:// is not supported yet (use http://, https://, or local:///PATH on the client's machine)
            blast.yaml:10:11: volumes.v1.egress[0].destination.secrets: not supported yet
            counter.yaml: finished
            jupyter.yaml: finished
            lammps-amd.yaml:28:5: jobs.run-lammps.mpi: not supported yet
            lammps-nvidia.yaml:28:5: jobs.run-lammps.mpi: not supported yet
            mpi.yaml:18:5: jobs.hello.mpi: not supported yet
            persistent.yaml:4:11: volumes.v1.type: not supported yet (ephemeral volumes are there: `reference: volume://user/ephemeral`)
            persistent.yaml:5:5: volumes.v1.namedVolume: not supported yet
            trex.yaml:6:7: jobs.mine-ethereum.image.secrets: not supported yet
            ufs.yaml:29:5: jobs.ufs.mpi: not supported yet
        "#]].assert_eq(&told);
        Ok(())
    });
}
