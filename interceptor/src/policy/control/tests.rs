//! Who may steer the daemon.

use std::sync::Arc;

use super::*;
use crate::identity::Identity;
use crate::policy::tests::load_text;
use crate::policy::vocabulary::PARSED;

const RULES: &str = r#"
@id("run") permit(principal in Group::"27", action in [Action::"Run", Action::"Status"], resource);
@id("freeze") permit(principal is User, action in [Action::"Freeze", Action::"Thaw"], resource in Agent::"claude")
when { principal.groups.contains("oncall") };
@id("tag") permit(principal == User::"1001", action == Action::"Tag", resource)
when { resource.agent == "claude" && resource has cgroup && resource.cgroup like "/agents.slice/*" };
@id("audit") permit(principal is User, action == Action::"ReadAudit", resource == Host::"localhost")
when { principal has name && principal.name == "sec" };
@id("never") @hint("call the platform team") forbid(principal is User, action == Action::"Kill", resource);
"#;

fn caller(uid: u32, name: &str, groups: &[(u32, &str)]) -> ControlCaller {
    ControlCaller::User(user(uid, name, groups))
}

fn user(uid: u32, name: &str, groups: &[(u32, &str)]) -> HostUser {
    HostUser {
        uid,
        gid: uid,
        name: Some(name.to_owned()),
        groups: groups
            .iter()
            .map(|(gid, name)| Group {
                gid: *gid,
                name: Some((*name).to_owned()),
            })
            .collect(),
        agent: None,
        runs_agent: false,
        session: None,
    }
}

fn scope(agent: &str, cgroup: &str) -> ControlObject {
    ControlObject::Scope {
        agent: agent.to_owned(),
        cgroup: cgroup.to_owned(),
    }
}

#[test]
fn rules_decide_about_callers_agents_and_cgroups() {
    let policy = load_text(RULES).unwrap();
    let claude = || ControlObject::Agent("claude".to_owned());
    let sudo = || caller(1000, "dev", &[(27, "sudo")]);
    let oncall = || caller(1002, "ops", &[(30, "oncall")]);
    let rows = [
        (sudo(), ControlVerb::Run, claude(), Ok("run")),
        (sudo(), ControlVerb::Status, ControlObject::Host, Ok("run")),
        (oncall(), ControlVerb::Run, claude(), Err("")),
        (oncall(), ControlVerb::Freeze, claude(), Ok("freeze")),
        (
            oncall(),
            ControlVerb::Thaw,
            scope("claude", "/a"),
            Ok("freeze"),
        ),
        (oncall(), ControlVerb::Freeze, scope("other", "/a"), Err("")),
        (
            caller(1001, "x", &[]),
            ControlVerb::Tag,
            scope("claude", "/agents.slice/a"),
            Ok("tag"),
        ),
        (
            caller(1001, "x", &[]),
            ControlVerb::Tag,
            scope("claude", "/system.slice"),
            Err(""),
        ),
        (caller(1001, "x", &[]), ControlVerb::Tag, claude(), Err("")),
        (
            caller(1003, "sec", &[]),
            ControlVerb::ReadAudit,
            ControlObject::Host,
            Ok("audit"),
        ),
        (
            caller(1003, "dev", &[]),
            ControlVerb::ReadAudit,
            ControlObject::Host,
            Err(""),
        ),
        (
            caller(1003, "sec", &[]),
            ControlVerb::Reload,
            ControlObject::Host,
            Err(""),
        ),
        (sudo(), ControlVerb::Kill, claude(), Err("never")),
        (
            caller(0, "root", &[]),
            ControlVerb::Kill,
            claude(),
            Ok("root"),
        ),
    ];
    for (caller, verb, object, expected) in rows {
        let decided = policy.authorize_control(&caller, verb, &object);
        let rules = match &decided {
            Ok(rules) => rules,
            Err(refusal) => &refusal.rules,
        };
        let rules: Vec<_> = rules.iter().map(|rule| rule.0.as_str()).collect();
        let found = if decided.is_ok() {
            Ok(rules.join(" "))
        } else {
            Err(rules.join(" "))
        };
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(found, expected, "{caller:?} {verb:?} {object:?}");
    }
}

#[test]
fn nobody_serves_himself() {
    let all = "permit(principal is User, action, resource);";
    let policy = load_text(all).unwrap();
    for verb in ControlVerb::ALL {
        let inside = ControlCaller::User(HostUser {
            agent: Some("claude".to_owned()),
            ..user(0, "root", &[])
        });
        assert!(
            policy
                .authorize_control(&inside, verb, &ControlObject::Host)
                .is_err()
        );
        let runs = ControlCaller::User(HostUser {
            runs_agent: true,
            ..user(1000, "dev", &[])
        });
        let may = policy
            .authorize_control(&runs, verb, &ControlObject::Host)
            .is_ok();
        let harmless = matches!(
            verb,
            ControlVerb::Run | ControlVerb::Status | ControlVerb::Bind
        );
        assert_eq!(may, harmless, "{verb:?}");
    }
}

fn person(by: &str, groups: &[&str]) -> LoggedIn {
    let identity = Identity {
        issuer: format!("https://{by}.example"),
        subject: "248289".to_owned(),
        user: Some("jane".to_owned()),
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        acr: None,
        amr: ["hwk".to_owned()].into(),
        claims: Default::default(),
        expires: crate::clock::wall(),
    };
    LoggedIn {
        by: by.to_owned(),
        identity: Arc::new(identity),
        until: crate::clock::boot(),
    }
}

#[test]
fn a_person_who_logged_in_is_nobody_of_the_host() {
    let policy = load_text(
        r#"
@id("dba") permit(principal is Person, action == Action::"Approve", resource in Agent::"claude")
when { principal.groups.contains("staff:dba") && principal.amr.contains("hwk") };
@id("one") permit(principal == Person::"staff:248289", action == Action::"Kill", resource in Agent::"claude");
@id("users") permit(principal is User, action, resource);
@id("root") permit(principal is User, action == Action::"Approve", resource) when { principal.uid == 0 };
@id("all") permit(principal is Person, action, resource in Agent::"other");
"#,
    )
    .unwrap();
    let object = scope("claude", "/a");
    let may = |person: LoggedIn, verb, object: &ControlObject| {
        policy
            .authorize_control(&ControlCaller::Person(person), verb, object)
            .is_ok()
    };
    assert!(may(
        person("staff", &["dba"]),
        ControlVerb::Approve,
        &object
    ));
    assert!(!may(
        person("staff", &["ops"]),
        ControlVerb::Approve,
        &object
    ));
    // The same group of another issuer is another group.
    assert!(!may(
        person("others", &["dba"]),
        ControlVerb::Approve,
        &object
    ));
    assert!(!may(
        person("others", &["staff:dba"]),
        ControlVerb::Approve,
        &object
    ));
    assert!(may(person("staff", &[]), ControlVerb::Kill, &object));
    assert!(!may(person("others", &[]), ControlVerb::Kill, &object));
    let other = scope("other", "/b");
    for verb in ControlVerb::ALL {
        let expected = verb.suits_people();
        assert_eq!(
            may(person("staff", &[]), verb, &other),
            expected,
            "{verb:?}"
        );
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let policy = load_text(RULES).unwrap();
    let kill = policy.authorize_control(
        &caller(1000, "dev", &[]),
        ControlVerb::Kill,
        &scope("claude", "/a\nb"),
    );
    let refusal = kill.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Forbidden);
    assert_eq!(
        refusal.message,
        "Kill on agent claude in /a?b is not permitted"
    );
    assert_eq!(refusal.hint.as_deref(), Some("call the platform team"));
}

#[test]
fn entities_are_what_the_schema_says() {
    let objects = [
        ControlObject::Host,
        ControlObject::Agent("claude".to_owned()),
        scope("claude", "/a"),
    ];
    for object in objects {
        let (resource, mut entities) = object_entities(&object).unwrap();
        let user = user_entity(&user(1000, "x", &[(1, "y")])).unwrap();
        let person = person_entity(&person("staff", &["y"])).unwrap();
        entities.extend([user.clone(), person.clone()]);
        Entities::from_entities(entities, Some(&PARSED)).unwrap();
        let fits = |principal: &Entity, verb: ControlVerb| {
            let action = vocabulary::uid(Kind::Action, verb.name());
            let request = Request::new(
                principal.uid(),
                action,
                resource.clone(),
                Context::empty(),
                Some(&PARSED),
            );
            request.is_ok()
        };
        for verb in ControlVerb::ALL {
            let host = object == ControlObject::Host;
            let either = matches!(verb, ControlVerb::ReadAudit | ControlVerb::ReadSessions);
            let expected = either || verb.is_about_scopes() != host;
            assert_eq!(fits(&user, verb), expected, "{verb:?} {object:?}");
            let expected = expected && verb.suits_people();
            assert_eq!(fits(&person, verb), expected, "{verb:?} {object:?}");
        }
    }
}

#[test]
fn whom_no_rule_permits_a_verb_anywhere_is_told_so_at_once() {
    let policy = load_text(RULES).unwrap();
    let could = |caller: &ControlCaller, verb| policy.could_control(caller, verb);
    let sudo = caller(1000, "dev", &[(27, "sudo")]);
    assert!(could(&sudo, ControlVerb::Run));
    assert!(!could(&sudo, ControlVerb::Tag));
    // What a rule's conditions say is not looked at.
    assert!(could(&sudo, ControlVerb::Freeze));
    assert!(could(&caller(1001, "x", &[]), ControlVerb::Tag));
    assert!(!could(&caller(1002, "x", &[]), ControlVerb::Tag));
    assert!(!could(&sudo, ControlVerb::Kill), "a forbid permits nothing");
    let of_agents = HostUser {
        runs_agent: true,
        ..user(1001, "x", &[])
    };
    assert!(!could(&ControlCaller::User(of_agents), ControlVerb::Tag));
    let inside = HostUser {
        agent: Some("claude".to_owned()),
        ..user(0, "root", &[])
    };
    assert!(!could(&ControlCaller::User(inside), ControlVerb::Tag));
    assert!(could(&caller(0, "root", &[]), ControlVerb::Untag));
}
