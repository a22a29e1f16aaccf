//! `token`: tokens for further people and programs.

mod rotate;

use std::time::Duration;

use api::{
    access::{CreateToken, Token, TokenLife, token_notice_from},
    rights::Action,
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use client::Client;

use super::{
    clock, complete,
    context::Session,
    output::{Done, print_note},
    table::{Style, cells, table},
    words::{self, age, or_dash},
};

/// Manage tokens for people and programs.
#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// List tokens, without their secrets.
    #[command(
        after_help = "A token that never expires or expires soon is marked with `!`: within 14 days and within the last quarter
of its lifetime. USED is accurate to five minutes."
    )]
    List {
        /// Owner [default: the user of the context]; admins only.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Create a token and print it; it cannot be shown again.
    #[command(after_help = "Examples:
  bedplate token create ci -o json | jq -r .token
  bedplate token create laptop --user ann --expires 30d
  bedplate token create dashboard --read-only
  bedplate token create nightly --allow workflow-start,workflow-read,workflow-log

A token with --read-only or --allow permits only these actions, and only those that its user may do.
It cannot create a token that permits more, and cannot change users.")]
    Create {
        /// Name that says what the token is for.
        name: String,
        /// Owner [default: the user of the context]; admins only.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[command(flatten)]
        life: ExpiryFlag,
        /// Allow only reading, and no secrets.
        #[arg(long)]
        read_only: bool,
        /// Only for these actions, joined by commas; `bedplate whoami --actions` lists them.
        #[arg(
            long,
            value_name = "ACTION,…",
            value_delimiter = ',',
            value_parser = action,
            add = ArgValueCompleter::new(complete::actions)
        )]
        allow: Option<Vec<Action>>,
    },
    /// Replace the token of the context by a new one, in its file too.
    #[command(
        after_help = "The new token is written into the file before the old one is revoked. It has the scope of the old one,
and if it has one, its end. Other copies of the old token are refused from then on.
Root writes as the first other user who owns a directory or link on the way to the file.
A token that has a scope is replaced if token-list, token-create and token-revoke are in it.

Examples:
  bedplate token rotate
  bedplate --context /var/lib/bedplate/admin.yaml token rotate --expires never"
    )]
    Rotate {
        #[command(flatten)]
        life: ExpiryFlag,
    },
    /// Revoke a token; it is refused from now on.
    #[command(
        after_help = "Sessions of browsers and tickets that were got with it end too. With --user a token that has a scope needs
token-list beside token-revoke.

Examples:
  bedplate token delete ci
  bedplate token delete laptop --user ann"
    )]
    Delete {
        /// Its name.
        name: String,
        /// Owner [default: the user of the context]; admins only.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

/// When a token ends.
#[derive(Debug, Args)]
pub(super) struct ExpiryFlag {
    /// Expiry, by the server's clock: 30d, 12h, or never [default: the server's setting, 90d].
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires: Option<TokenLife>,
}

/// What `--expires` does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a number with d, h, m or s, such as 30d, or never")]
struct ExpiryFlagError;

fn life(text: &str) -> Result<TokenLife, ExpiryFlagError> {
    if text == "never" {
        return Ok(TokenLife::Never);
    }
    let seconds = match text.strip_suffix('d') {
        Some(days) => days.parse::<u32>().ok().map(|days| u64::from(days) * 86_400),
        None => words::duration(text).ok().map(|life: Duration| life.as_secs()),
    };
    seconds.map(TokenLife::AfterSeconds).ok_or(ExpiryFlagError)
}

/// A word of `--allow` that is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such action; `bedplate whoami --actions` lists them")]
struct ActionFlagError;

fn action(word: &str) -> Result<Action, ActionFlagError> {
    Action::from_word(word).ok_or(ActionFlagError)
}

pub(super) async fn run(session: &Session, verb: TokenVerb) -> anyhow::Result<()> {
    match verb {
        TokenVerb::List { user } => {
            let tokens = tokens(&session.client()?, user.as_deref()).await?;
            session.out.show(&tokens, |look| token_table(*look, &tokens))
        }
        TokenVerb::Create { name, user, life, read_only, allow } => {
            let wanted = CreateToken { name, user, expires: life.expires, scope: allow, read_only };
            let created = session.client()?.create_token(&wanted).await?;
            session.out.show(&created, |_| format!("{}\n", created.token))?;
            match created.expires {
                Some(ends) => {
                    print_note(&format!("keep it: it cannot be shown again; it expires on {ends}"))
                }
                None => print_note("keep it: it cannot be shown again"),
            }
            Ok(())
        }
        TokenVerb::Rotate { life } => rotate::run(session, life.expires).await,
        TokenVerb::Delete { name, user } => {
            let client = session.client()?;
            let Some(user) = user else {
                client.delete_token(&name).await?;
                return session
                    .out
                    .show(&Done::new("deleted", [&name]), |_| format!("revoked {name}\n"));
            };
            // A server that cannot would revoke one of the caller's own.
            tokens(&client, Some(&user)).await?;
            client.delete_token_of(&user, &name).await?;
            session
                .out
                .show(&Done::new("deleted", [&name]), |_| format!("revoked {name} of {user}\n"))
        }
    }
}

/// The server does not know of the tokens of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is too old to list and revoke tokens of other users; nothing was done")]
struct OwnTokensOnly;

/// The tokens of a user, or of whose the context is.
async fn tokens(client: &Client, user: Option<&str>) -> anyhow::Result<Vec<Token>> {
    let Some(user) = user else { return Ok(client.tokens().await?) };
    Ok(all_of(user, client.tokens_of(user).await?)?)
}

/// A server of before 2026-12 does not know of others' tokens, and lists the caller's, who has one.
fn all_of(user: &str, tokens: Vec<Token>) -> Result<Vec<Token>, OwnTokensOnly> {
    if tokens.iter().all(|token| token.user == user) { Ok(tokens) } else { Err(OwnTokensOnly) }
}

fn token_table(look: Style, tokens: &[Token]) -> String {
    let now = clock::now();
    let row = |token: &Token| {
        let is_told =
            token.expires.is_none_or(|ends| now >= token_notice_from(token.created, ends));
        let mark = if is_told { " !" } else { "" };
        let ends = match token.expires {
            Some(ends) if ends <= now => format!("expired {ends}"),
            Some(ends) => ends.to_string(),
            None => "never".to_owned(),
        };
        cells([
            token.name.clone(),
            token.user.clone(),
            token.created.to_string(),
            ends + mark,
            scope(token.scope.as_deref()),
            or_dash(token.last_used.map(|used| age(used, now) + " ago")),
            or_dash(token.last_source.as_deref()),
        ])
    };
    table(
        look,
        &["NAME", "USER", "CREATED", "EXPIRES", "SCOPE", "USED", "FROM"],
        tokens.iter().map(row),
    )
}

/// `all`, `read-only`, or the actions.
fn scope(scope: Option<&[Action]>) -> String {
    let Some(scope) = scope else { return "all".to_owned() };
    if Action::ALL.iter().all(|action| action.only_reads() == scope.contains(action)) {
        return "read-only".to_owned();
    }
    scope.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use api::ids::Timestamp;
    use expect_test::expect;

    use super::*;

    #[test]
    fn lives_are_read() {
        let after = |seconds| Ok(TokenLife::AfterSeconds(seconds));
        for (text, read) in [
            ("never", Ok(TokenLife::Never)),
            ("30d", after(30 * 86_400)),
            ("12h", after(12 * 3_600)),
            ("90", after(90)),
            ("d", Err(ExpiryFlagError)),
            ("-1d", Err(ExpiryFlagError)),
            ("30w", Err(ExpiryFlagError)),
            ("4294967296d", Err(ExpiryFlagError)),
        ] {
            assert_eq!(life(text), read, "{text}");
        }
        assert_eq!(action("node-list"), Ok(Action::NodeList));
        assert_eq!(action("unlisted"), Err(ActionFlagError));
    }

    fn token_of_ann() -> Token {
        Token {
            name: "old".to_owned(),
            user: "ann".to_owned(),
            created: Timestamp(1_795_464_000_000_000),
            expires: None,
            scope: None,
            last_used: None,
            last_source: None,
        }
    }

    #[test]
    fn the_callers_own_tokens_are_not_taken_for_those_of_another() {
        let (ann, none) = (vec![token_of_ann()], Vec::new());
        assert_eq!(all_of("ann", ann.clone()), Ok(ann.clone()));
        assert_eq!(all_of("ben", ann), Err(OwnTokensOnly), "it would revoke one of the caller's");
        assert_eq!(all_of("ben", none.clone()), Ok(none));
    }

    #[test]
    fn tokens_and_their_scopes() {
        let token = token_of_ann();
        let ended = Token {
            name: "ended".to_owned(),
            expires: Some(Timestamp(1_000_000_000_000_000)),
            scope: Some(vec![Action::WhoAmI, Action::NodeDrain]),
            last_source: Some("10.0.0.7".to_owned()),
            ..token.clone()
        };
        // The table reads the clock; 2001 is past by every one.
        expect![[r#"
            NAME   USER  CREATED               EXPIRES                         SCOPE                USED  FROM
            old    ann   2026-11-23T20:00:00Z  never !                         all                  -     -
            ended  ann   2026-11-23T20:00:00Z  expired 2001-09-09T01:46:40Z !  who-am-i,node-drain  -     10.0.0.7
        "#]]
        .assert_eq(&token_table(Style::PLAIN, &[token, ended]));
        let reads =
            Action::ALL.iter().copied().filter(|action| action.only_reads()).collect::<Vec<_>>();
        assert_eq!(scope(Some(&reads)), "read-only");
    }
}
