//! Imports, as far as they go without a registry. Whole imports are in `provisioner`
//! and `vm-tests`.

use std::{fs, path::Path};

use expect_test::expect;

use crate::server::Server;

#[test]
fn an_import_that_fails_says_why() {
    let server = Server::start();
    assert!(server.run(&["image", "list"]).ok().starts_with("no images yet"));
    let import = ["image", "import", "oci:/nonexistent/image", "--name", "debian"];
    expect![[r#"
        operation 1: import oci:/nonexistent/image as debian
        error: cannot read /nonexistent/image/index.json of the OCI image layout: No such file or directory (os error 2)
    "#]].assert_eq(&server.run(&import).failed());
    let detached = server.run(&[&import[..], &["--detach"]].concat()).ok();
    assert_eq!(detached, "2\n");
    expect![[r#"
        operation 2: import oci:/nonexistent/image as debian
        error: cannot read /nonexistent/image/index.json of the OCI image layout: No such file or directory (os error 2)
    "#]].assert_eq(&server.run(&["operation", "watch", "2"]).failed());
    let listed = server.run(&["operation", "list"]).ok();
    assert_eq!(listed.matches("failed").count(), 2, "{listed}");
    expect![[r#"
        error: cannot import debian:12: "debian:12" is no source; write docker://HOST[:PORT]/REPOSITORY[:TAG] or oci:/DIR[:TAG]
    "#]].assert_eq(&server.run(&["image", "import", "debian:12"]).failed());
    expect![[r#"
        error: cannot delete image debian: image debian does not exist; `bedplate image list` shows those that do
    "#]].assert_eq(&server.run(&["image", "delete", "debian"]).failed());
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layout of one layer with the end of an archive and nothing else; returns the digest
/// of its manifest.
pub(crate) fn empty_image(directory: &Path) -> String {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        let digest = digest(bytes);
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        let media_type = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = [0; 1024];
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json"),
        "layers": [put(&layer, "layer.v1.tar")],
    });
    let manifest = manifest.to_string();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [put(manifest.as_bytes(), "manifest.v1+json")]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    digest(manifest.as_bytes())
}

/// The server starts itself as the converter, whose answer passes through; an image that crashed it
/// twice is not tried before somebody wants it.
#[test]
fn images_are_converted_by_the_server_s_own_program() {
    let server = Server::start();
    let layout = server.path("layout");
    let manifest = empty_image(&layout);
    let source = format!("oci:{}", layout.display());
    let import = ["image", "import", source.as_str(), "--name", "empty"];
    let refused = server.run(&import).failed();
    assert!(
        refused.contains("error: the image has no kernel that can boot: it has neither modules"),
        "{refused}"
    );
    // As two crashes leave it.
    let record =
        server.path("state/conversions").join(format!("{}.json", &manifest["sha256:".len()..]));
    assert!(!record.exists(), "a refusal is no crash");
    fs::write(&record, r#"{"converter":1,"tries":2,"reason":"signal: 11 (SIGSEGV)"}"#).unwrap();
    let given_up = server.run(&import).failed();
    assert!(given_up.contains(&format!("{manifest} is not converted")), "{given_up}");
    assert!(
        given_up.contains("SIGSEGV") && given_up.contains("image import --retry"),
        "{given_up}"
    );
    let retried = server.run(&[&import[..], &["--retry"]].concat()).failed();
    assert!(retried.contains("has no kernel that can boot"), "{retried}");
    assert!(!record.exists());
}

/// What `image-converter` does without a server: nothing.
#[test]
fn the_converter_is_for_the_server_alone() {
    let done = crate::server::done(crate::server::bedplate(&["image-converter"]), "");
    let said = done.failed();
    assert!(said.contains("is started by the server alone"), "{said}");
}

#[test]
fn an_import_is_cancelled_by_its_number() {
    let server = Server::start();
    // It takes requests and answers none.
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("docker://{}/site/node:1", registry.local_addr().unwrap());
    assert_eq!(server.run(&["image", "import", &source, "--detach"]).ok(), "1\n");
    let ended = server.run(&["operation", "cancel", "1"]).ok();
    assert!(ended.contains("failed") && ended.contains("cancelled by admin"), "{ended}");
    assert_eq!(
        server.run(&["operation", "cancel", "1"]).failed(),
        "error: cannot cancel operation 1: operation 1 is over; `bedplate operation show 1` says how it ended\n"
    );
    let unknown = server.run(&["operation", "cancel", "7"]).failed();
    assert!(unknown.contains("there is no operation 7"), "{unknown}");
}
