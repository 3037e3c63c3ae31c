//! Source files, and the part of their text that the rules examine.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file of the workspace.
pub(crate) struct Source {
    /// Path from the root of the workspace, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Returns the code without unit tests: comments, the contents of literals and items under
    /// `#[cfg(test)]` are replaced by spaces. Line numbers stay as they are.
    pub(crate) fn code(&self) -> String {
        without_tests(&blanked(&self.text))
    }

    /// Returns the lines of [`code`](Self::code) that are not empty, with their numbers.
    pub(crate) fn lines(&self) -> Vec<(usize, String)> {
        numbered(&self.code())
    }

    /// Returns the lines that hold code, unit tests included, with their numbers.
    pub(crate) fn lines_with_tests(&self) -> Vec<(usize, String)> {
        numbered(&blanked(&self.text))
    }

    /// Number of lines that hold code, unit tests included.
    pub(crate) fn len(&self) -> usize {
        self.lines_with_tests().len()
    }

    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    pub(crate) fn is_unit_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn numbered(code: &str) -> Vec<(usize, String)> {
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| (i + 1, line.to_owned()))
        .collect()
}

/// Root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all Rust files under `folders`, in the order of their paths. Panics if there are none.
pub(crate) fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
                found.push(Source::new(&path.replace('\\', "/"), &text));
            }
        }
    }
    assert!(!found.is_empty(), "{folders:?} hold no sources");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Replaces comments and the contents of literals by spaces. Line breaks stay.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => line_end(&chars, i),
            ('/', '*') => comment_end(&chars, i),
            ('"', _) => string_end(&chars, i),
            ('r', '"' | '#') if !is_word(i.checked_sub(1).map_or('\0', at)) => {
                raw_string_end(&chars, i)
            }
            ('b', 'r') if matches!(at(i + 2), '"' | '#') => raw_string_end(&chars, i + 1),
            ('\'', '\\') => quote(&chars, i + 3),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            _ => i,
        };
        if end == i {
            out.push(at(i));
            i += 1;
        }
        while i < end.min(chars.len()) {
            out.push(if at(i) == '\n' { '\n' } else { ' ' });
            i += 1;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(chars: &[char], from: usize) -> usize {
    let rest = chars[from..].iter();
    from + rest.take_while(|c| **c != '\n').count()
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 1),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 1),
            _ => {}
        }
        i += 1;
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 1,
            '"' => return i + 1,
            _ => {}
        }
        i += 1;
    }
    chars.len()
}

/// Returns the index after a raw string whose `r` is at `from`, or `from` for a raw identifier such
/// as `r#type`.
fn raw_string_end(chars: &[char], from: usize) -> usize {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let begin = from + 1 + hashes;
    if chars.get(begin) != Some(&'"') {
        return from;
    }
    let mut i = begin + 1;
    while i < chars.len() {
        let closing = chars[i + 1..].iter().take_while(|c| **c == '#').count();
        if chars[i] == '"' && closing >= hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// Returns the index after the next `'`.
fn quote(chars: &[char], from: usize) -> usize {
    let rest = chars.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|c| **c != '\'').count() + 1
}

/// Replaces every item under `#[cfg(test)]`, or under `#[cfg(all(test, ..))]`, by spaces. `code` has no
/// comments and no literals.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let next = |code: &str| code.find("#[cfg(test)]").or(code.find("#[cfg(all(test"));
    while let Some(begin) = next(&out) {
        let end = begin + item_len(&out[begin..]);
        let blank: String = out[begin..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(begin..end, &blank);
    }
    out
}

/// Length of the item at the start of `code`: to the first `;`, or to the end of the first block.
fn item_len(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' if depth == 1 => return i + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_literals_and_unit_tests_are_not_code() {
    let text = r##"
use a::B; // use c::D;
/* use e::F; /* nested */ */
const G: &str = "use h::I; \" // still text";
const J: &str = r#"use "k::L";"#;
const M: char = '"';
fn n<'a>(o: &'a str) -> char { '\'' }
#[cfg(test)]
mod tests;
#[cfg(test)]
use p::Q;
struct R;
#[cfg(test)]
mod more { fn s() { use t::U; } }
struct V;
"##;
    let code = Source::new("x.rs", text).code();
    let words: Vec<_> = code.split_whitespace().collect();
    let expected = "use a::B; const G: &str = ; const J: &str = ; const M: char = ; \
        fn n<'a>(o: &'a str) -> char { } struct R; struct V;";
    assert_eq!(words.join(" "), expected);
    assert_eq!(code.lines().count(), text.lines().count());
}
