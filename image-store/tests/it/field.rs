//! Layouts as they are found in the field, each read by us and by `umoci unpack` (sparse files: by
//! GNU tar), and the two trees compared name by name: kind, mode, owner, time, attributes, content,
//! links.
//!
//! `cases.rs` says for each what is right, and where the two differ, why. The test prints what came
//! of each as a table, and leaves that as `layouts-of-the-field.txt` in Cargo's directory for
//! temporary files (`target/tmp`). Root is needed for owners, devices and capabilities.

mod archive;
mod cases;
mod layout;
mod tree;

use std::{fmt::Write as _, fs, path::Path, sync::Mutex};

use self::{
    cases::{CASES, Case, Make, Verdict},
    layout::Packing,
    tree::{Made, Tree},
};

/// What came of a case: a line of the table, and whether it is as the case says.
struct Outcome {
    line: String,
    /// What is not as expected.
    surprise: Option<String>,
}

#[test]
fn privileged_layouts_of_the_field_are_read_as_the_peers_read_them() {
    assert!(CASES.len() >= 30);
    let next = Mutex::new(CASES.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((number, case)) = next.lock().unwrap().next() else { return };
            let outcome = run(case);
            outcomes.lock().unwrap().push((number, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(number, _)| *number);
    let mut table = String::new();
    let mut surprises = String::new();
    for (_, Outcome { line, surprise }) in outcomes {
        let _ = writeln!(table, "{line}");
        surprises.extend(surprise.map(|surprise| format!("{surprise}\n")));
    }
    println!("{table}");
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("layouts-of-the-field.txt"), &table)
        .unwrap();
    assert!(surprises.is_empty(), "{surprises}");
}

fn run(case: &Case) -> Outcome {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let layout = work.path().join("layout");
    // Of sparse files GNU tar has the last word; what umoci makes of them is told beside it.
    let mut umoci = None;
    let (peer, theirs) = match case.make {
        Make::Layers(layers) => {
            let layers: Vec<_> =
                layers().into_iter().map(|layer| (layer, Packing::Plain)).collect();
            layout::write(&layout, &layers);
            ("umoci", tree::umoci(&layout, work.path()))
        }
        Make::Sparse(layers) => {
            let layers = layers();
            let packed: Vec<_> =
                layers.iter().map(|layer| (layer.clone(), Packing::Gzip)).collect();
            layout::write(&layout, &packed);
            umoci = Some(tree::umoci(&layout, work.path()));
            ("tar", tree::gnu_tar(&layers, work.path()))
        }
        Make::Layout(make) => {
            make(&layout, work.path());
            ("umoci", tree::umoci(&layout, work.path()))
        }
    };
    let ours = tree::ours(&layout, work.path());
    // What the peer refuses it may take in another form.
    let alike = case.alike.filter(|_| theirs.is_err()).map(|layers| {
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let layout = work.path().join("layout");
        layout::write(
            &layout,
            &layers().into_iter().map(|layer| (layer, Packing::Plain)).collect::<Vec<_>>(),
        );
        tree::umoci(&layout, work.path()).unwrap()
    });
    let mut outcome = compare(case, (peer, &theirs, alike.as_ref()), &ours, work.path());
    outcome.line.push_str(match (umoci, &ours) {
        (Some(Err(_)), _) => "; umoci refuses it",
        (Some(Ok(theirs)), Ok(ours)) if differences(&theirs, ours).is_empty() => "; umoci too",
        (Some(Ok(_)), _) => "; umoci differs",
        (None, _) => "",
    });
    outcome
}

/// `peer`: its name, what it makes of the case, and what it makes of the same in another form.
fn compare(case: &Case, peer: (&str, &Made, Option<&Tree>), ours: &Made, work: &Path) -> Outcome {
    let (peer, theirs, alike) = peer;
    let told = |made: &Made| match made {
        Ok(tree) => format!("{} names", tree.len()),
        Err(_) => "refuses".to_owned(),
    };
    let differences = match (theirs.as_ref().ok().or(alike), ours) {
        (Some(theirs), Ok(ours)) => differences(theirs, ours),
        _ => Vec::new(),
    };
    let paths: Vec<&str> = differences.iter().map(|(path, _)| path.as_str()).collect();
    let (is_right, remark) = match (case.verdict, theirs, ours) {
        (Verdict::Same, Ok(_), Ok(_)) => (paths.is_empty(), "the same".to_owned()),
        (Verdict::Differs(expected, why), Ok(_), Ok(_)) => (paths == expected, why.to_owned()),
        (Verdict::OnlyOurs(why), Err(_), Ok(_)) => {
            (alike.is_some() && paths.is_empty(), why.to_owned())
        }
        (Verdict::Neither(text), Err(_), Err(error)) => (error.contains(text), text.to_owned()),
        _ => (false, String::new()),
    };
    let line = format!(
        "{:<44} {peer:<5} {:<10} ours {:<10} {remark}",
        case.name,
        told(theirs),
        told(ours)
    );
    let surprise = (!is_right).then(|| {
        let mut text = format!("{}: not {:?}\n", case.name, case.verdict);
        for (who, made) in [(peer, theirs), ("ours", ours)] {
            if let Err(error) = made {
                let _ = writeln!(
                    text,
                    "  {who}: {}",
                    error.replace(&work.display().to_string(), "WORK")
                );
            }
        }
        for (path, lines) in differences {
            let _ = writeln!(text, "  {path:?}:\n{lines}");
        }
        text
    });
    Outcome { line: line.trim_end().to_owned(), surprise }
}

/// Paths that are not alike, with both lines.
fn differences(theirs: &Tree, ours: &Tree) -> Vec<(String, String)> {
    let mut paths: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let absent = "absent".to_owned();
    let both =
        |path: &&String| (theirs.get(*path).unwrap_or(&absent), ours.get(*path).unwrap_or(&absent));
    let differ = |path: &&String| {
        let (theirs, ours) = both(path);
        // Directories that no layer describes have the time of the unpacking, or none.
        let is_implied = ours.starts_with("dir ") && ours.contains(" @0");
        let without_time = |line: &str| {
            let words = line.split(' ').filter(|word| !(is_implied && word.starts_with('@')));
            words.collect::<Vec<_>>().join(" ")
        };
        without_time(theirs) != without_time(ours)
    };
    let shown = |path: &String| {
        let (theirs, ours) = both(&path);
        (path.clone(), format!("    theirs {theirs}\n    ours   {ours}"))
    };
    paths.into_iter().filter(differ).map(shown).collect()
}
