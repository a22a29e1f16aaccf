//! Names of people's documents over the whole server: in URLs, in lists, on nodes.

use api::{
    stream::StreamRequest,
    workflow::{StartWorkflow, State},
};
use client::{ClientError, LogOf, StreamOf};

use crate::{
    cluster::{IMAGE, in_namespace},
    workflows::{cluster, document, end, start},
};

#[test]
fn names_with_underscores_and_dots_are_names_everywhere() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let text = format!(
            "version: v1\nname: w/../x ?\nfiles: {{in: x}}\nvolumes: {{data_v1.2: {{ingress: [{{source: file://in, \
             destination: file://in}}], egress: [{{source: file://out, destination: local:///out}}]}}}}\njobs:\n  \
             counter_job: {{name: counter_job, image: docker://{IMAGE}, command: [counting], mounts: {{data_v1.2: \
             {{location: /d}}}}, resource: {{memory: {{size: 16MiB}}}}}}\n  step.2: {{image: docker://{IMAGE}, \
             command: [stepping], requires: [counter_job], resource: {{memory: {{size: 16MiB}}}}}}\n"
        );
        let id = start(&ann, text).await?;
        let ended = end(&ann, &id).await?;
        assert_eq!(ended.summary.state, State::Finished, "{ended:?}");
        // By its name, which is one part of the URL whatever it holds.
        assert_eq!(ann.workflow("w/../x ?").await?.summary.id, ended.summary.id);
        for (job, said) in [("counter_job", "counting"), ("step.2", "stepping")] {
            let of = LogOf { job: Some(job.to_owned()), ..LogOf::default() };
            let mut log = ann.workflow_log("w/../x ?", &of).await?;
            let mut text = Vec::new();
            while let Ok(bytes) = log.next().await {
                text.extend(bytes);
            }
            assert_eq!(String::from_utf8_lossy(&text), format!("job {job}: {said}\n"));
        }
        Ok(())
    });
}

#[test]
fn names_that_would_climb_reach_nothing() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let hang = document(&[("a", "command: [hang]")]);
        for climbing in [".", "..", ""] {
            let name = Some(climbing.to_owned());
            let request = StartWorkflow { name, document: hang.clone(), user: None };
            assert_eq!(
                ann.start_workflow(&request).await.unwrap_err().status(),
                Some(422),
                "{climbing:?}"
            );
            let shown = ann.workflow(climbing).await.unwrap_err();
            assert!(matches!(shown, ClientError::Part { .. }), "{shown}");
            let stopped = ann.stop_workflow(climbing).await.unwrap_err();
            assert!(matches!(stopped, ClientError::Part { .. }), "{stopped}");
            let of = StreamOf { workflow: climbing.to_owned(), ..StreamOf::default() };
            let entered =
                ann.open_stream(&of, &StreamRequest::Attach { all: true }).await.unwrap_err();
            assert!(matches!(entered, ClientError::Part { .. }), "{entered}");
        }
        for job in [".", "..", "a/../b", "A"] {
            let words =
                start(&ann, document(&[(job, "command: [hang]")])).await.unwrap_err().to_string();
            assert!(words.contains(&format!("{job:?} cannot name a job")), "{words}");
        }
        assert_eq!(ann.workflows(10).await?, []);
        Ok(())
    });
}

#[test]
fn a_command_of_one_item_is_told_before_it_is_started() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let text = document(&[("untar", r#"command: ["tar -C /data -zxf /data/input.tar.gz"]"#)]);
        let checked = ann.validate_workflow(text.clone()).await?;
        let warnings: Vec<String> =
            checked.warnings.iter().map(|one| one.message.clone()).collect();
        let words = "it is run as the words [tar, -C, /data, -zxf, /data/input.tar.gz], unless the image has a \
                     program of exactly that name";
        assert_eq!((checked.diagnostics, warnings), (Vec::new(), vec![words.to_owned()]));
        assert_eq!(end(&ann, &start(&ann, text).await?).await?.summary.state, State::Finished);
        let open = document(&[("a", r#"command: ["echo 'a"]"#)]);
        let words = start(&ann, open).await.unwrap_err().to_string();
        assert!(words.contains("is not closed (close or escape it"), "{words}");
        Ok(())
    });
}
