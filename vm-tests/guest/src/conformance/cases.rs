//! Every case of the two suites, and what it is for us. The names are those of the suites; where
//! parts of one case come to different things, the part is in parentheses. [`super::page`] writes
//! and holds the page.

use self::Verdict::{Check, No, Unit};

/// What a case is for us.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// These checks ask for the same.
    Check(&'static [&'static str]),
    /// This test of the unit lane does: file, function.
    Unit(&'static str, &'static str),
    /// It does not apply, because of this.
    No(&'static str),
}

/// Its name and that.
pub(super) type Case = (&'static str, Verdict);

const FILE_SYSTEMS: &str = "file systems are mounted with their options";
const DEVICES: &str = "every job has the default devices";
const LINKS: &str = "links in /dev lead to the process's own descriptors and terminals";
const GRANTED: &str = "granted devices are there and open";
const COVERED: &str = "paths of the kernel are covered";
const READ_ONLY: &str = "paths of the kernel are read-only";
const LINKED: &str = "/proc and /sys behind links of the image stay in the root";
const ROOT: &str = "the root is that of the image";
const IMAGE: &str = "what a job writes does not reach the image";
const PRIVATE: &str = "no mount propagates";
const VOLUME: &str = "a volume can be written, without devices and set-user-ID";
const VOLUME_READ_ONLY: &str = "a read-only volume is that throughout";
const VOLUME_ORDER: &str = "volumes are mounted in their order";
const VOLUME_LINK: &str = "a volume behind a link of the image stays in the root";
const HOST_NAME: &str = "the host name is the job's";
const NAMESPACES: &str = "the namespaces are the job's own";
const NETWORK: &str = "a job that is not isolated has the node's network";
const ISOLATED: &str = "an isolated job has loopback and nothing else";
const PROCESSES: &str = "a job sees its own processes and its init";
const CONTROL_GROUP: &str = "a job's cgroup is the root of those that it sees";
const MEMORY: &str = "the limit of memory is the kernel's";
const OUT_OF_MEMORY: &str = "a job that needs more memory is told so";
const PIDS: &str = "the limit of processes is the kernel's";
const PROCESSORS: &str = "the processors and memory nodes are the granted ones";
const HUGE_PAGES: &str = "huge pages are forbidden";
const USER: &str = "the program is the user, with the groups";
const UMASK: &str = "the umask is 022";
const LIMITS: &str = "resources are limited";
const NO_CAPABILITIES: &str = "there is no capability in any set";
const NO_PRIVILEGES: &str = "privileges cannot be gained";
const FILTER: &str = "the seccomp filter refuses";
const DIRECTORY: &str = "the working directory is the ordered one";
const MADE_DIRECTORY: &str = "the working directory of the image is made where no layer has it";
const VOLUME_DIRECTORY: &str = "in a volume it is the user who makes it";
const HOME: &str = "the home directory is the user's alone";
const LINES: &str = "the user and the groups have lines in their lists";
const ETC_LINKS: &str = "links of an image in /etc are replaced and not written through";
const NODE_NAMES: &str = "a job that is not isolated has the names of the node";
const INTERPRETER: &str = "a program whose interpreter is not there is told";
const ONE_TEXT: &str = "a command of one text is words where no program has its name";
const ENVIRONMENT: &str = "the environment is the ordered one";
const ARGUMENTS: &str = "arguments arrive as they are";
const DESCRIPTORS: &str = "nothing is open but the standard streams";
const SIGNALS: &str = "no signal is blocked or ignored";
const PERSONALITY: &str = "the personality is Linux on x86-64";
const KILLABLE: &str = "a job can be killed for memory, whatever the agent is";
const SCHEDULING: &str = "scheduling is ordinary";
const OUTPUT: &str = "input is empty and output is the log";
const STATUS: &str = "the exit status is told";
const DEATH: &str = "death by a signal is told";
const NO_PROGRAM: &str = "a program that is not there is told";
const NO_DIRECTORY: &str = "a working directory that is not there is told";
const KNOWN: &str = "a container that runs is known by its init";
const CHANGES: &str = "a description that changes after the start changes nothing";
const TERM: &str = "an order to stop reaches the program as SIGTERM";
const KILL: &str = "SIGKILL follows after the grace";
const EARLY_STOP: &str = "an order to stop may come before the start";
const LATE_STOP: &str = "an order to stop what does not run changes nothing";
const NOT_REMOVED: &str = "a container that runs is not removed";
const NOTHING_LEFT: &str = "nothing is left of a container, and all else stays";

const STARTED_ONCE: Verdict = Unit(
    "substrate/src/agent/runs/tests.rs",
    "a_container_outlives_the_agent_and_is_not_started_again",
);

const NO_NAMELESS: Verdict =
    No("there is no command: runs are named by the server, and a name is typed");
const ONE_STEP: Verdict = No("a container is made and started in one step");
const NO_HOOKS: Verdict = No(
    "a job has no hooks: what runs around jobs is the site's own, run by the agent, and no part of the container",
);
const NO_EXEC: Verdict = No("no second program is started in a container");
const NO_CHECKPOINT: Verdict = No("no checkpoints: a job that must outlive its node keeps its own");
const NO_UPDATE: Verdict = No("limits are set before the start and are not changed");
const NO_IO: Verdict = No("no limits of I/O yet");
const NO_SHARES: Verdict =
    No("jobs have whole processors to themselves, no shares or quotas of them");
const NO_NET_CLASSES: Verdict =
    No("`net_cls` and `net_prio` are of cgroups version 1; nodes have version 2");
const NO_OWN_COVERS: Verdict =
    No("the covered and the read-only paths are ours, all absolute: no job orders any");
const NO_USER_NAMESPACES: Verdict = No("no user namespaces yet");
const NO_JOINING: Verdict = No("namespaces are always made, none is joined by a path");
const NO_PROPAGATION: Verdict = No("mounts of a job are private, always");
const NO_MOUNT_OPTIONS: Verdict =
    No("what is mounted is volumes; a job orders no options of theirs");
const NO_OTHER_SIGNALS: Verdict =
    No("an order to stop is SIGTERM, then SIGKILL: no other signal is sent from outside");
const NO_OWN_CAPABILITIES: Verdict = No("no job orders capabilities: there are none");
const NO_OWN_LIMITS: Verdict = No("no job orders resource limits: they are the same for all");
const NO_PARAMETERS: Verdict = No("no job sets kernel parameters: `/proc/sys` is read-only");
const NO_READ_ONLY_ROOT: Verdict = No(
    "a job may write to its root; that goes into its own memory and never reaches the image, which is checked",
);
const NO_EMPTY_NAME: Verdict = No("every job is given a host name");
const NO_ANNOTATIONS: Verdict = No("`container.json` has no annotations");
const NO_UNKNOWN_KEYS: Verdict = No(
    "`container.json` is written and read by the same program, so a key that it does not know is an error",
);
const NO_VERSION: Verdict =
    No("`container.json` has no version: it is written and read by the same program");
const NO_POLICY: Verdict =
    No("memory nodes are granted; how a program places its memory on them is its own to say");
const NO_DEVICES_OF_NETWORK: Verdict = No("no interface is moved into a job's network");
const NO_TIME: Verdict = No("no time namespaces: jobs have the node's clocks");
const NO_IO_PRIORITY: Verdict = No("no job orders I/O priorities");
const NO_PAGE_GRANT: Verdict =
    No("huge pages are granted to nobody, so there is no size to get wrong");

const RUNTIME_TOOLS: &[Case] = &[
    ("config_updates_without_affect", Check(&[CHANGES])),
    ("create (no id)", NO_NAMELESS),
    ("create (new container)", Check(&[KNOWN])),
    ("create (id in use)", STARTED_ONCE),
    (
        "default",
        Check(&[FILE_SYSTEMS, DEVICES, LINKS, HOST_NAME, ENVIRONMENT, SIGNALS, NO_PRIVILEGES]),
    ),
    ("delete (no id)", NO_NAMELESS),
    ("delete (created)", ONE_STEP),
    ("delete (running)", Check(&[NOT_REMOVED])),
    ("delete_only_create_resources", Check(&[NOTHING_LEFT])),
    ("delete_resources", Check(&[NOTHING_LEFT])),
    ("hooks", NO_HOOKS),
    ("hooks_stdin", NO_HOOKS),
    ("hostname (given)", Check(&[HOST_NAME])),
    ("hostname (empty)", NO_EMPTY_NAME),
    ("kill (no id)", NO_NAMELESS),
    ("kill (no such container)", Check(&[LATE_STOP])),
    ("kill (created)", Check(&[EARLY_STOP])),
    ("kill (stopped)", Check(&[LATE_STOP])),
    ("kill (running)", Check(&[KILL, DEATH])),
    ("kill_no_effect", Check(&[LATE_STOP])),
    ("killsig (TERM)", Check(&[TERM])),
    ("killsig (USR1, USR2)", NO_OTHER_SIGNALS),
    ("linux_cgroups_blkio", NO_IO),
    ("linux_cgroups_cpus (processors, memory nodes)", Check(&[PROCESSORS])),
    ("linux_cgroups_cpus (shares, quota, period, none)", NO_SHARES),
    ("linux_cgroups_devices", Check(&[GRANTED])),
    ("linux_cgroups_hugetlb (limits)", Check(&[HUGE_PAGES])),
    ("linux_cgroups_hugetlb (wrong page size)", NO_PAGE_GRANT),
    ("linux_cgroups_memory (limit, swap)", Check(&[MEMORY, OUT_OF_MEMORY])),
    (
        "linux_cgroups_memory (reservation, kernel memory, swappiness, no killing)",
        No("a job's memory is granted whole, without swap, and one that needs more ends"),
    ),
    ("linux_cgroups_network", NO_NET_CLASSES),
    ("linux_cgroups_pids", Check(&[PIDS])),
    ("linux_cgroups_relative_blkio", NO_IO),
    ("linux_cgroups_relative_cpus (processors, memory nodes)", Check(&[PROCESSORS])),
    ("linux_cgroups_relative_cpus (shares, quota, period)", NO_SHARES),
    ("linux_cgroups_relative_devices", Check(&[GRANTED])),
    ("linux_cgroups_relative_hugetlb", Check(&[HUGE_PAGES])),
    ("linux_cgroups_relative_memory", Check(&[MEMORY])),
    ("linux_cgroups_relative_network", NO_NET_CLASSES),
    ("linux_cgroups_relative_pids", Check(&[PIDS])),
    ("linux_devices (character, block)", Check(&[GRANTED])),
    ("linux_devices (FIFO)", No("what is granted are devices of the node, and a FIFO is none")),
    ("linux_masked_paths (files, directories)", Check(&[COVERED])),
    ("linux_masked_paths (relative, links, device nodes)", NO_OWN_COVERS),
    ("linux_mount_label", No("no SELinux labels: a job's mounts are its own")),
    ("linux_ns_itype", Check(&[NETWORK, NODE_NAMES, NAMESPACES])),
    ("linux_ns_nopath (all but user)", Check(&[NAMESPACES, PROCESSES, ISOLATED])),
    ("linux_ns_nopath (user)", NO_USER_NAMESPACES),
    ("linux_ns_path", NO_JOINING),
    ("linux_ns_path_type", NO_JOINING),
    (
        "linux_process_apparmor_profile",
        No("no AppArmor profiles: they would have to be in the image of every node"),
    ),
    ("linux_readonly_paths (files, directories)", Check(&[READ_ONLY])),
    ("linux_readonly_paths (relative, links, device nodes)", NO_OWN_COVERS),
    ("linux_rootfs_propagation (private)", Check(&[PRIVATE])),
    ("linux_rootfs_propagation (shared, slave, unbindable)", NO_PROPAGATION),
    ("linux_seccomp", Check(&[FILTER])),
    ("linux_sysctl", NO_PARAMETERS),
    ("linux_uid_mappings", NO_USER_NAMESPACES),
    ("misc_props (annotations)", NO_ANNOTATIONS),
    ("misc_props (unknown property)", NO_UNKNOWN_KEYS),
    ("misc_props (invalid version)", NO_VERSION),
    ("mounts (bind, private)", Check(&[VOLUME, VOLUME_ORDER, PRIVATE])),
    ("mounts (shared, slave, unbindable)", NO_PROPAGATION),
    ("mounts (tmpfs)", NO_MOUNT_OPTIONS),
    ("pidfile", Check(&[KNOWN])),
    ("poststart", NO_HOOKS),
    ("poststart_fail", NO_HOOKS),
    ("poststop", NO_HOOKS),
    ("poststop_fail", NO_HOOKS),
    ("prestart", NO_HOOKS),
    ("prestart_fail", NO_HOOKS),
    (
        "process",
        Check(&[DIRECTORY, MADE_DIRECTORY, VOLUME_DIRECTORY, NO_DIRECTORY, HOME, ENVIRONMENT]),
    ),
    ("process_capabilities", Check(&[NO_CAPABILITIES])),
    ("process_capabilities_fail", NO_OWN_CAPABILITIES),
    ("process_oom_score_adj", Check(&[KILLABLE])),
    ("process_rlimits", Check(&[LIMITS])),
    ("process_rlimits_fail", NO_OWN_LIMITS),
    ("process_user", Check(&[USER, LINES, UMASK])),
    ("root_readonly_true", NO_READ_ONLY_ROOT),
    ("start (no id)", NO_NAMELESS),
    ("start (no such container)", ONE_STEP),
    ("start (arguments wait for it)", ONE_STEP),
    ("start (runs the program)", Check(&[ARGUMENTS, ONE_TEXT, OUTPUT, STATUS])),
    ("start (stopped)", STARTED_ONCE),
    ("start (no process)", Check(&[NO_PROGRAM, INTERPRETER])),
    ("state (no id)", NO_NAMELESS),
    ("state (no such container)", Check(&[LATE_STOP])),
    ("state (as it is)", Check(&[KNOWN])),
];

const YOUKI: &[Case] = &[
    ("example::hello world", Check(&[OUTPUT])),
    ("lifecycle::create", Check(&[KNOWN])),
    ("lifecycle::start", Check(&[KNOWN])),
    ("lifecycle::checkpoint and leave running with --work-path /tmp", NO_CHECKPOINT),
    ("lifecycle::checkpoint and leave running", NO_CHECKPOINT),
    ("lifecycle::checkpoint with cgroups-mode ignore", NO_CHECKPOINT),
    ("lifecycle::checkpoint with cgroups-mode soft", NO_CHECKPOINT),
    ("lifecycle::checkpoint with link-remap", NO_CHECKPOINT),
    ("lifecycle::checkpoint with tcp-skip-in-flight", NO_CHECKPOINT),
    ("lifecycle::checkpoint with external namespaces", NO_CHECKPOINT),
    ("lifecycle::kill", Check(&[KILL])),
    ("lifecycle::state", Check(&[KNOWN])),
    ("lifecycle::delete", Check(&[NOTHING_LEFT])),
    ("create::create_empty_id", NO_NAMELESS),
    ("create::create_valid_id", Check(&[KNOWN])),
    ("create::create_duplicate_id", STARTED_ONCE),
    ("huge_tlb::invalid_tlb", NO_PAGE_GRANT),
    ("huge_tlb::valid_tlb", Check(&[HUGE_PAGES])),
    ("huge_tlb::valid_rsvd_tlb", Check(&[HUGE_PAGES])),
    ("pidfile::pidfile", Check(&[KNOWN])),
    ("ns_itype::ns_itype", Check(&[NETWORK, NAMESPACES])),
    ("hooks::hooks", NO_HOOKS),
    ("start_container_hook_env_inherit::start_container_env_inherit", NO_HOOKS),
    ("start_container_hook_env_inherit::start_container_env_explicit", NO_HOOKS),
    ("poststart::poststart", NO_HOOKS),
    ("poststart_fail::poststart_fail", NO_HOOKS),
    ("poststop::poststop", NO_HOOKS),
    ("poststop_fail::poststop_fail", NO_HOOKS),
    ("prestart::prestart", NO_HOOKS),
    ("prestart_fail::prestart_fail", NO_HOOKS),
    ("create_runtime::create_runtime", NO_HOOKS),
    ("cgroup_v1_pids::positive_pid_limit", Check(&[PIDS])),
    ("cgroup_v1_pids::zero_pid_limit", No("every job has a limit of processes")),
    ("cgroup_v1_pids::negative_pid_limit", No("every job has a limit of processes")),
    ("cgroup_v1_cpu::test_linux_cgroups_cpus (processors, memory nodes)", Check(&[PROCESSORS])),
    ("cgroup_v1_cpu::test_linux_cgroups_cpus (shares, quota, period)", NO_SHARES),
    ("cgroup_v1_cpu::test_empty_cpu", NO_SHARES),
    ("cgroup_v1_cpu::test_cpu_idle_default", NO_SHARES),
    ("cgroup_v1_cpu::test_cpu_idle_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_weight_valid_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_weight_zero_ignored", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_weight_too_high_maximum_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_quota_valid_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_quota_zero_default_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_quota_negative_value_default_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_period_valid_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_period_unspecified_unchanged", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_period_and_quota_valid_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_idle_set", NO_SHARES),
    ("cgroup_v2_cpu::test_cpu_idle_default", NO_SHARES),
    ("cgroup_v1_memory::test_linux_cgroups_memory", Check(&[MEMORY])),
    ("cgroup_v1_network::test_linux_cgroups_network", NO_NET_CLASSES),
    ("cgroup_v1_blkio::non_empty_100kb", NO_IO),
    ("cgroup_v1_blkio::non_empty_200kb", NO_IO),
    ("cgroup_v1_blkio::empty_100kb", NO_IO),
    ("cgroup_v1_blkio::empty_200kb", NO_IO),
    ("cgroup_v1_relative_network::test_linux_cgroups_relative_network", NO_NET_CLASSES),
    ("seccomp::seccomp_test", Check(&[FILTER])),
    ("seccomp_notify::seccomp_notify", No("the seccomp filter asks nobody: it allows or refuses")),
    ("readonly_paths::readonly_paths", Check(&[READ_ONLY])),
    ("readonly_paths::readonly_rel_paths", NO_OWN_COVERS),
    ("readonly_paths::readonly_symlinks", NO_OWN_COVERS),
    ("readonly_paths::readonly_device_nodes", NO_OWN_COVERS),
    ("set_host_name::set_host_name_test", Check(&[HOST_NAME])),
    ("set_host_name::set_empty_host_name_test", NO_EMPTY_NAME),
    ("set_misc_props::annotations_unknown_key_ignored_test", NO_ANNOTATIONS),
    ("set_misc_props::unknown_top_level_property_ignored_test", NO_UNKNOWN_KEYS),
    ("set_misc_props::invalid_oci_version_must_error_test", NO_VERSION),
    ("mounts_recursive::rro_test", Check(&[VOLUME_READ_ONLY])),
    ("mounts_recursive::rnosuid_test", Check(&[VOLUME])),
    ("mounts_recursive::rsuid_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnoexec_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnodiratime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rdiratime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rdev_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnodev_test", Check(&[VOLUME])),
    ("mounts_recursive::rrw_test", Check(&[VOLUME])),
    ("mounts_recursive::rexec_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rrelatime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnorelatime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnoatime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rstrictatime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnosymfollow_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rsymfollow_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::ratime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rnostrictatime_test", NO_MOUNT_OPTIONS),
    ("mounts_recursive::rbind_ro_test", Check(&[VOLUME_READ_ONLY])),
    ("domainname_test::set_domainname_test", No("no NIS domain is set")),
    ("intel_rdt::intel_rdt", No("no Intel RDT is granted")),
    ("sysctl::sysctl_test", NO_PARAMETERS),
    ("set_scheduler_policy::policy_other", Check(&[SCHEDULING])),
    (
        "set_scheduler_policy::policy_batch",
        No("no job orders a scheduling class; a program may take SCHED_BATCH itself"),
    ),
    ("memory_policy::interleave_without_flags", NO_POLICY),
    ("memory_policy::bind_static", NO_POLICY),
    ("memory_policy::preferred_relative", NO_POLICY),
    ("memory_policy::default_with_missing_nodes_ok", NO_POLICY),
    ("memory_policy::invalid_mode_string", NO_POLICY),
    ("memory_policy::invalid_flag_string", NO_POLICY),
    ("memory_policy::missing_mode_but_nodes_present", NO_POLICY),
    ("memory_policy::syscall_invalid_arguments", NO_POLICY),
    ("memory_policy::bind_way_too_large_node_number", NO_POLICY),
    ("delete::delete_non_existed_container", Check(&[NOT_REMOVED])),
    ("delete::delete_created_container_test", ONE_STEP),
    ("delete::delete_running_container_test", Check(&[NOT_REMOVED])),
    ("delete::delete_stopped_container_test", Check(&[NOTHING_LEFT])),
    ("devices::device_test", Check(&[GRANTED])),
    ("devices::device_default_permissions", Check(&[DEVICES])),
    ("root_readonly::root_readonly_true_test", NO_READ_ONLY_ROOT),
    ("root_readonly::root_readonly_true_in_userns_test", NO_USER_NAMESPACES),
    ("root_readonly::root_readonly_false_test", Check(&[IMAGE])),
    ("process::process_test", Check(&[DIRECTORY, MADE_DIRECTORY, NO_DIRECTORY, HOME, ENVIRONMENT])),
    ("process_capabilities::process_capabilities_test", Check(&[NO_CAPABILITIES])),
    ("process_user::process_user_unique_gids_test", Check(&[USER, UMASK])),
    ("process_user::process_user_duplicate_gids_test", Check(&[USER])),
    ("process_rlimits::process_rlimits_test", Check(&[LIMITS])),
    ("process_rlimits_fail::process_rlimits_fail_test", NO_OWN_LIMITS),
    ("no_pivot::no_pivot_test", Check(&[ROOT])),
    ("masked_paths::masked_paths", Check(&[COVERED])),
    ("masked_paths::masked_rel_paths", NO_OWN_COVERS),
    ("masked_paths::masked_symlinks", NO_OWN_COVERS),
    ("masked_paths::masked_device_nodes", NO_OWN_COVERS),
    ("process_oom_score_adj::process_oom_score_adj", Check(&[KILLABLE])),
    ("fd_control::only_stdio", Check(&[DESCRIPTORS])),
    ("fd_control::closes_fd", Check(&[DESCRIPTORS])),
    ("fd_control::pass_single_fd", No("no descriptor is passed into a job")),
    ("kill_container::kill_with_empty_id_test", NO_NAMELESS),
    ("kill_container::kill_non_existed_container", Check(&[LATE_STOP])),
    ("kill_container::kill_created_container_test", Check(&[EARLY_STOP])),
    ("kill_container::kill_stopped_container_test", Check(&[LATE_STOP])),
    ("kill_container::kill_start_container_test", Check(&[KILL])),
    ("kill_no_effect::kill_no_effect_test", Check(&[LATE_STOP])),
    ("killsig::TERM", Check(&[TERM])),
    ("killsig::USR1", NO_OTHER_SIGNALS),
    ("killsig::USR2", NO_OTHER_SIGNALS),
    ("rootfs_propagation::rootfs_propagation_shared_test", NO_PROPAGATION),
    ("rootfs_propagation::rootfs_propagation_slave_test", NO_PROPAGATION),
    ("rootfs_propagation::rootfs_propagation_private_test", Check(&[PRIVATE])),
    ("rootfs_propagation::rootfs_propagation_unbindable_test", NO_PROPAGATION),
    ("net_devices::net_device", NO_DEVICES_OF_NETWORK),
    ("net_devices::net_device_rename", NO_DEVICES_OF_NETWORK),
    ("net_devices::net_devices", NO_DEVICES_OF_NETWORK),
    ("net_devices::empty_net_devices", NO_DEVICES_OF_NETWORK),
    ("net_devices::back_device", NO_DEVICES_OF_NETWORK),
    ("net_devices::address", NO_DEVICES_OF_NETWORK),
    ("process_capabilities_fail::process_capabilities_fail_test", NO_OWN_CAPABILITIES),
    ("process_capabilities_bounding::bounding_dropped_when_unset_test", Check(&[NO_CAPABILITIES])),
    (
        "process_capabilities_bounding::bounding_unset_with_other_caps_fails_test",
        NO_OWN_CAPABILITIES,
    ),
    ("uid_mappings::uid_mappings", NO_USER_NAMESPACES),
    ("exec_cpu_affinity::test_cpu_affinity_only_initial_set_from_process_json", NO_EXEC),
    ("exec_cpu_affinity::test_cpu_affinity_initial_and_final_set_from_process_json", NO_EXEC),
    ("exec_cpu_affinity::test_cpu_affinity_from_config_json", NO_EXEC),
    ("exec_env::test_exec_inherits_spec_env", NO_EXEC),
    ("exec_env::test_cli_env_overrides_spec", NO_EXEC),
    ("exec_env::test_cli_env_adds_new_var", NO_EXEC),
    ("exec_env::test_env_from_process_json", NO_EXEC),
    ("exec::preserve_fds_test", NO_EXEC),
    ("exec::ignore_paused_test", NO_EXEC),
    ("exec::cgroup_test (own group is the root)", Check(&[CONTROL_GROUP])),
    ("exec::cgroup_test (joining groups)", NO_EXEC),
    ("exec::no_capabilities_test", NO_EXEC),
    ("exec::unset_bounding_capabilities_test", NO_EXEC),
    ("exec::new_privileges_test", NO_EXEC),
    ("exec::some_capabilities_test", NO_EXEC),
    ("exec::capabilities_by_flag_test_case1", NO_EXEC),
    ("exec::capabilities_by_flag_test_case2", NO_EXEC),
    ("exec::mount_test", NO_EXEC),
    (
        "personality::personality_for_linux32",
        No("jobs are programs for x86-64; 32-bit ones are ended by the filter"),
    ),
    ("personality::personality_for_linux64", Check(&[PERSONALITY])),
    ("prohibit_symlink::prohibit_symlink_proc_test", Check(&[LINKED, VOLUME_LINK, ETC_LINKS])),
    ("prohibit_symlink::prohibit_symlink_sys_test", Check(&[LINKED, VOLUME_LINK])),
    ("set_io_priority::io_priority_class_rt", NO_IO_PRIORITY),
    ("set_io_priority::io_priority_class_be", NO_IO_PRIORITY),
    ("set_io_priority::io_priority_class_idle", NO_IO_PRIORITY),
    ("checkpoint_restore::checkpoint_and_restore", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_bind_mount_symlink", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_with_debug", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_cgroupns", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_with_netdevice", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_pre_dump_bad_parent_path", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_pre_dump_and_restore", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_lazy_pages_and_restore", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_in_external_netns", NO_CHECKPOINT),
    (
        "checkpoint_restore::checkpoint_and_restore_with_container_specific_criu_config",
        NO_CHECKPOINT,
    ),
    ("checkpoint_restore::checkpoint_and_restore_with_nested_bind_mounts", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_then_restore_into_a_different_cgroup", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_and_exec", NO_CHECKPOINT),
    ("checkpoint_restore::checkpoint_and_restore_with_link_remap", NO_CHECKPOINT),
    ("update::update_cgroup_v2_common_limits_test", NO_UPDATE),
    ("update::update_cpu_limits_test", NO_UPDATE),
    ("update::update_pids_limit_test", NO_UPDATE),
    ("update::cpu_burst_test", NO_UPDATE),
    ("update::set_cpu_period_without_quota_test", NO_UPDATE),
    ("update::set_cpu_period_without_quota_invalid_test", NO_UPDATE),
    ("update::set_cpu_quota_without_period_test", NO_UPDATE),
    ("update::update_cpu_period_without_previous_limits_test", NO_UPDATE),
    ("update::update_cpu_quota_without_previous_limits_test", NO_UPDATE),
    ("update::update_cgroup_cpu_idle_test", NO_UPDATE),
    ("update::update_cgroup_v2_resources_via_unified_map_test", NO_UPDATE),
    ("update::update_cpuset_parameters_via_resources_cpu_test", NO_UPDATE),
    ("update::update_cpuset_parameters_via_v2_unified_map_test", NO_UPDATE),
    ("update::update_cpuset_cpus_range_via_v2_unified_map_test", NO_UPDATE),
    ("time_ns::simple timens", NO_TIME),
    ("time_ns::timens with no offsets", NO_TIME),
    ("time_ns::simple timens + userns", NO_TIME),
    ("time_ns::simple timens + exec", NO_TIME),
];

/// The two suites, as the page names them.
pub(super) const SUITES: [(&str, &[Case]); 2] = [
    ("runtime-tools: programs of `validation/`", RUNTIME_TOOLS),
    ("youki: tests of `tests/contest`, GROUP::TEST", YOUKI),
];
