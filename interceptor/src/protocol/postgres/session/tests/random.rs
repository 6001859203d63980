//! Scripts that nobody would think of, held against the model server without us.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::super::refuse::POISON;
use super::super::super::wire::frontend;
use super::super::Why;
use super::gate::FakeGate;
use super::rig::{exchange_directly, exchange_over};
use super::server::Log;

/// What statements do; `denied` ones are refused.
const TEXTS: &[&str] = &[
    "insert a",
    "insert b; insert c",
    "insert denied",
    "insert denied",
    "insert a; rows 1 denied",
    "rows 3 t",
    "fail t",
    "insert a; fail t; insert b",
    "bad",
    "",
    "begin",
    "commit",
    "rollback",
    "copyout t",
    "copyin t",
    "copyin denied",
    "copyin t; copyin u; insert a",
    "noise t",
    "set local search_path x",
    "prepare s as insert a",
    "prepare t as insert denied",
    "deallocate s",
    "deallocate all",
];

const NAMES: &[&str] = &["-", "-", "s", "t"];

fn message() -> impl Strategy<Value = String> {
    let text = || prop::sample::select(TEXTS);
    let name = || prop::sample::select(NAMES);
    let object = || prop::sample::select(&["S", "P"][..]);
    prop_oneof![
        4 => text().prop_map(|text| format!("Q {text}")),
        4 => (name(), text()).prop_map(|(name, text)| format!("P {name} {text}")),
        4 => (name(), name()).prop_map(|(portal, name)| format!("B {portal} {name}")),
        5 => (name(), 0..3).prop_map(|(portal, rows)| format!("E {portal} {rows}")),
        // The usual way.
        6 => text().prop_map(|text| format!("P - {text}|B - -|D P -|E -")),
        2 => (object(), name()).prop_map(|(object, name)| format!("D {object} {name}")),
        2 => (object(), name()).prop_map(|(object, name)| format!("C {object} {name}")),
        8 => Just("S".to_owned()),
        2 => Just("H".to_owned()),
        4 => Just("d x".to_owned()),
        3 => Just("c".to_owned()),
        1 => Just("f no".to_owned()),
        // Bare, it would be a race: whether the server ignores a Sync sent behind it.
        1 => Just("d wrong|c".to_owned()),
    ]
}

/// What the server would see had it refused by itself.
fn refused_by_the_server(script: &str) -> String {
    let refuse = |one: &str| {
        let words: Vec<&str> = one.split(' ').collect();
        match words.as_slice() {
            _ if !one.contains("denied") => one.to_owned(),
            ["P", name, ..] => format!("P {name} bad"),
            _ => "Q bad".to_owned(),
        }
    };
    let messages: Vec<String> = script.split('|').map(refuse).collect();
    messages.join("|")
}

/// Nothing went upstream that runs or plans a text, but what the gate permitted and the poison.
fn assert_judged(log: &Log, gate: &Arc<FakeGate>) {
    let seen = gate.seen.lock().unwrap();
    let permitted = |text: &str| {
        seen.iter()
            .any(|(_, seen)| seen.permitted && seen.text == text)
    };
    let mut executed = 0;
    for (tag, body) in &log.came {
        let text = match *tag {
            frontend::QUERY => frontend::query(body).unwrap(),
            frontend::PARSE => frontend::parse(body).unwrap().1,
            frontend::EXECUTE => {
                executed += 1;
                continue;
            }
            _ => continue,
        };
        let text = std::str::from_utf8(text).unwrap();
        assert!(text == POISON || permitted(text), "{text} went upstream");
    }
    let may = seen.iter().filter(|(_, seen)| seen.permitted).count();
    assert!(executed <= may, "{executed} executed, {may} permitted");
    assert!(log.ran.iter().all(|text| !text.contains("denied")));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_refusal_does_what_an_error_of_the_server_does(
        script in prop::collection::vec(message(), 1..24),
        slack in 1_usize..300,
    ) {
        let script = script.join("|");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (told, end, log, gate, directly, log_directly) = runtime.block_on(async {
            let (told, end, log, gate) = exchange_over(slack, &script).await;
            let (directly, log_directly) = exchange_directly(&refused_by_the_server(&script)).await;
            (told, end, log, gate, directly, log_directly)
        });
        assert_judged(&log, &gate);
        let told = told.replace("E:42501", "E:42601");
        if matches!(end.why, Why::ClientViolation(_)) {
            let told = told.strip_suffix("E:08P01").unwrap_or(&told);
            prop_assert!(directly.starts_with(told), "{}: {} {}", script, told, directly);
        } else {
            prop_assert_eq!(told, directly, "{}", script);
        }
        prop_assert_eq!(log.committed, log_directly.committed, "{}", script);
    }

    #[test]
    fn bytes_that_are_no_messages_never_harm(
        before in prop::collection::vec(message(), 0..4),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        tag in prop::sample::select(&b"QPBEDCSHFdcfX"[..]),
        length in 0_u8..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut all = super::rig::messages(&before.join("|")).concat();
            all.extend([tag, 0, 0, 0, length]);
            all.extend(&bytes);
            super::rig::survive(&all).await;
        });
    }
}
