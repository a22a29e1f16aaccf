//! Names that a derive shows outside the program: fields and variants of serde, columns of sqlx,
//! options of clap, schemas and operations of utoipa. Renaming one of them changes a wire, a table,
//! a command line or the API, unless an attribute keeps the old name. This module finds them; what
//! the table says of them is held against it in [`super::rewrite`].
//!
//! Macros that make types are not seen through.

use std::collections::BTreeSet;

use super::{
    case,
    lexer::{Kind, Token},
};

/// A name that is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exposed {
    /// Where the identifier is, bytes.
    pub(super) at: usize,
    /// Where an attribute that keeps the name may be put, bytes.
    pub(super) before: usize,
    pub(super) shown: Shown,
    /// The condition under which it is (`feature = "openapi"` of `cfg_attr`), which holds
    /// for what keeps it.
    pub(super) condition: Option<String>,
}

/// To whom it is shown, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A key or a variant's name in JSON.
    Serde(String),
    /// A column of a row.
    Column(String),
    /// An option, an argument, a command, or a value of the command line.
    Clap,
    /// A schema of the OpenAPI document.
    Schema(String),
    /// An operation of the OpenAPI document; whether the attribute's last token is a comma.
    Operation { name: String, after_comma: bool },
}

/// All shown names among the tokens that the compiler sees.
pub(super) fn exposed(code: &[Token<'_>]) -> Vec<Exposed> {
    let mut found = Vec::new();
    let mut attributes: Vec<&[Token<'_>]> = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if let Some(end) = attribute_end(code, at) {
            attributes.push(&code[at..end]);
            at = end;
            continue;
        }
        match code[at].text {
            "struct" | "enum" => {
                at = item(code, at, &attributes, &mut found);
                attributes.clear();
            }
            "fn" => {
                found.extend(operation(code, at, &attributes));
                attributes.clear();
                at += 1;
            }
            "pub" | "async" | "const" | "unsafe" | "crate" | "super" | "in" | "(" | ")" => at += 1,
            _ => {
                attributes.clear();
                at += 1;
            }
        }
    }
    found
}

/// Index after the attribute that begins here.
pub(super) fn attribute_end(code: &[Token<'_>], at: usize) -> Option<usize> {
    if !code.get(at)?.is("#") {
        return None;
    }
    let open = if code.get(at + 1)?.is("!") { at + 2 } else { at + 1 };
    code.get(open)?.is("[").then(|| closing(code, open) + 1)
}

/// Index of the bracket that closes the one here; of the last token if there is none.
fn closing(code: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in code.iter().enumerate().skip(open) {
        match (token.kind, token.text) {
            (Kind::Mark, "(" | "[" | "{") => depth += 1,
            (Kind::Mark, ")" | "]" | "}") => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

/// What a type's attributes say of all its members.
struct Container {
    derives: BTreeSet<String>,
    is_enum: bool,
    serde_all: Option<String>,
    serde_all_fields: Option<String>,
    column_all: Option<String>,
    is_nameless: bool,
    /// Of the derive of serde.
    serde_condition: Option<String>,
}

impl Container {
    fn of(attributes: &[&[Token<'_>]], is_enum: bool) -> Self {
        let says = |key: &str| attributes.iter().any(|attribute| has(attribute, "serde", key));
        Self {
            derives: attributes.iter().flat_map(|attribute| derives(attribute)).collect(),
            is_enum,
            serde_all: value(attributes, "serde", "rename_all"),
            serde_all_fields: value(attributes, "serde", "rename_all_fields"),
            column_all: value(attributes, "sqlx", "rename_all"),
            is_nameless: says("transparent") || (is_enum && says("untagged")),
            serde_condition: condition(attributes, &["Serialize", "Deserialize"]),
        }
    }

    fn derives_any(&self, names: &[&str]) -> bool {
        names.iter().any(|&name| self.derives.contains(name))
    }
}

/// A field or a variant.
struct Member<'c, 'a> {
    attributes: Vec<&'c [Token<'a>]>,
    /// Indexes of its first token after attributes, and of its name.
    before: usize,
    name: usize,
    /// Index of the brace after the name of a variant.
    body: Option<usize>,
}

/// Goes over one `struct` or `enum`. Returns the index after it.
fn item(
    code: &[Token<'_>],
    at: usize,
    attributes: &[&[Token<'_>]],
    found: &mut Vec<Exposed>,
) -> usize {
    let Some(name) = code.get(at + 1).filter(|token| token.kind == Kind::Identifier) else {
        return at + 1;
    };
    let container = Container::of(attributes, code[at].text == "enum");
    let has_name = attributes.iter().any(|attribute| has(attribute, "schema", "as"));
    if container.derives_any(&["ToSchema"]) && !has_name {
        let shown = Shown::Schema(name.text.to_owned());
        let condition = condition(attributes, &["ToSchema"]);
        found.push(Exposed { at: name.at, before: before_item(code, at), shown, condition });
    }
    let Some(open) = body(code, at + 2) else { return at + 2 };
    let close = closing(code, open);
    for member in members(code, open, close, !container.is_enum) {
        found.extend(shown_member(
            code,
            &member,
            &container,
            container.serde_all.as_deref(),
            container.is_enum,
        ));
        let Some(inner) = member.body.filter(|_| container.is_enum) else { continue };
        let all =
            value(&member.attributes, "serde", "rename_all").or(container.serde_all_fields.clone());
        for field in members(code, inner, closing(code, inner), true) {
            found.extend(shown_member(code, &field, &container, all.as_deref(), false));
        }
    }
    close + 1
}

/// Where an attribute of the item may be put: before its visibility.
fn before_item(code: &[Token<'_>], at: usize) -> usize {
    let mut first = at;
    while first > 0 && matches!(code[first - 1].text, "pub" | "crate" | "super" | "in" | "(" | ")")
    {
        first -= 1;
    }
    code[first].at
}

/// Index of the brace that opens the body; none for tuples and units.
fn body(code: &[Token<'_>], from: usize) -> Option<usize> {
    let mut angles = 0_i32;
    for (index, token) in code.iter().enumerate().skip(from) {
        match token.text {
            "<" => angles += 1,
            ">" if !code[index - 1].is("-") => angles -= 1,
            "{" if angles == 0 => return Some(index),
            "(" | ";" if angles == 0 => return None,
            _ => {}
        }
    }
    None
}

fn members<'c, 'a>(
    code: &'c [Token<'a>],
    open: usize,
    close: usize,
    has_types: bool,
) -> Vec<Member<'c, 'a>> {
    let mut found = Vec::new();
    let mut at = open + 1;
    while at < close {
        let mut attributes = Vec::new();
        while let Some(end) = attribute_end(code, at) {
            attributes.push(&code[at..end]);
            at = end;
        }
        let before = at;
        if code[at].is_word("pub") {
            at += 1;
            if code[at].is("(") {
                at = closing(code, at) + 1;
            }
        }
        if at >= close || code[at].kind != Kind::Identifier {
            break;
        }
        let body = code.get(at + 1).filter(|token| token.is("{")).map(|_| at + 1);
        found.push(Member { attributes, before, name: at, body });
        at = after_comma(code, at + 1, close, has_types);
    }
    found
}

/// Index after the comma that ends this member. Angles count only in types: a variant's
/// value may shift.
fn after_comma(code: &[Token<'_>], from: usize, close: usize, has_types: bool) -> usize {
    let mut angles = 0_i32;
    let mut at = from;
    while at < close {
        match code[at].text {
            "(" | "[" | "{" => at = closing(code, at),
            "<" if has_types => angles += 1,
            ">" if has_types && !code[at - 1].is("-") => angles -= 1,
            "," if angles <= 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    close
}

fn shown_member(
    code: &[Token<'_>],
    member: &Member<'_, '_>,
    container: &Container,
    serde_all: Option<&str>,
    is_variant: bool,
) -> Vec<Exposed> {
    let says = |attribute: &str, keys: &[&str]| {
        member.attributes.iter().any(|tokens| keys.iter().any(|key| has(tokens, attribute, key)))
    };
    let name = code[member.name].text.trim_start_matches("r#");
    let mut shown = Vec::new();
    let by_serde = ["Serialize", "Deserialize", "ToSchema", "IntoParams", "ToResponse"];
    let is_kept =
        says("serde", &["rename", "skip", "flatten", "untagged"]) || container.is_nameless;
    if container.derives_any(&by_serde) && !is_kept {
        shown.push(Shown::Serde(case::wire(serde_all, name, is_variant)));
    }
    if container.derives_any(&["FromRow"]) && !says("sqlx", &["rename", "skip", "flatten"]) {
        shown.push(Shown::Column(case::wire(container.column_all.as_deref(), name, false)));
    }
    let is_unseen = says("command", &["flatten", "subcommand", "name"])
        || says("value", &["name", "skip"])
        || says("arg", &["skip"]);
    if container.derives_any(&["Parser", "Args", "Subcommand", "ValueEnum"]) && !is_unseen {
        shown.push(Shown::Clap);
    }
    let (at, before) = (code[member.name].at, code[member.before].at);
    let condition = |shown: &Shown| match shown {
        Shown::Serde(_) => container.serde_condition.clone(),
        _ => None,
    };
    let exposed = |shown| Exposed { at, before, condition: condition(&shown), shown };
    shown.into_iter().map(exposed).collect()
}

/// A function that is an operation of the API under its own name.
fn operation(code: &[Token<'_>], at: usize, attributes: &[&[Token<'_>]]) -> Option<Exposed> {
    let name = code.get(at + 1)?;
    let path = attributes.iter().find(|tokens| has(tokens, "utoipa", "path"))?;
    if has(path, "utoipa", "operation_id") {
        return None;
    }
    let [.., last, close, _bracket] = path else { return None };
    let shown = Shown::Operation { name: name.text.to_owned(), after_comma: last.is(",") };
    Some(Exposed { at: name.at, before: close.at, shown, condition: None })
}

/// The condition of the `cfg_attr` that derives one of these; none if something derives it always.
fn condition(attributes: &[&[Token<'_>]], names: &[&str]) -> Option<String> {
    let is_meant = |attribute: &&&[Token<'_>]| {
        derives(attribute).iter().any(|name| names.contains(&name.as_str()))
    };
    let mut conditions = attributes.iter().filter(is_meant).map(|attribute| {
        let open = attribute.iter().position(|token| token.is_word("cfg_attr"))? + 1;
        let mut end = open + 1;
        while end < attribute.len() && !attribute[end].is(",") {
            end = if attribute[end].is("(") { closing(attribute, end) + 1 } else { end + 1 };
        }
        Some(attribute[open + 1..end].iter().map(|token| token.text).collect::<Vec<_>>().join(" "))
    });
    let first = conditions.next()??;
    conditions.all(|other| other.is_some()).then_some(first)
}

/// Names that an attribute derives, with the parts of their paths.
fn derives(attribute: &[Token<'_>]) -> Vec<String> {
    let Some(at) = attribute.iter().position(|token| token.is_word("derive")) else {
        return Vec::new();
    };
    let listed = &attribute[at..=closing(attribute, at + 1).max(at)];
    let names = listed.iter().filter(|token| token.kind == Kind::Identifier);
    names.map(|token| token.text.to_owned()).collect()
}

/// Whether it is the attribute `name` and says `key`.
fn has(attribute: &[Token<'_>], name: &str, key: &str) -> bool {
    let Some(at) = attribute.iter().position(|token| token.is_word(name)) else { return false };
    attribute[at + 1..].iter().any(|token| token.is_word(key))
}

/// The string after `key =` in an attribute `name`.
fn value(attributes: &[&[Token<'_>]], name: &str, key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| has(attribute, name, key))?;
    let at = attribute.iter().position(|token| token.is_word(key))?;
    let text = attribute.get(at + 2).filter(|token| token.kind == Kind::String)?.text;
    Some(text.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rename::lexer::code;

    /// Names that are shown, in the order of the source.
    fn shown(source: &str) -> Vec<(String, Shown)> {
        let tokens = code(source);
        let name = |at| tokens.iter().find(|token| token.at == at).unwrap().text.to_owned();
        exposed(&tokens).into_iter().map(|exposed| (name(exposed.at), exposed.shown)).collect()
    }

    fn wire(source: &str) -> Vec<String> {
        let of = |shown| match shown {
            Shown::Serde(name) => name,
            other => panic!("{other:?}"),
        };
        shown(source).into_iter().map(|(_, one)| of(one)).collect()
    }

    #[test]
    fn fields_and_variants_of_serde_have_their_wire_names() {
        let fields = "#[derive(Debug, serde::Serialize)] pub struct A<T> { pub(crate) host_name: Vec<T>, \
                      #[serde(rename = \"x\")] b: u8, #[serde(flatten)] c: C, d: BTreeMap<u8, u8>, e: u8 }";
        assert_eq!(wire(fields), ["host_name", "d", "e"]);
        let kebab = "#[derive(Deserialize)] #[serde(rename_all = \"kebab-case\", tag = \"t\")]\n\
                     enum B { NodeGone { node_id: u8 }, Two(u8), Bits = 1 << 3, Last }";
        assert_eq!(wire(kebab), ["node-gone", "node_id", "two", "bits", "last"]);
        let inner =
            "#[derive(Serialize)] enum D { #[serde(rename_all = \"camelCase\")] V { a_b: u8 } }";
        assert_eq!(wire(inner), ["V", "aB"]);
    }

    #[test]
    fn what_derives_nothing_shows_nothing() {
        assert!(
            shown("#[derive(Debug)] struct A { told: u8 } struct B { said: u8 } fn f() {}")
                .is_empty()
        );
        let untagged = "#[derive(Serialize)] #[serde(untagged)] enum A { B(u8) }";
        assert!(shown(untagged).is_empty());
        assert!(shown("#[derive(Serialize)] struct A(u8); enum B { C }").is_empty());
    }

    #[test]
    fn a_conditional_derive_counts_and_has_its_condition() {
        let source =
            "#[cfg_attr(all(test, feature = \"x\"), derive(Serialize))] struct A { b: u8 }";
        assert_eq!(wire(source), ["b"]);
        let condition = |source: &str| exposed(&code(source)).remove(0).condition;
        assert_eq!(condition(source).unwrap(), "all ( test , feature = \"x\" )");
        let schema = "#[derive(Serialize)] #[cfg_attr(feature = \"openapi\", derive(ToSchema))] struct A(u8);";
        assert_eq!(condition(schema).unwrap(), "feature = \"openapi\"");
        assert_eq!(condition("#[derive(Serialize)] struct A { b: u8 }"), None);
    }

    #[test]
    fn columns_of_rows_are_shown() {
        let row =
            "#[derive(sqlx::FromRow)] struct Row { place: i64, #[sqlx(rename = \"x\")] b: i64 }";
        assert_eq!(shown(row), [("place".to_owned(), Shown::Column("place".to_owned()))]);
    }

    #[test]
    fn options_commands_and_values_are_shown() {
        let options =
            "#[derive(clap::Args)] struct A { #[arg(long)] folder: P, #[command(flatten)] b: B }";
        assert_eq!(shown(options), [("folder".to_owned(), Shown::Clap)]);
        let values = "#[derive(ValueEnum)] enum A { Told, #[value(name = \"x\")] B }";
        assert_eq!(shown(values), [("Told".to_owned(), Shown::Clap)]);
    }

    #[test]
    fn schemas_and_operations_are_shown_under_their_own_names() {
        let schema = "#[derive(ToSchema)] pub struct Told(u8); #[derive(ToSchema)] #[schema(as = X)] struct B;";
        assert_eq!(shown(schema), [("Told".to_owned(), Shown::Schema("Told".to_owned()))]);
        let path = "#[utoipa::path(get, path = \"/x\")] pub(crate) async fn list() {} \
                    #[utoipa::path(get, operation_id = \"y\",)] fn other() {} fn third() {}";
        let shown_path = Shown::Operation { name: "list".to_owned(), after_comma: false };
        assert_eq!(shown(path), [("list".to_owned(), shown_path)]);
    }
}
