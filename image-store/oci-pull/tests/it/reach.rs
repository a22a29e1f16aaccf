//! Where pulls go, and where logins: registries that users name, and what these lead to.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use image_store::{NoProgress, OciImage};
use oci_pull::{Audience, HostSettings, PullError, PullOptions, Reach, Registries, pull};
use tempfile::TempDir;

use crate::{
    bad_registries::{assert_whole, image, options, registries, store, told},
    registry::{Fault, Registry},
};

/// Pulls from `registry` as a user or an admin, with nothing within reach but `allowed`.
async fn pulled(
    registry: &Registry,
    wanted_by: Audience,
    allowed: &[SocketAddr],
) -> Result<OciImage, PullError> {
    let allowed = allowed.iter().map(|address| address.to_string().parse().unwrap()).collect();
    let reach = Reach { allowed, ..Reach::default() };
    with(registry, PullOptions { wanted_by, ..of(Registries { reach, ..registries() }) }).await
}

fn of(registries: Registries) -> PullOptions {
    PullOptions { registries: Arc::new(registries), ..options() }
}

async fn with(registry: &Registry, options: PullOptions) -> Result<OciImage, PullError> {
    let (_directory, store) = store();
    let pulled = pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await?;
    assert_whole(&store, &image());
    Ok(pulled)
}

/// Nothing was asked of it, and users are not told its address.
#[track_caller]
fn assert_untouched(inside: &Registry, outcome: Result<OciImage, PullError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, PullError::OutOfReach { .. }), "{error:?}");
    assert!(inside.seen().is_empty(), "{:?}", inside.seen());
    assert!(!told(&error, inside).contains("loopback"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_name_no_registry_on_loopback_unless_the_configuration_does() {
    let registry = Registry::serve(&image(), Fault::None).await;
    let refused = pulled(&registry, Audience::User, &[]).await;
    assert_untouched(&registry, refused);
    let port = registry.address.port();
    let (_directory, store) = store();
    let strict = of(Registries::default());
    for name in ["localhost", "127.0.0.1", "127.1.2.3"] {
        let reference = format!("{name}:{port}/site/node:1");
        let error = pull(&reference, &strict, &store, Arc::new(NoProgress)).await.unwrap_err();
        assert!(matches!(error, PullError::OutOfReach { .. }), "{name}: {error:?}");
    }
    assert!(registry.seen().is_empty());
    pulled(&registry, Audience::User, &[registry.address]).await.unwrap();
    // An entry without settings is a name too.
    let hosts = [(registry.address.to_string().parse().unwrap(), HostSettings::default())].into();
    with(&registry, of(Registries { hosts, ..Registries::default() })).await.unwrap();
    pulled(&registry, Audience::Admin, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pull_goes_to_a_port_of_the_server() {
    let registry = Registry::serve(&image(), Fault::None).await;
    let own_ports = [registry.address.port()].into();
    let reach = Reach { own_ports, ..registries().reach };
    for wanted_by in [Audience::User, Audience::Admin] {
        let options =
            PullOptions { wanted_by, ..of(Registries { reach: reach.clone(), ..registries() }) };
        let error = with(&registry, options).await.unwrap_err();
        assert!(matches!(error, PullError::OutOfReach { .. }), "{error:?}");
        let is_told = told(&error, &registry).contains("a port of this server");
        assert_eq!(is_told, wanted_by == Audience::Admin, "{error:?}");
    }
    assert!(registry.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_nowhere_that_is_out_of_reach() {
    let inside = Registry::serve(&image(), Fault::None).await;
    let registry = Registry::serve(&image(), Fault::Elsewhere(inside.address)).await;
    let refused = pulled(&registry, Audience::User, &[registry.address]).await;
    assert_untouched(&inside, refused);
    // Nor does that of a registry that an admin has named.
    let error = pulled(&registry, Audience::Admin, &[]).await.unwrap_err();
    assert!(matches!(error, PullError::OutOfReach { .. }), "{error:?}");
    assert!(inside.seen().is_empty() && !registry.seen().is_empty());
    pulled(&registry, Audience::User, &[registry.address, inside.address]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_leads_nowhere_that_is_out_of_reach() {
    let inside = Registry::serve(&image(), Fault::None).await;
    let registry = Registry::serve(&image(), Fault::TokenAt(inside.address)).await;
    let refused = pulled(&registry, Audience::User, &[registry.address]).await;
    assert_untouched(&inside, refused);
    let error = pulled(&registry, Audience::Admin, &[]).await.unwrap_err();
    assert!(matches!(error, PullError::OutOfReach { .. }), "{error:?}");
    assert!(inside.seen().is_empty());
}

/// A file with a login for `registry`.
fn login_for(directory: &TempDir, registry: &Registry) -> PathBuf {
    let path = directory.path().join("login.json");
    // `site:secret`.
    let text =
        format!(r#"{{"auths": {{"{}": {{"auth": "c2l0ZTpzZWNyZXQ="}}}}}}"#, registry.address);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_to_no_other_port_that_a_realm_names() {
    // It gives tokens to whoever has the login of the other one.
    let service = Registry::serve(&image(), Fault::Token(0)).await;
    let registry = Registry::serve(&image(), Fault::TokenAt(service.address)).await;
    let directory = tempfile::tempdir().unwrap();
    let files = vec![login_for(&directory, &registry)];
    let options = PullOptions { credential_files: files, ..of(registries()) };
    let error = with(&registry, options).await.unwrap_err();
    let text = told(&error, &registry);
    assert!(text.contains(&format!("token-service: http://{}", service.address)), "{text}");
    assert!(service.seen().is_empty(), "{:?}", service.seen());
    // Unless an admin has set it.
    let url = HostSettings::parse_token_service(&format!("http://{}", service.address)).unwrap();
    let credentials = Some(login_for(&directory, &registry));
    let settings =
        HostSettings { credentials, token_service: Some(url), ..HostSettings::default() };
    let hosts = [(registry.address.to_string().parse().unwrap(), settings)].into();
    with(&registry, of(Registries { hosts, ..Registries::default() })).await.unwrap();
    assert_eq!(
        service.authorizations().into_iter().collect::<Vec<_>>(),
        ["Basic c2l0ZTpzZWNyZXQ="]
    );
    let of_registry = registry.authorizations().into_iter().collect::<Vec<_>>();
    assert_eq!(of_registry, ["Bearer t0k"]);
}
