//! The board shows what there is: every metric by its name, and every name a metric with its labels.

use std::collections::BTreeSet;

use super::*;

const BOARD: &str = include_str!("../../../grafana/interceptor.json");

/// The metrics of a daemon that has counted something of each, with their labels.
fn exported() -> String {
    let metrics = Metrics::default();
    let target = "shop";
    metrics.connection_refused(RefusalKind::Forbidden);
    metrics.requests_permitted(target).inc();
    metrics.request_refused(target, RefusalKind::Forbidden);
    metrics.logged_in(target, LoginHow::Warm);
    metrics.mask_missed(target);
    metrics.host_key_changed(target);
    metrics.detected(target, "email", 1);
    metrics.approval_ended(target, "used");
    metrics.recording_purged(target);
    metrics.text(Now {
        outputs: vec![("siem".to_owned(), [1, 2, 3])],
        kernel: Some(Kernel {
            denied: vec![("bind", 1)],
            ..Kernel::default()
        }),
        ..Now::default()
    })
}

/// The names in a text that begin as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices("interceptor_")
        .map(|(at, _)| {
            text.get(at..)
                .unwrap()
                .split(|letter| !is_part(letter))
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn the_board_names_every_metric_and_no_other() {
    let samples = exported();
    let samples: String = samples
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let board: serde_json::Value = serde_json::from_str(BOARD).unwrap();
    let expressions: String = board["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| format!("{}\n", target["expr"].as_str().unwrap()))
        .collect();
    assert_eq!(names(&expressions), names(&samples));
}

#[test]
fn what_the_board_sums_by_is_a_label_of_the_metric() {
    let samples = exported();
    let board: serde_json::Value = serde_json::from_str(BOARD).unwrap();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let name = names(expression).into_iter().next().unwrap();
            let sample = samples.lines().find(|line| {
                line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
            });
            let sample = sample.unwrap_or_else(|| panic!("{name} is not exported"));
            let legend = target["legendFormat"].as_str().unwrap();
            let sums = expression
                .split("by (")
                .nth(1)
                .and_then(|rest| rest.split(')').next())
                .unwrap_or_default();
            let labels = sums
                .split(", ")
                .filter(|label| !label.is_empty())
                .map(str::to_owned);
            let legends = legend
                .split("{{")
                .skip(1)
                .map(|rest| rest.split("}}").next().unwrap().to_owned());
            for label in labels.chain(legends) {
                assert!(
                    sample.contains(&format!("{label}=\"")),
                    "{label} of {sample}"
                );
            }
        }
    }
}
