//! Short texts of users: host lists, expressions, templates.

use std::collections::BTreeSet;

use api::hostlist::{MAX_NAMES, compress, count, expand};
use hardware::fuzzing::{MAX_FILTER_STEPS, steps_of_filter};
use provisioner::overlay::{
    Content, MAX_FILE_BYTES, check_path, template::Template, variables::Variables,
};
use serde_json::json;

/// Files that one template makes at most.
const MAX_FILES: usize = 4096;

/// What is counted is what comes, too many are refused before they are made, and what is compressed
/// expands to the same names.
pub(crate) fn hostlist(input: &[u8]) -> bool {
    let Ok(list) = std::str::from_utf8(input) else { return false };
    let counted = count(list);
    match expand(list) {
        Ok(names) => {
            assert_eq!(counted.ok(), Some(names.len()), "{list:?}");
            assert!(names.len() <= MAX_NAMES, "{list:?} has {} names", names.len());
            let compressed = compress(names.iter().map(String::as_str));
            let Ok(again) = expand(&compressed) else { panic!("{list:?} becomes {compressed:?}") };
            let distinct = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
            assert_eq!(distinct(&again), distinct(&names), "{list:?} becomes {compressed:?}");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() <= 1024, "an error quotes a long list");
            assert!(
                counted.is_err() || counted.is_ok_and(|count| count > MAX_NAMES),
                "{list:?}: {error}"
            );
            false
        }
    }
}

/// An expression ends within its steps, whatever it loops over.
pub(crate) fn cel(input: &[u8]) -> bool {
    let Ok(expression) = std::str::from_utf8(input) else { return false };
    let Some(steps) = steps_of_filter(expression) else { return false };
    assert!(steps <= MAX_FILTER_STEPS, "{steps} steps");
    true
}

/// What a template makes has a path of an overlay, and is bounded.
pub(crate) fn template(input: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(input) else { return false };
    let template = match Template::compile("/etc/file", 0o644, source) {
        Ok(template) => template,
        Err(error) => {
            assert!(error.line >= 1 && !error.message.is_empty());
            return false;
        }
    };
    let variables = Variables::of_json(&json!({
        "a": [1, 2, 3], "b": {"x": "y"}, "c": "text", "name": "n1", "tags": {"rack": "r1"},
        "interfaces": [{"name": "eth0", "mac": "52:54:00:12:34:56"}], "nodes": ["n1", "n2"],
    }));
    let Ok(files) = template.render(&variables, &|| true) else { return false };
    assert!(files.len() <= MAX_FILES, "{} files", files.len());
    for file in files.iter() {
        assert!(check_path(&file.path).is_ok(), "{:?}", file.path);
        let Content::File { bytes, .. } = &file.content else { continue };
        assert!(bytes.len() <= MAX_FILE_BYTES, "{} bytes", bytes.len());
    }
    true
}
