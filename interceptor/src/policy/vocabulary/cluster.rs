//! How namespaces and objects of a cluster are named: `prod/payments`, `prod/payments/pods`,
//! `prod/payments/deployments.apps/web`. What lies in no namespace, and a kind in all namespaces, has an empty one:
//! `prod/""/nodes/n1`. Dots delimit nothing there.

use super::{Kind, part, read_name, read_part, step};

/// The id of a namespace.
pub(super) fn namespace(target: &str, name: &str) -> String {
    format!("{}/{}", part(target), step(name))
}

/// The ids of an object and of what it lies in below the target, outermost first: its namespace, all of its kind, it.
pub(super) fn object(
    target: &str,
    within: &str,
    resource: &str,
    name: &str,
) -> Vec<(Kind, String)> {
    let outer = namespace(target, within);
    let kind = format!("{outer}/{}", step(resource));
    let one = (!name.is_empty()).then(|| (Kind::KubeObject, format!("{kind}/{}", step(name))));
    let outer = (!within.is_empty()).then_some((Kind::KubeNamespace, outer));
    let ids = outer.into_iter().chain([(Kind::KubeObject, kind)]);
    ids.chain(one).collect()
}

/// Reads an id back: target, namespace, kind and name, as many as it has.
pub(super) fn names(kind: Kind, id: &str) -> Option<Vec<String>> {
    let (target, mut rest) = read_part(id)?;
    let mut names = vec![target];
    while !rest.is_empty() {
        let (name, after) = read_name(rest.strip_prefix('/')?)?;
        names.push(name);
        rest = after;
    }
    let again = match (kind, names.as_slice()) {
        (Kind::KubeNamespace, [target, name]) if !name.is_empty() => namespace(target, name),
        (Kind::KubeObject, [target, within, resource]) if !resource.is_empty() => {
            object(target, within, resource, "").pop()?.1
        }
        (Kind::KubeObject, [target, within, resource, name])
            if !resource.is_empty() && !name.is_empty() =>
        {
            object(target, within, resource, name).pop()?.1
        }
        _ => return None,
    };
    (again == id).then_some(names)
}

/// An object as people name it: `pods/web-0 in payments`.
pub(in crate::policy) fn shown(namespace: &str, resource: &str, name: &str) -> String {
    let what = match name {
        "" => resource.to_owned(),
        name => format!("{resource}/{name}"),
    };
    match namespace {
        "" => what,
        namespace => format!("{what} in {namespace}"),
    }
}
