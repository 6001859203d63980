//! `detect`: a key for each kind of value that detectors know, and what is done about it.

use super::{Key, Shape, may};
use crate::config::document::Node;
use crate::masking::detect::{Action, Actions, Kind};

const ACTION: Shape = Shape::Word(&["off", "report", "mask", "refuse"]);
const DEFAULT: &str = "default";

const fn kind(name: &'static str, about: &'static str) -> Key {
    may(name, ACTION, "as `default`", about)
}

/// What may stand below `detect`.
pub(in crate::config) const KINDS: Shape = Shape::Keys(&[
    may(
        DEFAULT,
        ACTION,
        "off",
        "What is done about kinds that are not named.",
    ),
    kind(
        "private_key",
        "A private key in PEM, or a PGP private key block.",
    ),
    kind("jwt", "A JSON Web Token."),
    kind("aws_key", "An AWS access key id, or the secret beside one."),
    kind("gcp_key", "A Google API key."),
    kind(
        "azure_key",
        "The account key of an Azure connection string.",
    ),
    kind("github_token", "A GitHub token."),
    kind("gitlab_token", "A GitLab token."),
    kind("slack_token", "A Slack token or webhook."),
    kind("stripe_key", "A Stripe secret, restricted or webhook key."),
    kind(
        "ai_key",
        "A key of OpenAI, Anthropic, Hugging Face or Groq.",
    ),
    kind("npm_token", "An npm token."),
    kind("pypi_token", "A PyPI token."),
    kind("twilio_key", "A Twilio account or API key."),
    kind("sendgrid_key", "A SendGrid key."),
    kind("card", "A payment card's number."),
    kind("iban", "An international bank account number."),
    kind("it_cf", "Italian tax code."),
    kind("br_cnpj", "Brazilian company number."),
    kind("fr_nir", "French social security number."),
    kind("cn_rin", "Chinese resident identity number."),
    kind("ch_ahv", "Swiss social security number."),
    kind("de_idnr", "German tax number of a person."),
    kind("pl_pesel", "Polish personal number."),
    kind("br_cpf", "Brazilian personal number."),
    kind("be_nrn", "Belgian national number."),
    kind("tr_tckn", "Turkish identity number."),
    kind("in_aadhaar", "Indian Aadhaar number."),
    kind("de_id_card", "Number of a German identity card."),
    kind("us_ssn", "United States social security number."),
    kind("uk_nino", "United Kingdom national insurance number."),
    kind(
        "es_dni",
        "Spanish identity number, of citizens and foreigners.",
    ),
    kind("se_pnr", "Swedish personal number."),
    kind("ca_sin", "Canadian social insurance number."),
    kind("email", "An e-mail address."),
    kind("phone", "A phone number."),
    kind("ip", "An IPv4 or IPv6 address."),
    kind("secret", "A long text that looks random."),
]);

/// What is done about which kinds; those that are off are left out.
pub(in crate::config) fn actions(node: Option<&Node>) -> Actions {
    let said = |word| node?.under(word)?.text();
    let default = said(DEFAULT);
    let action = |kind: &Kind| Some((*kind, Action::of(said(kind.word()).or(default)?)?));
    Kind::ALL.iter().filter_map(action).collect()
}
