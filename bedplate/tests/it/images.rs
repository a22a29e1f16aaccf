//! Imports, as far as they go without a registry. Whole imports are in `provisioner` and `vm-tests`.

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
