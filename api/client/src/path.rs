//! Paths of the API: the one place where names become parts of a URL.
//!
//! A name is one part, whatever it holds: what is not unreserved (RFC 3986, section 2.3) is
//! encoded. `.` and `..` have no encoded form (WHATWG URL, "double-dot URL path segment"): a URL
//! with one of them is that of something else, so none is made.

use std::fmt::Write as _;

use crate::ClientError;

/// `/v1/PART/PART/…`.
///
/// # Errors
/// [`ClientError::Part`]: one is empty, `.` or `..`.
pub(crate) fn path_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<String, ClientError> {
    let mut path = "/v1".to_owned();
    for part in parts {
        if matches!(part, "" | "." | "..") {
            return Err(ClientError::Part { part: part.to_owned() });
        }
        path.push('/');
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                // Writing into a string does not fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        let of = |name: &str| path_of(["workflows", name, "log"]).unwrap();
        assert_eq!(of("my_job.v1-a~"), "/v1/workflows/my_job.v1-a~/log");
        assert_eq!(of("a/b ?#%2e"), "/v1/workflows/a%2Fb%20%3F%23%252e/log");
        assert_eq!(of("é"), "/v1/workflows/%C3%A9/log");
        for wrong in ["", ".", ".."] {
            let error = path_of(["workflows", wrong, "stop"]).unwrap_err().to_string();
            assert_eq!(error, format!("{wrong:?} names nothing: use another name, or the id"));
        }
    }

    proptest! {
        #[test]
        fn no_name_climbs(name in ".+") {
            prop_assume!(!matches!(name.as_str(), "." | ".."));
            let server: Url = "https://192.0.2.1:9470/".parse().unwrap();
            let url = server.join(&path_of(["users", &name, "sessions"]).unwrap()).unwrap();
            let parts: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!((parts.len(), parts[1], parts[3]), (4, "users", "sessions"));
            prop_assert_eq!((url.query(), url.fragment()), (None, None));
        }
    }
}
