//! The sections and functions of a wasm module.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Context as _;
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

/// Returns the module without its custom sections (names, producers, features), which are not
/// needed to run it.
pub(crate) fn without_custom(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = module.get(..8).context("not a wasm module")?.to_vec();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        if matches!(payload, Payload::CustomSection(_)) {
            continue;
        }
        out.push(id);
        let bytes = within(module, range).context("a section ends after the module")?;
        push_leb(&mut out, bytes.len());
        out.extend_from_slice(bytes);
    }
    Ok(out)
}

fn within(module: &[u8], range: Range<u64>) -> Option<&[u8]> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    module.get(start..end)
}

/// Appends a number in LEB128: seven bits a byte, the lowest first.
fn push_leb(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A part of a module: one function, or one section that holds no functions.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    pub(crate) bytes: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The code of a function, with its name. Empty if the module has no names.
    Function(String),
    /// Constants, and the messages and source locations of panics.
    Data,
    /// Types, imports, exports, tables.
    Other,
}

/// Returns all parts of a module except custom sections.
pub(crate) fn pieces(module: &[u8]) -> anyhow::Result<Vec<Piece<'_>>> {
    let names = names(module)?;
    let mut index = 0;
    let mut pieces = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let (kind, range) = match &payload {
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    if matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                        index += 1;
                    }
                }
                (Kind::Other, payload.as_section().map(|(_, range)| range))
            }
            Payload::CodeSectionEntry(body) => {
                let name = names.get(&index).cloned().unwrap_or_default();
                index += 1;
                (Kind::Function(name), Some(body.range()))
            }
            Payload::DataSection(data) => (Kind::Data, Some(data.range())),
            Payload::CustomSection(_) | Payload::CodeSectionStart { .. } => continue,
            _ => (Kind::Other, payload.as_section().map(|(_, range)| range)),
        };
        if let Some(bytes) = range.and_then(|range| within(module, range)) {
            pieces.push(Piece { kind, bytes });
        }
    }
    Ok(pieces)
}

/// Returns the names of functions by their indices, in which imports come first.
fn names(module: &[u8]) -> anyhow::Result<HashMap<u32, String>> {
    let mut names = HashMap::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload? else {
            continue;
        };
        let KnownCustom::Name(subsections) = section.as_known() else {
            continue;
        };
        for subsection in subsections {
            if let Name::Function(functions) = subsection? {
                for naming in functions {
                    let naming = naming?;
                    names.insert(naming.index, naming.name.to_owned());
                }
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `(module (func $one nop) (data ...))` with a name section.
    fn module() -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        let sections: [(u8, &[u8]); 6] = [
            (1, &[1, 0x60, 0, 0]),
            (3, &[1, 0]),
            (5, &[1, 0, 1]),
            (10, &[1, 3, 0, 0x01, 0x0b]),
            (11, &[1, 0, 0x41, 0, 0x0b, 2, b'h', b'i']),
            (0, b"\x04name\x01\x06\x01\x00\x03one"),
        ];
        for (id, bytes) in sections {
            module.push(id);
            push_leb(&mut module, bytes.len());
            module.extend_from_slice(bytes);
        }
        module
    }

    #[test]
    fn a_function_has_its_name_and_its_bytes() {
        let module = module();
        let pieces = pieces(&module).unwrap();
        let function = pieces
            .iter()
            .find(|piece| piece.kind == Kind::Function("one".to_owned()));
        assert_eq!(function.unwrap().bytes, [0, 0x01, 0x0b]);
        assert!(pieces.iter().any(|piece| piece.kind == Kind::Data));
    }

    #[test]
    fn stripping_a_module_removes_only_its_names() {
        let module = module();
        let stripped = without_custom(&module).unwrap();
        let custom = b"\x04name\x01\x06\x01\x00\x03one".len() + 2;
        assert_eq!(stripped, module[..module.len() - custom]);
    }
}
