//! XML of strangers, read strictly and once: elements by name and namespace, and text that is all there is.

use uppsala::{Document, NodeId, NodeKind, Parser};

use crate::tokens::{Error, shown};

/// The namespace of assertions.
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// The namespace of what carries them.
pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// The namespace of what an identity provider says of itself.
pub(super) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// The namespace of signatures.
pub(super) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// How deep elements may lie in each other.
const MAX_DEPTH: u32 = 64;

/// Reads a document, whose size is bounded by whoever calls. One with a document type, which could give
/// names a meaning of its own, is refused, and so are comments and instructions: they are not part of what is
/// signed, and split the text that they stand in.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<Document<'_>, Error> {
    let parser = Parser::new()
        .with_forbid_dtd(true)
        .with_forbid_entities(true)
        .with_max_entity_expansion(0)
        .with_max_depth(MAX_DEPTH);
    let document = parser.parse(text).map_err(|error| {
        Error::Malformed(format!("it is no XML: {}", shown(&error.to_string())))
    })?;
    for id in document.descendants(document.root()) {
        let what = match document.node_kind(id) {
            Some(NodeKind::Comment(_)) => "a comment",
            Some(NodeKind::ProcessingInstruction(_)) => "a processing instruction",
            _ => continue,
        };
        return Err(Error::Malformed(format!("it has {what}")));
    }
    Ok(document)
}

/// One element of a document.
#[derive(Clone, Copy)]
pub(super) struct Element<'d> {
    /// The document that it is of.
    pub(super) document: &'d Document<'d>,
    /// Which node.
    pub(super) id: NodeId,
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.id == other.id
    }
}

impl Eq for Element<'_> {}

impl std::hash::Hash for Element<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<'d> Element<'d> {
    /// The outermost element.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn root(document: &'d Document<'d>) -> Result<Self, Error> {
        let id = document.document_element();
        let id = id.ok_or_else(|| Error::Malformed("it is empty".to_owned()))?;
        Ok(Self { document, id })
    }

    /// This and all that is below it, in their order.
    pub(super) fn all(self) -> Vec<Self> {
        let below = self.document.descendants(self.id);
        std::iter::once(self.id)
            .chain(below)
            .filter_map(|id| self.other(id))
            .collect()
    }

    /// What it is directly in, where that is an element.
    pub(super) fn parent(self) -> Option<Self> {
        self.other(self.document.parent(self.id)?)
    }

    /// Its name without the namespace.
    pub(super) fn name(self) -> &'d str {
        let element = self.document.element(self.id);
        element.map_or("", |element| &element.name.local_name)
    }

    /// Whether it is called so, in that namespace.
    pub(super) fn is(self, namespace: &str, name: &str) -> bool {
        let element = self.document.element(self.id);
        element.is_some_and(|element| element.name.matches(Some(namespace), name))
    }

    /// An attribute without a namespace.
    pub(super) fn attribute(self, name: &str) -> Option<&'d str> {
        let element = self.document.element(self.id)?;
        let mut attributes = element.attributes.iter();
        let found = attributes.find(|one| one.name.matches(None, name))?;
        Some(&found.value)
    }

    /// What it may be found by: each attribute that somebody may take for a name.
    pub(super) fn names(self) -> Vec<&'d str> {
        let element = self.document.element(self.id);
        let attributes = element.map_or(&[][..], |element| &element.attributes);
        let named = attributes.iter().filter(|one| {
            let name = &one.name.local_name;
            name.eq_ignore_ascii_case("id") || name == "AssertionID"
        });
        named.map(|one| &*one.value).collect()
    }

    /// The elements directly in it.
    pub(super) fn children(self) -> impl Iterator<Item = Self> {
        let children = self.document.children_iter(self.id);
        children.filter_map(move |id| self.other(id))
    }

    /// The elements of that name directly in it.
    pub(super) fn each(self, namespace: &str, name: &str) -> impl Iterator<Item = Self> {
        self.children().filter(move |one| one.is(namespace, name))
    }

    /// The one element of that name directly in it, if there is any.
    ///
    /// # Errors
    /// Where there is more than one.
    pub(super) fn maybe(self, namespace: &str, name: &str) -> Result<Option<Self>, Error> {
        let mut found = self.each(namespace, name);
        match (found.next(), found.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(Error::Malformed(format!("it has more than one {name}"))),
        }
    }

    /// The one element of that name directly in it.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub(super) fn one(self, namespace: &str, name: &str) -> Result<Self, Error> {
        let found = self.maybe(namespace, name)?;
        found.ok_or_else(|| Error::Malformed(format!("it has no {name} where one belongs")))
    }

    /// All its text, without the space around it.
    ///
    /// # Errors
    /// Where there is something else than text in it.
    pub(super) fn text(self) -> Result<String, Error> {
        let mut text = String::new();
        for id in self.document.children_iter(self.id) {
            let part = self.document.text_content(id);
            text.push_str(part.ok_or_else(|| {
                let name = self.name();
                Error::Malformed(format!("there is something else than text in its {name}"))
            })?);
        }
        Ok(text.trim().to_owned())
    }

    fn other(self, id: NodeId) -> Option<Self> {
        let document = self.document;
        document.element(id).map(|_it_is_one| Self { document, id })
    }
}
