//! Who may steer the daemon.

use super::*;
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
    ControlCaller {
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
        let inside = ControlCaller {
            agent: Some("claude".to_owned()),
            ..caller(0, "root", &[])
        };
        assert!(
            policy
                .authorize_control(&inside, verb, &ControlObject::Host)
                .is_err()
        );
        let runs = ControlCaller {
            runs_agent: true,
            ..caller(1000, "dev", &[])
        };
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
        let principal = vocabulary::uid(Kind::User, "1000");
        entities.push(caller_entity(&principal, &caller(1000, "x", &[(1, "y")])).unwrap());
        Entities::from_entities(entities, Some(&PARSED)).unwrap();
        let fits = |verb: ControlVerb| {
            let action = vocabulary::uid(Kind::Action, verb.name());
            let request = Request::new(
                principal.clone(),
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
            assert_eq!(
                fits(verb),
                either || verb.is_about_scopes() != host,
                "{verb:?} {object:?}"
            );
        }
    }
}
