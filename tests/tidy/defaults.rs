//! The defaults of configurations: what their documentation states, and what the code sets.

use std::collections::BTreeMap;

use crate::assert_none;
use crate::source::{Source, sources};

/// A number with the unit that its text names: bytes and counts have none, times are in milliseconds.
type Value = f64;

/// The fields of configurations by "type.field", with the default that the documentation states, or that
/// the code sets.
type Defaults = BTreeMap<String, Value>;

#[test]
fn each_default_is_the_one_that_is_documented() {
    let mut breaches = Vec::new();
    let mut compared = 0;
    for source in sources(&["src"]) {
        if !source.path.ends_with("config.rs") {
            continue;
        }
        let (documented, set) = defaults(&source);
        for (field, value) in &documented {
            match set.get(field) {
                Some(other) if other != value => {
                    breaches.push(format!("{}: {field}: {value}, {other}", source.path));
                }
                Some(_) => compared += 1,
                None => {}
            }
        }
    }
    assert_none("documentation and code disagree about a default", &breaches);
    assert!(compared >= 40, "only {compared} were found");
}

/// Returns the defaults that the file documents, and those that it sets.
fn defaults(source: &Source) -> (Defaults, Defaults) {
    let (mut documented, mut set) = (Defaults::new(), Defaults::new());
    let mut of = String::new();
    let mut docs = String::new();
    for line in source.text.lines() {
        let text = line.trim();
        if line == "mod tests {" {
            break;
        }
        if let Some(name) = type_begun(line) {
            name.clone_into(&mut of);
        }
        if let Some(doc) = text.strip_prefix("///") {
            docs.push_str(doc);
            continue;
        }
        let docs = std::mem::take(&mut docs);
        let Some((field, value)) = text.trim_end_matches(',').split_once(": ") else {
            continue;
        };
        let field = format!("{of}.{}", field.trim_start_matches("pub "));
        if let Some((_, default)) = docs.split_once("Default ")
            && let Some(value) = stated(default)
        {
            documented.insert(field, value);
        } else if let Some(value) = evaluated(value) {
            set.entry(field).or_insert(value);
        }
    }
    (documented, set)
}

/// Returns the type whose fields, methods or default begin at a line.
fn type_begun(line: &str) -> Option<&str> {
    let starts = ["pub struct ", "impl Default for ", "impl "];
    let rest = starts.iter().find_map(|start| line.strip_prefix(start))?;
    rest.split_whitespace().next()
}

/// Returns the number at the start of a text like "1,024.", "64 MiB." or "2^20, far below".
fn stated(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    let number = words.next()?.trim_end_matches(['.', ',', ':']);
    let number = match number.split_once('^') {
        Some((base, exponent)) => base.parse::<Value>().ok()?.powi(exponent.parse().ok()?),
        None => number.replace(',', "").parse().ok()?,
    };
    let unit = words.next().unwrap_or_default();
    Some(number * factor(unit.trim_end_matches(['.', ',', ':'])))
}

fn factor(unit: &str) -> Value {
    match unit {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        _ => 1.0,
    }
}

/// Returns the value of an expression of the kinds in which defaults are written.
fn evaluated(expression: &str) -> Option<Value> {
    if let Some(call) = expression.strip_prefix("Duration::from_") {
        let (unit, rest) = call.split_once('(')?;
        let number = evaluated(rest.strip_suffix(')')?)?;
        return Some(number * if unit == "millis" { 1.0 } else { 1000.0 });
    }
    if let Some((one, other)) = expression.split_once(" * ") {
        return Some(evaluated(one)? * evaluated(other)?);
    }
    if let Some((number, bits)) = expression.split_once(" << ") {
        return Some(evaluated(number)? * evaluated(bits)?.exp2());
    }
    expression.replace('_', "").parse().ok()
}

#[test]
fn a_default_that_is_not_the_documented_one_is_found() {
    let text = "pub struct A {\n    /// The most. Default\n    /// 64 KiB, which is much.\n    pub max: usize,\n}\n\
        impl Default for A {\n    max: 64 << 10,\n}\n\
        pub struct B {\n    /// The time. Default 2 h.\n    pub max: Duration,\n}\n\
        impl Default for B {\n    max: Duration::from_secs(2 * 60),\n}\n";
    let (documented, set) = defaults(&Source::new("x.rs", text));
    let all = |a, b| Defaults::from([("A.max".to_owned(), a), ("B.max".to_owned(), b)]);
    assert_eq!(documented, all(65_536.0, 7_200_000.0));
    assert_eq!(set, all(65_536.0, 120_000.0));
}
