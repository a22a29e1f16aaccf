//! When tokens end, and what they may be for. Pure.

use std::time::Duration;

use api::{
    access::{CreateToken, TokenLife},
    ids::Timestamp,
    rights::Action,
};

use crate::tickets::after;

/// A day, seconds.
const DAY_SECONDS: u64 = 86_400;

/// Shortest life of a token: what is wanted for less time is a ticket.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// Longest life of a token that ends at all: ten years, as the certificate authority.
const LONGEST_LIFE: Duration = Duration::from_secs(3_650 * DAY_SECONDS);

/// How long tokens are good that are made from now on. `bedplate server` sets it from
/// its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Life of a token where nobody says how long.
    pub default_life: Duration,
    /// No token is made that lives longer, and none without an end. `None`: whoever makes
    /// one may choose.
    pub longest_life: Option<Duration>,
}

impl Default for TokenLimits {
    /// 90 days, and as long as is asked for.
    fn default() -> Self {
        Self { default_life: Duration::from_secs(90 * DAY_SECONDS), longest_life: None }
    }
}

/// Why a token is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRuleError {
    /// Its life is too short.
    #[error("a token lives for {} s at least", SHORTEST_LIFE.as_secs())]
    TooShort,
    /// Its life is too long.
    #[error("a token that ends lives for {days} days at most; choose fewer")]
    TooLong {
        /// The limit.
        days: u64,
    },
    /// It has to end.
    #[error(
        "every token ends here, after {days} days at most (`api.token-max-days` of the server)"
    )]
    MustEnd {
        /// The limit.
        days: u64,
    },
    /// An action that no token can be limited to.
    #[error(
        "`{word}` cannot be in the scope of a token: who changes users can give them all rights; make the token \
         without a scope"
    )]
    OutOfScopes {
        /// The action.
        word: &'static str,
    },
    /// An action that this server does not have.
    #[error(
        "the scope names an action that this server does not have; `bedplate whoami --actions` lists them"
    )]
    UnknownAction,
    /// The token that asks has a scope, and ends before.
    #[error(
        "the token that you ask with has a scope and ends on {ends}, and what it makes ends no later; ask for less \
         time, or with a token that has no scope"
    )]
    Outlives {
        /// The end of the token that asks.
        ends: Timestamp,
    },
    /// The token that asks has a narrower scope.
    #[error(
        "`{word}` is not in the scope of the token that you ask with, and what it makes gets no wider one; ask with \
         another token"
    )]
    Wider {
        /// The action.
        word: &'static str,
    },
}

/// When a token ends that is made now; `None`: never. `latest`: no later than that.
pub(crate) fn ends(
    limits: TokenLimits,
    wanted: Option<TokenLife>,
    latest: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, TokenRuleError> {
    let days = |life: Duration| life.as_secs() / DAY_SECONDS;
    let life = match (wanted, limits.longest_life) {
        (Some(TokenLife::Never), None) => {
            return latest.map_or(Ok(None), |ends| Err(TokenRuleError::Outlives { ends }));
        }
        (Some(TokenLife::Never), Some(longest)) => {
            return Err(TokenRuleError::MustEnd { days: days(longest) });
        }
        (Some(TokenLife::AfterSeconds(seconds)), _) => Duration::from_secs(seconds),
        (None, longest) => limits.default_life.min(longest.unwrap_or(Duration::MAX)),
    };
    let longest = limits.longest_life.unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE);
    if life < SHORTEST_LIFE {
        return Err(TokenRuleError::TooShort);
    }
    if life > longest {
        return Err(TokenRuleError::TooLong { days: days(longest) });
    }
    let ends = after(now, life);
    match latest {
        Some(latest) if ends > latest && wanted.is_some() => {
            Err(TokenRuleError::Outlives { ends: latest })
        }
        Some(latest) => Ok(Some(ends.min(latest))),
        None => Ok(Some(ends)),
    }
}

/// The actions that a token is for, in the order of the API's list; `None`: all that its user may
/// do. `maker`: the scope of the token that makes it.
pub(crate) fn scope(
    wanted: &CreateToken,
    maker: Option<&[Action]>,
) -> Result<Option<Vec<Action>>, TokenRuleError> {
    let named = wanted.scope.as_deref();
    if named.is_none() && !wanted.read_only {
        return Ok(maker.map(<[Action]>::to_vec));
    }
    let named = named.unwrap_or_default();
    for action in named {
        if *action == Action::Unlisted {
            return Err(TokenRuleError::UnknownAction);
        }
        if !action.fits_a_scope() {
            return Err(TokenRuleError::OutOfScopes { word: action.as_str() });
        }
        if maker.is_some_and(|maker| !maker.contains(action)) {
            return Err(TokenRuleError::Wider { word: action.as_str() });
        }
    }
    let is_wanted = |action: &Action| {
        let reads = wanted.read_only
            && action.only_reads()
            // "Only to read" names no action, so it is cut to what may be given.
            && maker.is_none_or(|maker| maker.contains(action));
        // Whoever holds a token may ask whose it is.
        reads || named.contains(action) || *action == Action::WhoAmI
    };
    Ok(Some(Action::ALL.iter().copied().filter(is_wanted).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY_SECONDS)
    }

    #[test]
    fn a_token_ends_unless_that_is_said() {
        let free = TokenLimits::default();
        let strict = TokenLimits { default_life: days(90), longest_life: Some(days(30)) };
        let life = |wanted: u64| Some(TokenLife::AfterSeconds(wanted));
        for (limits, wanted, ends_after) in [
            (free, None, Ok(Some(90))),
            (free, Some(TokenLife::Never), Ok(None)),
            (free, life(DAY_SECONDS), Ok(Some(1))),
            (free, life(3_650 * DAY_SECONDS), Ok(Some(3_650))),
            (free, life(u64::MAX), Err(TokenRuleError::TooLong { days: 3_650 })),
            (free, life(59), Err(TokenRuleError::TooShort)),
            (strict, None, Ok(Some(30))),
            (strict, Some(TokenLife::Never), Err(TokenRuleError::MustEnd { days: 30 })),
            (strict, life(31 * DAY_SECONDS), Err(TokenRuleError::TooLong { days: 30 })),
        ] {
            let ends_after = ends_after.map(|found| found.map(|found| after(NOW, days(found))));
            assert_eq!(ends(limits, wanted, None, NOW), ends_after, "{limits:?} {wanted:?}");
        }
    }

    #[test]
    fn no_token_outlives_its_maker_where_that_has_to_end() {
        let hour = NOW.plus_seconds(3_600);
        let made =
            |wanted: Option<TokenLife>| ends(TokenLimits::default(), wanted, Some(hour), NOW);
        let life = |seconds: u64| Some(TokenLife::AfterSeconds(seconds));
        assert_eq!(made(None), Ok(Some(hour)), "where nobody says how long");
        assert_eq!(made(life(3_600)), Ok(Some(hour)));
        assert_eq!(made(life(60)), Ok(Some(NOW.plus_seconds(60))));
        for wanted in [life(3_601), Some(TokenLife::Never)] {
            assert_eq!(made(wanted), Err(TokenRuleError::Outlives { ends: hour }), "{wanted:?}");
        }
    }

    #[test]
    fn a_scope_is_never_wider_than_that_of_its_maker() {
        let wanted = |scope: Option<&[Action]>, read_only: bool| CreateToken {
            scope: scope.map(<[Action]>::to_vec),
            read_only,
            ..CreateToken::default()
        };
        let stop = &[Action::WorkflowStop][..];
        assert_eq!(scope(&wanted(None, false), None), Ok(None));
        assert_eq!(scope(&wanted(None, false), Some(stop)), Ok(Some(stop.to_vec())), "inherited");
        let with_whoami = vec![Action::WhoAmI, Action::WorkflowStop];
        assert_eq!(scope(&wanted(Some(stop), false), None), Ok(Some(with_whoami.clone())));
        assert_eq!(scope(&wanted(Some(stop), false), Some(stop)), Ok(Some(with_whoami)));
        assert_eq!(
            scope(&wanted(Some(&[Action::NodeList]), false), Some(stop)),
            Err(TokenRuleError::Wider { word: "node-list" })
        );
        assert_eq!(
            scope(&wanted(Some(&[]), false), None),
            Ok(Some(vec![Action::WhoAmI])),
            "none but this"
        );
        for (action, word) in [(Action::UserEdit, "user-edit"), (Action::UserAdd, "user-add")] {
            assert_eq!(
                scope(&wanted(Some(&[action]), false), None),
                Err(TokenRuleError::OutOfScopes { word })
            );
        }
        assert_eq!(
            scope(&wanted(Some(&[Action::Unlisted]), false), None),
            Err(TokenRuleError::UnknownAction)
        );
    }

    #[test]
    fn to_read_alone_is_cut_to_what_the_maker_has() {
        let wanted = |scope: Option<Vec<Action>>| CreateToken {
            scope,
            read_only: true,
            ..CreateToken::default()
        };
        let all = scope(&wanted(None), None).unwrap().unwrap();
        assert!(all.contains(&Action::NodeList) && all.iter().all(|action| action.only_reads()));
        let with = scope(&wanted(Some(vec![Action::NodeDrain])), None).unwrap().unwrap();
        assert_eq!(with.len(), all.len() + 1);
        let maker = [Action::WhoAmI, Action::NodeList, Action::NodeDrain, Action::TokenCreate];
        let cut = scope(&wanted(None), Some(&maker)).unwrap();
        assert_eq!(cut, Some(vec![Action::WhoAmI, Action::NodeList]));
    }
}
