//! Requests for an exchange: what is taken, and what is not.

use super::*;

const GOOD: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
    &subject_token_type=urn:ietf:params:oauth:token-type:jwt&subject_token=a.b%2Bc";

#[test]
fn a_request_is_read_as_a_form() {
    let read = asked(GOOD.as_bytes()).unwrap();
    assert_eq!(read.subject.as_str(), "a.b+c");
    assert_eq!(
        (read.audience, read.cgroup, read.time),
        (None, None, DEFAULT)
    );
    let more = format!("{GOOD}&audience=a+b%3d&lifetime=5m&cgroup=%2fx&scope=whatever");
    let read = asked(more.as_bytes()).unwrap();
    assert_eq!(read.audience.as_deref(), Some("a b="));
    assert_eq!(read.cgroup.as_deref(), Some("/x"));
    assert_eq!(read.time, Duration::from_secs(300));
    let passing = |said: &str| asked(format!("{GOOD}{said}").as_bytes()).unwrap().passing;
    assert_eq!(
        ["", "&passing=false", "&passing=true"].map(passing),
        [false, false, true]
    );
}

#[test]
fn what_is_not_a_request_for_an_exchange_is_refused() {
    let rows = [
        ("", "grant_type"),
        ("grant_type=authorization_code", "grant_type"),
        (
            &GOOD.replace("token-type:jwt", "token-type:saml2"),
            "subject_token_type",
        ),
        (
            &GOOD.replace("subject_token=", "other="),
            "subject_token is missing",
        ),
        (&format!("{GOOD}&subject_token=x"), "twice"),
        (&format!("{GOOD}&actor_token=x"), "actor_token"),
        (&format!("{GOOD}&resource=x"), "resource"),
        (
            &format!("{GOOD}&requested_token_type=x"),
            "requested_token_type",
        ),
        (&format!("{GOOD}&audience="), "audience"),
        (&format!("{GOOD}&audience=a%0Ab"), "audience"),
        (&format!("{GOOD}&lifetime=long"), "duration"),
        (&format!("{GOOD}&passing=soon"), "true or false"),
        (&format!("{GOOD}&audience=%f"), "no form"),
        (&format!("{GOOD}&audience=%+1"), "no form"),
        (&format!("{GOOD}&audience=%ff"), "no form"),
    ];
    for (body, said) in rows {
        let error = asked(body.as_bytes()).unwrap_err();
        assert!(error.contains(said), "{body}: {error}");
    }
}
