//! The inputs of `hack/fuzz`, seeds and findings alike, through the same functions as there, on any compiler and in a
//! moment. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "../hack/fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No input of a few KiB may take longer: a thousand times what they take, as the machine may have other work.
const PATIENCE: Duration = Duration::from_secs(60);

fn directory(path: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut files: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_the_corpora_is_handled() {
    for (name, target) in fuzz::TARGETS {
        let mut inputs = directory(&format!("hack/fuzz/corpus/{name}"));
        assert!(inputs.len() >= 3, "{name} has {} inputs only", inputs.len());
        if name == "config" {
            inputs.extend(directory("tests/golden/config"));
        }
        for input in inputs {
            println!("{}", input.display());
            let begin = Instant::now();
            target(&fs::read(&input).unwrap());
            assert!(begin.elapsed() < PATIENCE, "{}: {:?}", input.display(), begin.elapsed());
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |path: &str| -> BTreeSet<String> {
        directory(path).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(stems("hack/fuzz/fuzz_targets"), names);
    assert_eq!(stems("hack/fuzz/corpus"), names);
    assert!(stems("hack/fuzz/dictionaries").is_subset(&names));
    for name in &names {
        let program = format!("hack/fuzz/fuzz_targets/{name}.rs");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(program)).unwrap();
        assert!(text.contains(&format!("ferrun_fuzz::{name}(data)")), "{name}: {text}");
    }
}
