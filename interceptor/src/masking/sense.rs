//! What a column seems to hold, by its name and by what detectors find in it, and which masks suit that.
//!
//! Names are read in the languages that schemas are written in; a word of a few letters counts only as a
//! word of its own. A guess: whoever configures masks decides.

use serde::Serialize;

use super::detect::Kind;
use super::{Joinable, Mask};

/// What a column seems to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// What opens something: passwords, tokens, keys.
    Secret,
    /// Numbers of payment cards, and what belongs to them.
    Card,
    /// Bank accounts.
    Account,
    /// Numbers that a state gives to a person or a company.
    NationalId,
    /// E-mail addresses.
    Email,
    /// Phone numbers.
    Phone,
    /// When somebody was born.
    Birth,
    /// Names of persons.
    Person,
    /// Where somebody lives.
    Address,
    /// Network addresses.
    Ip,
    /// What somebody earns or owns.
    Income,
    /// Illness and treatment.
    Health,
}

/// Words that mean it, each a part of a column's name between underscores or capitals, or several of them
/// in a row.
const WORDS: [(Sense, &str); 12] = [
    (
        Sense::Secret,
        "password passwd pwd passwort kennwort contrasena contraseña senha mdp motdepasse parola haslo hasło \
         wachtwoord losenord lösenord sifre şifre secret secrets geheimnis segredo token jeton apikey \
         accesskey secretkey privatekey signingkey encryptionkey pin otp totp passphrase credential credentials salt",
    ),
    (
        Sense::Card,
        "creditcard cardnumber cardno ccnumber ccnum pan cvv cvc cvv2 kreditkarte kartennummer tarjeta \
         cartebancaire numerocarte cartao cartacredito kartakredytowa creditcardnumber card",
    ),
    (
        Sense::Account,
        "iban bankaccount accountnumber accountno routingnumber sortcode kontonummer kontonr bankverbindung \
         cuentabancaria numerocuenta contabancaria comptebancaire rib rekeningnummer numerkonta clabe bban",
    ),
    (
        Sense::NationalId,
        "ssn socialsecurity socialsecuritynumber sozialversicherungsnummer svnr steuerid steuernummer steuer \
         taxid tin nino nationalid nationalinsurance nationalinsurancenumber passport passportnumber reisepass \
         ausweisnummer personalausweis dni nie nif cif curp rfc cpf cnpj rg nir insee numerosecu codicefiscale \
         partitaiva pesel nip bsn personnummer personalnumber aadhaar aadhar pannumber tckn tckimlikno idcard \
         driverslicense driverlicense drivinglicence fuhrerschein führerschein pasaporte passaporto passaporte passeport",
    ),
    (
        Sense::Email,
        "email emails mail emailaddress mailaddress correo correoelectronico courriel eposta epost",
    ),
    (
        Sense::Phone,
        "phone phones phonenumber telephone telefon telefonnummer tel mobile mobilenumber handy handynummer \
         telefono teléfono movil móvil celular telemovel telephonenumber portable fax msisdn telefoon gsm cellphone",
    ),
    (
        Sense::Birth,
        "birth birthday birthdate birthyear dateofbirth dob born geburtsdatum geburtstag geboren geburtsjahr \
         nacimiento fechanacimiento fechadenacimiento nascimento datanascimento naissance datenaissance \
         datedenaissance nascita datadinascita dataurodzenia geboortedatum fodelsedatum födelsedatum dogumtarihi",
    ),
    (
        Sense::Person,
        "firstname lastname surname givenname familyname fullname middlename maidenname vorname nachname \
         familienname geburtsname apellido apellidos prenom prénom nomdefamille cognome sobrenome imie nazwisko \
         achternaam voornaam fornamn efternamn",
    ),
    (
        Sense::Address,
        "street streetaddress homeaddress postaladdress strasse straße anschrift wohnort hausnummer direccion \
         dirección domicilio adresse endereco endereço indirizzo rue calle postcode zipcode postleitzahl plz \
         codigopostal codepostal addressline addressline1 addressline2",
    ),
    (
        Sense::Ip,
        "ip ipaddress ipaddr clientip remoteip remoteaddr lastip",
    ),
    (
        Sense::Income,
        "salary salaries wage gehalt lohn einkommen income salario sueldo salaire salário stipendio pensja loon",
    ),
    (
        Sense::Health,
        "diagnosis diagnose diagnostico diagnóstico bloodtype blutgruppe medication icd10 disability disease krankheit",
    ),
];

/// Last words that say that it is something about it: an identifier, a time, a count.
const ABOUT: [&str; 43] = [
    "id",
    "ids",
    "at",
    "on",
    "count",
    "counter",
    "type",
    "kind",
    "status",
    "state",
    "verified",
    "confirmed",
    "enabled",
    "active",
    "sent",
    "expires",
    "expiry",
    "expiration",
    "length",
    "size",
    "format",
    "provider",
    "template",
    "subject",
    "policy",
    "version",
    "created",
    "updated",
    "flag",
    "required",
    "valid",
    "used",
    "attempts",
    "ttl",
    "index",
    "limit",
    "brand",
    "scheme",
    "usage",
    "tokens",
    "pages",
    "hint",
    "country",
];

/// First words that make it a question.
const ASKS: [&str; 5] = ["is", "has", "can", "should", "needs"];

impl Sense {
    /// What a column of this name seems to hold.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let words = words(name);
        let (first, last) = (words.first()?, words.last()?);
        let says_about = words.len() > 1 && ABOUT.contains(&last.as_str());
        if says_about || words.len() > 1 && ASKS.contains(&first.as_str()) {
            return None;
        }
        // The longest run of words that means something: `phone` does in `mobile_phone`.
        let runs = (1..=words.len())
            .rev()
            .flat_map(|length| words.windows(length));
        runs.map(<[String]>::concat)
            .find_map(|run| Self::of_word(&run))
    }

    fn of_word(run: &str) -> Option<Self> {
        let mut rows = WORDS.iter();
        let row = rows.find(|(_, words)| words.split_whitespace().any(|word| word == run));
        row.map(|(sense, _)| *sense)
    }

    /// What values of a kind are.
    #[must_use]
    pub const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::PrivateKey
            | Kind::Jwt
            | Kind::AwsKey
            | Kind::GcpKey
            | Kind::AzureKey
            | Kind::GithubToken
            | Kind::GitlabToken
            | Kind::SlackToken
            | Kind::StripeKey
            | Kind::AiKey
            | Kind::NpmToken
            | Kind::PypiToken
            | Kind::TwilioKey
            | Kind::SendgridKey
            | Kind::Secret => Self::Secret,
            Kind::Card => Self::Card,
            Kind::Iban => Self::Account,
            Kind::ItCf
            | Kind::BrCnpj
            | Kind::FrNir
            | Kind::CnRin
            | Kind::ChAhv
            | Kind::DeIdnr
            | Kind::PlPesel
            | Kind::BrCpf
            | Kind::BeNrn
            | Kind::TrTckn
            | Kind::InAadhaar
            | Kind::DeIdCard
            | Kind::UsSsn
            | Kind::UkNino
            | Kind::EsDni
            | Kind::SePnr
            | Kind::CaSin => Self::NationalId,
            Kind::Email => Self::Email,
            Kind::Phone => Self::Phone,
            Kind::Ip => Self::Ip,
        }
    }

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Card => "card",
            Self::Account => "account",
            Self::NationalId => "national id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Birth => "birth",
            Self::Person => "person",
            Self::Address => "address",
            Self::Ip => "ip",
            Self::Income => "income",
            Self::Health => "health",
        }
    }

    /// The tag that many configurations would give it.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            _ => "pii",
        }
    }

    /// Whether detectors find nearly all of it: a name that says so, and values that do not, are of
    /// something else.
    #[must_use]
    pub const fn is_told_by_values(self) -> bool {
        matches!(self, Self::Card | Self::Account | Self::Email)
    }

    /// Masks that suit it, the best first; one of another type than a mask can stand for takes the next. The
    /// last one suits every type.
    #[must_use]
    pub fn masks(self) -> &'static [Mask] {
        match self {
            Self::Secret => &[Mask::Hide],
            Self::Card | Self::Account | Self::Phone => &[Mask::Last4, Mask::Null],
            Self::NationalId => &[Mask::Last4, Mask::Hash(Joinable::Session), Mask::Null],
            Self::Email => &[Mask::Email, Mask::Null],
            Self::Birth => &[Mask::Year, Mask::Null],
            Self::Person => &[Mask::Partial(1), Mask::Null],
            Self::Ip => &[Mask::Hash(Joinable::Session), Mask::Null],
            Self::Address | Self::Income | Self::Health => &[Mask::Null],
        }
    }
}

impl Kind {
    /// Whether its form alone tells it for sure: others are found by chance, too, in what only looks alike.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        matches!(
            Sense::of_kind(self),
            Sense::Secret | Sense::Card | Sense::Account | Sense::Email
        ) && !matches!(self, Self::Secret)
    }
}

/// The words of a name, in lower case: between what is no letter and no digit, and where capitals begin.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for letter in name.chars() {
        let begins = before.is_lowercase() && letter.is_uppercase();
        if !letter.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests;
