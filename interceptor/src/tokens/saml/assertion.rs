//! What an assertion says, once it is shown to be the identity provider's: for whom, until when, about whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::trust::xml_time;
use super::xml::{ASSERTION, Element};
use crate::config::Saml;
use crate::identity::Identity;
use crate::tokens::claims::{Claimed, MAX_GROUPS, MAX_NAME, MAX_TEXT, ends, line};
use crate::tokens::{Error, shown};

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
/// Attributes of one assertion, and values of one.
const MAX_ATTRIBUTES: usize = 256;

/// The clock, and how far the identity provider's may be off.
#[derive(Clone, Copy)]
struct Now {
    seconds: i64,
    skew: i64,
}

impl Now {
    /// # Errors
    /// Where it is not good yet.
    fn begins(self, at: i64) -> Result<(), Error> {
        let after = at.saturating_sub(self.seconds);
        match after > self.skew {
            true => Err(Error::Early { after }),
            false => Ok(()),
        }
    }

    /// # Errors
    /// Where it has ended.
    fn ends(self, at: i64) -> Result<i64, Error> {
        match at.saturating_add(self.skew) <= self.seconds {
            true => Err(Error::Expired {
                before: self.seconds.saturating_sub(at),
            }),
            false => Ok(ends(at, self.seconds, self.skew)),
        }
    }
}

/// Reads an assertion that is the identity provider's; `now` is the time in seconds since 1970.
///
/// # Errors
/// Where it is not good, or says nothing of whom.
pub(super) fn read(assertion: Element<'_>, provider: &Saml, now: i64) -> Result<Claimed, Error> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(0);
    let now = Now {
        seconds: now,
        skew: seconds(provider.skew),
    };
    if assertion.attribute("Version") != Some("2.0") {
        return Err(Error::Malformed("it is not of SAML 2.0".to_owned()));
    }
    let name = line("ID", assertion.attribute("ID"), MAX_TEXT)?;
    let issued = time(assertion, "IssueInstant")?;
    let issued = issued.ok_or_else(|| Error::Claim("it has no `IssueInstant`".to_owned()))?;
    now.begins(issued)?;
    let oldest = issued.saturating_add(seconds(provider.max_age));
    if oldest.saturating_add(now.skew) <= now.seconds {
        let seconds = now.seconds.saturating_sub(issued);
        return Err(Error::Old { seconds });
    }
    let good_until = conditions(assertion.one(ASSERTION, "Conditions")?, provider, now)?;
    let subject = subject(assertion.one(ASSERTION, "Subject")?, provider, now)?;
    let (session_until, acr) = login(assertion, now)?;
    // A session is what lasts; where none is told of, what is said lasts as long as it is good.
    let oldest = ends(oldest, now.seconds, now.skew);
    let ends = session_until.unwrap_or(good_until).min(oldest);
    let said = attributes(assertion)?;
    Ok(Claimed {
        identity: Identity {
            issuer: provider.entity.clone(),
            subject,
            user: only(&said, &provider.claims.user, MAX_NAME)?,
            groups: groups(&said, &provider.claims.groups)?,
            acr,
            amr: BTreeSet::new(),
            claims: kept(&said, provider)?,
            expires: Timestamp::from_second(ends).unwrap_or(Timestamp::MAX),
        },
        name: Some(name),
        left: ends.saturating_sub(now.seconds),
    })
}

/// From when and until when it is good, and for whom. A condition that is not known is not met (SAML Core
/// section 2.5.1.1).
fn conditions(conditions: Element<'_>, provider: &Saml, now: Now) -> Result<i64, Error> {
    if let Some(from) = time(conditions, "NotBefore")? {
        now.begins(from)?;
    }
    let until = time(conditions, "NotOnOrAfter")?;
    let until = until.ok_or_else(|| Error::Claim("it has no end".to_owned()))?;
    let until = now.ends(until)?;
    let mut meant = false;
    for condition in conditions.children() {
        if condition.is(ASSERTION, "AudienceRestriction") {
            let said: Vec<String> = condition
                .each(ASSERTION, "Audience")
                .map(Element::text)
                .collect::<Result<_, _>>()?;
            if !said.iter().any(|one| provider.audiences.contains(one)) {
                let said = shown(&said.join(" "));
                return Err(Error::Audience { said });
            }
            meant = true;
        } else if !condition.is(ASSERTION, "OneTimeUse")
            && !condition.is(ASSERTION, "ProxyRestriction")
        {
            let other = shown(condition.name());
            return Err(Error::Claim(format!("it has a condition {other}")));
        }
    }
    match meant {
        true => Ok(until),
        false => Err(Error::Audience {
            said: "nobody".to_owned(),
        }),
    }
}

/// About whom: who brings it is that one, where it is brought to where it was meant to be, in time.
fn subject(subject: Element<'_>, provider: &Saml, now: Now) -> Result<String, Error> {
    let name = subject.one(ASSERTION, "NameID")?;
    // A name of another's is another name.
    let of = |attribute: &str, ours: &[String]| {
        let said = name.attribute(attribute);
        said.is_none_or(|said| ours.iter().any(|one| one == said))
    };
    let is_ours = of("NameQualifier", std::slice::from_ref(&provider.entity))
        && of("SPNameQualifier", &provider.audiences);
    if !is_ours {
        return Err(Error::Claim("its `NameID` is one among others".to_owned()));
    }
    let text = name.text()?;
    let mut refused = Error::Claim("nothing in it is for who brings it".to_owned());
    for confirmation in subject.each(ASSERTION, "SubjectConfirmation") {
        if confirmation.attribute("Method") == Some(BEARER) {
            match confirmed(confirmation, provider, now) {
                Ok(()) => return line("NameID", Some(&text), MAX_NAME),
                Err(error) => refused = error,
            }
        }
    }
    Err(refused)
}

/// SAML Profiles section 4.1.4.3.
fn confirmed(confirmation: Element<'_>, provider: &Saml, now: Now) -> Result<(), Error> {
    let data = confirmation.one(ASSERTION, "SubjectConfirmationData")?;
    let to = data.attribute("Recipient").unwrap_or_default();
    if to != provider.recipient {
        return Err(Error::Recipient { said: shown(to) });
    }
    if let Some(from) = time(data, "NotBefore")? {
        now.begins(from)?;
    }
    let until = time(data, "NotOnOrAfter")?;
    let until = until.ok_or_else(|| Error::Claim("its confirmation has no end".to_owned()))?;
    now.ends(until).map(drop)
}

/// How somebody logged in, and until when that lasts.
fn login(assertion: Element<'_>, now: Now) -> Result<(Option<i64>, Option<String>), Error> {
    let (mut until, mut class) = (None, None);
    let mut count = 0;
    for statement in assertion.each(ASSERTION, "AuthnStatement") {
        count += 1;
        if let Some(end) = time(statement, "SessionNotOnOrAfter")? {
            let end = now.ends(end)?;
            until = Some(until.map_or(end, |before: i64| before.min(end)));
        }
        let context = statement.one(ASSERTION, "AuthnContext")?;
        if let Some(said) = context.maybe(ASSERTION, "AuthnContextClassRef")? {
            class = Some(line("AuthnContextClassRef", Some(&said.text()?), MAX_NAME)?);
        }
    }
    match count {
        1 => Ok((until, class)),
        _ => Err(Error::Claim(format!("it tells of {count} logins, not one"))),
    }
}

/// What is said of the subject, by name.
fn attributes(assertion: Element<'_>) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for statement in assertion.each(ASSERTION, "AttributeStatement") {
        for attribute in statement.each(ASSERTION, "Attribute") {
            let name = attribute.attribute("Name").unwrap_or_default().to_owned();
            let values = said.entry(name).or_default();
            for value in attribute.each(ASSERTION, "AttributeValue") {
                // One that is no text is none that anybody asked for by a name.
                if let Ok(text) = value.text() {
                    values.push(text);
                }
            }
        }
    }
    let most = said
        .values()
        .map(Vec::len)
        .max()
        .unwrap_or(0)
        .max(said.len());
    match most > MAX_ATTRIBUTES {
        true => Err(Error::Claim(format!(
            "it has {most} attributes or values of one, more than {MAX_ATTRIBUTES}"
        ))),
        false => Ok(said),
    }
}

/// The one value of an attribute, if there is any.
fn only(
    said: &BTreeMap<String, Vec<String>>,
    name: &str,
    most: usize,
) -> Result<Option<String>, Error> {
    match said.get(name).map_or(&[][..], Vec::as_slice) {
        [] => Ok(None),
        [one] => line(name, Some(one), most).map(Some),
        _ => Err(Error::Claim(format!(
            "its `{name}` has more than one value"
        ))),
    }
}

fn groups(said: &BTreeMap<String, Vec<String>>, name: &str) -> Result<BTreeSet<String>, Error> {
    let values = said.get(name).map_or(&[][..], Vec::as_slice);
    if values.len() > MAX_GROUPS {
        let count = values.len();
        let text = format!("its `{name}` has {count} values, more than {MAX_GROUPS}");
        return Err(Error::Claim(text));
    }
    values
        .iter()
        .map(|value| line(name, Some(value), MAX_NAME))
        .collect()
}

fn kept(
    said: &BTreeMap<String, Vec<String>>,
    provider: &Saml,
) -> Result<BTreeMap<String, String>, Error> {
    let mut kept = BTreeMap::new();
    for name in &provider.claims.keep {
        if let Some(value) = only(said, name, MAX_TEXT)? {
            kept.insert(name.clone(), value);
        }
    }
    Ok(kept)
}

/// A time of an element.
fn time(element: Element<'_>, name: &str) -> Result<Option<i64>, Error> {
    let Some(text) = element.attribute(name) else {
        return Ok(None);
    };
    let time = xml_time(text);
    let time = time.ok_or_else(|| Error::Claim(format!("its `{name}` is no time in UTC")))?;
    Ok(Some(time))
}
