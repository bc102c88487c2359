//! Finding functions in Rust text, without a parser: comments, strings and character literals are blanked, then `fn`
//! and its braces are matched. Good enough for measuring, which is all it is for.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Line of its `fn`, from 1.
    pub line: usize,
    /// Lines from its `fn` to its closing brace.
    pub lines: usize,
}

/// All functions with a body, those inside others too.
pub fn functions(text: &str) -> Vec<Function> {
    let code = blanked(text);
    let mut found = Vec::new();
    let mut line = 1;
    for (at, byte) in code.iter().enumerate() {
        if *byte == b'\n' {
            line += 1;
        }
        if let Some((name, end)) = function_at(&code, at) {
            let lines = 1 + code[at..end].iter().filter(|byte| **byte == b'\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The name and the end of the function whose `fn` stands at `at`.
fn function_at(code: &[u8], at: usize) -> Option<(String, usize)> {
    let rest = code[at..].strip_prefix(b"fn ")?;
    if at > 0 && is_word(code[at - 1]) {
        return None;
    }
    let name: Vec<u8> = rest.iter().copied().take_while(|byte| is_word(*byte)).collect();
    if name.is_empty() {
        return None;
    }
    let mut depth = 0usize;
    let mut brackets = 0usize;
    for (offset, byte) in rest.iter().enumerate() {
        match byte {
            // A semicolon in a signature ends it (a trait's function), unless it stands in an array type.
            b';' if depth == 0 && brackets == 0 => return None,
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets = brackets.saturating_sub(1),
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some((String::from_utf8_lossy(&name).into_owned(), at + 3 + offset));
                }
            }
            _ => {}
        }
    }
    None
}

/// The text with everything blanked that is no code; of the same length, with the same line ends.
fn blanked(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = match text[at] {
            b'/' if text[at..].starts_with(b"//") => line_end(text, at),
            b'/' if text[at..].starts_with(b"/*") => comment_end(text, at),
            b'"' => string_end(text, at),
            b'r' if at == 0 || !is_word(text[at - 1]) || text[at - 1] == b'b' => raw_string_end(text, at),
            b'\'' => char_end(text, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    code
}

fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| at + length)
}

fn comment_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The end of `r"..."` or `r#"..."#`; `start` itself if none begins here.
fn raw_string_end(text: &[u8], start: usize) -> usize {
    let hashes = text[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    if text.get(open) != Some(&b'"') {
        return start;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &text[open + 1..];
    body.windows(close.len())
        .position(|window| window == close)
        .map_or(text.len(), |length| open + 1 + length + close.len())
}

/// The end of a character literal; `start` itself if this is a lifetime.
fn char_end(text: &[u8], start: usize) -> usize {
    match text.get(start + 1) {
        Some(b'\\') => {
            let rest = text.get(start + 3..).unwrap_or_default();
            rest.iter().position(|byte| *byte == b'\'').map_or(start, |length| start + 3 + length + 1)
        }
        Some(first) => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if text.get(start + 1 + width) == Some(&b'\'') { start + width + 2 } else { start }
        }
        None => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize, usize)> {
        functions(text).into_iter().map(|function| (function.name, function.line, function.lines)).collect()
    }

    #[test]
    fn bodies_are_measured_and_signatures_without_one_are_not() {
        let text = "trait T {\n    fn only(&self, a: [u8; 4]);\n}\npub async fn run(\n    a: [u8; 2],\n) {\n    if a {\n    }\n}\n";
        assert_eq!(found(text), [("run".to_owned(), 4, 6)]);
    }

    #[test]
    fn braces_in_text_do_not_count() {
        let text = concat!(
            "fn a<'x>(s: &'x str) {\n    let _ = (\"}\\\"}\", '}', '\\'', r#\"}\"}\"#, b'}', '\u{ff5d}');\n",
            "    // }\n    /* } /* } */ } */\n}\nfn b() {}\n"
        );
        assert_eq!(found(text), [("a".to_owned(), 1, 5), ("b".to_owned(), 6, 1)]);
    }

    #[test]
    fn function_types_and_names_that_end_in_fn_are_none() {
        assert_eq!(
            found("type F = fn (u8) -> u8;\nlet my_fn = 1;\nfn outer() {\n    fn inner() {\n    }\n}"),
            [("outer".to_owned(), 3, 4), ("inner".to_owned(), 4, 2)]
        );
    }
}
