//! What masking makes of a statement: which columns are masked by what, which a rule reveals, and the text
//! that goes upstream. By the code of a session, over the catalog of the target's own server.

use std::io::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::{block_on, terminal, told, upstream};
use crate::config::{Postgres, Target};
use crate::masking::{Masked, Masks};
use crate::policy::{Ask, ExplainedAccess, NoGrants, Policy, PrincipalFacts, Refusal, Verdicts};
use crate::protocol::postgres;
use crate::protocol::postgres::facts::{self, Facts, Names};
use crate::protocol::postgres::inject::Upstream;
use crate::protocol::postgres::mask::{Masking, Schema};
use crate::session::masks;

/// What is known of masking a statement.
#[derive(Debug, Serialize)]
#[serde(tag = "known", rename_all = "snake_case")]
pub(super) enum Answer {
    /// No configuration is named, so that nothing is known to be sensitive.
    NotAsked,
    /// Nothing of the database is sensitive.
    Nothing,
    /// The catalog cannot be read.
    Unread {
        /// Why.
        why: String,
    },
    /// All of it.
    Whole(Box<Whole>),
}

/// What masking makes of a statement.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    /// Columns that the statement touches and that are masked.
    masked: Vec<Masked>,
    /// Columns that it touches and that are masked for others, with what lets this principal see them.
    revealed: Vec<Revealed>,
    /// What goes upstream in the statement's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewritten: Option<String>,
    /// What the statement asks for, in the words of the catalog that was read.
    #[serde(skip)]
    pub(super) asks: Vec<Ask>,
    /// Why it does not go upstream, whatever the rules say.
    #[serde(skip)]
    pub(super) refusal: Option<Refusal>,
}

/// A column that is shown.
#[derive(Debug, Serialize)]
struct Revealed {
    #[serde(flatten)]
    column: Masked,
    /// The decision on it; none where it is shown because all that it is made of is.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<ExplainedAccess>,
}

/// Who asks what, and where.
pub(super) struct Question<'a> {
    pub(super) policy: &'a Policy,
    pub(super) principal: &'a Arc<PrincipalFacts>,
    pub(super) target: Option<&'a Target>,
    pub(super) database: &'a str,
    pub(super) statement: &'a str,
}

/// What is known of masking the statement.
pub(super) fn answer(question: &Question<'_>) -> Answer {
    let Some(target) = question.target else {
        return Answer::NotAsked;
    };
    let sensitive = Masks::of_database(&target.sensitive, question.database);
    if sensitive.is_empty() {
        return Answer::Nothing;
    }
    match block_on(whole(question, target, sensitive), false) {
        Ok(whole) => Answer::Whole(Box::new(whole)),
        Err(error) => Answer::Unread { why: told(&error) },
    }
}

async fn whole(
    question: &Question<'_>,
    target: &Target,
    sensitive: Masks,
) -> anyhow::Result<Whole> {
    upstream::databases(target, Some(question.database))?;
    let upstream = upstream::log_in(target, question.database, true).await?;
    let schema = upstream.known.as_ref().and_then(|known| known.current());
    let schema =
        schema.ok_or_else(|| anyhow::anyhow!("something in it is being changed; try again"))?;
    let verdicts = Verdicts::new(question.principal, &target.name, question.database);
    let verdicts = verdicts.map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    let (mut masks, _) = masks::of(
        question.policy,
        &verdicts,
        (&target.sensitive, question.database),
        &NoGrants,
    );
    if let Some(postgres) = target.postgres() {
        masks.functions.clone_from(&postgres.functions);
    }
    let reader = Reader {
        settings: upstream::postgres(target)?,
        upstream: &upstream,
        schema: &schema,
    };
    let read = reader.read(question.statement, masks);
    // The same where nothing is revealed: what else the statement touches.
    let all = reader.read(question.statement, sensitive.clone());
    let masked = read.reading.masked.to_vec();
    let shown = all.reading.masked.iter().filter(|column| {
        let mut masked = masked.iter();
        !masked.any(|other| other.relation == column.relation && other.column == column.column)
    });
    let revealed = shown.map(|column| Revealed {
        access: access(question, target, &sensitive, column),
        column: column.clone(),
    });
    Ok(Whole {
        revealed: revealed.collect(),
        rewritten: read
            .rewrite
            .as_ref()
            .map(|rewrite| rewrite.text.to_string()),
        asks: read.reading.asks.clone(),
        refusal: read.reading.veto.as_deref().cloned(),
        masked,
    })
}

fn access(
    question: &Question<'_>,
    target: &Target,
    sensitive: &Masks,
    column: &Masked,
) -> Option<ExplainedAccess> {
    sensitive.of(&column.relation, &column.column)?;
    let resource = masks::resource(&column.relation, &column.column);
    let decided = question.policy.explain_reveal(
        question.principal,
        &target.name,
        question.database,
        &[resource],
    );
    decided.into_iter().next()
}

/// Reads statements as a new session does.
struct Reader<'a> {
    settings: &'a Postgres,
    upstream: &'a Upstream,
    schema: &'a Arc<Schema>,
}

impl Reader<'_> {
    fn read(&self, statement: &str, masks: Masks) -> Facts {
        let names = postgres::names(false, self.settings, self.upstream);
        let masking = (!masks.is_empty()).then(|| {
            let schema = Some(Arc::clone(self.schema));
            let catalog = Arc::clone(&names.catalog);
            Arc::new(Masking::new(schema, Arc::new(masks), catalog))
        });
        let names = Names {
            login_path: names.search_path.clone(),
            masking,
            ..names
        };
        facts::read(statement, &names)
    }
}

impl Answer {
    /// Whether it cannot be said what a session would do.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unread { .. })
    }

    /// Says it in lines.
    pub(super) fn tell(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::NotAsked => writeln!(
                out,
                "masks are not looked at: --config names what is sensitive"
            )?,
            Self::Nothing => {}
            Self::Unread { why } => writeln!(
                out,
                "the catalog could not be read, so that it is not known what is masked: {}",
                terminal::line(why)
            )?,
            Self::Whole(whole) => whole.tell(out)?,
        }
        Ok(())
    }
}

impl Whole {
    fn tell(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        for column in &self.masked {
            writeln!(out, "  mask    {} by {}", name(column), column.by)?;
        }
        for Revealed { column, access } in &self.revealed {
            writeln!(
                out,
                "  reveal  {}, which is masked for others by {}",
                name(column),
                column.by
            )?;
            let rules = access.iter().flat_map(|access| &access.rules);
            for rule in rules {
                let file = rule.file.display();
                writeln!(out, "          permit {}  {file}:{}", rule.id.0, rule.line)?;
            }
        }
        if let Some(rewritten) = &self.rewritten {
            writeln!(out, "goes upstream as")?;
            for line in rewritten.lines() {
                writeln!(out, "  {}", terminal::block(line))?;
            }
        }
        Ok(())
    }
}

fn name(column: &Masked) -> String {
    let Masked {
        relation, column, ..
    } = column;
    let name = format!("{}.{}.{column}", relation.schema, relation.name);
    terminal::line(&name).into_owned()
}
