//! What an ordinary user of a booted node tries: five attempts at tokens, keys and overlays.
//!
//! The attempts run as `user` of the image. A line `GOT …` is a success of the attacker; `end`
//! shows that the script ran to its end, so that a broken script does not pass.

use anyhow::ensure;
use api::{ids::NodeName, status::Severity};

use crate::{
    check::Memory,
    checks::ABSENT,
    cluster::{ADDRESSES, Cluster, MACHINES},
    namespace::SERVER,
};

/// Says so if a command succeeds and prints something.
const TRY: &str = r#"try() { what=$1; shift; if out=$("$@" 2>/dev/null </dev/null | head -c 4096 | tr -d '\0'); [ -n "$out" ]; then echo "GOT $what"; fi; }
code() { curl --silent --insecure --max-time 30 --output /tmp/body --write-out '%{http_code}' "$@" </dev/null; }
"#;

fn attempt(cluster: &Cluster, script: &str) -> anyhow::Result<Vec<String>> {
    let script =
        format!("runuser -u user -- sh -s <<'ATTEMPT'\n{TRY}{script}\necho end\nATTEMPT\n");
    let said = cluster.on_node(ADDRESSES[0], &script)?;
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    ensure!(lines.pop().as_deref() == Some("end"), "the attempt did not run to its end: {said}");
    ensure!(!lines.iter().any(|line| line.starts_with("GOT")), "the user got something: {said}");
    Ok(lines)
}

fn refused(code: &str) -> bool {
    matches!(code, "401" | "403")
}

/// The node's own token again, and that of a node which is armed and has not booted.
pub(crate) fn token(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (absent, absent_mac) = ABSENT;
    for (whose, mac) in [("its own", MACHINES[0].boot_mac), ("another node's", absent_mac)] {
        let url = format!("http://{SERVER}:9480/boot/{}/node.img", mac.replace(':', "-"));
        let said = attempt(
            cluster,
            &format!(
                "code {url}; echo; try 'the token' grep -a '\"token\"' /tmp/body\nrm -f /tmp/body"
            ),
        )?;
        ensure!(
            said.iter().all(|code| refused(code)) && !said.is_empty(),
            "asking for {whose} token: {said:?}"
        );
    }
    let name: NodeName = absent.parse()?;
    let history = cluster.server.ask(|client| async move { client.history(&name, 20).await })?;
    let recorded = history.iter().any(|event| event.severity == Severity::Security);
    ensure!(recorded, "the attempt on {absent} is not in its history: {history:?}");
    Ok(())
}

/// Key and certificate of the agent, the program's directories, host keys.
pub(crate) fn files(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    cluster.on_node(
        ADDRESSES[0],
        "test -s /run/bedplate/agent.json && test -s /etc/ssh/ssh_host_ed25519_key",
    )?;
    attempt(
        cluster,
        r"
for path in /run/bedplate/agent.json /run/bedplate/runtime-overlays.json /etc/ssh/ssh_host_ed25519_key /etc/shadow; do
  try $path cat $path
done
try '/run/bedplate' ls -A /run/bedplate
try '/bedplate' ls -A /bedplate
try 'a private key' grep -rlsE 'BEGIN ([A-Z]+ )?PRIVATE KEY' /run /etc /root /home /tmp /var /usr/lib/bedplate
",
    )?;
    Ok(())
}

/// Overlays of nodes through the fleet port: without a certificate, with one of the user's own
/// making, by enrolling.
pub(crate) fn overlay(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let absent = cluster.node(ABSENT.0)?;
    let own = cluster.node("n1")?;
    let base = format!("https://{SERVER}:9443/node/v1");
    let script = format!(
        r#"
for which in boot runtime; do code {base}/overlays/$which; echo; done
cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj '/CN={own}' \
  -addext 'subjectAltName=URI:urn:bedplate:node:{own}' -keyout key.pem -out cert.pem 2>/dev/null </dev/null || echo GOT no certificate to try with
for which in boot runtime; do
  status=$(code --cert cert.pem --key key.pem {base}/overlays/$which)
  # A server that breaks the connection off for the certificate's sake gives no status.
  [ "$status" = 000 ] && status=401
  echo "$status"
done
csr=$(openssl req -new -key key.pem -subj '/CN={absent}' 2>/dev/null </dev/null | awk '{{ printf "%s\\n", $0 }}')
code --json '{{"id":"{absent}","token":"{guess}","csr":"'"$csr"'"}}' {base}/enroll; echo
rm -f key.pem cert.pem /tmp/body"#,
        guess = "0".repeat(43),
        own = own.id,
        absent = absent.id,
    );
    let said = attempt(cluster, &script)?;
    ensure!(
        said.len() == 5 && said.iter().all(|code| refused(code)),
        "the fleet port answered {said:?}"
    );
    Ok(())
}

/// What the boot may have left behind: the initramfs, the command line, the kernel's
/// log, the journal.
pub(crate) fn traces(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    attempt(
        cluster,
        r"
try 'a boot document' find / /run -xdev '(' -name stage1.json -o -name agent.json -o -name node.img ')'
try 'a token on the command line' grep -i token /proc/cmdline
try 'the kernel log' dmesg
try 'a token in the journal' sh -c 'journalctl --no-pager --quiet --system | grep -i token'
try 'kernel memory' head -c 16 /proc/kcore
try 'memory' head -c 16 /dev/mem
try 'the environment of init' cat /proc/1/environ
",
    )?;
    let kept = cluster
        .on_node(ADDRESSES[0], "cat /proc/cmdline; dmesg; ls -A / | grep -x bedplate; true")?;
    for line in kept.lines() {
        ensure!(
            !line.contains("\"token\"") && line != "bedplate",
            "the boot left something behind: {line}"
        );
    }
    Ok(())
}

/// The memory, the environment and the open files of the running agent.
pub(crate) fn agent(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let pid = cluster.on_node(
        ADDRESSES[0],
        "systemctl show --property MainPID --value bedplate-substrate.service",
    )?;
    let pid = pid.trim();
    ensure!(pid != "0" && !pid.is_empty(), "no agent runs on n1");
    attempt(
        cluster,
        &format!(
            r#"
for file in environ mem maps auxv stack; do try "$file of the agent" head -c 16 /proc/{pid}/$file; done
for folder in fd root cwd map_files; do try "$folder of the agent" ls -A /proc/{pid}/$folder/; done
if kill -0 {pid} 2>/dev/null; then echo GOT a signal through to the agent; fi"#
        ),
    )?;
    Ok(())
}
