//! From a fresh copy of the container init to the user's program.

use std::{
    convert::Infallible,
    ffi::CString,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use linux::{
    LinuxError,
    mount::{self, Attributes, INERT},
    namespace,
    process::{self, Identity, Resource},
    root::Root,
    seccomp,
};

use super::{
    defence::Safeguard,
    interpreter::{self, MissingInterpreter, is_executable},
    spec::ContainerSpec,
};

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Descriptors that a program may have open: soft limit, and up to where it may raise it itself.
const OPEN_FILES: (u64, u64) = (65_536, 524_288);

/// Stack of a program's first thread, bytes; it may raise it.
const STACK: u64 = 8 << 20;

/// Why a payload did not start.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A step before the program.
    #[error(transparent)]
    Step(#[from] LinuxError),
    /// No such program.
    #[error("the image has no program {name:?} (looked in {path}): check the command and PATH")]
    NotFound {
        /// As it was given.
        name: String,
        /// Where it was looked for.
        path: String,
    },
    /// It exists and cannot run.
    #[error("cannot execute {program}: {hint}")]
    Execute {
        /// Its path.
        program: String,
        /// What that mostly means.
        hint: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// It exists, and what runs it does not.
    #[error(transparent)]
    Interpreter(#[from] MissingInterpreter),
    /// An argument with a zero byte.
    #[error("a zero byte in the command or the environment")]
    ZeroByte,
}

/// Becomes the user's program, in this process, which is a copy of the container init and has no
/// descriptors of it any more but the program's standard streams: `/proc/self/fd` leads past every
/// root to what a process has open.
///
/// # Errors
/// Returns only if it cannot be started; this process has given up its rights by then,
/// or part of them.
pub fn become_program(
    spec: &ContainerSpec,
    system_calls: &seccomp::Filter,
) -> Result<Infallible, PayloadError> {
    process::begin_session()?;
    namespace::enter_own_cgroup_root()?;
    show_cgroup(spec)?;
    drop_to_job_context(spec)?;
    let env = environment(spec, &spec.env);
    let command = words_of(&spec.command, &spec.program_words, &env);
    execute(spec, &command, &env, system_calls)
}

/// The command, its first word in several if it is the name of no program.
fn words_of(command: &[String], program_words: &[String], env: &[String]) -> Vec<String> {
    let name = command.first().map_or("", String::as_str);
    let is_there = || find(name, env).is_ok_and(|path| path.symlink_metadata().is_ok());
    if program_words.is_empty() || is_there() {
        return command.to_vec();
    }
    program_words.iter().chain(command.iter().skip(1)).cloned().collect()
}

/// Gives up what a process of the job may not have: limits, identity, and the way out of its root.
/// The seccomp filter comes last, with the program.
///
/// # Errors
/// A step that failed; what was given up before stays so.
pub(super) fn drop_to_job_context(spec: &ContainerSpec) -> Result<(), LinuxError> {
    process::limit_resource(Resource::Core, Some(0), None)?;
    process::limit_resource(Resource::Nofile, Some(OPEN_FILES.0), Some(OPEN_FILES.1))?;
    // RDMA and MPI pin what they send; the group's memory limit is the limit.
    process::limit_resource(Resource::Memlock, None, None)?;
    process::limit_resource(Resource::Stack, Some(STACK), None)?;
    let groups = spec.groups.clone();
    become_user(spec, &Identity { uid: spec.uid, gid: spec.gid, groups })?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // As the user: a directory that they may not enter must not be theirs. And within the root: see
    // CVE-2024-21626.
    enter(spec)
}

/// Becomes a program of the image; `env` is what was ordered.
///
/// # Errors
/// Returns only if it cannot be started.
pub(super) fn execute(
    spec: &ContainerSpec,
    command: &[String],
    env: &[String],
    system_calls: &seccomp::Filter,
) -> Result<Infallible, PayloadError> {
    let env = environment(spec, env);
    let name = command.first().map_or("", String::as_str);
    let program = find(name, &env)?;
    let arguments = c_strings(command)?;
    let env = c_strings(&env)?;
    process::reset_signals()?;
    // Last: what was done above is not for the payload to do.
    if spec.keeps(Safeguard::SystemCalls) {
        system_calls.install()?;
    }
    process::execute(&program, &arguments, &env).map_err(|error| {
        // What is not executable itself has a hint of its own.
        if let Some(blamed) =
            is_executable(&program).then(|| interpreter::blamed(&program, &error.errno)).flatten()
        {
            return blamed.into();
        }
        let hint = hint(&program, &error.errno);
        PayloadError::Execute { program: program.display().to_string(), hint, source: error.errno }
    })
}

#[cfg(not(feature = "switches"))]
fn become_user(_: &ContainerSpec, identity: &Identity) -> Result<(), LinuxError> {
    process::become_user(identity)
}

#[cfg(feature = "switches")]
fn become_user(spec: &ContainerSpec, identity: &Identity) -> Result<(), LinuxError> {
    let bare = spec.keeps(Safeguard::Capabilities);
    if bare { process::drop_bounding_set() } else { process::keep_capabilities() }?;
    if spec.keeps(Safeguard::User) {
        process::take_identity(identity)?;
    }
    if bare { process::give_up_capabilities() } else { process::raise_capabilities() }?;
    if spec.keeps(Safeguard::NoNewPrivileges) {
        process::forbid_new_privileges()?;
    }
    Ok(())
}

fn enter(spec: &ContainerSpec) -> Result<(), LinuxError> {
    if spec.keeps(Safeguard::PathsInRoot) {
        let (root, cwd) = (Root::open(Path::new("/"))?, Path::new(&spec.cwd));
        return match root.enter(cwd) {
            // A volume lies over the one that was made: in there it is the user who makes it.
            Err(error) if spec.makes_cwd && error.raw() == Some(libc::ENOENT) => {
                root.ensure_mount_point(cwd, 0o755)?;
                root.enter(cwd)
            }
            entered => entered,
        };
    }
    std::env::set_current_dir(&spec.cwd).map_err(|errno| LinuxError::new("enter", &spec.cwd, errno))
}

/// The job's own cgroup, read-only, as the root of what it sees of them.
fn show_cgroup(spec: &ContainerSpec) -> Result<(), LinuxError> {
    let mut attributes = INERT;
    attributes.set(Attributes::MOUNT_ATTR_RDONLY, spec.keeps(Safeguard::ReadOnlyCgroup));
    let tree = mount::new("cgroup2", &[], attributes)?;
    mount::attach(tree.as_fd(), Path::new("/sys/fs/cgroup"))
}

/// The ordered environment, and what nearly every program expects where it has none.
fn environment(spec: &ContainerSpec, env: &[String]) -> Vec<String> {
    let mut env = env.to_owned();
    let name = &spec.user_name;
    for (key, value) in
        [("PATH", DEFAULT_PATH), ("HOME", &spec.cwd), ("USER", name), ("LOGNAME", name)]
    {
        if value_of(&env, key).is_none() {
            env.push(format!("{key}={value}"));
        }
    }
    env
}

fn value_of<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// The program as a shell would find it: a name with `/` is a path, else the directories of
/// `PATH` are searched.
fn find(name: &str, env: &[String]) -> Result<PathBuf, PayloadError> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        // A link whose target is missing, or a file that may not be seen, is told by the kernel.
        if path.symlink_metadata().is_err_and(|error| is_absent(&error)) {
            return Err(PayloadError::NotFound {
                name: name.to_owned(),
                path: "the root of the image".into(),
            });
        }
        return Ok(path);
    }
    let path = value_of(env, "PATH").unwrap_or(DEFAULT_PATH);
    let mut found = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        if candidate.is_file() {
            if is_executable(&candidate) {
                return Ok(candidate);
            }
            found.get_or_insert(candidate);
        }
    }
    found
        .filter(|_| !name.is_empty())
        .ok_or_else(|| PayloadError::NotFound { name: name.to_owned(), path: path.to_owned() })
}

/// There is no such file, nor can there be one of this name.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG))
}

fn hint(program: &Path, errno: &io::Error) -> &'static str {
    match errno.raw_os_error() {
        Some(libc::ENOENT) if program.exists() => {
            "the interpreter or loader that it names is not in the image"
        }
        Some(libc::EACCES) if program.is_dir() => "it is a directory",
        Some(libc::EACCES) => "it is not executable for the user",
        Some(libc::ENOEXEC) => {
            "no program for this machine: is the image made for x86-64? A script begins with #!"
        }
        Some(libc::E2BIG) => "arguments and environment are too long",
        _ => "the kernel refuses it",
    }
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, PayloadError> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()).map_err(|_| PayloadError::ZeroByte))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("a/text", 0o644)] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let env = vec![format!("PATH={}:{}", path("a").display(), path("b").display())];
        assert_eq!(find("tool", &env).unwrap(), path("b/tool"));
        // Root may see what is not executable; the kernel says so later.
        assert_eq!(find("text", &env).unwrap(), path("a/text"));
        let error = find("none", &env).unwrap_err().to_string();
        assert!(error.starts_with("the image has no program \"none\" (looked in /"), "{error}");
        assert!(find("", &env).is_err());
        let given = path("a/text");
        assert_eq!(find(given.to_str().unwrap(), &env).unwrap(), given);
        assert!(matches!(find("/no/such", &env), Err(PayloadError::NotFound { .. })));
    }

    #[test]
    fn a_program_of_exactly_that_name_goes_before_its_words() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("my tool"), "").unwrap();
        let env = vec![format!("PATH={}", directory.path().display())];
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let of = |command: &[&str], words: &[&str]| words_of(&owned(command), &owned(words), &env);
        assert_eq!(of(&["my tool", "x"], &["my", "tool"]), ["my tool", "x"]);
        assert_eq!(of(&["your tool", "x y"], &["your", "tool"]), ["your", "tool", "x y"]);
        assert_eq!(of(&["your tool", "x"], &[]), ["your tool", "x"]);
        let path = directory.path().join("my tool").display().to_string();
        assert_eq!(of(&[&path], &["my", "tool"]), [path.as_str()]);
        assert_eq!(of(&[], &[]), [""; 0]);
        // A line of a shell, which no file can be called.
        let long = format!("echo {} /in", "x".repeat(300));
        assert_eq!(of(&[&long, "y"], &["echo", "x"]), ["echo", "x", "y"]);
        let below_file = format!("{path}/x y");
        assert_eq!(of(&[&below_file], &["a", "b"]), ["a", "b"]);
        assert!(matches!(find(&long, &env), Err(PayloadError::NotFound { .. })));
    }

    #[test]
    fn the_last_of_two_values_counts_and_missing_ones_are_added() {
        let env = vec!["A=1".to_owned(), "AB=2".into(), "A=3".into()];
        assert_eq!((value_of(&env, "A"), value_of(&env, "B")), (Some("3"), None));
    }
}
