//! Volumes, and the files that go into them and out of them.

use super::*;

#[test]
fn data_goes_where_the_volume_is() {
    let mut stage = Stage::new(&[(1, 2), (2, 4)]);
    stage.submit(
        "version: v4
files: {words: x}
volumes: {data: {ingress: [{source: file://words, destination: file://in/words}], egress: [{source: file://out, destination: local:///tmp/out}]}}
jobs: {a: {image: docker://a, command: [x], mounts: {data: {location: /d}}}, b: {image: docker://a, command: [x], mounts: {data: {location: /d}}, requires: [a]}}",
        1,
    );
    for subject in ["volume data", "file data/in/words", "job a", "job b", "file data/out"] {
        stage.end(subject, OK, 2);
    }
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   VOLUME_STORAGE_INFO data: volumes go to n2
        1   STAGE_STARTED data: started
        1   RESOURCES_ALLOCATED data: volume data goes to n2
        1   -> n2 start volume data Volume { volume: "data", limit_bytes: None }
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        2   VOLUME_CREATE_STARTED data: volume data runs on n2
        2   VOLUME_CREATED data: volume data is done
        2   STAGE_FINISHED data: finished
        2   DEPENDENCY_SATISFIED data/in/words: may begin
        2   STAGE_STARTED data/in/words: started
        2   RESOURCES_ALLOCATED data/in/words: file data/in/words goes to n2
        2   -> n2 start file data/in/words Ingress { volume: "data", path: "in/words", source: Artifact { digest: Digest([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]), size: 1 } }
        2   forget 1 of 1
        2   FILE_TRANSFER_STARTED data/in/words: file data/in/words runs on n2
        2   FILE_TRANSFER_COMPLETED data/in/words: file data/in/words is done
        2   STAGE_FINISHED data/in/words: finished
        2   DEPENDENCY_SATISFIED a: may begin
        2   STAGE_STARTED a: started
        2   RESOURCES_ALLOCATED a: job a goes to n2, CPUs 0, 1024 MiB
        2   -> n2 start job a ["x"] on [0] with [0]
        2   forget 2 of 1
        2   CONTAINER_STARTED a: job a runs on n2
        2   CONTAINER_EXITED a: job a exited with status 0
        2   STAGE_FINISHED a: finished
        2   DEPENDENCY_SATISFIED b: may begin
        2   STAGE_STARTED b: started
        2   RESOURCES_ALLOCATED b: job b goes to n2, CPUs 0, 1024 MiB
        2   -> n2 start job b ["x"] on [0] with [0]
        2   forget 3 of 1
        2   CONTAINER_STARTED b: job b runs on n2
        2   CONTAINER_EXITED b: job b exited with status 0
        2   STAGE_FINISHED b: finished
        2   DEPENDENCY_SATISFIED data/out: may begin
        2   STAGE_STARTED data/out: started
        2   RESOURCES_ALLOCATED data/out: file data/out goes to n2
        2   -> n2 start file data/out Egress { volume: "data", path: "out", destination: Client { takes_directories: true } }
        2   forget 4 of 1
        2   FILE_TRANSFER_STARTED data/out: file data/out runs on n2
        2   FILE_TRANSFER_COMPLETED data/out: file data/out is done
        2   STAGE_FINISHED data/out: finished
        2   WORKFLOW_FINISHED : finished
        2   -> n2 remove volumes
        2   forget 5 of 1
    "#]]);
}

#[test]
fn volumes_of_what_is_over_are_removed_when_their_node_tells_of_them() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v4\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/d: d}}}",
        1,
    );
    let running = stage.engine.view(at(0)).summaries().next().unwrap().id;
    let over = WorkflowId(uuid::Uuid::from_u128(99));
    stage.engine.volumes_listed(node_id(1), &[running, over]);
    let told = stage.engine.proceed(at(2)).messages;
    assert_eq!(told, [(node_id(1), FromServer::RemoveVolumes { workflow: over })]);
}

#[test]
fn volumes_do_not_outlive_their_node() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v4\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/d: d}}}",
        1,
    );
    stage.end("volume d", OK, 2);
    stage.engine.node_is(facts(1, 1, "boot2"), at(3));
    stage.proceed(3);
    stage.engine.runs_listed(node_id(1), "boot2", &BTreeMap::new(), at(4));
    stage.proceed(4);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   VOLUME_STORAGE_INFO d: volumes go to n1
        1   STAGE_STARTED d: started
        1   RESOURCES_ALLOCATED d: volume d goes to n1
        1   -> n1 start volume d Volume { volume: "d", limit_bytes: None }
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        2   VOLUME_CREATE_STARTED d: volume d runs on n1
        2   VOLUME_CREATED d: volume d is done
        2   STAGE_FINISHED d: finished
        2   DEPENDENCY_SATISFIED a: may begin
        2   STAGE_STARTED a: started
        2   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        2   -> n1 start job a ["x"] on [0] with [0]
        2   forget 1 of 1
        3   STAGE_FAILED a: its volume is lost: n1 was rebooted
        4   ERROR a: job a lost: n1 was rebooted
        4   WORKFLOW_FAILED : job a: its volume is lost: n1 was rebooted
        4   -> n1 remove volumes
        4   forget 2 of 1
    "#]]);
}
