//! Which columns are sensitive, and what stands in their place: a mask in a word or in a map, or a tag
//! that says one for many.

use std::collections::{BTreeMap, HashMap};

use super::document::{Entry, Node, Value};
use super::mistake::Report;
use super::{Target, check, scalar};
use crate::masking::{Joinable, Mask, Sensitive};

/// Columns of one target. Each is asked of policy once a session.
const COLUMNS_MAX: usize = 4_096;

/// A target's sensitive columns. What cannot be read is left out: it is a mistake already.
pub(super) fn build(target: &Node) -> Vec<Sensitive> {
    let tags = tags(target);
    let column = |entry: &Entry| {
        let (database, relation, column) = scalar::column(&entry.key).ok()?;
        Some(Sensitive {
            database,
            relation,
            column,
            mask: tagged(&entry.node, &tags)?,
        })
    };
    let said = target.under("sensitive").map(Node::entries);
    said.unwrap_or_default().iter().filter_map(column).collect()
}

/// A target's masks of fields of JSON.
pub(super) fn fields(target: &Node, masks: Option<&Node>) -> Vec<(String, Mask)> {
    let tags = tags(target);
    let said = masks.map(Node::entries).unwrap_or_default();
    said.iter()
        .filter_map(|entry| Some((entry.key.clone(), tagged(&entry.node, &tags)?)))
        .collect()
}

/// Notes what is wrong with masks of fields of JSON.
pub(super) fn cross_fields(entry: &Entry, masks: &Node, key: &str, report: &mut Report) {
    let tags = tags(&entry.node);
    for field in masks.entries() {
        let key = format!("{key}.{}", field.key);
        if tags.contains_key(word(&field.node)) {
            whole_tag(&field.node, &key, report);
        } else {
            let formed = check::is_mask(word(&field.node)) || check::is_name(word(&field.node));
            wrong(&field.node, &key, formed, report);
        }
    }
}

/// A target's tags, each with the mask that it says.
pub(super) fn build_tags(target: &Node) -> BTreeMap<String, Mask> {
    let tags = tags(target).into_iter();
    tags.map(|(name, mask)| (name.to_owned(), mask)).collect()
}

fn tags(target: &Node) -> HashMap<&str, Mask> {
    let said = target.under("tags").map(Node::entries);
    let tag = |entry: &'_ Entry| mask(&entry.node).ok();
    said.unwrap_or_default()
        .iter()
        .filter(|entry| !check::is_mask(&entry.key))
        .filter_map(|entry| Some((entry.key.as_str(), tag(entry)?)))
        .collect()
}

/// The word of a mask: said alone, said under `mask`, or `null` where nothing is said.
fn word(node: &Node) -> &str {
    let said = match &node.value {
        Value::Map(_) => node.under("mask").and_then(Node::text),
        _ => node.text(),
    };
    said.unwrap_or("null")
}

fn tagged(node: &Node, tags: &HashMap<&str, Mask>) -> Option<Mask> {
    match tags.get(word(node)) {
        Some(tag) => Some(tag.clone()),
        None => mask(node).ok(),
    }
}

/// A mask as said, or what is wrong with it and under which key.
fn mask(node: &Node) -> Result<Mask, (&'static str, &'static str)> {
    let text = node.under("text").and_then(Node::text);
    let joinable = node.under("joinable").and_then(Node::text);
    let word = word(node);
    if joinable.is_some() && word != "hash" {
        return Err((
            "joinable",
            "expected mask: hash with it; no other is made to be joined by",
        ));
    }
    match (word, text) {
        ("constant", Some(text)) => Ok(Mask::Constant(text.into())),
        ("constant", None) => Err((
            "",
            "expected the text that is shown: { mask: constant, text: … }",
        )),
        (_, Some(_)) => Err(("text", "expected mask: constant with it; no other shows it")),
        ("hash", None) if joinable == Some("target") => Ok(Mask::Hash(Joinable::Target)),
        (word, None) => scalar::mask(word).ok_or(("", "expected a tag that `tags` has")),
    }
}

/// Notes what is wrong between the keys of one target.
pub(super) fn cross(entry: &Entry, target: &Target, report: &mut Report) {
    let key = format!("targets.{}", entry.key);
    let tags = tags(&entry.node);
    let said = entry.node.under("tags").map(Node::entries);
    for tag in said.unwrap_or_default() {
        let key = format!("{key}.tags.{}", tag.key);
        if check::is_mask(&tag.key) {
            report.add(tag.place, &key, "expected a name that no mask has");
        }
        wrong(&tag.node, &key, check::is_mask(word(&tag.node)), report);
    }
    let said = entry.node.under("sensitive");
    let columns = said.map(Node::entries).unwrap_or_default();
    if let Some(node) = said.filter(|_| columns.len() > COLUMNS_MAX) {
        let expected = format!("expected at most {COLUMNS_MAX} columns");
        report.add(node.place, &format!("{key}.sensitive"), expected);
    }
    let databases = target.protocol.databases();
    for column in columns {
        let key = format!("{key}.sensitive.{}", column.key);
        let named = scalar::column(&column.key).ok();
        let database = named.and_then(|(database, _, _)| database);
        if database.is_some_and(|named| !databases.contains(&named)) {
            let text = "expected a database that postgres.databases has before the slash";
            report.add(column.place, &key, text);
        }
        if tags.contains_key(word(&column.node)) {
            whole_tag(&column.node, &key, report);
        } else {
            // What has not its form is noted already.
            let formed = check::is_mask(word(&column.node)) || check::is_name(word(&column.node));
            wrong(&column.node, &key, formed, report);
        }
    }
}

/// A tag says all of a mask.
fn whole_tag(node: &Node, key: &str, report: &mut Report) {
    for part in ["text", "joinable"] {
        if let Some(node) = node.under(part) {
            let text = "expected it with the tag; what a tag says cannot be changed here";
            report.add(node.place, &format!("{key}.{part}"), text);
        }
    }
}

fn wrong(node: &Node, key: &str, formed: bool, report: &mut Report) {
    if let (true, Err((part, expected))) = (formed, mask(node)) {
        let node = node.under(part).unwrap_or(node);
        let key = match part {
            "" => key.to_owned(),
            part => format!("{key}.{part}"),
        };
        report.add(node.place, &key, expected);
    }
}
