//! Orders for tests.

use api::{
    ids::Digest,
    run::{JobSpec, RunId, RunSpec, RunUser, Work, WorkflowId},
};

/// An ordinary job.
pub(crate) fn job() -> JobSpec {
    JobSpec {
        image: Digest([7; 32]),
        image_size: 1,
        command: vec!["true".into()],
        program_words: Vec::new(),
        env: Vec::new(),
        sets_home: false,
        cwd: "/".into(),
        makes_cwd: false,
        hostname: "job".into(),
        mounts: Vec::new(),
        files: Vec::new(),
        cpus: vec![2, 3],
        mems: vec![0],
        memory_bytes: 5,
        pids: 9,
        devices: Vec::new(),
        isolated_network: false,
        log_limit_bytes: None,
        log_times: false,
    }
}

/// The run of it with this number.
pub(crate) fn job_run(number: u8) -> RunSpec {
    RunSpec {
        run: RunId(uuid::Uuid::from_bytes([number; 16])),
        workflow: WorkflowId(uuid::Uuid::from_bytes([1; 16])),
        subject: format!("job j{number}"),
        user: RunUser { name: "ada".into(), uid: 1000, gid: 1001, groups: Vec::new() },
        work: Work::Job(Box::new(job())),
        timeout_seconds: 60,
        forbidden: Vec::new(),
        awaits_release: false,
    }
}
