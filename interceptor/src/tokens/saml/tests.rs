//! Assertions that are good, and every kind that is not.

mod rig;

use self::rig::{
    Idp, NOW, RECIPIENT, Said, Signer, at, attribute, audience, response, response_as,
};
use super::*;
use crate::config::{SignedBy, Trust};

fn held(idp: &Idp, text: &str) -> Result<Claimed, Error> {
    verify(&idp.providers(), text, NOW)
}

/// Refused with this reason.
fn refused(idp: &Idp, name: &str, text: &str, reason: &str) {
    match held(idp, text) {
        Ok(claimed) => panic!("{name}: believed to be {}", claimed.identity.subject),
        Err(error) => assert_eq!(error.reason(), reason, "{name}: {error}"),
    }
}

#[test]
fn a_good_assertion_says_who_it_is_alone_and_in_a_response() {
    let idp = Idp::new();
    let said = Said::default();
    let (signed, bare) = (said.signed(&idp.signer), said.with(""));
    let whole = idp.signer.signature("_r1", &response("", &bare));
    let both = idp.signer.signature("_r1", &response("", &signed));
    let rows = [
        ("alone", signed.clone()),
        ("in a response", response("", &signed)),
        ("in a response that is signed", response(&whole, &bare)),
        ("both signed", response(&both, &signed)),
        (
            "with space around",
            format!("<?xml version=\"1.0\"?>\n{}\n", response("", &signed)),
        ),
    ];
    for (name, text) in rows {
        let claimed = held(&idp, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let who = claimed.identity;
        assert_eq!(claimed.name.as_deref(), Some("_a1"));
        assert_eq!(
            (who.issuer.as_str(), who.subject.as_str()),
            (rig::ENTITY, "jane@corp")
        );
        assert_eq!(who.user.as_deref(), Some("jane"));
        let groups: Vec<_> = who.groups.iter().map(String::as_str).collect();
        assert_eq!(groups, ["dba", "staff"]);
        assert_eq!(who.acr.as_deref(), Some("urn:mfa"));
        let kept: Vec<_> = who.claims.into_iter().collect();
        assert_eq!(kept, [("department".to_owned(), "R&D".to_owned())]);
        assert_eq!(claimed.left, 300, "not until its end");
    }
}

#[test]
fn what_is_signed_is_the_same_however_it_is_spelled() {
    let idp = Idp::new();
    let said = Said::default();
    let signed = said.signed(&idp.signer);
    // Attributes in another order, an element that is closed at once, quotes, a namespace that is declared
    // further out, characters that are spelled as numbers or in a section of their own.
    let respelled = signed
        .replace("ID=\"_a1\"", "Version=\"2.0\" ID='_a1'")
        .replacen(" Version=\"2.0\">", ">", 1)
        .replace("\"></saml:SubjectConfirmationData>", "\"/>")
        .replace(
            "<saml:NameID>jane@",
            "<saml:NameID>&#106;<![CDATA[an]]>e&#x40;",
        )
        .replace(" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"", "")
        .replacen(
            "<saml:Assertion ",
            "<saml:Assertion xmlns:unused='urn:x' xmlns:ds='http://www.w3.org/2000/09/xmldsig#' ",
            1,
        );
    assert_ne!(respelled, signed);
    let claimed = held(&idp, &respelled).unwrap();
    assert_eq!(claimed.identity.subject, "jane@corp");
}

#[test]
fn keys_of_both_kinds_and_old_ones_beside_new_ones_count() {
    let idp = Idp::new();
    let (new, old) = (Signer::ec(), Signer::rsa());
    idp.publishes(&format!("{}{}", old.pem, new.pem));
    for signer in [&new, &old] {
        held(&idp, &Said::default().signed(signer)).unwrap();
    }
    // What is taken out of the file counts no more, without anybody being told.
    idp.publishes(&new.pem);
    refused(&idp, "an old key", &Said::default().signed(&old), "key");
    let error = verify(
        &idp.providers_with(|provider| provider.algorithms = vec![SignedBy::RsaSha256]),
        &Said::default().signed(&new),
        NOW,
    );
    assert_eq!(error.unwrap_err().reason(), "algorithm");
}

#[test]
fn metadata_says_which_keys_sign() {
    let idp = Idp::new();
    let der = |pem: &str| {
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let (other, sealing) = (Signer::ec(), Signer::rsa());
    let key = |to: &str, pem: &str| {
        format!(
            "<KeyDescriptor {to}><KeyInfo xmlns='http://www.w3.org/2000/09/xmldsig#'><X509Data>\
             <X509Certificate>{}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>",
            der(pem)
        )
    };
    let write = |entity: &str, until: &str| {
        let text = format!(
            "<EntityDescriptor xmlns='urn:oasis:names:tc:SAML:2.0:metadata' entityID='{entity}' {until}>\
             <IDPSSODescriptor>{}{}{}</IDPSSODescriptor></EntityDescriptor>",
            key("use='signing'", &idp.signer.pem),
            key("", &other.pem),
            key("use='encryption'", &sealing.pem),
        );
        std::fs::write(idp.directory.path().join("idp.xml"), text).unwrap();
    };
    let held = |signer: &Signer| {
        let file = idp.directory.path().join("idp.xml");
        let providers = idp.providers_with(|one| one.trust = Trust::Metadata(file));
        verify(&providers, &Said::default().signed(signer), NOW).map(drop)
    };
    write(rig::ENTITY, "");
    held(&idp.signer).unwrap();
    held(&other).unwrap();
    assert_eq!(held(&sealing).unwrap_err().reason(), "signature");
    write("https://other.example", "");
    assert_eq!(held(&idp.signer).unwrap_err().reason(), "keys");
    write(rig::ENTITY, "validUntil='2020-01-01T00:00:00Z'");
    assert_eq!(held(&idp.signer).unwrap_err().reason(), "keys");
}

/// The eight ways of wrapping that somebody else's signature (Somorovsky and others, 2012), each with what
/// was signed somewhere and what was not in its place.
#[test]
fn what_is_wrapped_around_a_signature_is_not_read() {
    let idp = Idp::new();
    let (good, mut evil) = (Said::default(), Said::default());
    evil.id = "_evil";
    evil.name = "root@corp";
    let signature = idp.signer.signature(good.id, &good.with(""));
    let signed = good.with(&signature);
    let stuffed = |inside: &str| {
        let end = "</ds:Signature>";
        signature.replace(end, &format!("{inside}{end}"))
    };
    let bare = response("", &good.with(""));
    let of_response = idp.signer.signature("_r1", &bare);
    let whole = response(&of_response, &good.with(""));
    let around = of_response.replace("</ds:Signature>", &format!("{bare}</ds:Signature>"));
    let nested = evil
        .with("")
        .replace("</saml:Assertion>", &format!("{signed}</saml:Assertion>"));
    let extensions = |inside: &str| format!("<samlp:Extensions>{inside}</samlp:Extensions>");
    let object = |inside: &str| stuffed(&format!("<ds:Object>{inside}</ds:Object>"));
    let mut twin = evil.clone();
    twin.id = good.id;
    let rows = [
        ("1", response_as("_r2", &around, &evil.with(""))),
        (
            "2",
            response_as("_r2", &format!("{bare}{of_response}"), &evil.with("")),
        ),
        ("3", response("", &format!("{}{signed}", evil.with("")))),
        ("4", response("", &nested)),
        (
            "5",
            response("", &format!("{}{}", evil.with(&signature), good.with(""))),
        ),
        ("6", response("", &evil.with(&stuffed(&good.with(""))))),
        (
            "7",
            response("", &format!("{}{signed}", extensions(&twin.with("")))),
        ),
        ("8", response("", &evil.with(&object(&good.with(""))))),
        (
            "the one that is read last",
            response("", &format!("{signed}{}", evil.with(""))),
        ),
        (
            "a whole response inside of another",
            response_as("_r2", "", &format!("{}{whole}", evil.with(""))),
        ),
    ];
    for (name, text) in rows {
        refused(&idp, name, &text, "wrapping");
    }
}

#[test]
fn a_signature_of_something_else_or_in_another_place_is_no_signature() {
    let idp = Idp::new();
    let (good, mut evil) = (Said::default(), Said::default());
    evil.id = "_evil";
    evil.name = "root@corp";
    let signature = idp.signer.signature(good.id, &good.with(""));
    let signed = good.with(&signature);
    let of_response = idp.signer.signature("_r1", &response("", &good.with("")));
    let whole = response(&of_response, &good.with(""));
    let extensions = format!("<samlp:Extensions>{signed}</samlp:Extensions>");
    let rows = [
        (
            "a signature of another",
            response("", &evil.with(&signature)),
        ),
        (
            "the response's in the assertion",
            response("", &good.with(&of_response)),
        ),
        (
            "the assertion's in the response",
            response(&signature, &good.with("")),
        ),
        (
            "beside the status",
            whole.replace(
                "<samlp:StatusCode",
                &format!("{signature}<samlp:StatusCode"),
            ),
        ),
        (
            "two in one place",
            response("", &good.with(&format!("{signature}{signature}"))),
        ),
        ("another's name", response_as("_a1", "", &signed)),
        (
            "by another attribute",
            response("", &signed).replace("<samlp:Status>", "<samlp:Status Id=\"_a1\">"),
        ),
        ("deep in something", response("", &extensions)),
        (
            "in another namespace",
            signed.replace("SAML:2.0:assertion", "SAML:2.0:other"),
        ),
    ];
    for (name, text) in rows {
        refused(&idp, name, &text, "wrapping");
    }
}

#[test]
fn what_was_changed_after_it_was_signed_is_not_believed() {
    let idp = Idp::new();
    let said = Said::default();
    let signed = said.signed(&idp.signer);
    let whole = idp.signer.signature("_r1", &response("", &said.with("")));
    let whole = response(&whole, &said.with(""));
    let changed = |from: &str, to: &str| signed.replacen(from, to, 1);
    let rows = [
        (
            "another name",
            changed("jane@corp", "root@corp"),
            "signature",
        ),
        ("another group", changed(">dba<", ">root<"), "signature"),
        ("another end", changed(&at(300), &at(600)), "signature"),
        (
            "another digest",
            changed("<ds:DigestValue>", "<ds:DigestValue>AAAA"),
            "signature",
        ),
        (
            "another text of what is signed",
            changed("<ds:Reference ", "<ds:Reference Id=\"x\" "),
            "signature",
        ),
        (
            "in a signed response",
            whole.replace("jane@corp", "root@corp"),
            "signature",
        ),
        (
            "around it in a signed response",
            whole.replace("<samlp:Status>", "<samlp:Status a=\"\">"),
            "signature",
        ),
        ("nobody's", said.with(""), "unsigned"),
        (
            "nobody's, in a response",
            response("", &said.with("")),
            "unsigned",
        ),
        ("another's", said.signed(&Signer::rsa()), "signature"),
        (
            "another's, with a key of its own",
            {
                let key = "<ds:KeyInfo><ds:KeyName>mine</ds:KeyName></ds:KeyInfo></ds:Signature>";
                said.signed(&Signer::rsa()).replace("</ds:Signature>", key)
            },
            "signature",
        ),
        ("another kind of key", said.signed(&Signer::ec()), "key"),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
}

#[test]
fn what_was_signed_in_another_way_is_not_believed() {
    let idp = Idp::new();
    let said = Said::default();
    let signed = said.signed(&idp.signer);
    let changed = |from: &str, to: &str| signed.replacen(from, to, 1);
    let sha1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1";
    let hmac = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
    let with = |method: &str, transforms: &[&str]| {
        let bare = said.with("");
        said.with(&idp.signer.signature_with("_a1", &bare, method, transforms))
    };
    let rsa = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let (enveloped, exclusive) = (
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    );
    let xpath = "http://www.w3.org/TR/1999/REC-xpath-19991116";
    let rows = [
        ("SHA-1", with(sha1, &[enveloped, exclusive]), "algorithm"),
        (
            "a shared secret",
            with(hmac, &[enveloped, exclusive]),
            "algorithm",
        ),
        ("no transform", with(rsa, &[]), "algorithm"),
        ("one transform", with(rsa, &[exclusive]), "algorithm"),
        (
            "a transform that leaves out",
            with(rsa, &[enveloped, xpath]),
            "algorithm",
        ),
        (
            "three transforms",
            with(rsa, &[enveloped, exclusive, exclusive]),
            "algorithm",
        ),
        (
            "a digest by SHA-1",
            signed.replace("2001/04/xmlenc#sha256", "2000/09/xmldsig#sha1"),
            "algorithm",
        ),
        (
            "another canonical form",
            changed("xml-exc-c14n#", "xml-exc-c14n#WithComments"),
            "algorithm",
        ),
        (
            "a reference to everything",
            changed("URI=\"#_a1\"", "URI=\"\""),
            "wrapping",
        ),
        (
            "two references",
            {
                let reference = "<ds:Reference URI=\"#_r1\"></ds:Reference><ds:Reference ";
                changed("<ds:Reference ", reference)
            },
            "malformed",
        ),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
}

#[test]
fn what_makes_two_readings_of_one_text_is_refused() {
    let idp = Idp::new();
    let signed = Said::default().signed(&idp.signer);
    let twofold = Said {
        name: "root@corp.evil.example",
        ..Said::default()
    };
    let twofold = twofold.signed(&idp.signer);
    let typed = |declared: &str| format!("<!DOCTYPE x {declared}>{signed}");
    let rows = [
        (
            "a comment in the name",
            twofold.replace("root@corp", "root@corp<!---->"),
            "malformed",
        ),
        (
            "a comment elsewhere",
            signed.replace("<saml:Subject>", "<!-- --><saml:Subject>"),
            "malformed",
        ),
        (
            "an instruction",
            signed.replace("jane@", "jane<?x?>@"),
            "malformed",
        ),
        (
            "an element in the name",
            signed.replace("jane@", "jane<b/>@"),
            "signature",
        ),
        ("a document type", typed(""), "malformed"),
        (
            "an entity",
            typed("[<!ENTITY who 'root'>]").replace("jane@", "&who;@"),
            "malformed",
        ),
        (
            "a file",
            typed("[<!ENTITY who SYSTEM 'file:///etc/passwd'>]").replace("jane@", "&who;@"),
            "malformed",
        ),
        (
            "a type of elsewhere",
            typed("SYSTEM 'http://127.0.0.1:9/x'"),
            "malformed",
        ),
        (
            "an entity that nobody declared",
            signed.replace("jane@", "&who;@"),
            "malformed",
        ),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
}

#[test]
fn what_has_another_form_is_refused() {
    let idp = Idp::new();
    let signed = Said::default().signed(&idp.signer);
    let huge = format!("<a>{}</a>", "x".repeat(MAX_XML));
    let deep = format!("{}{}", "<a>".repeat(70), "</a>".repeat(70));
    let sealed = |name: &str| {
        let sealed = format!("<saml:{name} xmlns:saml='urn:oasis:names:tc:SAML:2.0:assertion'/>");
        response("", &sealed)
    };
    let rows = [
        (
            "two names",
            signed.replace(
                "</saml:NameID>",
                "</saml:NameID><saml:NameID>x</saml:NameID>",
            ),
            "signature",
        ),
        (
            "an attribute twice",
            signed.replace("ID=\"_a1\"", "ID=\"_a1\" ID=\"_a2\""),
            "malformed",
        ),
        (
            "a prefix of nothing",
            signed.replace("<saml:Subject>", "<who:Subject>"),
            "malformed",
        ),
        (
            "no end",
            signed.replace("</saml:Assertion>", ""),
            "malformed",
        ),
        ("two roots", format!("{signed}{signed}"), "malformed"),
        ("no assertion", response("", ""), "malformed"),
        ("too deep", deep, "malformed"),
        ("encrypted", sealed("EncryptedAssertion"), "encrypted"),
        (
            "an encrypted name",
            signed.replace("saml:NameID", "saml:EncryptedID"),
            "encrypted",
        ),
        (
            "an encrypted attribute",
            signed
                .replace("saml:Attribute ", "saml:EncryptedAttribute ")
                .replace("</saml:Attribute>", "</saml:EncryptedAttribute>"),
            "encrypted",
        ),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
    assert_eq!(text(&huge).unwrap_err().reason(), "oversized");
}

#[test]
fn what_is_signed_well_and_is_not_good_for_us_now_is_refused() {
    let idp = Idp::new();
    let row = |name, change: fn(&mut Said), reason| {
        let mut said = Said::default();
        change(&mut said);
        (name, said.signed(&idp.signer), reason)
    };
    let rows = [
        row("ended", |said| said.until = -31, "expired"),
        row("not yet", |said| said.from = 31, "early"),
        row("of the future", |said| said.issued = 31, "early"),
        row("of long ago", |said| said.issued = -3_700, "old"),
        row(
            "to be brought by then",
            |said| said.confirmed = -31,
            "expired",
        ),
        row(
            "for others",
            |said| said.audience = audience("others"),
            "audience",
        ),
        row(
            "for nobody",
            |said| said.audience = String::new(),
            "audience",
        ),
        row(
            "for us and for others, of both",
            |said| said.audience += &audience("others"),
            "audience",
        ),
        row(
            "to others",
            |said| said.recipient = "https://evil.example/acs",
            "recipient",
        ),
        row(
            "to nearly us",
            |said| said.recipient = "https://interceptor.example/acs/",
            "recipient",
        ),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
}

#[test]
fn what_says_nothing_that_can_be_used_is_refused() {
    let idp = Idp::new();
    let row = |name, change: fn(&mut Said), reason| {
        let mut said = Said::default();
        change(&mut said);
        (name, said.signed(&idp.signer), reason)
    };
    let rows = [
        row(
            "for who holds a key",
            |said| said.method = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key",
            "claim",
        ),
        row(
            "of another",
            |said| said.issuer = "https://evil.example",
            "issuer",
        ),
        row("about nobody", |said| said.name = "", "claim"),
        row("about two lines", |said| said.name = "a\nb", "claim"),
        row("of no login", |said| said.logins = String::new(), "claim"),
        row(
            "of two logins",
            |said| said.logins = said.logins.repeat(2),
            "claim",
        ),
        row(
            "on a condition that is not known",
            |said| said.audience += "<saml:Condition></saml:Condition>",
            "claim",
        ),
        row(
            "two users",
            |said| said.attributes = attribute("uid", &["jane", "root"]),
            "claim",
        ),
        row(
            "two users in two",
            |said| said.attributes += &attribute("uid", &["root"]),
            "claim",
        ),
        row(
            "an empty group",
            |said| said.attributes = attribute("groups", &[""]),
            "claim",
        ),
    ];
    for (name, text, reason) in rows {
        refused(&idp, name, &text, reason);
    }
}

#[test]
fn a_session_that_is_told_of_is_how_long_it_lasts_and_max_age_is_the_longest() {
    let idp = Idp::new();
    let mut said = Said::default();
    let began = format!("AuthnInstant=\"{}\"", at(-5));
    let with_end = format!("{began} SessionNotOnOrAfter=\"{}\"", at(-31));
    said.logins = said.logins.replace(&began, &with_end);
    refused(
        &idp,
        "of a session that is over",
        &said.signed(&idp.signer),
        "expired",
    );
    said.logins = said.logins.replace(&at(-31), &at(3_000));
    assert_eq!(held(&idp, &said.signed(&idp.signer)).unwrap().left, 3_000);
    said.logins = said.logins.replace(&at(3_000), &at(90_000));
    // Never longer than `max_age` after its issue.
    assert_eq!(held(&idp, &said.signed(&idp.signer)).unwrap().left, 3_595);
}

#[test]
fn what_stands_around_an_assertion_counts_too() {
    let idp = Idp::new();
    let signed = Said::default().signed(&idp.signer);
    let failed = response("", &signed).replace("status:Success", "status:Responder");
    refused(&idp, "no success", &failed, "claim");
    let elsewhere = response("", &signed).replace(
        &format!("Destination=\"{RECIPIENT}\""),
        "Destination=\"https://evil.example/acs\"",
    );
    refused(&idp, "sent elsewhere", &elsewhere, "recipient");
}

#[tokio::test]
async fn what_a_browser_would_post_is_read_and_said_to_be_good_for_once() {
    use crate::secrets::Secret;

    let directory = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(&directory.path().join("i.db")).unwrap();
    let idp = Idp::new();
    let text = "PHg+".repeat(3);
    for (name, brought) in [
        ("neither", "what".to_owned()),
        ("no text", STANDARD.encode([0xff, 0xfe])),
        ("no XML", STANDARD.encode("what")),
        ("other XML", text),
    ] {
        let brought = Secret::from(brought);
        let refused = tokens.verify_saml(&idp.providers(), &brought).await;
        assert_eq!(refused.unwrap_err().reason(), "malformed", "{name}");
    }
    let long = Secret::from("A".repeat(MAX_BASE64 + 1));
    let refused = tokens.verify_saml(&idp.providers(), &long).await;
    assert_eq!(refused.unwrap_err().reason(), "oversized");
    // By the clock of the host, which is not that of the test.
    let ago = clock::wall().as_second() - NOW;
    let mut said = Said::default();
    (said.issued, said.from) = (said.issued + ago, said.from + ago);
    (said.confirmed, said.until) = (said.confirmed + ago, said.until + ago);
    let posted = STANDARD.encode(response("", &said.signed(&idp.signer)));
    let lines: Vec<_> = posted.as_bytes().chunks(76).collect();
    let brought = Secret::from(String::from_utf8(lines.join(&b"\r\n"[..])).unwrap());
    let verified = tokens
        .verify_saml(&idp.providers(), &brought)
        .await
        .unwrap();
    assert!(verified.once);
    assert_eq!(verified.token, "_a1");
}
