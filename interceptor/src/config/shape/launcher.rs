//! What `interceptor run` does to a command before it starts.

use super::{Form, Shape, may};

pub(super) const LAUNCHER: Shape = Shape::Keys(&[
    may(
        "user_namespaces",
        Shape::Flag,
        "false",
        "Whether commands may make user namespaces, as some sandboxes of their own do.",
    ),
    may(
        "mounts",
        Shape::Flag,
        "true",
        "Whether commands get mounts of their own, which hide what is not for them; only root can make them.",
    ),
    may(
        "hide",
        Shape::List(0, &Shape::Text(Form::WholePath)),
        "none",
        "Files, directories and sockets that they do not see either.",
    ),
    may(
        "trust",
        Shape::Flag,
        "true",
        "Whether the bundles of certificates, kubeconfigs and known hosts that commands read hold this host's \
         authority too, on mounts of their own.",
    ),
    may(
        "bundles",
        Shape::List(0, &Shape::Text(Form::WholePath)),
        "none",
        "Bundles of certificates beside those that are known, PEM or key stores of Java; `*` stands for any name.",
    ),
]);
