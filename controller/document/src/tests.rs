//! Documents in; the normalised form, or every mistake, out.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn diagnostics(text: &str, expected: &Expect) {
    expected.assert_eq(&lines(&parse(text).unwrap_err()));
}

fn normal(text: &str, expected: &Expect) {
    let parsed = parse(text).unwrap_or_else(|diagnostics| panic!("{}", lines(&diagnostics)));
    expected.assert_eq(&(lines(&parsed.warnings) + &parsed.workflow.to_yaml().unwrap()));
}

const HELLO: &str = r#"version: v1
jobs:
  hello-world:
    image: { uri: docker://alpine:latest }
    command: [/bin/sh, -c, 'echo "Hello, world! ${HOSTNAME}"']
    resource: { cpu: { cores: 1, affinity: NUMA }, memory: { size: 1GB } }
"#;

const ARRAY: &str = r#"version: v1
jobs:
  task-sleeper:
    image:
      uri: docker://alpine:latest
    command: ["/bin/sleep", "$FB_TASK_ID"]
    policy:
      timeout:
        execute: 2m
      retry:
        attempts: 1
    resource:
      cpu:
        cores: 1
        affinity: NUMA
      memory:
        size: 1GB
    task-array:
      start: 1
      end: 32
      concurrency: 8
"#;

const SLIDES: &str = r#"version: v1
name: ufs
volumes:
  v1:
    type: EPHEMERAL
    ingress:
      - source: https://example.org/simple-test-case.tar.gz
        destination: file://input.tar.gz
    egress:
      - source: file://simple-test-case/plot.png
        destination: local:///tmp/ufs-results/plot.png
jobs:
  untar:
    image: docker://alpine:latest
    command: [tar, -C, /data, -zxf, /data/input.tar.gz]
    mounts: { v1: { location: /data } }
  plot:
    image: docker://example.org/ncl:latest
    command: [ncl, plot.ncl]
    env: [NCARG_ROOT=/usr/local]
    cwd: /data/simple-test-case
    requires: [untar]
    mounts:
      v1:
        location: /data
"#;

const DAG: &str = r#"version: v4
defaults:
  job:
    env: [SECONDS=30, A=1]
    resource: { cpu: { cores: 2 }, memory: { size: 0.5GiB } }
files: { words: "one two\n" }
volumes:
  data: { reference: volume://user/ephemeral, ingress: [{source: {uri: file://words}, destination: {uri: file://in/words}}] }
jobs:
  pre:
    image: { uri: docker://alpine:latest }
    env: [A=2]
    script: |
      #! /bin/sh
      sleep ${SECONDS}
    policy: { timeout: { execute: "120s" } }
    mounts: { /data: { volume: data }, /more: data }
  post:
    image: { uri: docker://alpine:latest }
    depends-on: [{ name: pre, status: Finished }]
    requires: [pre]
    command: [/bin/true]
    resource: { cpu: { threads: true }, exclusive: true, devices: { nvidia.com/gpu: 1 } }
"#;

const WRONG: &str = r#"version: v4
volumes:
  data:
    ingress:
      - { source: http://example.org/a, destination: file://../a }
      - { source: file://nothing, destination: file://a }
      - { source: http://example.org/a, destination: /a }
jobs:
  a:
    image: alpine
    command: [x]
    cwd: work
    env: [A, 1=2, FB_TASK_ID=3]
    mounts: { dta: { location: /x }, data: { location: x }, /y: { location: /z } }
    depends-on: [{ name: b }, { name: c }]
    task-array: { start: 5, end: 1, concurrency: 0 }
  b:
    image: docker://alpine
    command: [x]
    script: '#!/bin/sh'
    requires: [a]
    mounts: { data: { location: /d }, /d: data, /dev//x: data, /: data }
  cc:
    image: docker://alpine
    script: echo
    resource: { cpu: { cores: 0 }, devices: { gpu: 1 } }
  d:
    command: [x]
  e:
    image: docker://alpine
  f:
    image: docker://alpine
    command: [x]
    task-array: { start: 0, end: 4000000000 }
"#;

#[test]
fn hello() {
    normal(
        HELLO,
        &expect![[r#"
        jobs:
        - name: hello-world
          image: alpine:latest
          command:
          - /bin/sh
          - -c
          - echo "Hello, world! ${HOSTNAME}"
          args: []
          env: []
          mounts: []
          depends-on: []
          timeout-seconds: 86400
          retries: 0
          resource:
            cores: 1
            affinity: numa
            threads: false
            memory-bytes: 1000000000
            memory-by-core: false
            exclusive: false
          isolated: false
    "#]],
    );
}

#[test]
fn jobs_may_stand_behind_anchors() {
    let job = "{image: {uri: 'docker://a'}, command: [date], resource: {cpu: {cores: 1}, memory: {size: 2MB}}}";
    let short =
        format!("version: v1\nx-job: &j {job}\njobs:\n  a: *j\n  b: {{<<: *j, command: [id]}}\n");
    let long = format!("version: v1\njobs:\n  a: {job}\n  b: {}\n", job.replace("date", "id"));
    let yaml = |text: &str| {
        parse(text).map(|parsed| parsed.workflow.to_yaml().unwrap()).map_err(|all| lines(&all))
    };
    assert_eq!(yaml(&short), yaml(&long));
    assert!(yaml(&short).is_ok());
}

#[test]
fn the_array_of_the_slides() {
    normal(
        ARRAY,
        &expect![[r#"
        jobs:
        - name: task-sleeper
          image: alpine:latest
          command:
          - /bin/sleep
          - $FB_TASK_ID
          args: []
          env: []
          mounts: []
          depends-on: []
          timeout-seconds: 120
          retries: 1
          resource:
            cores: 1
            affinity: numa
            threads: false
            memory-bytes: 1000000000
            memory-by-core: false
            exclusive: false
          task-array:
            start: 1
            end: 32
            concurrency: 8
          isolated: false
    "#]],
    );
}

#[test]
fn the_older_spellings() {
    normal(
        SLIDES,
        &expect![[r#"
        name: ufs
        volumes:
        - name: v1
          ingress:
          - path: input.tar.gz
            source:
              http:
                url: https://example.org/simple-test-case.tar.gz
            timeout-seconds: 86400
            retries: 0
          egress:
          - path: simple-test-case/plot.png
            destination:
              local:
                path: /tmp/ufs-results/plot.png
            timeout-seconds: 86400
            retries: 0
        jobs:
        - name: untar
          image: alpine:latest
          command:
          - tar
          - -C
          - /data
          - -zxf
          - /data/input.tar.gz
          args: []
          env: []
          mounts:
          - volume: v1
            location: /data
          depends-on: []
          timeout-seconds: 86400
          retries: 0
          resource:
            cores: 1
            affinity: core
            threads: false
            memory-by-core: false
            exclusive: false
          isolated: false
        - name: plot
          image: example.org/ncl:latest
          command:
          - ncl
          - plot.ncl
          args: []
          env:
          - - NCARG_ROOT
            - /usr/local
          cwd: /data/simple-test-case
          mounts:
          - volume: v1
            location: /data
          depends-on:
          - untar
          timeout-seconds: 86400
          retries: 0
          resource:
            cores: 1
            affinity: core
            threads: false
            memory-by-core: false
            exclusive: false
          isolated: false
    "#]],
    );
}

/// Jobs with these rests of their lines.
fn jobs(jobs: &[(&str, &str)]) -> String {
    let line = |(name, rest): &(&str, &str)| format!("  {name}: {{image: docker://a, {rest}}}\n");
    "version: v1\njobs:\n".to_owned() + &jobs.iter().map(line).collect::<String>()
}

#[test]
fn a_command_of_one_item_is_told_as_words() {
    let text = jobs(&[
        ("untar", r#"command: ["tar -C /data -zxf /data/input.tar.gz"]"#),
        ("plot", r#"command: [ncl 'a b' "$FB_TASK_ID" '$HOME'], args: [x y]"#),
        ("shell", r#"command: ["cat a | wc -l"]"#),
        ("list", "command: [echo, a b]"),
        ("args", "args: [it's me]"),
        ("alone", r#"args: ["cat a | wc -l"]"#),
        ("several", "args: [a b, c]"),
        ("script", "script: '#!/bin/sh', args: [a b]"),
        ("both", "command: [cat], args: [a b]"),
    ]);
    let parsed = parse(&text).unwrap();
    expect![[r#"
        3:40: jobs.untar.command[0]: it is run as the words [tar, -C, /data, -zxf, /data/input.tar.gz], unless the image has a program of exactly that name
        4:39: jobs.plot.command[0]: it is run as the words [ncl, "a b", $FB_TASK_ID, $$HOME], unless the image has a program of exactly that name
        5:40: jobs.shell.command[0]: it is run as the words [cat, "a", "|", wc, -l], unless the image has a program of exactly that name; no shell reads them, so "|" is passed as it is: for a shell write [/bin/sh, -c, …]
        7:36: jobs.args.args[0]: where the image has no entrypoint, it is the name of the program, since the ' at its character 3 is not closed
        8:37: jobs.alone.args[0]: where the image has no entrypoint, it is run as the words [cat, "a", "|", wc, -l], unless the image has a program of exactly that name; no shell reads them, so "|" is passed as it is: for a shell write [/bin/sh, -c, …]
    "#]].assert_eq(&lines(&parsed.warnings));
    // The document stays as it was written: whether there is such a program, the node knows.
    assert_eq!(parsed.workflow.jobs[0].command, ["tar -C /data -zxf /data/input.tar.gz"]);
    diagnostics(
        &jobs(&[
            ("a", r#"command: ["echo 'a"]"#),
            ("b", r#"command: ["echo a\\"]"#),
            ("c", r#"command: [" "]"#),
            ("d", r#"command: ["", x]"#),
            ("e", r##"script: "#! \n""##),
        ]),
        &expect![[r#"
            3:36: jobs.a.command[0]: a command of one item is split into words, and the ' at its character 6 is not closed (close or escape it, or write each word as an item of its own)
            4:36: jobs.b.command[0]: a command of one item is split into words, and nothing follows the backslash at its end (close or escape it, or write each word as an item of its own)
            5:36: jobs.c.command[0]: the command names no program (such as `command: [/bin/true]`)
            6:36: jobs.d.command[0]: the command names no program (such as `command: [/bin/true]`)
            7:34: jobs.e.script: the #! line names no interpreter (such as #!/bin/sh)
        "#]],
    );
    // What was accepted once is read all the same.
    assert!(read_accepted(&jobs(&[("a", r#"command: ["echo 'a"]"#)])).is_ok());
}

#[test]
fn names_may_have_underscores_and_dots() {
    let text = "version: v1\nvolumes: {data_v1.2: {name: data_v1.2}}\njobs:\n  \
                counter_job: {name: counter_job, image: docker://a, command: [x], mounts: {data_v1.2: \
                {location: /data}}}\n  step.2: {image: docker://a, command: [x], requires: \
                [counter_job]}\n  .x_: {image: docker://a, command: [x]}\n";
    let workflow =
        parse(text).unwrap_or_else(|diagnostics| panic!("{}", lines(&diagnostics))).workflow;
    let names: Vec<&str> = workflow.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["counter_job", "step.2", ".x_"]);
    assert_eq!(workflow.jobs[0].mounts[0].volume, "data_v1.2");
    let long = "x".repeat(64);
    let bad = [".", "..", "a/b", "A", "-a", "a-", "é", &long].map(|name| (name, "command: [x]"));
    diagnostics(
        &jobs(&bad),
        &expect![[r#"
        3:6: jobs..: "." cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        4:7: jobs...: ".." cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        5:8: jobs.a/b: "a/b" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        6:6: jobs.A: "A" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        7:7: jobs.-a: "-a" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        8:7: jobs.a-: "a-" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        9:6: jobs.é: "é" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
        10:69: jobs.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
    "#]],
    );
    diagnostics(
        &jobs(&[("a", "name: b, command: [x]")]),
        &expect![[r#"
        3:32: jobs.a.name: it is not the key of the job (leave it out, or make it "a": a job has the name of its key)
    "#]],
    );
}

#[test]
fn a_diagnostic_is_not_hidden_by_one_of_a_name_that_goes_on() {
    diagnostics(
        "version: v1\njobs:\n  a: {command: [x]}\n  a.images: {image: x, command: [x]}\n",
        &expect![[r#"
            3:6: jobs.a: the job has no image (such as `image: {uri: docker://alpine}`)
            4:21: jobs.a.images.image: "x" cannot be used here (use docker://HOST/REPOSITORY:TAG)
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a snapshot")]
fn version_4_with_defaults() {
    normal(
        DAG,
        &expect![[r#"
        21:15: jobs.post.requires: it does not count where `depends-on` is there
        files:
          words: |
            one two
        volumes:
        - name: data
          ingress:
          - path: in/words
            source:
              file:
                name: words
            timeout-seconds: 86400
            retries: 0
        jobs:
        - name: pre
          image: alpine:latest
          command: []
          args: []
          script: |
            #! /bin/sh
            sleep ${SECONDS}
          env:
          - - A
            - "2"
          - - SECONDS
            - "30"
          mounts:
          - volume: data
            location: /data
          - volume: data
            location: /more
          depends-on: []
          timeout-seconds: 120
          retries: 0
          resource:
            cores: 2
            affinity: core
            threads: false
            memory-bytes: 536870912
            memory-by-core: false
            exclusive: false
          isolated: false
        - name: post
          image: alpine:latest
          command:
          - /bin/true
          args: []
          env:
          - - A
            - "1"
          - - SECONDS
            - "30"
          mounts: []
          depends-on:
          - pre
          timeout-seconds: 86400
          retries: 0
          resource:
            cores: 2
            affinity: core
            threads: true
            memory-bytes: 536870912
            memory-by-core: false
            devices:
              nvidia.com/gpu: 1
            exclusive: true
          isolated: false
    "#]],
    );
}

#[test]
fn every_diagnostic_of_form_is_told_at_once() {
    diagnostics(
        r#"version: v2
nmae: x
jobs:
  Bad_Name:
    image: docker://alpine
    comand: [x]
    resource: { cpu: { cores: two, affinity: NODE, coers: 1 }, memory: { size: 1XB }, exclusive: maybe }
    policy: { timeout: { execute: soon }, retry: { attempts: -1 } }
    env: NAME=x
  a:
    image: docker://alpine
    command: [x]
    command: [y]
"#,
        &expect![[r#"
            1:10: version: "v2" is not a version of the language (as in v1 or v4)
            2:1: nmae: unknown key "nmae" (did you mean `name`?)
            5:5: jobs.Bad_Name: "Bad_Name" cannot name a job (use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone)
            5:5: jobs.Bad_Name: the job has no command and no script (such as `command: [/bin/true]`)
            6:5: jobs.Bad_Name.comand: unknown key "comand" (did you mean `command`?)
            7:31: jobs.Bad_Name.resource.cpu.cores: "two" is not a whole number from 0 to 1048576
            7:46: jobs.Bad_Name.resource.cpu.affinity: "NODE" is not an affinity (as in CORE, SOCKET or NUMA)
            7:52: jobs.Bad_Name.resource.cpu.coers: unknown key "coers" (did you mean `cores`?)
            7:80: jobs.Bad_Name.resource.memory.size: "1XB" is not a size (as in 512MiB, 1GB or 1073741824)
            7:98: jobs.Bad_Name.resource.exclusive: "maybe" is neither true nor false
            8:35: jobs.Bad_Name.policy.timeout.execute: "soon" is not a time of a second or more (as in 90s, 30m, 2h or 1h30m)
            8:62: jobs.Bad_Name.policy.retry.attempts: "-1" is not a whole number from 0 to 100
            9:10: jobs.Bad_Name.env: this must be a list, not a single value (write `[NAME=x]`)
            13:5: jobs.a.command: the key is there twice; first in line 12
        "#]],
    );
}

#[test]
fn every_diagnostic_of_meaning_is_told_at_once() {
    diagnostics(
        WRONG,
        &expect![[r#"
            5:54: volumes.data.ingress[0].destination: "file://../a" is no path inside the volume (use file://PATH without `.`, `..` and empty parts)
            6:19: volumes.data.ingress[1].source: there is no inline file "nothing"
            7:54: volumes.data.ingress[2].destination: "/a" is no file of the volume (use file://PATH, relative to the volume)
            10:5: jobs.a: jobs wait for each other: a → b → a (take one edge out)
            10:12: jobs.a.image: "alpine" cannot be used here (use docker://HOST/REPOSITORY:TAG)
            12:10: jobs.a.cwd: "work" is no absolute path (begin with / and leave `..` out)
            13:11: jobs.a.env[0]: "A" is no NAME=VALUE (as in OMP_NUM_THREADS=4)
            13:14: jobs.a.env[1]: "1=2" is no NAME=VALUE (as in OMP_NUM_THREADS=4)
            13:19: jobs.a.env[2]: FB_TASK_ID is set by the server (choose another name)
            14:20: jobs.a.mounts.dta: there is no volume "dta" (did you mean `data`?)
            14:44: jobs.a.mounts.data: "x" is no absolute path (begin with / and leave `..` out)
            14:65: jobs.a.mounts./y: this is no mount (write `VOLUME: {location: /PATH}` or `/PATH: {volume: VOLUME}`)
            15:31: jobs.a.depends-on[1]: there is no job "c" (did you mean `cc`?)
            16:34: jobs.a.task-array.end: the array ends at 1, before its start 5 (both are included)
            16:50: jobs.a.task-array.concurrency: at least one task must run at a time (leave it out to run as many as there is room for)
            20:13: jobs.b.script: the job has a command and a script (choose one; `args` go to either)
            22:43: jobs.b.mounts./d: two volumes are mounted at /d
            22:58: jobs.b.mounts./dev//x: nothing can be put at "/dev//x" (choose a path outside of /dev, /proc and /sys)
            22:67: jobs.b.mounts./: nothing can be put at "/" (choose a path outside of /dev, /proc and /sys)
            25:13: jobs.cc.script: the script has no #! line (begin it with its interpreter, such as #!/bin/sh)
            26:31: jobs.cc.resource.cpu.cores: a job needs at least one core (leave it out for one)
            26:52: jobs.cc.resource.devices.gpu: "gpu" is no kind of devices (use VENDOR/CLASS, such as nvidia.com/gpu: 1)
            28:5: jobs.d: the job has no image (such as `image: {uri: docker://alpine}`)
            30:5: jobs.e: the job has no command and no script (such as `command: [/bin/true]`)
            34:34: jobs.f.task-array.end: the array has 4000000001 tasks; at most 1000000 are taken (make it several jobs)
        "#]],
    );
}

#[test]
fn what_is_not_supported_yet_is_said_key_by_key() {
    diagnostics(
        r#"version: v4
annotations: { fuzzball.io/connect/web: ssh }
volumes:
  data: { reference: volume://user/persistent/x, size: 10GB }
  own: { name: own }
  other: { name: kept }
  old: { type: PERSISTENT, namedVolume: default }
  out: { use: ephemeral, egress: [{ source: file://a, destination: { uri: s3://b/c, secret: secret://user/k } }] }
jobs:
  a:
    image: { uri: oras://example.org/x.sif, secret: secret://user/s }
    command: [x]
    env: [KEY=secret://user/key]
    multinode: { nodes: 2, implementation: openmpi }
    depends-on: [{ name: web, status: running }]
    network: { isolated: true, expose-tcp: [80] }
    resource: { cpu: { sockets: 2 }, annotations: { nvidia.com/gpu.model: x } }
services:
  web: { image: docker://nginx }
"#,
        &expect![[r#"
            2:41: annotations.fuzzball.io/connect/web: annotations of services are not supported yet (leave it out: this version runs no services)
            4:22: volumes.data.reference: not supported yet (ephemeral volumes are there: `reference: volume://user/ephemeral`)
            6:18: volumes.other.name: not supported yet (it would be a persistent volume; an ephemeral one has the name of its key)
            7:16: volumes.old.type: not supported yet (ephemeral volumes are there: `reference: volume://user/ephemeral`)
            7:28: volumes.old.namedVolume: not supported yet
            8:68: volumes.out.egress[0].destination: s3:// is not supported yet (use http://, https://, or local:///PATH on the client's machine)
            8:85: volumes.out.egress[0].destination.secret: not supported yet
            11:12: jobs.a.image: oras:// is not supported yet (use docker://HOST/REPOSITORY:TAG)
            11:45: jobs.a.image.secret: not supported yet
            13:11: jobs.a.env[0]: secret:// is not supported yet (secrets come with a later version)
            14:5: jobs.a.multinode: not supported yet
            16:32: jobs.a.network.expose-tcp: not supported yet
            17:24: jobs.a.resource.cpu.sockets: not supported yet
            18:1: services: not supported yet
        "#]],
    );
}

#[test]
fn an_image_with_a_password_is_refused_without_telling_it() {
    let text = "version: v1\njobs: {a: {image: docker://me:SECRET@h/x, command: [x]}}";
    let told = lines(&parse(text).unwrap_err());
    assert!(told.contains("jobs.a.image: an image holds no user, password or query"), "{told}");
    assert!(!told.contains("SECRET"), "{told}");
}

#[test]
fn annotations_are_labels_of_the_node() {
    let text = r#"version: v4
annotations: { zone: north, rack: a1 }
defaults: { job: { resource: { annotations: { rack: a2, tier: prod } } } }
jobs:
  a: { image: docker://a, command: [x] }
  b: { image: docker://a, command: [x], resource: { annotations: { tier: test, nvidia.com/gpu.model: h100 } } }
"#;
    let labels = |number: usize| {
        api::labels::line(&parse(text).unwrap().workflow.jobs[number].resource.labels)
    };
    assert_eq!(labels(0), "rack=a2,tier=prod,zone=north");
    assert_eq!(labels(1), "nvidia.com/gpu.model=h100,rack=a2,tier=test,zone=north");
}

#[test]
fn annotations_that_are_no_labels_are_diagnostics() {
    diagnostics(
        "version: v4\nannotations: { zone: north side }\njobs:\n  \
         a: { image: docker://a, command: [x], resource: { annotations: { -a: b } } }\n",
        &expect![[r#"
            2:22: annotations.zone: "zone": "north side" is no label: the value of a label is empty, or has up to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit (an annotation is a label that the node must have; see `bedplate node list --show-labels`)
            4:72: jobs.a.resource.annotations.-a: "-a": "b" is no label: the name of a label has 1 to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit (an annotation is a label that the node must have; see `bedplate node list --show-labels`)
        "#]],
    );
    let many: String = (0..65).map(|number| format!("l{number}: x, ")).collect();
    let text = format!(
        "version: v4\nannotations: {{{many}}}\njobs: {{a: {{image: docker://a, command: [x]}}}}"
    );
    let told = lines(&parse(&text).unwrap_err());
    assert!(
        told.contains("jobs.a: the job wants 65 labels of its node; at most 64 are taken"),
        "{told}"
    );
}

/// A document with one volume, and files that go out of it.
fn egress(pairs: &[(&str, &str)]) -> String {
    let pair = |(source, destination): &(&str, &str)| {
        format!("    - source: '{source}'\n      destination: '{destination}'\n")
    };
    let pairs: String = pairs.iter().map(pair).collect();
    format!(
        "version: v1\njobs: {{a: {{image: docker://a, command: [x]}}}}\nvolumes:\n  data:\n    egress:\n{pairs}"
    )
}

#[test]
fn a_directory_goes_where_directories_can() {
    let text = egress(&[
        ("file://out/", "https://example.org/results/"),
        ("file:///out", "https://example.org/results?signature=x"),
        ("file://a/b/", "local:///results"),
        ("file:///", "local:///all"),
    ]);
    let volume = &parse(&text).unwrap().workflow.volumes[0];
    let paths: Vec<&str> = volume.egress.iter().map(|egress| egress.path.as_str()).collect();
    assert_eq!(paths, ["out", "out", "a/b", "."]);
    diagnostics(
        &egress(&[
            ("file://out/", "https://example.org/results?signature=x"),
            ("file://out//", "local:///x"),
            ("file://../", "local:///x"),
            ("file://out", "https://"),
            ("file://out", "http://:80/x"),
            ("file://out", "http://user@exa mple/x"),
        ]),
        &expect![[r#"
            7:20: volumes.data.egress[0].destination: the source is a directory, and a URL with a query or fragment names one file (let a job pack the directory (`tar -cf`), and take the archive out)
            8:15: volumes.data.egress[1].source: "file://out//" is no path inside the volume (use file://PATH without `.`, `..` and empty parts)
            10:15: volumes.data.egress[2].source: "file://.." is no path inside the volume (use file://PATH without `.`, `..` and empty parts)
            13:20: volumes.data.egress[3].destination: "https://" names no host (write http://HOST/PATH)
            15:20: volumes.data.egress[4].destination: "http://:80/x" names no host (write http://HOST/PATH)
            17:20: volumes.data.egress[5].destination: "http://user@exa mple/x" names no host (write http://HOST/PATH)
        "#]],
    );
}

#[test]
fn what_is_no_document() {
    let mut all = String::new();
    for text in [
        "",
        "jobs",
        "- a",
        "version: v1",
        "version: v1\njobs: {}\n",
        "a: *b",
        "version: v1\njobs: [1]",
        "{",
    ] {
        all += &format!("{text:?}\n{}", lines(&parse(text).unwrap_err()));
    }
    expect![[r#"
        ""
        1:1: the document is empty (it needs `version` and `jobs`)
        "jobs"
        1:1: this must be a map, not a single value
        "- a"
        1:1: this must be a map, not a list
        "version: v1"
        1:1: the document has no job (such as `jobs: {hello: {image: …, command: […]}}`)
        "version: v1\njobs: {}\n"
        1:1: the document has no job (such as `jobs: {hello: {image: …, command: […]}}`)
        "a: *b"
        1:4: while parsing node, found unknown anchor
        "version: v1\njobs: [1]"
        2:7: jobs: this must be a map, not a list
        "{"
        1:1: unclosed bracket '{'
    "#]]
    .assert_eq(&all);
}

#[test]
fn a_huge_document_is_refused_unread() {
    let text = format!("version: v1\njobs: {{}}\n# {}", "x".repeat(50 << 20));
    let found = parse(&text).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("at most 4194304"), "{found:?}");
}

#[test]
fn a_large_array_is_one_record() {
    let text = ARRAY.replace("end: 32", "end: 100000");
    assert_eq!(parse(&text).unwrap().workflow.jobs.len(), 1);
}

#[test]
fn a_job_that_only_the_cluster_finds_wrong_is_located() {
    let parsed = parse(DAG).unwrap();
    expect!["19:5: jobs.post: too large\n"]
        .assert_eq(&lines(&parsed.diagnostics_of_jobs([(1, "too large".into())])));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_broken_document_panics(which in 0..4_usize, cut in any::<prop::sample::Index>(), length in 0..9_usize, instead in "[ a-z{}\\[\\]:,\"\n-]{0,4}") {
        let text = [HELLO, ARRAY, SLIDES, DAG][which];
        let start = cut.index(text.len());
        let end = (start + length).min(text.len());
        prop_assume!(text.is_char_boundary(start) && text.is_char_boundary(end));
        let _ = parse(&format!("{}{instead}{}", &text[..start], &text[end..]));
    }
}

/// Every example of the page of the documentation is right, and the wrong one has the mistakes that
/// the page tells.
#[test]
fn the_documented_examples_are_true() {
    let page = include_str!("../../../docs/formats/workflow.md");
    let blocks: Vec<(&str, &str)> =
        page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let mut right = 0;
    for (index, (kind, text)) in blocks.iter().enumerate() {
        match *kind {
            "yaml" => {
                parse(text).unwrap_or_else(|diagnostics| panic!("{text}\n{}", lines(&diagnostics)));
                right += 1;
            }
            "yaml wrong" => assert_eq!(lines(&parse(text).unwrap_err()), blocks[index + 1].1),
            _ => {}
        }
    }
    assert!(right >= 3, "{right} examples");
}

/// Each of these was accepted once, and failed on the node.
#[test]
fn a_volume_has_a_size_or_none_and_not_next_to_nothing() {
    let text = "version: v4\nvolumes: {small: {size: 10}, data: {size: 10GB}, any: {}}\n\
                jobs: {a: {image: docker://i, command: [a]}}\n";
    diagnostics(
        text,
        &expect![[r#"
            2:25: volumes.small.size: a volume of 10 bytes holds next to nothing; at least 1048576 are taken (write the unit too, such as 10GB)
        "#]],
    );
    let workflow = parse(&text.replace("10}", "1MiB}")).unwrap().workflow;
    let sizes: Vec<Option<u64>> = workflow.volumes.iter().map(|volume| volume.size_bytes).collect();
    assert_eq!(sizes, [Some(1 << 20), Some(10_000_000_000), None]);
}

#[test]
fn what_linux_would_not_run_is_refused() {
    let long = "x".repeat(128 << 10);
    let job = |name: &str, rest: &str| format!("  {name}: {{image: docker://i, {rest}}}\n");
    let text = String::from("version: v1\njobs:\n")
        + &job("tiny", "command: [a], resource: {memory: {size: 4}}")
        + &job(
            "small",
            "command: [a], resource: {cpu: {cores: 2}, memory: {size: 1kB, by-core: true}}",
        )
        + &job(
            "by-core",
            "command: [a], resource: {cpu: {cores: 2}, memory: {size: 512KiB, by-core: true}}",
        )
        + &job("long", &format!("command: [a, {long}]"))
        + &job("fits", &format!("command: [a], args: [{}]", &long[1..]))
        + &job("wide", &format!("command: [a], env: [V={long}]"))
        + &job("many", &format!("command: [a], args: [{}]", [&long[9..]; 9].join(", ")));
    diagnostics(
        &text,
        &expect![[r#"
        3:69: jobs.tiny.resource.memory.size: 4 bytes hold no program; at least 1048576 are taken (write the unit too, such as 4GiB)
        4:87: jobs.small.resource.memory.size: 1000 bytes hold no program; at least 1048576 are taken (write the unit too, such as 4GiB)
        6:42: jobs.long.command[1]: the argument has 131072 bytes; Linux passes at most 131071 to a program (put what is large into an entry of `files`, and name that file)
        8:48: jobs.wide.env: the variable V has 131074 bytes; Linux passes at most 131071 to a program (put what is large into an entry of `files`, and name that file)
        9:9: jobs.many: arguments and environment have 1179658 bytes together; at most 1048576 are taken (put what is large into an entry of `files`, and name that file)
    "#]],
    );
}

/// The name of a kind, and a document of it with as many parts as are asked for.
type Growing = (&'static str, fn(usize) -> String);

/// All but the last three were attacks.
const GROWING: [Growing; 12] = [
    ("jobs with an unknown key", |parts| jobs_of(parts, "x: 1")),
    ("jobs without anything", |parts| jobs_of(parts, "")),
    ("jobs that are no maps", |parts| lines_of("version: v1\njobs:\n", parts, "1")),
    ("one job with unknown keys", |parts| {
        format!("version: v1\njobs: {{a: {{{}}}}}", list(parts, |part| format!("x{part}: 1")))
    }),
    ("a job that requires many", |parts| {
        one_job(&format!("requires: [{}]", list(parts, |part| format!("j{part}"))))
    }),
    ("a job with many variables that are none", |parts| {
        one_job(&format!("env: [{}]", list(parts, |part| format!("v{part}"))))
    }),
    ("a job with many mounts of no volume", |parts| {
        one_job(&format!("mounts: {{{}}}", list(parts, |part| format!("/m{part}: v"))))
    }),
    ("a key that is there again and again", |parts| {
        format!("version: v1\nfiles:\n{}", "  k: x\n".repeat(parts))
    }),
    ("many volumes that one job mounts", |parts| {
        let volumes = list(parts, |part| format!("v{part}: {{}}"));
        let mounts = list(parts, |part| format!("/m{part}: v{part}"));
        format!("volumes: {{{volumes}}}\n{}", one_job(&format!("mounts: {{{mounts}}}")))
    }),
    ("files of a job", |parts| {
        one_job(&format!("files: {{{}}}", list(parts, |part| format!("/etc/f{part}: x"))))
    }),
    ("files of the document", |parts| {
        let files = list(parts, |part| format!("f{part}: x"));
        format!("files: {{{files}}}\n{}", one_job("cwd: /"))
    }),
    ("one long command", |parts| {
        one_job(&format!("args: [{}]", list(parts, |part| format!("w{part}"))))
    }),
];

fn list(parts: usize, part: impl Fn(usize) -> String) -> String {
    (0..parts).map(part).collect::<Vec<_>>().join(", ")
}

fn lines_of(before: &str, parts: usize, value: &str) -> String {
    (0..parts).fold(before.to_owned(), |text, part| text + &format!("  j{part}: {value}\n"))
}

fn jobs_of(parts: usize, fields: &str) -> String {
    lines_of("version: v1\njobs:\n", parts, &format!("{{{fields}}}"))
}

fn one_job(fields: &str) -> String {
    format!("version: v1\njobs: {{a: {{image: docker://a, command: [x], {fields}}}}}\n")
}

#[test]
fn eight_times_the_document_takes_at_most_ten_times_the_steps() {
    for (what, document) in GROWING {
        let steps = |parts| parse_counted(&document(parts), &|| true).1;
        // The larger one has more mistakes than are told, the smaller one, too.
        let (small, large) = (steps(1_000), steps(8_000));
        assert!(small >= 1_000, "{what}: {small} steps count next to nothing");
        assert!(large <= 10 * small, "{what}: {small} and {large} steps");
    }
}

#[test]
fn diagnostics_past_the_limit_are_counted() {
    for parts in [8_000, 40_000] {
        let told = parse(&jobs_of(parts, "x: 1")).unwrap_err();
        assert_eq!(told.len(), yaml_tree::MAX_DIAGNOSTICS + 1);
        // One of those that are told, by its place, is that there are too many jobs.
        let first = lines(&told[..3]);
        assert!(first.contains(&format!("the document has {parts} jobs; at most 1000")), "{first}");
        assert!(first.contains("3:8: jobs.j0.x: unknown key \"x\""), "{first}");
        let more = parts + 1 - yaml_tree::MAX_DIAGNOSTICS;
        assert_eq!(told.last().unwrap().message, format!("and {more} mistakes more"));
    }
}

#[test]
fn what_is_said_of_a_document_is_bounded() {
    let long = "k".repeat(100 << 10);
    let keys = list(10_000, |part| format!("x{part}: 1"));
    let told = parse(&format!("version: v1\njobs:\n  ? {long}\n  : {{{keys}}}\n")).unwrap_err();
    assert_eq!(told.len(), yaml_tree::MAX_DIAGNOSTICS + 1);
    let bytes: usize = told.iter().map(|diagnostic| diagnostic.to_string().len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

#[test]
fn a_name_that_is_no_name_is_refused_before_paths_are_made_of_it() {
    let text = format!("version: v1\njobs:\n  ? {}\n  : {{}}\n", "n".repeat(5_000));
    expect![[r#"
        1:1: a name of 5000 bytes cannot name a job or a volume (use 1 to 63 characters)
    "#]]
    .assert_eq(&lines(&parse(&text).unwrap_err()));
}

#[test]
fn nothing_more_is_read_for_who_has_gone() {
    let text = "version: v1\njobs: {a: {image: 'docker://127.0.0.1:1/x', command: [a]}}";
    let asked = std::cell::Cell::new(0);
    let read = |answers: u32| {
        asked.set(0);
        parse_while(text, &|| {
            asked.set(asked.get() + 1);
            asked.get() <= answers
        })
    };
    assert!(read(u32::MAX).unwrap().is_ok());
    let parts = asked.get();
    assert!(parts >= 3, "{parts}");
    for answers in 0..parts {
        assert!(read(answers).is_none(), "gone after {answers} parts");
    }
}
