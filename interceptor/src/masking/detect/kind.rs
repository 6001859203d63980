//! The kinds of values that are known, and sets of them.

macro_rules! kinds {
    ($($(#[$about:meta])* $kind:ident = $word:literal,)*) => {
        /// A kind of value. Where two fit one place, the one that stands here first is meant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$about])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its word in configuration, audit and metrics.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// A private key in PEM, or a PGP private key block.
    PrivateKey = "private_key",
    /// A JSON Web Token.
    Jwt = "jwt",
    /// An AWS access key id, or the secret beside one.
    AwsKey = "aws_key",
    /// A Google API key.
    GcpKey = "gcp_key",
    /// The account key of an Azure connection string.
    AzureKey = "azure_key",
    /// A GitHub token.
    GithubToken = "github_token",
    /// A GitLab token.
    GitlabToken = "gitlab_token",
    /// A Slack token or webhook.
    SlackToken = "slack_token",
    /// A Stripe secret, restricted or webhook key.
    StripeKey = "stripe_key",
    /// A key of OpenAI, Anthropic, Hugging Face or Groq.
    AiKey = "ai_key",
    /// An npm token.
    NpmToken = "npm_token",
    /// A PyPI token.
    PypiToken = "pypi_token",
    /// A Twilio account or API key.
    TwilioKey = "twilio_key",
    /// A SendGrid key.
    SendgridKey = "sendgrid_key",
    /// A payment card's number.
    Card = "card",
    /// An international bank account number.
    Iban = "iban",
    /// Italian tax code.
    ItCf = "it_cf",
    /// Brazilian company number.
    BrCnpj = "br_cnpj",
    /// French social security number.
    FrNir = "fr_nir",
    /// Chinese resident identity number.
    CnRin = "cn_rin",
    /// Swiss social security number.
    ChAhv = "ch_ahv",
    /// German tax number of a person.
    DeIdnr = "de_idnr",
    /// Polish personal number.
    PlPesel = "pl_pesel",
    /// Brazilian personal number.
    BrCpf = "br_cpf",
    /// Belgian national number.
    BeNrn = "be_nrn",
    /// Turkish identity number.
    TrTckn = "tr_tckn",
    /// Indian Aadhaar number.
    InAadhaar = "in_aadhaar",
    /// Number of a German identity card.
    DeIdCard = "de_id_card",
    /// United States social security number.
    UsSsn = "us_ssn",
    /// United Kingdom national insurance number.
    UkNino = "uk_nino",
    /// Spanish identity number, of citizens and foreigners.
    EsDni = "es_dni",
    /// Swedish personal number.
    SePnr = "se_pnr",
    /// Canadian social insurance number.
    CaSin = "ca_sin",
    /// An e-mail address.
    Email = "email",
    /// A phone number.
    Phone = "phone",
    /// An IPv4 or IPv6 address.
    Ip = "ip",
    /// A long text that looks random.
    Secret = "secret",
}

impl Kind {
    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }

    /// Its place among all.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Some kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    /// Those and this one.
    pub(super) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind.index())
    }

    /// Whether one is in it.
    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 >> kind.index() & 1 == 1
    }

    /// Whether none is in it.
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of these is in it.
    pub(super) fn has_any(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }
}
