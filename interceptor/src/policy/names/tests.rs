//! Who may ask for which name.

use super::*;
use crate::policy::tests::{agent, load_text};

const RULES: &str = r#"
@id("known") permit(principal is Agent, action == Action::"Resolve", resource) when { context.known };
@id("pypi") permit(principal == Agent::"claude", action == Action::"Resolve", resource in Name::"pypi.org")
unless { context.qtype == "TXT" };
@id("asked") @grant("1h") permit(principal is Agent, action == Action::"Resolve", resource in Name::"granted.org");
@id("never") @hint("ask nobody there") forbid(principal is Agent, action, resource in Name::"evil.pypi.org");
"#;

#[test]
fn rules_decide_about_names_and_the_domains_that_they_lie_in() {
    let policy = load_text(RULES).unwrap();
    let claude = Arc::new(agent("claude"));
    let other = Arc::new(agent("other"));
    let asks = |who: &Arc<PrincipalFacts>, name: &str, qtype: &str, known: bool| {
        let asked = Question { name, qtype, known };
        policy.resolve(who, asked).map(|rules| rules[0].0.clone())
    };
    assert_eq!(asks(&other, "crm.internal", "A", true).unwrap(), "known");
    for name in ["pypi.org", "files.pypi.org", "a.b.c.pypi.org"] {
        assert_eq!(asks(&claude, name, "AAAA", false).unwrap(), "pypi");
        let refused = asks(&other, name, "AAAA", false).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::NotPermitted);
        assert_eq!(
            refused.message,
            format!("asking for {name} (AAAA) is not permitted")
        );
    }
    for (name, qtype) in [
        ("notpypi.org", "A"),
        ("org", "A"),
        ("pypi.org.evil.org", "A"),
        ("pypi.org", "TXT"),
    ] {
        assert!(asks(&claude, name, qtype, false).is_err(), "{name}");
    }
    let refused = asks(&claude, "x.evil.pypi.org", "A", true).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Forbidden);
    assert_eq!(refused.hint.unwrap(), "ask nobody there");
    // Nobody waits for people in a look-up.
    assert!(asks(&claude, "granted.org", "A", false).is_err());
}

#[test]
fn a_rule_about_a_name_that_nobody_can_have_does_not_load() {
    for name in [
        "Example.com",
        "example.com.",
        ".example.com",
        "*.example.com",
        "",
    ] {
        let rule = format!(
            r#"permit(principal is Agent, action == Action::"Resolve", resource in Name::"{name}");"#
        );
        let mistakes = load_text(&rule).unwrap_err().to_string();
        assert!(mistakes.contains("names nothing"), "{name}: {mistakes}");
    }
}
