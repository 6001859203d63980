//! A token is asked for once, kept while it is good, and no longer.

use super::*;

fn live(seconds: u64) -> Live {
    let body =
        format!(r#"{{"access_token":"t-{seconds}","token_type":"bearer","expires_in":{seconds}}}"#);
    read(body.as_bytes()).unwrap()
}

#[test]
fn a_token_is_used_until_it_is_about_to_end() {
    let rows = [(3_600, 3_570), (100, 80), (5, 4), (0, 0)];
    for (said, lasts) in rows {
        let live = live(said);
        assert_eq!(live.lasts, Duration::from_secs(lasts), "{said}");
        assert!(!live.is_good(live.lasts, None));
        let before = live.lasts.checked_sub(Duration::from_millis(1));
        assert!(before.is_none_or(|age| live.is_good(age, None)));
    }
    assert_eq!(live(u64::MAX).lasts, LONGEST - MARGIN);
}

#[test]
fn a_token_that_is_refused_is_asked_for_anew_but_not_at_once() {
    let live = live(3_600);
    let (refused, other) = (live.token.clone(), Secret::from("other"));
    assert!(live.is_good(Duration::ZERO, Some(&refused)));
    assert!(!live.is_good(PAUSE, Some(&refused)));
    assert!(live.is_good(PAUSE, Some(&other)));
}

#[test]
fn an_answer_without_a_bearer_token_is_none() {
    let rows = [
        "{}",
        r#"{"access_token":"","token_type":"bearer"}"#,
        r#"{"access_token":"a b","token_type":"bearer"}"#,
        r#"{"access_token":"a\nb","token_type":"bearer"}"#,
        r#"{"access_token":"abc","token_type":"mac"}"#,
        r#"{"access_token":"abc"}"#,
        r#"{"access_token":"abc","token_type":"bearer","expires_in":-1}"#,
        "<html>",
    ];
    for body in rows {
        assert!(read(body.as_bytes()).is_none(), "{body}");
    }
    let without = read(br#"{"access_token":"abc","token_type":"Bearer"}"#).unwrap();
    assert!(without.lasts < UNSAID && without.is_good(Duration::ZERO, None));
}
