//! Checks that keep the map of the code true. Run as `cargo xtask CHECK`.
//!
//! - `layers`: no crate uses one that it may not use.
//! - `sizes`: files and functions stay small enough to be read.
//! - `docs`: ARCHITECTURE.md names every crate, documents point at what is there.
//! - `deploy`: manifests and units fit together.

mod deploy;
mod docs;
mod layers;
mod links;
mod metadata;
mod rules;
mod sizes;
mod source;
mod tree;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHECK...\n\
    layers  no crate uses one that it may not use\n\
    sizes   files over 500 lines and functions over 80 (fails over 700 lines)\n\
    docs    ARCHITECTURE.md names every crate, links and named files are there\n\
    deploy  manifests and units fit together\n";

fn main() -> ExitCode {
    let checks: Vec<String> = std::env::args().skip(1).collect();
    let known = ["layers", "sizes", "docs", "deploy"];
    if checks.is_empty() || checks.iter().any(|check| !known.contains(&check.as_str())) {
        let _ = std::io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    }
    let mut holds = true;
    for check in checks {
        let outcome = match check.as_str() {
            "layers" => metadata::load(&root()).map(|workspace| layers::check(&workspace)),
            "sizes" => sizes::check(&root()),
            "deploy" => deploy::check(&root()),
            _ => docs::check(&root()),
        };
        holds &= report(&check, outcome);
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a check found. Only `errors` make it fail.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    summary: String,
}

fn report(check: &str, outcome: Result<Findings, String>) -> bool {
    let findings = outcome.unwrap_or_else(|error| Findings { errors: vec![error], ..Findings::default() });
    let mut text = String::new();
    for warning in &findings.warnings {
        text += &format!("{check}: warning: {warning}\n");
    }
    for error in &findings.errors {
        text += &format!("{check}: error: {error}\n");
    }
    if findings.errors.is_empty() {
        text += &format!("{check}: {}\n", findings.summary);
    }
    // Nobody left to read is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    findings.errors.is_empty()
}

/// The workspace's folder: two above this crate's.
fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("tools/xtask"), PathBuf::from);
    here.join("../..")
}
