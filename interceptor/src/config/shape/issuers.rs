//! `issuers`: whose tokens are taken, and what is read of them.

use super::{Form, HOUR, Held, Key, Shape, may, must};

const ALGORITHMS: Shape = Shape::List(
    1,
    &Shape::Word(&[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ]),
);

/// One issuer: of OpenID Connect, or of SAML.
pub(super) static ISSUER: Shape = Shape::KeyOr(&SAML, OIDC);

const OIDC: &[Key] = &[
    must(
        "issuer",
        Shape::Text(Form::Url),
        "The issuer, exactly as its tokens name it; what it says of itself is looked up below it.",
    ),
    must(
        "audiences",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "Whom tokens must be meant for: at least one of these.",
    ),
    may(
        "algorithms",
        ALGORITHMS,
        "[RS256, PS256, ES256, EdDSA]",
        "With which algorithms tokens may be signed.",
    ),
    may(
        "client",
        Shape::Text(Form::Identifier),
        "none",
        "The client id for `interceptor login`; without it nobody logs in by this issuer.",
    ),
    may(
        "from_scope",
        Shape::Flag,
        "false",
        "Whether an agent may begin a login for its own scope: whoever confirms its code is behind it then.",
    ),
    may(
        "scopes",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "[openid]",
        "What a login asks for.",
    ),
    may(
        "exchange_for",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "the daemon alone",
        "For which audiences, beside the daemon itself, its tokens may be exchanged.",
    ),
    may(
        "ca",
        Shape::Text(Form::Holds(Held::Certificates)),
        "the host's own roots",
        "Trusted roots for the issuer's own TLS, PEM.",
    ),
    may(
        "allow_http",
        Shape::Flag,
        "false",
        "Whether an issuer on a loopback address may be spoken to without TLS: for tests.",
    ),
    may(
        "claims",
        CLAIMS,
        "see its keys",
        "What is read of a token; a name, or a JSON pointer such as `/realm_access/roles`.",
    ),
    may(
        "max_age",
        Shape::Duration(1_000, 31 * 24 * HOUR),
        "24h",
        "How long after its issue a token is good at most, whatever it says of its end.",
    ),
    may(
        "skew",
        Shape::Duration(0, HOUR / 6),
        "30s",
        "How far the issuer's clock may be off.",
    ),
];

static SAML: Key = may(
    "saml",
    Shape::Keys(&[
        must(
            "entity_id",
            Shape::Text(Form::Identifier),
            "The identity provider, exactly as its assertions name it.",
        ),
        may(
            "certificates",
            Shape::Text(Form::Holds(Held::Trust)),
            "those in `metadata`",
            "The certificates whose keys sign, PEM; read whenever an assertion is brought.",
        ),
        may(
            "metadata",
            Shape::Text(Form::Holds(Held::Trust)),
            "none",
            "The identity provider's metadata, a file, in place of `certificates`.",
        ),
        must(
            "audiences",
            Shape::List(1, &Shape::Text(Form::Identifier)),
            "Whom assertions must be meant for: at least one of these.",
        ),
        must(
            "recipient",
            Shape::Text(Form::Url),
            "Where assertions must be meant to be delivered to, exactly as they name it.",
        ),
        may(
            "algorithms",
            Shape::List(1, &Shape::Word(&SAML_ALGORITHMS)),
            "all of these",
            "With which algorithms assertions may be signed.",
        ),
        may(
            "claims",
            SAML_CLAIMS,
            "see its keys",
            "Which attributes of an assertion say what.",
        ),
        may(
            "max_age",
            Shape::Duration(1_000, 31 * 24 * HOUR),
            "24h",
            "How long after its issue an assertion is good at most, whatever it says of its end.",
        ),
        may(
            "skew",
            Shape::Duration(0, HOUR / 6),
            "30s",
            "How far the identity provider's clock may be off.",
        ),
    ]),
    "none",
    "A SAML 2.0 identity provider, in place of all other keys.",
);

const SAML_ALGORITHMS: [&str; 5] = [
    "rsa-sha256",
    "rsa-sha384",
    "rsa-sha512",
    "ecdsa-sha256",
    "ecdsa-sha384",
];

const SAML_CLAIMS: Shape = Shape::Keys(&[
    may(
        "user",
        Shape::Text(Form::Claim),
        "uid",
        "The attribute with the user's name.",
    ),
    may(
        "groups",
        Shape::Text(Form::Claim),
        "groups",
        "The attribute with the groups, one a value.",
    ),
    may(
        "keep",
        Shape::List(1, &Shape::Text(Form::Claim)),
        "none",
        "More attributes that policy sees, as tags under these names.",
    ),
]);

const CLAIMS: Shape = Shape::Keys(&[
    may(
        "user",
        Shape::Text(Form::Claim),
        "preferred_username",
        "The user's name.",
    ),
    may(
        "groups",
        Shape::Text(Form::Claim),
        "groups",
        "The groups: a list of text, or one.",
    ),
    may(
        "keep",
        Shape::List(1, &Shape::Text(Form::Claim)),
        "none",
        "More claims that policy sees, as tags under these names.",
    ),
]);
