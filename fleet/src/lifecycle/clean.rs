//! Text of nodes and of people, cleaned once when it comes in: what is kept and told of it is one
//! line that does nothing to a terminal ([`api::visible`]), and of bounded length.

use api::visible;

use super::Event;

/// Longest text of an event that is kept, characters.
const MAX_CHARS: usize = 500;

impl Event {
    /// The event with clean texts.
    pub(super) fn cleaned(mut self) -> Self {
        match &mut self {
            Self::Reported { message: text, .. }
            | Self::RebootOrdered { reason: text }
            | Self::Refuses { reason: Some(text) }
            | Self::Disconnected { why: text } => clean(text),
            Self::Held { cause: Some(text) }
            | Self::TokenRefused { cause: Some(text) }
            | Self::Unreadable { cause: text } => clean(text),
            Self::Connected { agent, version, image, .. } => {
                let texts = [&mut agent.boot_id, &mut agent.instance, version, image];
                texts.into_iter().for_each(clean);
            }
            Self::Drained { reason, by } => [reason, by].into_iter().for_each(clean),
            Self::Undrained { by } => clean(by),
            Self::InventoryStored { news, .. } => news.iter_mut().for_each(|(_, line)| clean(line)),
            Self::Offered { .. }
            | Self::Fetched { .. }
            | Self::TokenShown { .. }
            | Self::CertificateIssued { .. }
            | Self::GoingDown { .. }
            | Self::Refuses { reason: None }
            | Self::Held { cause: None }
            | Self::TokenRefused { cause: None }
            | Self::Tick
            | Self::ServerStarted => {}
        }
        self
    }
}

fn clean(text: &mut String) {
    if text.contains(visible::is_hidden) {
        *text = visible::line(text).into_owned();
    }
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
    }
}
