//! Whether files and functions are small enough to be read.

use std::path::{Path, PathBuf};

use crate::{Findings, source};

/// A file longer than this is asking to be two.
const FILE_LINES_GOOD: usize = 500;
/// A file longer than this fails the check.
const FILE_LINES_MAX: usize = 700;
/// A function longer than this does not fit a screen.
const FUNCTION_LINES_GOOD: usize = 80;

/// Rust files and functions over their size.
pub fn check(root: &Path) -> Result<Findings, String> {
    let mut findings = Findings::default();
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    files.sort();
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        measure(&name, &text, &mut findings);
    }
    findings.summary = format!("{} Rust files, none over {FILE_LINES_MAX} lines", files.len());
    Ok(findings)
}

fn measure(name: &str, text: &str, findings: &mut Findings) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.errors.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}; split it by purpose"));
    } else if lines > FILE_LINES_GOOD {
        findings.warnings.push(format!("{name}: {lines} lines, better under {FILE_LINES_GOOD}"));
    }
    for function in source::functions(text) {
        if function.lines > FUNCTION_LINES_GOOD {
            let (line, lines) = (function.line, function.lines);
            findings.warnings.push(format!(
                "{name}:{line}: fn {} has {lines} lines, better under {FUNCTION_LINES_GOOD}",
                function.name
            ));
        }
    }
}

/// All Rust files below `folder`, build output and hidden folders left out.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if !name.starts_with('.') && name != "target" {
                rust_files(&path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_warn_and_longer_ones_fail() {
        for (lines, errors, warnings) in [(500, 0, 0), (501, 0, 1), (700, 0, 1), (701, 1, 0)] {
            let mut findings = Findings::default();
            measure("a.rs", &"//\n".repeat(lines), &mut findings);
            assert_eq!((findings.errors.len(), findings.warnings.len()), (errors, warnings), "{lines} lines");
        }
    }

    #[test]
    fn long_functions_are_listed_with_their_line() {
        let mut findings = Findings::default();
        let text = format!("\nfn short() {{}}\nfn long() {{\n{}}}\n", "    step();\n".repeat(79));
        measure("a.rs", &text, &mut findings);
        assert_eq!(findings.warnings, ["a.rs:3: fn long has 81 lines, better under 80"]);
    }
}
