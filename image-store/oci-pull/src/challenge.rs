//! What a registry answers to who is not logged in: `WWW-Authenticate` (RFC 9110 section 11.6.1).

/// A way to log in that is understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The login itself, with each request (RFC 7617).
    Basic,
    /// A token that another service gives (RFC 6750, and the token specification of the
    /// distribution project).
    Bearer {
        /// URL of the service, as sent.
        realm: String,
        /// How the registry is named there.
        service: Option<String>,
    },
}

/// The challenges of one header line. What is not understood is left out.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, after) = rest.split_at(end);
        let value = after.trim_start().strip_prefix('=');
        match (value, schemes.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = value_of(value.trim_start());
                parameters.push((word, value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                schemes.push((word, Vec::new()));
                rest = after;
            }
        }
    }
    schemes.into_iter().filter_map(|(scheme, parameters)| of(scheme, parameters)).collect()
}

fn of(scheme: &str, parameters: Vec<(&str, String)>) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let (mut realm, mut service) = (None, None);
    for (name, value) in parameters {
        if name.eq_ignore_ascii_case("realm") {
            realm = Some(value);
        } else if name.eq_ignore_ascii_case("service") {
            service = Some(value);
        }
    }
    let realm = realm.filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(Challenge::Bearer { realm, service })
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_the_field() {
        let realm = "https://auth.example/token";
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="a:b:pull,push""#,
                vec![bearer(realm, Some("registry.example"))],
            ),
            (r#"Basic realm="site, \"ours\"""#, vec![Challenge::Basic]),
            (
                r#"Negotiate, basic realm=x , BEARER Realm = "https://auth.example/token" ,error="x""#,
                vec![Challenge::Basic, bearer(realm, None)],
            ),
            ("Negotiate YII=, Basic", vec![Challenge::Basic]),
            ("Bearer service=x", Vec::new()),
            (r#"Bearer realm="https://auth.example/token"#, vec![bearer(realm, None)]),
            ("=x", Vec::new()),
            ("", Vec::new()),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_much(header in ".{0,200}") {
            parse(&header);
        }
    }
}
