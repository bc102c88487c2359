//! Whether files and functions are small enough to be read.

use std::path::Path;

use crate::{Findings, source, tree};

/// A file longer than this is asking to be two.
const FILE_LINES_GOOD: usize = 500;
/// A file longer than this fails the check.
const FILE_LINES_MAX: usize = 700;
/// A function longer than this does not fit a screen.
const FUNCTION_LINES_GOOD: usize = 80;

/// Rust files and functions over their size.
pub fn check(root: &Path) -> Result<Findings, String> {
    let mut findings = Findings::default();
    let mut files = tree::files(root)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
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
