//! What is under way with certificates of a node, by enrolment: it ends when they are revoked.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

/// Enrolments of a node with something under way. An agent leaves nothing behind that outlives its
/// boot, so eight boots later it is over.
const MAX_ENROLMENTS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(BTreeMap<u64, CancellationToken>);

impl UnderWay {
    /// Cancelled when the certificates of this epoch are revoked. `holder`: the epoch whose the
    /// channel is in a conflict, which goes on however many newer ones there are.
    pub(crate) fn of(&mut self, epoch: u64, holder: Option<u64>) -> CancellationToken {
        let revoked = self.0.entry(epoch).or_default().clone();
        if self.0.len() > MAX_ENROLMENTS {
            let oldest = self.0.keys().copied().find(|key| *key != epoch && Some(*key) != holder);
            let ended = oldest.and_then(|oldest| self.0.remove(&oldest));
            ended.into_iter().for_each(|token| token.cancel());
        }
        revoked
    }

    /// Ends what is under way with certificates that are not good.
    pub(crate) fn end_unless(&mut self, is_good: impl Fn(u64) -> bool) {
        self.0.retain(|epoch, token| {
            let stays = is_good(*epoch);
            if !stays {
                token.cancel();
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_ends_and_nothing_else() {
        let mut under_way = UnderWay::default();
        let tokens = [1, 2, 3].map(|epoch| under_way.of(epoch, None));
        under_way.end_unless(|epoch| epoch == 2);
        assert_eq!(tokens.map(|token| token.is_cancelled()), [true, false, true]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_ends() {
        let mut under_way = UnderWay::default();
        let tokens: Vec<CancellationToken> =
            (1..=20).map(|epoch| under_way.of(epoch, None)).collect();
        assert_eq!(under_way.0.len(), MAX_ENROLMENTS);
        assert_eq!(tokens.iter().filter(|token| token.is_cancelled()).count(), 20 - MAX_ENROLMENTS);
        assert!(!tokens[19].is_cancelled() && tokens[0].is_cancelled());
    }

    #[test]
    fn who_asks_and_who_holds_the_channel_are_never_the_ones_that_end() {
        let mut under_way = UnderWay::default();
        let holder = under_way.of(2, Some(2));
        for epoch in 3..=20 {
            under_way.of(epoch, Some(2));
        }
        assert!(!holder.is_cancelled(), "eighteen machines came after it");
        let oldest = under_way.of(1, Some(2));
        assert!(!oldest.is_cancelled(), "it asks now");
        assert_eq!(under_way.0.len(), MAX_ENROLMENTS);
    }
}
