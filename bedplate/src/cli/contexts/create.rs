//! `context create`: from an address and a token to a context, without a copy of the server's file.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _, stderr, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use client::{Client, ClientError, Context, Fingerprint, PresentedCertificate, presented};
use serde::Serialize;
use url::Url;

use super::{ListedContext, link, path_of, write_private};
use crate::cli::{
    columns,
    context::Session,
    error::Usage,
    output::{Rows, print_note},
};

/// Port of the REST API where the address has none.
const DEFAULT_PORT: u16 = 9470;

/// Longest token and longest CA certificate that are read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Make a context from a server's address and a token.
#[derive(Debug, Args)]
#[command(
    after_help = "The server is trusted by its CA certificate (--ca), by the fingerprint of it (--fingerprint), or if its
certificate is good for the CAs of this system. Otherwise the fingerprint is shown, and you are asked. `bedplate
context show` on the server prints the true one. The first context is in use at once.

Examples:
  bedplate context create cloud cluster.example:443
  bedplate context create head 10.1.0.1 --ca ca.pem --token-stdin < token"
)]
pub(in crate::cli) struct Create {
    /// Name: letters, digits, hyphens, dots and underscores.
    name: String,
    /// Address of the server's REST API [default port: 9470].
    #[arg(value_name = "HOST[:PORT]", value_parser = address)]
    server: Url,
    /// File with the server's CA certificate, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// SHA-256 fingerprint of the server's CA certificate.
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    fingerprint: Option<Fingerprint>,
    /// Read the token from standard input; without it you are asked.
    #[arg(long)]
    token_stdin: bool,
}

/// A context that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Created {
    #[serde(flatten)]
    kept: ListedContext,
    /// Whose token it holds.
    user: String,
}

impl Rows for Created {
    const COLUMNS: &'static [&'static str] = columns::CREATED_CONTEXT;
}

impl Create {
    pub(super) async fn run(
        &self,
        session: &Session,
        directory: &Path,
        own: &Path,
    ) -> anyhow::Result<()> {
        let path = path_of(directory, &self.name)?;
        if path.exists() {
            let name = &self.name;
            bail!(
                "there is a context {name}: remove it with `bedplate context remove {name}`, or take another name"
            );
        }
        let ca = self.ca().await?;
        let token = self.token()?;
        let context = Context { server: self.server.clone(), ca, token };
        let who = Client::new(&context)?.whoami().await?;
        let text = serde_json::to_string_pretty(&context).context("cannot write the context")?;
        write_private(directory, &path, &(text + "\n"))?;
        let is_first = own.symlink_metadata().is_err();
        if is_first {
            link(own, &path)?;
        }
        let (name, server) = (&self.name, &self.server);
        let kept = ListedContext::new(directory, &path, is_first, &context);
        let created = Created { kept, user: who.name };
        let hint = if is_first {
            "it is in use".to_owned()
        } else {
            format!("`bedplate context use {name}` uses it")
        };
        session
            .out
            .show(&created, |_| format!("created {name}: {server} as {}; {hint}\n", created.user))
    }

    /// The certificate that the server is trusted by; `None`: those of the system.
    async fn ca(&self) -> anyhow::Result<Option<String>> {
        if let Some(file) = &self.ca {
            let failed = || format!("cannot read the CA certificate {}", file.display());
            let mut pem = String::new();
            let opened = std::fs::File::open(file).with_context(failed)?;
            opened.take(MAX_FILE_BYTES).read_to_string(&mut pem).with_context(failed)?;
            Fingerprint::of_pem(&pem)
                .with_context(|| format!("{} has no PEM certificate", file.display()))?;
            return Ok(Some(pem));
        }
        let presented = presented(&self.server).await?;
        if let Some(wanted) = &self.fingerprint {
            return by_fingerprint(&presented, *wanted).map(Some);
        }
        if is_trusted_by_system(&self.server).await? {
            return Ok(None);
        }
        let ca = its_ca(&presented)?;
        confirm(&self.server, ca.fingerprint)?;
        Ok(Some(ca.pem.clone()))
    }

    fn token(&self) -> anyhow::Result<String> {
        let mut token = String::new();
        if self.token_stdin {
            let mut limited = stdin().lock().take(MAX_FILE_BYTES);
            limited
                .read_to_string(&mut token)
                .context("cannot read the token from standard input")?;
        } else if stdin().is_terminal() {
            token = rpassword::prompt_password(format!("token for {}: ", self.server))
                .context("cannot read the token from the terminal")?;
        } else {
            bail!(Usage(
                "there is no terminal to ask for the token at: give it with --token-stdin"
                    .to_owned()
            ));
        }
        let token = token.trim();
        if token.is_empty() {
            bail!(Usage("the token is empty: `bedplate token create NAME` makes one".to_owned()));
        }
        Ok(token.to_owned())
    }
}

/// `HOST`, `HOST:PORT` or a URL.
fn address(text: &str) -> Result<Url, Usage> {
    let wrong = || {
        Usage(format!("{text:?} is no address of a server: HOST, HOST:PORT or https://HOST:PORT"))
    };
    let has_scheme = text.contains("://");
    let text = text.strip_suffix('/').unwrap_or(text);
    let text = if has_scheme { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&text).map_err(|_| wrong())?;
    let has_password = !url.username().is_empty() || url.password().is_some();
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !is_bare || has_password || url.host_str().is_none() {
        return Err(wrong());
    }
    // A URL forgets a port that is its scheme's own, and so `HOST:443` has none either.
    let names_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_scheme && !names_port {
        url.set_port(Some(DEFAULT_PORT)).map_err(|()| wrong())?;
    }
    Ok(url)
}

/// The certificate with a fingerprint, if it is that of a CA.
fn by_fingerprint(
    presented: &[PresentedCertificate],
    wanted: Fingerprint,
) -> anyhow::Result<String> {
    match presented.iter().position(|one| one.fingerprint == wanted) {
        Some(0) if presented.len() > 1 => {
            bail!(
                "this is the fingerprint of the server's own certificate, which changes: take that of its CA"
            );
        }
        Some(found) => Ok(presented[found].pem.clone()),
        None => {
            let seen: Vec<String> =
                presented.iter().skip(1).map(|one| one.fingerprint.to_string()).collect();
            bail!(
                "the server presents no certificate with this fingerprint, but {}: is this the server that \
                 you mean, and is nobody between?",
                if seen.is_empty() { "its own alone".to_owned() } else { seen.join(", ") }
            );
        }
    }
}

/// The CA certificate among those that the server presents: the last one.
fn its_ca(presented: &[PresentedCertificate]) -> anyhow::Result<&PresentedCertificate> {
    match presented {
        [_, .., ca] => Ok(ca),
        _ => bail!("the server presents no CA certificate: give it with --ca"),
    }
}

/// Is the server's certificate good for the CAs of this system?
async fn is_trusted_by_system(server: &Url) -> anyhow::Result<bool> {
    let context = Context { server: server.clone(), ca: None, token: String::new() };
    // A system without CA certificates trusts nobody.
    let Ok(client) = Client::new(&context) else { return Ok(false) };
    match client.version().await {
        // It is reached: `presented` has just done so. What is left is the certificate.
        Err(ClientError::Unreachable { .. }) => Ok(false),
        // Whatever it says, it says it over a connection that is trusted.
        _ => Ok(true),
    }
}

fn confirm(server: &Url, fingerprint: Fingerprint) -> anyhow::Result<()> {
    print_note(&format!("SHA-256 fingerprint of the CA of {server}:\n  {fingerprint}"));
    if !stdin().is_terminal() {
        bail!(Usage(
            "the server is not trusted: if this is its fingerprint, give it with --fingerprint; \
             `bedplate context show` on the server prints it"
                .to_owned()
        ));
    }
    write!(stderr(), "Trust it? [y/N] ").and_then(|()| stderr().flush()).context("cannot ask")?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    bail!("the server is not trusted; nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_a_port() {
        for (text, url) in [
            ("cluster.example", "https://cluster.example:9470/"),
            ("cluster.example:443", "https://cluster.example/"),
            ("10.1.0.1", "https://10.1.0.1:9470/"),
            ("10.1.0.1:9471", "https://10.1.0.1:9471/"),
            ("[fd00::1]", "https://[fd00::1]:9470/"),
            ("[fd00::1]:443", "https://[fd00::1]/"),
            ("https://cluster.example", "https://cluster.example/"),
            ("https://cluster.example:9470/", "https://cluster.example:9470/"),
            ("cluster.example:443/", "https://cluster.example/"),
        ] {
            assert_eq!(address(text).unwrap().as_str(), url, "{text}");
        }
        for wrong in [
            "",
            "http://a",
            "a b",
            "a:port",
            "a/b",
            "https://u:p@a",
            "https://:p@a",
            "fd00::1",
            "a?b",
            "https://",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
