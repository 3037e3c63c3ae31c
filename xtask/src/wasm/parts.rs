//! The table that shows which part of the sources takes how much of a download.
//!
//! A function counts for the crate and module that its name begins with. Inlined code counts for
//! the caller.

use std::collections::BTreeMap;

use crate::wasm::gzip;
use crate::wasm::sections::{self, Kind};

/// Prints the table of one download and returns its size after gzip. `wasm` and `glue` are what a
/// browser downloads; `named` is the same module with the names of its functions.
///
/// A module is compressed as a whole. Each part is therefore shown with its share of the compressed
/// module, in proportion to the part's size when it is compressed alone.
pub(crate) fn print(named: &[u8], wasm: &[u8], glue: &[u8]) -> anyhow::Result<usize> {
    let mut parts: BTreeMap<String, (usize, Vec<u8>)> = BTreeMap::new();
    for piece in sections::pieces(named)? {
        let name = match &piece.kind {
            Kind::Function(name) => part(name),
            Kind::Data => "data: constants, texts, locations of panics".to_owned(),
            Kind::Other => "imports, exports, types, tables".to_owned(),
        };
        let (count, bytes) = parts.entry(name).or_default();
        *count += usize::from(matches!(piece.kind, Kind::Function(_)));
        bytes.extend_from_slice(piece.bytes);
    }
    let mut rows = Vec::new();
    for (name, (functions, bytes)) in parts {
        rows.push((name, functions, bytes.len(), gzip::compressed_len(&bytes)?));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.3));
    let alone: usize = rows.iter().map(|row| row.3).sum();
    let module = gzip::compressed_len(wasm)?;
    let script = gzip::compressed_len(glue)?;

    println!("{:>10} {:>10} {:>10}  part", "gzip", "bytes", "functions");
    for (name, functions, bytes, gzip) in rows {
        let share = gzip.saturating_mul(module) / alone.max(1);
        println!("{share:>10} {bytes:>10} {functions:>10}  {name}");
    }
    println!("{module:>10} {:>10} {:>10}  = wasm", wasm.len(), "");
    println!("{script:>10} {:>10} {:>10}  + JavaScript", glue.len(), "");
    let total = module + script;
    let bytes = wasm.len() + glue.len();
    println!("{total:>10} {bytes:>10} {:>10}  = download", "");
    Ok(total)
}

/// Crates that are shown as one part.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "ciphers, hash, curve",
        &[
            "blake2",
            "block_buffer",
            "chacha20",
            "chacha20poly1305",
            "cipher",
            "crypto_common",
            "curve25519_dalek",
            "digest",
            "poly1305",
            "subtle",
            "universal_hash",
            "zeroize",
        ],
    ),
    ("snow", &["snow"]),
    ("ruzstd", &["ruzstd", "twox_hash"]),
    (
        "futures",
        &["futures_util", "futures_channel", "futures_core", "slab"],
    ),
    (
        "bindings to the browser",
        &[
            "wasm_bindgen",
            "js_sys",
            "web_sys",
            "gloo_timers",
            "web_time",
            "getrandom",
        ],
    ),
    (
        "anyhow, bytes, tracing",
        &["anyhow", "bytes", "tracing", "tracing_core"],
    ),
    ("allocator", &["dlmalloc", "__rustc"]),
    ("std: tables", &["hashbrown"]),
];

/// Returns the part that a function belongs to.
fn part(function: &str) -> String {
    // `<a::B as c::D>::e` and `core::ptr::drop_in_place<a::B>` are code of `a`.
    let mut name = function.trim_start_matches(['<', '&', '[', '(']);
    for word in ["dyn ", "mut ", "*mut ", "*const "] {
        name = name.strip_prefix(word).unwrap_or(name);
    }
    if let Some((_, inner)) = name.split_once("drop_in_place<") {
        name = inner;
    }
    let end = name
        .find(['<', ' ', '>', '{', ',', '('])
        .unwrap_or(name.len());
    // The compiler appends a crate's hash in brackets.
    let path: Vec<&str> = name
        .get(..end)
        .unwrap_or_default()
        .split("::")
        .map(|segment| segment.split('[').next().unwrap_or_default())
        .collect();
    let krate = path.first().copied().unwrap_or_default();
    let module = path.get(1).copied().unwrap_or_default();
    for (group, crates) in GROUPS {
        if crates.contains(&krate) {
            return group.to_owned();
        }
    }
    match krate {
        "gossip_transport" => format!("ours: {module}"),
        "gossip_web" | "gossip_web_transport" | "gossip_web_values" => {
            "ours: interface for JavaScript".to_owned()
        }
        "core" if module == "fmt" || module == "num" => "std: formatting".to_owned(),
        "core" if module == "panicking" => "std: panics".to_owned(),
        "alloc" if module == "collections" => "std: collections".to_owned(),
        "core" if module == "slice" => "std: slices and sorting".to_owned(),
        "core" | "alloc" | "std" => "std: everything else".to_owned(),
        _ => "others, exports".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_belongs_to_the_crate_of_the_type_that_it_is_implemented_for() {
        for (function, expected) in [
            (
                "gossip_transport::secure::noise::Noise::write::h01",
                "ours: secure",
            ),
            (
                "<gossip_transport::net::Alpn as core::fmt::Debug>::fmt",
                "ours: net",
            ),
            (
                "core::ptr::drop_in_place<gossip_transport::rt::Task>::h1",
                "ours: rt",
            ),
            (
                "<core[c593]::net::Ipv6Addr as core[c593]::fmt::Display>::fmt",
                "std: everything else",
            ),
            ("core::fmt::Formatter::pad", "std: formatting"),
            (
                "<&curve25519_dalek::field::F as Mul>::mul",
                "ciphers, hash, curve",
            ),
            (
                "alloc::collections::btree::map::BTreeMap<K,V>::insert",
                "std: collections",
            ),
            ("gossipnode_set", "others, exports"),
            ("", "others, exports"),
        ] {
            assert_eq!(part(function), expected, "{function}");
        }
    }
}
