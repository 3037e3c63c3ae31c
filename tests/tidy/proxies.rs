//! The configurations of proxies that the documentation prints are those that are tested.

use std::collections::BTreeSet;

use crate::source::root;

const FOLDER: &str = "docs/proxies";
/// The page that explains the configurations, beside them.
const PAGE: &str = "README.md";
/// The program that runs the proxies.
const TESTED_BY: &str = "xtask/src/proxy/kinds/kind.rs";

/// Returns the names after `before` in a text, each up to `end`.
fn names(text: &str, before: &str, end: char) -> BTreeSet<String> {
    let rests = text.split(before).skip(1);
    let names = rests.filter_map(|rest| Some(rest.split_once(end)?.0.to_owned()));
    names.collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn each_documented_configuration_of_a_proxy_is_linked_and_tested_and_no_other_is() {
    let entries = std::fs::read_dir(root().join(FOLDER)).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.filter(|file| file != PAGE).collect();
    assert!(files.len() >= 4, "{files:?}");

    let linked = names(&read(&format!("{FOLDER}/{PAGE}")), "](", ')');
    assert_eq!(linked, files, "{FOLDER}/{PAGE} links each of them");
    let linked = names(&read("README.md"), &format!("]({FOLDER}/"), ')');
    let expected: BTreeSet<_> = files.iter().cloned().chain([PAGE.to_owned()]).collect();
    assert_eq!(linked, expected, "README.md links each of them");

    let code = read(TESTED_BY);
    let tested = names(&code, &format!("include_str!(\"../../../../{FOLDER}/"), '"');
    assert_eq!(tested, files, "{TESTED_BY} runs each of them");
}
