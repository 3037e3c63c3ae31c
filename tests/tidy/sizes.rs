//! The sizes of the browser's modules are stated as `web/size.json` has them.

use crate::source::root;

/// Returns the number of bytes that `json` gives for `module`.
fn bytes(json: &str, module: &str) -> u32 {
    let value = json.split(&format!("\"{module}\":")).nth(1).unwrap();
    let digits = value.trim_start().split(|c: char| !c.is_ascii_digit());
    digits.into_iter().next().unwrap().parse().unwrap()
}

#[test]
fn the_downloads_are_stated_as_they_are() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let json = read("web/size.json");
    let kilobytes = |module| (bytes(&json, module) + 500) / 1000;
    let (participant, transport) = (kilobytes("participant"), kilobytes("transport"));
    for (path, stated) in [
        ("README.md", format!("a tab downloads {participant} kB")),
        (
            "README.md",
            format!("is {transport} kB (`cargo xtask size`"),
        ),
        (
            "benches/RESULTS.md",
            format!("| participant in a tab | 150 kB | {participant} kB |"),
        ),
        (
            "benches/RESULTS.md",
            format!("| transport in a tab | 90 kB | {transport} kB |"),
        ),
    ] {
        assert!(
            read(path).contains(&stated),
            "{path} does not say: {stated}"
        );
    }
}
