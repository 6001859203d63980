//! Asking for a grant, seeing what is granted, and taking it back.
//!
//! An agent asks for itself, on its own socket; policy alone says what it may have. Nothing is given that is
//! permitted anyway, nor for longer than the permit says.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::Given;
use super::super::api::{Request, Revoke, Token};
use super::super::caller::{Answer, Known};
use super::super::scopes::binding::{self, Place};
use super::super::scopes::exchange;
use super::super::status::agent_of;
use super::asking::{self, Unmet};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::config::Target;
use crate::grants::{Ended, Grant, Holder, Reserved, Standing};
use crate::identity::{Identity, Principal};
use crate::policy::{
    Access, Action, Budget, ControlObject, ControlVerb, GrantId, Grantable, Needs, PrincipalFacts,
    Refusal, Resource, RuleId, is_answered, is_written, needed,
};
use crate::session::ending;
use crate::session::services::Services;
use crate::tokens;
use crate::tokens::exchange::Behalf;

/// Bytes of a reason, and of a ticket.
const MAX_TEXT: usize = 1_024;
/// How long before it begins a grant may be asked for.
const EARLIEST: Duration = Duration::from_hours(24);
/// Bytes of a name (`NAMEDATALEN - 1`, PostgreSQL "Identifiers and Key Words").
const MAX_NAME: usize = 63;
/// Bytes of a path of HTTP.
const MAX_PATH: usize = 8 << 10;
/// Bytes of a name in a file system, and of a path of such (`NAME_MAX` and `PATH_MAX`, limits.h(0p)).
const MAX_FILE: usize = 255;
const MAX_FILES: usize = 4_096;
/// Bytes of a host's name, and of the names of a cluster (a DNS subdomain, RFC 1123).
const MAX_HOST: usize = 253;

/// `POST /v1/grants` on the agents' socket.
///
/// # Errors
/// An answer where policy grants no such thing, or the request makes no sense.
pub async fn request(
    State(services): Given,
    caller: Known,
    Json(mut asked): Json<Request>,
) -> Result<Json<Standing>, Answer> {
    let (scope, principal) = agent_of(&services, &caller).await?;
    let holder = Holder::asking(&principal, scope.id, asked.passing);
    let behalf = match asked.on_behalf_of.take() {
        Some(token) => Some(brought(&services, &caller, &holder, &token)?),
        None => None,
    };
    let time = understood(&services, &asked).map_err(|mistake| Answer::bad(&mistake))?;
    let tree = holder.root.is_some();
    begins_before(&services, scope.id, &asked, behalf.as_ref())
        .map_err(|mistake| Answer::bad(&mistake))?;
    let (rules, needs) = judged(&services, &principal, &asked, (time, tree))
        .map_err(|refusal| refused(&services, &principal, &asked, &refusal))?;
    let (services, asked) = (Arc::clone(&services), asked);
    // Goes on where the caller goes away: no half of it is left undone.
    let issued = tokio::spawn(async move {
        let behalf = behalf.as_ref();
        // First of all: no word and no token is used up by what there is no room for.
        let reserved = services.grants.reserve(holder.scope);
        let reserved = reserved
            .map_err(|error| refused(&services, &principal, &asked, &Refusal::from(error)))?;
        let word = match needs.is_empty() {
            true => Needs::new(),
            false => {
                let (who, what) = ((&holder, needs), (&asked, behalf));
                let word = asking::consent(&services, &principal, who, what).await;
                word.map_err(|why| unmet(&services, &principal, &asked, &why))?
            }
        };
        if let Some(behalf) = behalf {
            used(&services, &caller, &holder, behalf).await?;
        }
        issue(
            &services,
            &principal,
            (rules, holder, time, reserved),
            (asked, behalf, word),
        )
        .await
    });
    let issued = issued.await.map_err(|error| Answer::failed(&error))?;
    issued.map(Json)
}

/// In whose name it is asked for, as a token says that the same process tree was given.
fn brought(
    services: &Services,
    caller: &Known,
    holder: &Holder,
    token: &Token,
) -> Result<Behalf, Answer> {
    let found = exchange::mint(services).and_then(|mint| mint.verify(&token.0, holder));
    found.map_err(|error| unbelieved(services, caller, holder, &error))
}

/// Uses up the token that something is asked for with; two requests with one would else both be granted.
async fn used(
    services: &Services,
    caller: &Known,
    holder: &Holder,
    behalf: &Behalf,
) -> Result<(), Answer> {
    let spent = services.tokens.spend(behalf).await;
    spent.map_err(|error| unbelieved(services, caller, holder, &error))
}

fn unbelieved(
    services: &Services,
    caller: &Known,
    holder: &Holder,
    error: &tokens::Error,
) -> Answer {
    let place = Place {
        agent: &holder.agent,
        cgroup: &holder.cgroup,
    };
    binding::refuse(services, caller, Some(place), ("on_behalf_of", error));
    Answer::unbelieved()
}

/// Writes that something was not granted, and what the caller is told.
fn refused(
    services: &Services,
    principal: &Principal,
    asked: &Request,
    refusal: &Refusal,
) -> Answer {
    let event = Event::GrantRefused {
        principal,
        asked: json!(asked),
        refusal,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write a refusal to the audit log");
    }
    Answer::refused(refusal)
}

/// The same where people have not said yes. Of a question that waits it is written once: whoever waits asks again
/// and again.
fn unmet(services: &Services, principal: &Principal, asked: &Request, why: &Unmet) -> Answer {
    match why {
        Unmet::Refused(refusal) => refused(services, principal, asked, refusal),
        Unmet::Waits { refusal, id, new } => {
            if *new {
                // What it answers is told with the name of the question.
                let _answer = refused(services, principal, asked, refusal);
            }
            Answer::waits(refusal, *id)
        }
        Unmet::Failed(error) => Answer::failed(error),
    }
}

/// `GET /v1/grants` on the agents' socket: those of the caller's own process tree, and of its whole scope.
///
/// # Errors
/// An answer where the caller is in no scope.
pub async fn own(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    let (scope, principal) = agent_of(&services, &caller).await?;
    Ok(Json(services.grants.of(&principal, scope.id)))
}

/// `GET /v1/grants` on the control socket: all of them.
///
/// # Errors
/// An answer where policy refuses.
pub async fn all(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    caller
        .may(&services, ControlVerb::Status, &ControlObject::Host)
        .await?;
    Ok(Json(services.grants.all(None)))
}

/// `POST /v1/grants/revoke` on the control socket.
///
/// # Errors
/// An answer where policy refuses, or no such grant lives.
pub async fn revoke(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Revoke>,
) -> Result<Json<Standing>, Answer> {
    let found = services.grants.get(asked.grant).ok_or_else(|| {
        Answer::bad("no grant of that name lives; `interceptor grants` lists those that do")
    })?;
    let object = ControlObject::Scope {
        agent: found.grant.holder.agent.clone(),
        cgroup: found.grant.holder.cgroup.clone(),
    };
    caller.may(&services, ControlVerb::Revoke, &object).await?;
    // It goes on where the caller goes away.
    let (end, grant) = (Arc::clone(&services), asked.grant);
    let ended = tokio::spawn(async move { ending::end(&end, &[(grant, Ended::Revoked)]).await });
    let was_live = ended.await.map_err(|error| Answer::failed(&error))? > 0;
    let detail = json!({ "grant": asked.grant });
    if services.grants.owes(asked.grant) {
        let error = "it has ended, but that cannot be kept: a daemon that starts anew before it is, which is tried \
                     again, lets it live on";
        return Err(caller.failed(&services, "revoke", detail, error));
    }
    let result = if was_live { "ok" } else { "failed" };
    caller.audit(&services, "revoke", result, detail);
    match was_live {
        true => Ok(Json(found)),
        false => Err(Answer::bad("the grant has ended meanwhile")),
    }
}

/// Whether something can have this name.
fn called(resource: &Resource) -> Result<(), String> {
    let within = |names: &[&String], most: usize| {
        let is_text = |name: &str| !name.chars().any(char::is_control);
        let mut names = names.iter();
        match names.all(|name| (1..=most).contains(&name.len()) && is_text(name)) {
            true => Ok(()),
            false => Err(format!(
                "a name is 1 to {most} bytes of text without control characters"
            )),
        }
    };
    match resource {
        Resource::Target | Resource::Database => Ok(()),
        Resource::Schema { schema } => within(&[schema], MAX_NAME),
        Resource::Table { schema, table } => within(&[schema, table], MAX_NAME),
        Resource::Column {
            schema,
            table,
            column,
        } => within(&[schema, table, column], MAX_NAME),
        Resource::Function { schema, function } => within(&[schema, function], MAX_NAME),
        Resource::Path { path } if !path.starts_with('/') => {
            Err("a path begins with a slash".to_owned())
        }
        Resource::Path { path } => within(&[path], MAX_PATH),
        Resource::File { path } => {
            let bytes = path.iter().map(|name| name.len().saturating_add(1));
            match bytes.sum::<usize>() <= MAX_FILES {
                true => within(&path.iter().collect::<Vec<_>>(), MAX_FILE),
                false => Err(format!("a file's path is {MAX_FILES} bytes at most")),
            }
        }
        Resource::Forward { host, .. } => within(&[host], MAX_HOST),
        Resource::KubeNamespace { namespace } => within(&[namespace], MAX_HOST),
        // What is in no namespace has an empty one, and all of a kind have no name.
        Resource::KubeObject {
            namespace,
            resource,
            name,
        } => {
            let said = [namespace, name].into_iter().filter(|one| !one.is_empty());
            within(&said.collect::<Vec<_>>(), MAX_HOST)?;
            within(&[resource], 2 * MAX_HOST)
        }
    }
}

/// For how long it is asked, where the rest makes sense.
fn understood(services: &Services, asked: &Request) -> Result<Duration, String> {
    let config = services.config.load();
    let target = config.targets.get(&asked.target);
    let target: &Arc<Target> =
        target.ok_or_else(|| format!("no target is named {}", asked.target))?;
    if let Some(database) = &asked.database
        && !target.protocol.offers(Some(database))
    {
        let known = match target.protocol.databases() {
            [] => "it knows no databases".to_owned(),
            databases => format!("it has {}", databases.join(", ")),
        };
        return Err(format!(
            "target {} has no database {database}; {known}",
            asked.target
        ));
    }
    called(&asked.resource)?;
    if asked.actions.is_empty() {
        return Err("name at least one action".to_owned());
    }
    let texts = [Some(&asked.reason), asked.ticket.as_ref()];
    let long = texts.into_iter().flatten().any(|text| {
        text.trim().is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control)
    });
    if long {
        return Err(format!(
            "a reason and a ticket are 1 to {MAX_TEXT} bytes of text in one line"
        ));
    }
    countable(asked)?;
    placed(asked)?;
    if begins_in(asked)? > EARLIEST {
        return Err("a grant begins in a day at most".to_owned());
    }
    let time = clock::duration(&asked.time)?;
    match time.is_zero() {
        true => Err("ask for some time".to_owned()),
        false => Ok(time),
    }
}

/// Whether what is to be counted can be.
fn countable(asked: &Request) -> Result<(), String> {
    let Budget { uses, rows, bytes } = budget(asked);
    let is_wrong = |most: u64| most == 0 || i64::try_from(most).is_err();
    if uses.is_some_and(is_wrong) {
        return Err("a grant is for at least one use".to_owned());
    }
    if rows.is_some_and(is_wrong) || bytes.is_some_and(is_wrong) {
        return Err("a grant is for at least one row, or one byte".to_owned());
    }
    if uses.is_some() && asked.actions.contains(&Action::Reveal) {
        return Err("uses of Reveal are not counted: ask for a time only".to_owned());
    }
    for action in asked.actions.iter().filter(|action| !is_answered(**action)) {
        let what = match (is_written(*action), bytes, rows) {
            (_, Some(_), _) => "bytes are",
            (false, None, Some(_)) => "rows are",
            (true, None, _) | (false, None, None) => continue,
        };
        return Err(format!(
            "{what} counted in answers, which {} has none of: ask for it by itself, without them",
            action.name()
        ));
    }
    Ok(())
}

/// In how long it is to begin.
fn begins_in(asked: &Request) -> Result<Duration, String> {
    asked
        .after
        .as_deref()
        .map_or(Ok(Duration::ZERO), clock::duration)
}

/// Whether whoever it is asked for is still behind it when it begins: it ends with them, and would else be of no
/// length.
fn begins_before(
    services: &Services,
    scope: u64,
    asked: &Request,
    behalf: Option<&Behalf>,
) -> Result<(), String> {
    let begins = clock::boot().after(begins_in(asked)?);
    let (until, whose) = match behalf {
        Some(behalf) => (Some(behalf.until), "the token that it is asked for with"),
        None => {
            let until = services.tokens.bindings.until(scope);
            (until, "the identity that this scope is bound to")
        }
    };
    match until.filter(|until| *until <= begins) {
        Some(until) => Err(format!(
            "{whose} ends in {} s, before the grant begins: ask for it to begin sooner",
            until.since(clock::boot()).as_secs()
        )),
        None => Ok(()),
    }
}

fn budget(asked: &Request) -> Budget {
    let Request {
        uses, rows, bytes, ..
    } = *asked;
    Budget { uses, rows, bytes }
}

/// Whether what is done to a target or a database as a whole is asked for as that: a grant for a part of it
/// would cover nothing.
fn placed(asked: &Request) -> Result<(), String> {
    if asked.actions.contains(&Action::Connect)
        && (asked.database.is_some() || asked.resource != Resource::Target)
    {
        return Err(
            "Connect is to a target as a whole: ask for it without a database or a part of one"
                .to_owned(),
        );
    }
    let is_whole = matches!(asked.resource, Resource::Target | Resource::Database);
    if asked.actions.contains(&Action::Open) && !is_whole {
        return Err(
            "Open is for a database, or a target without any, as a whole: ask for it without a part of one"
                .to_owned(),
        );
    }
    Ok(())
}

/// The permits that leave what is asked to a grant, and whose word it takes first.
fn judged(
    services: &Services,
    principal: &Principal,
    asked: &Request,
    (time, tree): (Duration, bool),
) -> Result<(Vec<RuleId>, Vec<Needs>), Refusal> {
    let facts = PrincipalFacts::new(principal);
    let facts =
        Arc::new(facts.map_err(|_error| Refusal::internal("the caller cannot be described"))?);
    let policy = services.policy.current();
    let database = asked.database.as_deref().unwrap_or_default();
    let budget = budget(asked);
    let (mut rules, mut all) = (Vec::new(), Vec::new());
    let mut must = false;
    for action in &asked.actions {
        let access = Access {
            action: *action,
            resource: asked.resource.clone(),
        };
        match policy.grantable(&facts, &asked.target, database, &access)? {
            Grantable::Permitted => {}
            Grantable::For {
                offers,
                rules: more,
            } => {
                let much = (time, &budget);
                let Some(needs) = needed(&offers, much, tree) else {
                    if needed(&offers, much, true).is_some() {
                        return Err(Refusal::granted_to_trees());
                    }
                    let offers = offers.iter().flat_map(|offers| offers.iter());
                    let terms: Vec<_> = offers.map(|offer| offer.terms).collect();
                    return Err(Refusal::granted_for_less(&terms));
                };
                must = true;
                rules.extend(more.iter().cloned());
                for needs in needs {
                    if !all.contains(&needs) {
                        all.push(needs);
                    }
                }
            }
        }
    }
    rules.sort();
    rules.dedup();
    match must {
        true => Ok((rules, all)),
        false => Err(Refusal::permitted_already()),
    }
}

fn made(
    asked: Request,
    holder: Holder,
    time: Duration,
    (own, behalf): (Option<&Arc<Identity>>, Option<&Behalf>),
) -> Grant {
    // What cannot be read was refused before.
    let after = begins_in(&asked).unwrap_or_default();
    let (from, issued) = (clock::boot().after(after), clock::wall());
    // It lasts no longer than the token that says in whose name it is asked for.
    let time = behalf.map_or(time, |behalf| behalf.until.since(from).min(time));
    let later = |from: Timestamp, by: Duration| from.saturating_add(by).unwrap_or(from);
    let begins = later(issued, after);
    let on_behalf_of = behalf
        .map(|behalf| &behalf.identity)
        .or(own)
        .map(Arc::clone);
    Grant {
        // It tells nobody how many others there are.
        id: GrantId(Uuid::new_v4()),
        budget: budget(&asked),
        holder,
        target: asked.target,
        database: asked.database,
        actions: asked.actions,
        resource: asked.resource,
        issued,
        begins: (!after.is_zero()).then_some(begins),
        expires: later(begins, time),
        from,
        until: from.after(time),
        reason: asked.reason,
        ticket: asked.ticket,
        word: Needs::new(),
        on_behalf_of,
    }
}

/// Kept first, then written, then in force. What is written as issued is in force after it, or written as
/// one that never came to be.
async fn issue(
    services: &Arc<Services>,
    principal: &Principal,
    (rules, holder, time, reserved): (Vec<RuleId>, Holder, Duration, Reserved<'_>),
    (asked, behalf, word): (Request, Option<&Behalf>, Needs),
) -> Result<Standing, Answer> {
    let own = principal.identity.as_ref();
    let made = Grant {
        word,
        ..made(asked.clone(), holder, time, (own, behalf))
    };
    let coming = services.grants.prepare(reserved, made).await;
    let coming =
        coming.map_err(|error| refused(services, principal, &asked, &Refusal::from(error)))?;
    let event = Event::GrantIssued {
        principal,
        grant: coming.grant(),
        rules: &rules,
    };
    let written = services.audit.append_durable(&event).await;
    written.map_err(|error| Answer::failed(&error))?;
    let grant = coming.grant().clone();
    let issued = services.grants.issue(coming).await.map_err(|error| {
        ending::unissued(services, grant);
        Answer::failed(&error)
    })?;
    if let Some(root) = &issued.grant.holder.root {
        ending::hang(services, issued.grant.id, root);
    }
    // Who was behind the scope may have gone while it was issued: whoever ended that did not see it.
    let scope = issued.grant.holder.scope;
    let is_gone = |own: &&Arc<Identity>| !services.tokens.bindings.holds(scope, own);
    if behalf.is_none() && own.filter(is_gone).is_some() {
        ending::end(services, &[(issued.grant.id, Ended::Identity)]).await;
    }
    Ok(issued)
}

#[cfg(test)]
mod tests;
