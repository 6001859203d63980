//! The JSON Schema of the file (draft 2020-12), made from the same table that the check reads.

use serde_json::{Map, Value, json};

use super::{FILE, Form, Key, Shape};
use crate::config::check::UNLIMITED;

/// The schema as a document.
pub(in crate::config) fn document() -> Value {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "interceptor configuration",
    });
    if let (Value::Object(document), Value::Object(file)) = (&mut document, schema(&FILE)) {
        document.extend(file);
    }
    document
}

fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Limit(least, most) => json!({ "oneOf": [
            { "type": "integer", "minimum": least, "maximum": most },
            { "const": UNLIMITED },
        ] }),
        Shape::Duration(..) => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        Shape::Size(..) => json!({ "type": "string", "pattern": SIZE }),
        Shape::SizeLimit(..) => json!({ "oneOf": [
            { "type": "string", "pattern": SIZE },
            { "const": UNLIMITED },
        ] }),
        Shape::Text(form) => text(*form),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::List(least, element) => {
            json!({ "type": "array", "minItems": least, "items": schema(element) })
        }
        Shape::Names(value) => json!({
            "type": "object",
            "propertyNames": text(Form::Name),
            "additionalProperties": schema(value),
        }),
        Shape::Columns(value) | Shape::Fields(value) => json!({
            "type": "object",
            "additionalProperties": schema(value),
        }),
        Shape::TextOr(form, keys) => json!({ "oneOf": [
            text(*form),
            { "type": "null" },
            object(keys),
        ] }),
        Shape::Keys(keys) => object(keys),
        Shape::OneKey(keys) => {
            let mut one = object(keys);
            if let Value::Object(fields) = &mut one {
                fields.remove("required");
                fields.insert("minProperties".into(), 1.into());
                fields.insert("maxProperties".into(), 1.into());
            }
            one
        }
        Shape::KeyOr(alone, keys) => {
            let mut one = object(std::slice::from_ref(alone));
            if let Value::Object(fields) = &mut one {
                fields.insert("required".into(), json!([alone.name]));
            }
            json!({ "oneOf": [one, object(keys)] })
        }
    }
}

const MASK: &str = "^(null|constant|hash|last4|email|year|hide|partial\\([0-9]{1,3}\\))$";
const SIZE: &str = "^[0-9]+ *(B|[KMGT]iB|[kMGT]B)$";

fn text(form: Form) -> Value {
    let pattern = match form {
        Form::Name => "^[a-z0-9-]{1,63}$",
        Form::Path | Form::Holds(_) => "^[^\\u0000]+$",
        Form::Cgroup => "^[^/]+(/[^/]+)*$",
        Form::Domain => "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*\\.?$",
        Form::RecordType => "^[A-Za-z0-9-]+$",
        Form::Address | Form::Socket => "^.+:[0-9]{1,5}$",
        Form::Server | Form::Addresses => "^(unix:/.+|.+:[0-9]{1,5})$",
        Form::Network => "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
        Form::ServerName | Form::Identifier | Form::Argument | Form::Column | Form::Function => "",
        Form::Field => "^[^.]+([.][^.]+)*$",
        Form::Header => "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        Form::RequestPath => "^/[^?#]*$",
        Form::Mask => MASK,
        Form::MaskOrTag => "^([a-z0-9-]{1,63}|partial\\([0-9]{1,3}\\))$",
        Form::Url => "^https?://[^?#@]+$",
        Form::Claim => "^.+$",
        Form::HostKey => "^(learn|(@cert-authority )?(ssh|ecdsa|sk)-.+)$",
        Form::Door => "^[/@]",
        Form::WholePath => "^/",
        Form::Label => "^[^=].*$",
        Form::EnvPattern => "^[A-Za-z0-9_]*\\*?$",
        Form::Recipient => "^age1[0-9a-z]+$",
        Form::Variable => "^[A-Za-z_][A-Za-z0-9_]*$",
        Form::Credential => "^[^/]+$",
    };
    match pattern {
        "" => json!({ "type": "string" }),
        pattern => json!({ "type": "string", "pattern": pattern }),
    }
}

fn object(keys: &[Key]) -> Value {
    let property = |key: &Key| {
        let mut property = schema(&key.shape);
        if let Value::Object(fields) = &mut property {
            let about = match key.default {
                Some(default) => format!("{} Default: {default}.", key.about),
                None => key.about.to_owned(),
            };
            fields.insert("description".into(), about.into());
        }
        (key.name.to_owned(), property)
    };
    let required: Vec<_> = keys
        .iter()
        .filter(|key| key.default.is_none())
        .map(|key| key.name)
        .collect();
    json!({
        "type": "object",
        "properties": keys.iter().map(property).collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
    })
}
