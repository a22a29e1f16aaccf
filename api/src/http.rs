//! What both ends of an HTTP connection have to agree on.

use std::time::Duration;

/// A server closes a connection on which no request has begun for so long.
pub const IDLE_LIMIT: Duration = Duration::from_secs(75);

/// A client uses no connection again that was idle for longer. It is well below [`IDLE_LIMIT`]: a
/// request on a connection that the server is about to close fails, and a client cannot tell
/// whether it was heard.
pub const REUSE_LIMIT: Duration = Duration::from_secs(15);

/// Header of every answer to a request whose token ends soon (`access::token_notice_from`): when,
/// RFC 3339 in UTC.
pub const TOKEN_EXPIRES: &str = "bedplate-token-expires";

const _: () = assert!(REUSE_LIMIT.as_secs() * 2 <= IDLE_LIMIT.as_secs());
