//! Which keys there are, and what their values must be. Keys of the language that this version
//! cannot do are [`Shape::Later`].

use yaml_tree::{Field, Shape, field, required};

use crate::units;

const SIZE: Shape = Shape::Parsed {
    what: "a size",
    example: "512MiB, 1GB or 1073741824",
    accepts: |text| units::size(text).is_some(),
};
const DURATION: Shape = Shape::Parsed {
    what: "a time of a second or more",
    example: "90s, 30m, 2h or 1h30m",
    accepts: |text| units::duration(text).is_some(),
};
const VERSION: Shape = Shape::Parsed {
    what: "a version of the language",
    example: "v1 or v4",
    accepts: |text| matches!(text, "v1" | "v4"),
};
const AFFINITY: Shape = Shape::Parsed {
    what: "an affinity",
    example: "CORE, SOCKET or NUMA",
    accepts: |text| crate::Affinity::parse(text).is_some(),
};
const STATUS: Shape = Shape::Parsed {
    what: "a status to wait for",
    example: "FINISHED or RUNNING",
    accepts: |text| ["finished", "running"].contains(&text.to_lowercase().as_str()),
};

/// `docker://alpine` in short, or a map with secrets.
const URI: Shape = Shape::Short(
    &Shape::Text,
    &[
        required("uri", Shape::Text),
        field("secret", Shape::Later),
        field("secrets", Shape::Later),
        field("decryption-secret", Shape::Later),
        field("decryptionSecret", Shape::Later),
    ],
);

const POLICY: Shape = Shape::Object(&[
    field("timeout", Shape::Object(&[field("execute", DURATION)])),
    field("retry", Shape::Object(&[field("attempts", Shape::Number(100))])),
]);

static TRANSFER: Shape = Shape::Object(&[
    required("source", URI),
    required("destination", URI),
    field("policy", POLICY),
]);

static VOLUME: Shape = Shape::Object(&[
    field("reference", Shape::Text),
    field("type", Shape::Text),
    field("use", Shape::Text),
    field("ingress", Shape::List(&TRANSFER)),
    field("egress", Shape::List(&TRANSFER)),
    field("name", Shape::Text),
    field("path", Shape::Later),
    field("namedVolume", Shape::Later),
    field("named-volume", Shape::Later),
    field("size", SIZE),
    field("annotations", Shape::Later),
    field("db", Shape::Later),
]);

/// `data: {location: /data}`, `/data: {volume: data}` and `/data: data`.
static MOUNT: Shape =
    Shape::Short(&Shape::Text, &[field("location", Shape::Text), field("volume", Shape::Text)]);

const RESOURCE: Shape = Shape::Object(&[
    field(
        "cpu",
        Shape::Object(&[
            field("cores", Shape::Number(1 << 20)),
            field("affinity", AFFINITY),
            field("threads", Shape::Flag),
            field("sockets", Shape::Later),
        ]),
    ),
    field("memory", Shape::Object(&[field("size", SIZE), field("by-core", Shape::Flag)])),
    // Where the slides have it.
    field("by-core", Shape::Flag),
    field("devices", Shape::Map(&Shape::Number(1 << 20))),
    field("exclusive", Shape::Flag),
    field("annotations", Shape::Map(&Shape::Text)),
]);

static DEPENDENCY: Shape = Shape::Object(&[
    required("name", Shape::Text),
    field("status", STATUS),
    field("description", Shape::Text),
]);

const JOB: &[Field] = &[
    // As the public catalog has it.
    field("name", Shape::Text),
    field("image", URI),
    field("command", Shape::List(&Shape::Text)),
    field("args", Shape::List(&Shape::Text)),
    field("script", Shape::Text),
    field("env", Shape::List(&Shape::Text)),
    field("cwd", Shape::Text),
    field("mounts", Shape::Map(&MOUNT)),
    field("requires", Shape::List(&Shape::Text)),
    field("depends-on", Shape::List(&DEPENDENCY)),
    field("policy", POLICY),
    field("resource", RESOURCE),
    field(
        "task-array",
        Shape::Object(&[
            required("start", Shape::Number(u32::MAX)),
            required("end", Shape::Number(u32::MAX)),
            field("concurrency", Shape::Number(u32::MAX)),
        ]),
    ),
    field(
        "network",
        Shape::Object(&[
            field("isolated", Shape::Flag),
            field("expose-tcp", Shape::Later),
            field("expose-udp", Shape::Later),
            field("exposeTcp", Shape::Later),
            field("exposeUdp", Shape::Later),
        ]),
    ),
    field("files", Shape::Map(&Shape::Text)),
    field("multinode", Shape::Later),
    field("mpi", Shape::Later),
];

static ONE_JOB: Shape = Shape::Object(JOB);

/// The whole document.
pub(crate) static DOCUMENT: Shape = Shape::Object(&[
    required("version", VERSION),
    field("name", Shape::Text),
    field("annotations", Shape::Map(&Shape::Text)),
    field(
        "defaults",
        Shape::Object(&[field(
            "job",
            Shape::Object(&[
                field("env", Shape::List(&Shape::Text)),
                field("mounts", Shape::Map(&MOUNT)),
                field("policy", POLICY),
                field("resource", RESOURCE),
            ]),
        )]),
    ),
    field("files", Shape::Map(&Shape::Text)),
    field("volumes", Shape::Map(&VOLUME)),
    field("jobs", Shape::Map(&ONE_JOB)),
    field("services", Shape::Later),
    field("completed", Shape::Later),
]);
