//! `profile`: values that many nodes share.

use api::{ids::ProfileName, machine::Profile};
use clap::Subcommand;
use clap_complete::ArgValueCompleter;

use super::{
    complete,
    context::Session,
    each::each,
    spec::ChangeFlags,
    table::{Style, cells, table},
};

/// Manage profiles: values that many nodes share.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List profiles.
    List,
    /// Show a profile.
    Show {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(complete::profiles))]
        name: ProfileName,
    },
    /// Make a profile, or change one; fields without a flag stay as they are.
    #[command(after_help = "Examples:
  bedplate profile set compute --image debian-node --kernel-arg console=ttyS0,115200
  bedplate profile set gpu --profile compute --tag driver=570 --runtime-overlay motd")]
    Set {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(complete::profiles))]
        name: ProfileName,
        #[command(flatten)]
        change: Box<ChangeFlags>,
    },
    /// Delete profiles that nothing uses.
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete::profiles))]
        names: Vec<ProfileName>,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = session.client()?;
    match verb {
        Verb::List => {
            let profiles = client.profiles().await?;
            session.out.show(&profiles, |style| list(*style, &profiles))
        }
        Verb::Show { name } => {
            let profile = client.profile(&name).await?;
            let spec = serde_saphyr::to_string(&profile.spec)?;
            let problem = profile.problem.as_ref();
            let problem =
                problem.map(|why| format!("# it cannot be read from the database: {why}\n"));
            session.out.show(&profile, |_| {
                format!(
                    "# profile {name}, version {}\n{}{spec}",
                    profile.version,
                    problem.unwrap_or_default()
                )
            })
        }
        Verb::Set { name, change } => {
            let present = match client.profile(&name).await {
                Ok(profile) => Some(profile),
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error.into()),
            };
            let patch =
                change.patch(&present.iter().map(|profile| &profile.spec).collect::<Vec<_>>())?;
            let (word, profile) = match present {
                Some(before) => {
                    let after = client.patch_profile(&name, &patch).await?;
                    let is_same = before.version == after.version;
                    (if is_same { "nothing to change in" } else { "changed" }, after)
                }
                None => ("added", client.put_profile(&name, &change.new_spec()?).await?),
            };
            session.out.show(&profile, |_| format!("{word} profile {name}\n"))
        }
        Verb::Delete { names } => {
            let delete =
                async |name: &ProfileName| client.delete_profile(name).await.map(|()| "deleted");
            each(session, &names, "deleted", delete).await
        }
    }
}

fn list(style: Style, profiles: &[Profile]) -> String {
    if profiles.is_empty() {
        return "no profiles yet: `bedplate profile set --help`\n".to_owned();
    }
    let row = |profile: &Profile| {
        let spec = &profile.spec;
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        cells([
            profile.name.to_string(),
            dash(spec.image.clone().unwrap_or_default()),
            dash(spec.profiles.join(",")),
            dash(spec.kernel_args.join(" ")),
            match &profile.problem {
                None => spec.comment.clone().unwrap_or_default(),
                Some(problem) => format!("PROBLEM: it cannot be read from the database: {problem}"),
            },
        ])
    };
    table(
        style,
        &["PROFILE", "IMAGE", "PROFILES", "KERNEL ARGUMENTS", "COMMENT"],
        profiles.iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_list_of_profiles() {
        let profile = |name: &str, spec: &str| Profile {
            name: name.parse().unwrap(),
            spec: serde_saphyr::from_str(spec).unwrap(),
            version: 1,
            problem: None,
        };
        let profiles = [
            profile(
                "default",
                "{image: debian, kernel-args: [quiet, console=ttyS0], comment: all of them}",
            ),
            profile("gpu", "{profiles: [default]}"),
        ];
        expect![[r#"
            PROFILE  IMAGE   PROFILES  KERNEL ARGUMENTS     COMMENT
            default  debian  -         quiet console=ttyS0  all of them
            gpu      -       default   -
        "#]]
        .assert_eq(&list(Style::PLAIN, &profiles));
    }
}
