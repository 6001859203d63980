//! Facts of one HTTP request that are not its path: attributes of Cedar's `context`, as the type `HttpRequest`.

use std::collections::BTreeSet;

use cedar_policy::RestrictedExpression;
use serde::{Deserialize, Serialize};

use crate::policy::subject::Error;

/// What conditions of a rule about an HTTP request may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpFacts {
    /// The method as it was sent.
    pub method: String,
    /// The host that it names, lower case, without the port.
    pub host: String,
    /// The path as it is judged: escapes resolved, no slash at its end.
    pub path: String,
    /// Names of the query's parameters, escapes resolved.
    pub query: BTreeSet<String>,
    /// The parameters with their values: `name=value`, escapes resolved.
    pub parameters: BTreeSet<String>,
    /// Names of its headers, lower case.
    pub headers: BTreeSet<String>,
    /// The media type of its body, lower case, without parameters; empty where there is none.
    pub content_type: String,
    /// What the connection is to become: `websocket`; empty for an ordinary request.
    pub upgrade: String,
    /// The operations of a GraphQL request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphql: Option<GraphqlFacts>,
    /// The procedure of a gRPC call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcFacts>,
    /// The call of a Model Context Protocol request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpFacts>,
    /// What is known of a connection that goes by undecrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// The model that a request to a language model names; empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fields of its body that the target says are to be read, with their values: `customer.country=DE`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub fields: BTreeSet<String>,
}

/// What a GraphQL document does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GraphqlFacts {
    /// Kinds of its operations: `query`, `mutation`, `subscription`.
    pub operations: BTreeSet<String>,
    /// Every name of a field anywhere in it, fragments too; what an alias calls it does not count.
    pub fields: BTreeSet<String>,
}

/// What a gRPC call is to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcFacts {
    /// `package.Service`.
    pub service: String,
    /// `Method`.
    pub method: String,
}

/// What a Model Context Protocol message asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct McpFacts {
    /// The method of its JSON-RPC message: `tools/call`; empty for an answer.
    pub method: String,
    /// The tool, prompt or resource that it names; empty where it names none.
    pub name: String,
}

/// What a connection shows that goes by undecrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsFacts {
    /// Of the client's first message (JA4).
    pub fingerprint: String,
    /// Whether the client's program did not trust this host's authority before.
    pub untrusted: bool,
}

impl HttpFacts {
    /// How many things it names.
    pub(in crate::policy) fn size(&self) -> usize {
        let fields = self.graphql.as_ref().map_or(0, |facts| facts.fields.len());
        let sizes = [
            self.query.len(),
            self.parameters.len(),
            self.headers.len(),
            self.fields.len(),
        ];
        sizes.into_iter().fold(fields, usize::saturating_add)
    }

    /// About how many bytes it takes.
    pub(in crate::policy) fn weight(&self) -> usize {
        let graphql = self.graphql.iter();
        let sets = [&self.query, &self.parameters, &self.headers, &self.fields];
        let sets = sets
            .into_iter()
            .chain(graphql.flat_map(|facts| [&facts.operations, &facts.fields]));
        let texts = sets.flatten().map(|text| size_of_val(text) + text.len());
        let names = [
            self.grpc
                .as_ref()
                .map_or(0, |facts| facts.service.len() + facts.method.len()),
            self.mcp
                .as_ref()
                .map_or(0, |facts| facts.method.len() + facts.name.len()),
            self.tls.as_ref().map_or(0, |facts| facts.fingerprint.len()),
            self.method.len() + self.host.len() + self.path.len(),
            self.content_type.len() + self.upgrade.len() + self.model.len(),
        ];
        let parts = texts.chain(names);
        parts.fold(size_of::<Self>(), usize::saturating_add)
    }

    /// As Cedar sees it.
    pub(in crate::policy) fn pairs(
        &self,
    ) -> Result<Vec<(&'static str, RestrictedExpression)>, Error> {
        let mut pairs = vec![
            ("method", text(&self.method)),
            ("host", text(&self.host)),
            ("path", text(&self.path)),
            ("query", set(&self.query)),
            ("parameters", set(&self.parameters)),
            ("headers", set(&self.headers)),
            ("contentType", text(&self.content_type)),
            ("upgrade", text(&self.upgrade)),
            ("model", text(&self.model)),
            ("fields", set(&self.fields)),
        ];
        if let Some(facts) = &self.graphql {
            let fields = [
                ("operations", set(&facts.operations)),
                ("fields", set(&facts.fields)),
            ];
            pairs.push(("graphql", record(fields)?));
        }
        if let Some(facts) = &self.grpc {
            let fields = [
                ("service", text(&facts.service)),
                ("method", text(&facts.method)),
            ];
            pairs.push(("grpc", record(fields)?));
        }
        if let Some(facts) = &self.mcp {
            let fields = [("method", text(&facts.method)), ("name", text(&facts.name))];
            pairs.push(("mcp", record(fields)?));
        }
        if let Some(facts) = &self.tls {
            let untrusted = RestrictedExpression::new_bool(facts.untrusted);
            let fields = [
                ("fingerprint", text(&facts.fingerprint)),
                ("untrusted", untrusted),
            ];
            pairs.push(("tls", record(fields)?));
        }
        Ok(pairs)
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set(values: &BTreeSet<String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
}

fn record(
    fields: [(&'static str, RestrictedExpression); 2],
) -> Result<RestrictedExpression, Error> {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).map_err(|error| Error::of("the request", &error))
}
