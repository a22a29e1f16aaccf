//! `image`: OS images and their import.

use std::{fmt, process::ExitCode};

use anyhow::bail;
use api::{
    ids::ImageName,
    image::{Image, ImageVersion, ImportImage, Platform, VersionProblem},
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use client::Client;
use serde::Serialize;

use super::{
    columns, complete,
    context::Session,
    each::each,
    error::Usage,
    operation::{self, FollowEnd},
    output::{Rows, print_note},
    table::{Style, cells, table},
    words::size,
};

/// Import and delete OS images.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Import an OCI image as the next version of an OS image, and follow that to its end.
    Import(Import),
    /// List images with their versions.
    List,
    /// Show an image with its versions, kernels and warnings.
    Show {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(complete::images))]
        name: ImageName,
    },
    /// Delete images, or versions of them, that no node uses.
    #[command(
        after_help = "A version is in use while a node runs it, is booting it, or boots it next: see IMAGE and NEXT of
`bedplate node list`."
    )]
    Delete {
        /// NAME for all versions, NAME@3 for one.
        #[arg(required = true, value_name = "NAME[@N]", add = ArgValueCompleter::new(complete::images))]
        images: Vec<String>,
    },
}

/// Import an OCI image as the next version of an OS image, and follow that to its end.
#[derive(Debug, Args)]
#[command(
    after_help = "The server imports; Ctrl-C leaves it at that, and `bedplate operation cancel NUMBER` ends it.
The version's name is printed at the end, such as debian-node@2.

Examples:
  bedplate image import docker://registry.example/hpc/debian-node:12
  bedplate image import oci:/srv/images/debian-node --name debian
  bedplate image import docker://registry.example/debian-node --platform linux/arm64 --name debian-arm64
  bedplate operation watch $(bedplate image import docker://registry.example/debian-node --detach)

Mirrors, certificates and logins of registries are in the server's configuration, `registries`. Without a login there,
it is that of the server's user: ~/.docker/config.json or containers/auth.json."
)]
pub(super) struct Import {
    /// docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST], or oci:/FOLDER[:TAG] on the server.
    source: String,
    /// Name of the image [default: the last part of the repository or directory].
    #[arg(long)]
    name: Option<ImageName>,
    /// Speak plain HTTP to a registry that is not on loopback.
    #[arg(long)]
    insecure: bool,
    /// The platform to take of a source that has several: OS/ARCHITECTURE[/VARIANT] [default: what
    /// the server boots]. An image of another architecture is kept, and told to be not bootable
    /// here.
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Try an image again with which the image converter has crashed.
    #[arg(long)]
    retry: bool,
    /// Print the operation's number and do not wait.
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    let client = session.client()?;
    match verb {
        Verb::Import(import) => return run_import(session, &client, import).await,
        Verb::List => {
            let images = client.images().await?;
            session.out.show(&images, |style| list(*style, &images))?;
        }
        Verb::Show { name } => {
            let image = client.image(&name).await?;
            session.out.show(&image, |style| show(*style, &image))?;
        }
        Verb::Delete { images } => {
            // All are read before the first is deleted.
            let images: Vec<Reference> =
                images.iter().map(|image| Reference::read(image)).collect::<Result<_, _>>()?;
            let delete = async |image: &Reference| {
                client.delete_image(&image.name, image.version).await.map(|()| "deleted")
            };
            each(session, &images, "deleted", delete).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_import(
    session: &Session,
    client: &Client,
    import: Import,
) -> anyhow::Result<ExitCode> {
    let Import { source, name, insecure, platform, retry, detach } = import;
    let operation = client.import(&ImportImage { source, name, insecure, platform, retry }).await?;
    if detach {
        session.out.show(&operation, |_| format!("{}\n", operation.id))?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = operation.id;
    match operation::follow(client, operation).await? {
        FollowEnd::Left => {
            print_note(&format!(
                "the import goes on; follow it again with `bedplate operation watch {id}`, end it with \
                 `bedplate operation cancel {id}`"
            ));
            Ok(operation::LEFT.into())
        }
        FollowEnd::Failed(error) => bail!("{error}"),
        FollowEnd::Done(result) => {
            if let Ok((name, Some(version))) = reference(&result) {
                let image = client.image(&name).await?;
                let found = image.versions.iter().find(|found| found.version == version);
                for warning in found.iter().flat_map(|found| &found.warnings) {
                    print_note(&format!("warning: {warning}"));
                }
                for problem in image.problems.iter().filter(|problem| problem.version == version) {
                    print_note(&format!("warning: {}", problem.problem));
                }
            }
            let imported = Imported { image: result };
            session.out.show(&imported, |_| format!("{}\n", imported.image))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What an import made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Imported {
    /// `NAME@VERSION`.
    image: String,
}

impl Rows for Imported {
    const COLUMNS: &'static [&'static str] = columns::IMPORTED;
}

/// An image, or a version of it, as it was written.
#[derive(Debug)]
struct Reference<'a> {
    text: &'a str,
    name: ImageName,
    version: Option<u32>,
}

impl<'a> Reference<'a> {
    fn read(text: &'a str) -> Result<Self, Usage> {
        let (name, version) = reference(text)?;
        Ok(Self { text, name, version })
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// `NAME` or `NAME@3`.
fn reference(text: &str) -> Result<(ImageName, Option<u32>), Usage> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => {
            let number = version
                .parse()
                .map_err(|_| Usage(format!("{version:?} is not a version of an image")))?;
            (name, Some(number))
        }
        None => (text, None),
    };
    Ok((name.parse().map_err(|error: api::ids::InvalidId| Usage(error.to_string()))?, version))
}

fn list(style: Style, images: &[Image]) -> String {
    if images.is_empty() {
        return "no images yet: `bedplate image import --help`\n".to_owned();
    }
    let row = |image: &Image, version: &ImageVersion| {
        let kernels: Vec<&str> =
            version.kernels.iter().map(|kernel| kernel.release.as_str()).collect();
        cells([
            format!("{}@{}", image.name, version.version),
            architecture(version),
            kernels.join(","),
            size(version.root.size),
            version.imported.to_string(),
            version.source.clone(),
        ])
    };
    let rows = images
        .iter()
        .flat_map(|image| image.versions.iter().map(move |version| row(image, version)));
    let mut text =
        table(style, &["IMAGE", "ARCHITECTURE", "KERNELS", "ROOT", "IMPORTED", "FROM"], rows);
    for image in images {
        for VersionProblem { version, problem } in &image.problems {
            text.push_str(&format!("problem of {}@{version}: {problem}\n", image.name));
        }
    }
    text
}

/// `amd64`, `arm/v6`.
fn architecture(version: &ImageVersion) -> String {
    let variant = version.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}{variant}", version.architecture)
}

fn show(style: Style, image: &Image) -> String {
    let mut text = list(style, std::slice::from_ref(image));
    for version in &image.versions {
        text.push_str(&format!("\n{}@{}\n", image.name, version.version));
        text.push_str(&format!("  platform  {}\n", version.platform()));
        text.push_str(&format!(
            "  manifest  {}\n  root      {}\n",
            version.manifest, version.root.digest
        ));
        for kernel in &version.kernels {
            text.push_str(&format!(
                "  kernel    {} ({}), stage 1 {}\n",
                kernel.release,
                size(kernel.kernel.size),
                size(kernel.stage1.size)
            ));
        }
        for warning in &version.warnings {
            text.push_str(&format!("  warning   {warning}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn image() -> Image {
        let file = |format: &str, size: u64| {
            let digest = format!("sha256:{}", "ab".repeat(32));
            json!({"format": format, "digest": digest, "size": size})
        };
        serde_json::from_value(json!({
            "name": "debian-node",
            "versions": [{
                "version": 2,
                "source": "docker://registry.example/debian-node:12",
                "manifest": format!("sha256:{}", "cd".repeat(32)),
                "architecture": "amd64",
                "imported": 1_795_464_000_000_000_u64,
                "root": file("squashfs", 300_000_000),
                "kernels": [{
                    "release": "6.1.0-38-amd64",
                    "kernel": file("vmlinuz", 8_000_000),
                    "stage1": file("initramfs", 12_000_000),
                }],
                "warnings": ["firmware rtl_nic/rtl8168g-3.fw is missing"],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn images_as_people_see_them() {
        expect![[r#"
            IMAGE          ARCHITECTURE  KERNELS         ROOT     IMPORTED              FROM
            debian-node@2  amd64         6.1.0-38-amd64  286 MiB  2026-11-23T20:00:00Z  docker://registry.example/debian-node:12
        "#]].assert_eq(&list(Style::PLAIN, &[image()]));
        expect![[r#"
            IMAGE          ARCHITECTURE  KERNELS         ROOT     IMPORTED              FROM
            debian-node@2  amd64         6.1.0-38-amd64  286 MiB  2026-11-23T20:00:00Z  docker://registry.example/debian-node:12

            debian-node@2
              platform  linux/amd64
              manifest  sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
              root      sha256:abababababababababababababababababababababababababababababababab
              kernel    6.1.0-38-amd64 (7.6 MiB), stage 1 11.4 MiB
              warning   firmware rtl_nic/rtl8168g-3.fw is missing
        "#]].assert_eq(&show(Style::PLAIN, &image()));
    }

    #[test]
    fn an_image_for_other_machines_is_shown_as_such() {
        let mut image = image();
        image.versions[0].architecture = "arm".to_owned();
        image.versions[0].variant = Some("v6".to_owned());
        image.versions[0].kernels.clear();
        let problem = "image debian-node@2 is for linux/arm/v6: not bootable here".to_owned();
        image.problems = vec![VersionProblem { version: 2, problem }];
        expect![[r#"
            IMAGE          ARCHITECTURE  KERNELS  ROOT     IMPORTED              FROM
            debian-node@2  arm/v6                 286 MiB  2026-11-23T20:00:00Z  docker://registry.example/debian-node:12
            problem of debian-node@2: image debian-node@2 is for linux/arm/v6: not bootable here

            debian-node@2
              platform  linux/arm/v6
              manifest  sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
              root      sha256:abababababababababababababababababababababababababababababababab
              warning   firmware rtl_nic/rtl8168g-3.fw is missing
        "#]].assert_eq(&show(Style::PLAIN, &image));
    }

    #[test]
    fn references() {
        assert_eq!(reference("debian@3").unwrap(), ("debian".parse().unwrap(), Some(3)));
        assert_eq!(reference("debian").unwrap(), ("debian".parse().unwrap(), None));
        assert!(reference("debian@x").is_err());
        assert!(reference("Debian").is_err());
    }
}
