//! The registry that sites run: `docker-registry` of Debian, filled by skopeo.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use image_store::{NoProgress, Store};
use oci_pull::{PullError, PullOptions, pull};

use crate::registry::digest;

/// How long the registry may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `docker-registry`, killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path) -> (Running, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = directory.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        directory.join("registry").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().expect("docker-registry: run xtask/setup.sh"));
    let begin = std::time::Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begin.elapsed() < PATIENCE, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (running, address)
}

/// An image layout of one layer.
fn layout(directory: &Path, layer: &[u8]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        std::fs::write(blobs.join(digest(bytes).hex()), bytes).unwrap();
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()})
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json"),
        "layers": [put(layer, "layer.v1.tar")],
    });
    let mut entry = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tag_by_digest_and_unknown_tags() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let (_running, address) = start(directory.path());
    let layer: Vec<u8> = (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect();
    layout(&directory.path().join("layout"), &layer);
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:1", directory.path().join("layout").display()))
        .arg(format!("docker://{address}/site/node:1"))
        .output()
        .expect("skopeo: run xtask/setup.sh");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));

    let options = PullOptions { credential_files: Vec::new(), ..crate::bad_registries::options() };
    let store = Store::open(directory.path().join("store")).unwrap();
    let by_tag = pull(&format!("{address}/site/node:1"), &options, &store, Arc::new(NoProgress))
        .await
        .unwrap();
    assert!(
        store.contains(&by_tag.manifest)
            && by_tag.layers.iter().all(|layer| store.contains(&layer.digest))
    );
    let reference = format!("{address}/site/node@{}", by_tag.manifest);
    assert_eq!(pull(&reference, &options, &store, Arc::new(NoProgress)).await.unwrap(), by_tag);

    let error = pull(&format!("{address}/site/node:2"), &options, &store, Arc::new(NoProgress))
        .await
        .unwrap_err();
    assert!(matches!(&error, PullError::Unknown { tags, .. } if tags == &["1"]), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the registry {address} has no site/node:2; it has the tags 1")
    );
    let error = pull(&format!("{address}/site/nodes:1"), &options, &store, Arc::new(NoProgress))
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("see whether the name is right"), "{error}");
}
