//! What names say, in several languages, and what they do not say.

use super::*;

#[test]
fn a_name_says_what_it_holds_in_many_languages_and_spellings() {
    for (name, expected) in [
        ("ssn", Some(Sense::NationalId)),
        ("customer_ssn", Some(Sense::NationalId)),
        ("email", Some(Sense::Email)),
        ("emailAddress", Some(Sense::Email)),
        ("E-Mail", Some(Sense::Email)),
        ("correo_electronico", Some(Sense::Email)),
        ("courriel", Some(Sense::Email)),
        ("date_of_birth", Some(Sense::Birth)),
        ("geburtsdatum", Some(Sense::Birth)),
        ("fecha_nacimiento", Some(Sense::Birth)),
        ("dataNascimento", Some(Sense::Birth)),
        ("iban", Some(Sense::Account)),
        ("bank_iban_2", Some(Sense::Account)),
        ("card_number", Some(Sense::Card)),
        ("credit_card", Some(Sense::Card)),
        ("Kreditkarte", Some(Sense::Card)),
        ("api_token", Some(Sense::Secret)),
        ("passwort", Some(Sense::Secret)),
        ("password_hash", Some(Sense::Secret)),
        ("contraseña", Some(Sense::Secret)),
        ("hasło", Some(Sense::Secret)),
        ("apiKey", Some(Sense::Secret)),
        ("mobile_phone", Some(Sense::Phone)),
        ("telefonnummer", Some(Sense::Phone)),
        ("last_ip", Some(Sense::Ip)),
        ("surname", Some(Sense::Person)),
        ("codice_fiscale", Some(Sense::NationalId)),
        ("cpf", Some(Sense::NationalId)),
        ("salary", Some(Sense::Income)),
        ("id", None),
        ("name", None),
        ("email_verified", None),
        ("isEmail", None),
        ("token_id", None),
        ("password_updated_at", None),
        ("card_type", None),
        ("shipping", None),
        ("spinner", None),
        ("company", None),
        ("description", None),
        ("panel", None),
        ("", None),
        ("__", None),
    ] {
        assert_eq!(Sense::of_name(name), expected, "{name}");
    }
}

#[test]
fn every_sense_has_a_mask_for_every_type() {
    for (sense, words) in WORDS {
        assert!(
            matches!(sense.masks().last(), Some(Mask::Null | Mask::Hide)),
            "{sense:?}"
        );
        for word in words.split_whitespace() {
            let meant = WORDS
                .iter()
                .filter(|(_, words)| words.split_whitespace().any(|other| other == word));
            assert_eq!(meant.count(), 1, "{word} means two things");
        }
    }
}
