//! What a kill leaves: nothing that was taken is had again, and nothing that was issued is lost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::state::testing::{acknowledge, killed_at_each_sync};

/// Tells a process of this test binary that it is the one to be killed, and where its grants are.
const CHILD: &str = "INTERCEPTOR_TEST_GRANTS_CHILD";
/// Rows that are set aside each time, and those of them that are given out.
const ASIDE: u64 = 3;
const GIVEN: u64 = 2;
/// Bytes that there are, of which all that are left are set aside each time, and those that are given out.
const BYTES: u64 = 1_000;
const SENT: u64 = 20;

/// Runs in the killed process only: says what it did after it was acknowledged, and before it is given out.
#[test]
fn the_child_that_is_killed_takes_without_end() {
    let Ok(file) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(takes(Path::new(&file)));
}

async fn takes(file: &Path) {
    let grants = Grants::open(file).unwrap();
    let mut out = std::io::stdout().lock();
    let mut say = |text: String| {
        writeln!(out, "acknowledged {text}").expect("the parent reads");
        out.flush().expect("the parent reads");
    };
    let limits = Limits {
        max_rows: Some(Limit {
            most: ASIDE,
            rule: crate::policy::RuleId("few".to_owned()),
        }),
        ..Limits::default()
    };
    for number in 1_u128.. {
        let mut granted = grant_of(number, Some(100), None);
        granted.id = GrantId(Uuid::new_v4());
        granted.budget.uses = Some(1_000);
        let id = issue(&grants, granted).await;
        say(format!("issued {}", id.0));
        while let Ok(mut taken) = grants.take(&[id], Take::Answer(Some(&limits))).await {
            say(format!("took {}", id.0));
            grants.settle(taken.remove(0), GIVEN, 0);
        }
        say(format!("ending {}", id.0));
        let ended = grants.end(&[(id, Ended::Revoked)]);
        assert_eq!(ended.len(), 1);
        grants.keep_ends(vec![(id, Ended::Revoked)]).await.unwrap();
        say(format!("ended {}", id.0));
    }
}

/// What the child said of one grant.
#[derive(Debug, Default)]
struct Said {
    uses: u64,
    ending: bool,
    ended: bool,
}

/// Lets a child take, and kills it once it has said so many things.
fn killed_after(count: usize, file: &Path) -> HashMap<String, Said> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("grants::tests::crash::the_child_that_is_killed_takes_without_end")
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut said: HashMap<String, Said> = HashMap::new();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.filter_map(|line| {
        let line = line.expect("a line");
        line.split_once("acknowledged ")
            .map(|(_, text)| text.to_owned())
    });
    for (at, line) in lines.enumerate() {
        let (what, id) = line.split_once(' ').expect("a whole line of the pipe");
        let one = said.entry(id.to_owned()).or_default();
        match what {
            "took" => one.uses += 1,
            "ending" => one.ending = true,
            "ended" => one.ended = true,
            _ => {}
        }
        if at + 1 == count {
            child.kill().expect("SIGKILL");
        }
    }
    child.wait().expect("an end");
    said
}

#[test]
fn a_killed_process_leaves_no_more_of_a_grant_than_it_had() {
    let place = place();
    // Each count is another place in the life of grants: issues, takes, what is given back, ends.
    for count in (1..=16).chain([37, 38, 39, 60, 97, 150]) {
        let said = killed_after(count, &place.file);
        assert!(!said.is_empty());
        let grants = Grants::open(&place.file).unwrap();
        let live = grants.all(None);
        for (id, said) in said {
            let found = live.iter().find(|one| one.grant.id.0.to_string() == id);
            let Some(found) = found else {
                assert!(said.ending, "{id} is gone after {count}: {said:?}");
                continue;
            };
            assert!(!said.ended, "{id} is back after {count}: {said:?}");
            // One more may have been kept that it could not say any more.
            let uses = found.used;
            assert!(
                uses == said.uses || uses == said.uses + 1,
                "{found:?} {said:?}"
            );
            let rows = found.used_rows.unwrap();
            assert!(rows >= said.uses * GIVEN, "{found:?} {said:?}");
            assert!(rows <= uses * ASIDE, "{found:?} {said:?}");
        }
        let ids: Vec<_> = live
            .iter()
            .map(|one| (one.grant.id, Ended::Revoked))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        drop(grants.end(&ids));
        runtime.block_on(grants.keep_ends(ids)).unwrap();
    }
}

/// Tells a process of this test binary that it is the one to be killed at its syncs.
const SYNCS: &str = "INTERCEPTOR_TEST_GRANTS_SYNCS";

/// Runs in the killed process only: two lives of a grant, each step said before and after it.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_takes_and_ends() {
    let Ok(place) = std::env::var(SYNCS) else {
        return;
    };
    let grants = Grants::open(&Path::new(&place).join("grants.db")).unwrap();
    let limits = Limits {
        max_rows: Some(Limit {
            most: ASIDE,
            rule: crate::policy::RuleId("few".to_owned()),
        }),
        ..Limits::default()
    };
    for number in 1..=2 {
        let mut granted = grant_of(number, Some(100), Some(BYTES));
        granted.budget.uses = Some(3);
        let id = issue(&grants, granted).await;
        acknowledge(&format!("issued {}", id.0));
        for _ in 0..2 {
            let mut taken = grants.take(&[id], Take::Answer(Some(&limits))).await;
            acknowledge(&format!("took {}", id.0));
            grants.settle(taken.as_mut().unwrap().remove(0), GIVEN, SENT);
        }
        acknowledge(&format!("ending {}", id.0));
        assert_eq!(grants.end(&[(id, Ended::Revoked)]).len(), 1);
        grants.keep_ends(vec![(id, Ended::Revoked)]).await.unwrap();
        acknowledge(&format!("ended {}", id.0));
    }
}

#[test]
fn a_kill_at_any_sync_loses_nothing_that_was_taken_and_gives_nothing_twice() {
    let test = "grants::tests::crash::the_child_that_is_killed_at_its_syncs_takes_and_ends";
    let killed = killed_at_each_sync((test, SYNCS), |place, lines| {
        let mut said: HashMap<&str, Said> = HashMap::new();
        for line in lines {
            let (what, id) = line.split_once(' ').unwrap();
            let one = said.entry(id).or_default();
            match what {
                "took" => one.uses += 1,
                "ending" => one.ending = true,
                "ended" => one.ended = true,
                _ => {}
            }
        }
        let grants = Grants::open(&place.join("grants.db")).unwrap();
        let live = grants.all(None);
        for (id, said) in said {
            let found = live.iter().find(|one| one.grant.id.0.to_string() == id);
            let Some(found) = found else {
                assert!(said.ending, "{id} is gone: {lines:?}");
                continue;
            };
            assert!(!said.ended, "{id} is back: {lines:?}");
            let uses = found.used;
            let is_as_said = uses == said.uses || uses == said.uses + 1;
            assert!(is_as_said, "{found:?} {said:?}");
            let rows = found.used_rows.unwrap();
            assert!(rows >= said.uses * GIVEN, "{found:?} {said:?}");
            assert!(rows <= uses * ASIDE, "{found:?} {said:?}");
            let bytes = found.used_bytes.unwrap();
            let given = said.uses * SENT..=BYTES;
            assert!(given.contains(&bytes), "{found:?} {said:?}");
        }
    });
    assert!(killed >= 2 * 8, "{killed} kills");
}
