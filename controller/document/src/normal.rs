//! From a document as it is written to the one form ([`crate::workflow`]).

use std::collections::{BTreeMap, HashSet};

use yaml_tree::LATER;

use crate::{
    Affinity, DEFAULT_TIMEOUT_SECONDS, Destination, Egress, Ingress, Job, JobDependency, Mount,
    Resource, Volume, Workflow,
    check::{self, DiagnosticSink},
    expand::is_name,
    labels,
    plan::Until,
    raw, units,
    uris::{destination, image_reference, inside, source, taken_out},
};

/// Normalises a document. What is wrong is noted and left out.
pub(crate) fn of(document: &raw::Document, notes: &mut DiagnosticSink<'_>) -> Workflow {
    labels::check(&document.annotations, "annotations", notes);
    labels::check(
        &document.defaults.job.resource.annotations,
        "defaults.job.resource.annotations",
        notes,
    );
    let volumes = document.volumes.iter().map(|(name, value)| {
        check::name("volume", name, &format!("volumes.{name}"), notes);
        volume(name, &raw::decode(value.clone()), document, notes)
    });
    let volumes = volumes.collect();
    let jobs = document.jobs.iter().map(|(name, value)| {
        check::name("job", name, &format!("jobs.{name}"), notes);
        let mut job = job(name, raw::decode(value.clone()), &document.defaults.job, notes);
        let inherited =
            document.annotations.iter().filter(|(key, _)| !job.resource.labels.contains_key(*key));
        let inherited: Vec<_> =
            inherited.map(|(key, value)| (key.clone(), value.clone())).collect();
        job.resource.labels.extend(inherited);
        labels::count(&job, notes);
        job
    });
    Workflow {
        name: document.name.clone(),
        files: document.files.clone(),
        jobs: jobs.collect(),
        volumes,
    }
}

fn volume(
    name: &str,
    volume: &raw::Volume,
    document: &raw::Document,
    notes: &mut DiagnosticSink<'_>,
) -> Volume {
    let path = format!("volumes.{name}");
    if volume.name.as_ref().is_some_and(|own| own != name) {
        let hint = "it would be a persistent volume; an ephemeral one has the name of its key";
        notes.unreadable(&format!("{path}.name"), LATER, hint);
    }
    for (key, value) in
        [("reference", &volume.reference), ("type", &volume.kind), ("use", &volume.provisioner)]
    {
        let Some(value) = value else { continue };
        let kind = value.trim_start_matches("volume://").to_ascii_lowercase();
        let kind = kind.rsplit_once("user/").map_or(kind.as_str(), |(_, kind)| kind);
        if kind != "ephemeral" {
            let hint = "ephemeral volumes are there: `reference: volume://user/ephemeral`";
            notes.unreadable(&format!("{path}.{key}"), LATER, hint);
        }
    }
    let ingress = volume.ingress.iter().enumerate().filter_map(|(index, transfer)| {
        let path = format!("{path}.ingress[{index}]");
        let source =
            source(transfer.source.as_ref()?.as_str(), document, &format!("{path}.source"), notes);
        let inside =
            inside(transfer.destination.as_ref()?.as_str(), &format!("{path}.destination"), notes);
        let (timeout_seconds, retries) = policy(&transfer.policy, &raw::Policy::default());
        Some(Ingress { path: inside?, source: source?, timeout_seconds, retries })
    });
    let ingress = ingress.collect();
    let size_bytes = volume.size.as_deref().and_then(units::size);
    if let Some(bytes) = size_bytes {
        check::volume_size(bytes, &format!("{path}.size"), notes);
    }
    let egress = volume.egress.iter().enumerate().filter_map(|(index, transfer)| {
        let path = format!("{path}.egress[{index}]");
        let taken = taken_out(transfer.source.as_ref()?.as_str(), &format!("{path}.source"), notes);
        let path = format!("{path}.destination");
        let to = destination(transfer.destination.as_ref()?.as_str(), &path, notes);
        if let (Some((_, true)), Some(Destination::Http { url })) = (&taken, &to)
            && url.contains(['?', '#'])
        {
            let why =
                "the source is a directory, and a URL with a query or fragment names one file";
            notes.hint(
                &path,
                why,
                "let a job pack the directory (`tar -cf`), and take the archive out",
            );
        }
        let (timeout_seconds, retries) = policy(&transfer.policy, &raw::Policy::default());
        Some(Egress { path: taken?.0, destination: to?, timeout_seconds, retries })
    });
    Volume { name: name.to_owned(), size_bytes, egress: egress.collect(), ingress }
}

/// Time and further attempts.
fn policy(own: &raw::Policy, default: &raw::Policy) -> (u64, u32) {
    let timeout = own.timeout.execute.as_ref().or(default.timeout.execute.as_ref());
    let timeout = timeout.and_then(|text| units::duration(text));
    let retries = own.retry.attempts.or(default.retry.attempts);
    (timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS), retries.unwrap_or(0))
}

fn job(name: &str, mut job: raw::Job, defaults: &raw::Job, notes: &mut DiagnosticSink<'_>) -> Job {
    let path = format!("jobs.{name}");
    check::own_name(job.name.as_deref(), name, &path, notes);
    let (timeout_seconds, retries) = policy(&job.policy, &defaults.policy);
    let image = job.image.take().map(|uri| uri.as_str().to_owned());
    if image.is_none() && !notes.has(&format!("{path}.image")) {
        notes.unreadable(&path, "the job has no image", "such as `image: {uri: docker://alpine}`");
    }
    let image = image.and_then(|uri| image_reference(&uri, &format!("{path}.image"), notes));
    check::program(&job, &path, notes);
    let mut mounts = mounts(&defaults.mounts, "defaults.job.mounts", notes);
    mounts.extend(self::mounts(&job.mounts, &format!("{path}.mounts"), notes));
    for file in job.files.keys() {
        check::mount_path(file, &format!("{path}.files.{file}"), notes);
    }
    if let Some(cwd) = &job.cwd {
        check::absolute(cwd, &format!("{path}.cwd"), notes);
    }
    let mut env = environment(&defaults.env, "defaults.job.env", notes);
    env.extend(environment(&job.env, &format!("{path}.env"), notes));
    let job = Job {
        name: name.to_owned(),
        image: image.unwrap_or_default(),
        depends_on: dependencies(&job, &path, notes),
        resource: resource(&job.resource, &defaults.resource, &path, notes),
        task_array: job.task_array.and_then(|array| check::array(array, &path, notes)),
        isolated: job.network.isolated,
        command: job.command,
        args: job.args,
        script: job.script,
        env: env.into_iter().collect(),
        cwd: job.cwd,
        mounts,
        timeout_seconds,
        retries,
        files: job.files.into_iter().collect(),
    };
    check::limits(&job, &path, notes);
    job
}

/// Both spellings: volume to location, and location to volume.
fn mounts(
    entries: &serde_json::Map<String, serde_json::Value>,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut locations: HashSet<String> = HashSet::new();
    notes.count(entries.len());
    for (key, value) in entries {
        let path = format!("{path}.{key}");
        let Ok(mount) = serde_json::from_value::<raw::Mount>(value.clone()) else { continue };
        let mount = match mount {
            raw::Mount::Volume(volume) if key.starts_with('/') => {
                Mount { volume, location: key.clone() }
            }
            raw::Mount::Long { volume: Some(volume), location: None } if key.starts_with('/') => {
                Mount { volume, location: key.clone() }
            }
            raw::Mount::Long { location: Some(location), volume: None }
                if !key.starts_with('/') =>
            {
                Mount { volume: key.clone(), location }
            }
            _ => {
                let hint = "write `VOLUME: {location: /PATH}` or `/PATH: {volume: VOLUME}`";
                notes.unreadable(&path, "this is no mount", hint);
                continue;
            }
        };
        check::mount_path(&mount.location, &path, notes);
        if !locations.insert(mount.location.clone()) {
            notes.refuse(&path, &format!("two volumes are mounted at {}", mount.location));
        }
        mounts.push(mount);
    }
    mounts
}

fn environment(
    pairs: &[String],
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    notes.count(pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match pair.split_once('=') {
            Some((name, _)) if name.starts_with("FB_") => {
                notes.unreadable(
                    &path,
                    &format!("{name} is set by the server"),
                    "choose another name",
                );
            }
            Some((_, value)) if value.starts_with("secret://") => {
                notes.unreadable(
                    &path,
                    &format!("secret:// is {LATER}"),
                    "secrets come with a later version",
                );
            }
            Some((name, value)) if is_name(name) => {
                env.insert(name.to_owned(), value.to_owned());
            }
            _ => notes.unreadable(
                &path,
                &format!("{pair:?} is no NAME=VALUE"),
                "as in OMP_NUM_THREADS=4",
            ),
        }
    }
    env
}

/// `requires` is the older word; it does not count where `depends-on` is there.
fn dependencies(job: &raw::Job, path: &str, notes: &mut DiagnosticSink<'_>) -> Vec<JobDependency> {
    let mut found: Vec<JobDependency> = Vec::new();
    let mut seen: HashSet<JobDependency> = HashSet::new();
    let mut add = |name: &str, until: Until| {
        let dependency = JobDependency { name: name.to_owned(), until };
        if seen.insert(dependency.clone()) {
            found.push(dependency);
        }
    };
    notes.count(job.requires.len() + job.depends_on.as_ref().map_or(0, Vec::len));
    match &job.depends_on {
        None => job.requires.iter().for_each(|name| add(name, Until::Finished)),
        Some(dependencies) => {
            for dependency in dependencies {
                let status = dependency.status.as_deref().unwrap_or_default();
                let is_running = status.eq_ignore_ascii_case("running");
                add(&dependency.name, if is_running { Until::Running } else { Until::Finished });
            }
            if !job.requires.is_empty() {
                notes.warn(
                    &format!("{path}.requires"),
                    "it does not count where `depends-on` is there",
                );
            }
        }
    }
    found
}

fn resource(
    own: &raw::Resource,
    default: &raw::Resource,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Resource {
    let cores = own.cpu.cores.or(default.cpu.cores).unwrap_or(1);
    if cores == 0 {
        let path = format!("{path}.resource.cpu.cores");
        notes.unreadable(&path, "a job needs at least one core", "leave it out for one");
    }
    let affinity = own.cpu.affinity.as_ref().or(default.cpu.affinity.as_ref());
    let memory = own.memory.size.as_ref().or(default.memory.size.as_ref());
    let by_core = own.memory.by_core.or(own.by_core).or(default.memory.by_core).or(default.by_core);
    for (devices, path) in [(&own.devices, path), (&default.devices, "defaults.job")] {
        for kind in devices.keys() {
            check::device_kind(kind, &format!("{path}.resource.devices.{kind}"), notes);
        }
    }
    labels::check(&own.annotations, &format!("{path}.resource.annotations"), notes);
    let mut labels = default.annotations.clone();
    labels.extend(own.annotations.clone());
    let mut devices = default.devices.clone();
    devices.extend(own.devices.clone());
    devices.retain(|_, count| *count > 0);
    Resource {
        cores,
        affinity: affinity.and_then(|text| Affinity::parse(text)).unwrap_or_default(),
        threads: own.cpu.threads.or(default.cpu.threads).unwrap_or(false),
        memory_bytes: memory.and_then(|text| units::size(text)),
        memory_by_core: by_core.unwrap_or(false),
        devices,
        labels,
        exclusive: own.exclusive.or(default.exclusive).unwrap_or(false),
    }
}
