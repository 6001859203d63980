//! Messages of gRPC are masked field by field, however they come, and stay messages.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
    MethodDescriptorProto, ServiceDescriptorProto,
};

use super::*;
use crate::masking::Mask;
use crate::masking::detect::{Action, Kind};
use crate::secrets::Secret;

const CANARY: &str = "ann@example.com";
const CARD: i64 = 4_111_111_111_111_111;

pub(super) fn field(name: &str, number: i32, kind: Type, of: &str) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: (!of.is_empty()).then(|| of.to_owned()),
        ..FieldDescriptorProto::default()
    }
}

fn counted(label: Label, field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto {
        label: Some(label.into()),
        ..field
    }
}

pub(super) fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..DescriptorProto::default()
    }
}

pub(super) fn entry(name: &str, value: FieldDescriptorProto) -> DescriptorProto {
    DescriptorProto {
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..message(name, vec![field("key", 1, Type::String, ""), value])
    }
}

/// What the compiler knows by itself.
fn google() -> FileDescriptorProto {
    let value = ".google.protobuf.Value";
    let structure = ".google.protobuf.Struct";
    let repeated = |field| counted(Label::Repeated, field);
    FileDescriptorProto {
        name: Some("google.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        message_type: vec![
            message(
                "Any",
                vec![
                    field("type_url", 1, Type::String, ""),
                    field("value", 2, Type::Bytes, ""),
                ],
            ),
            DescriptorProto {
                nested_type: vec![entry(
                    "FieldsEntry",
                    field("value", 2, Type::Message, value),
                )],
                ..message(
                    "Struct",
                    vec![repeated(field(
                        "fields",
                        1,
                        Type::Message,
                        ".google.protobuf.Struct.FieldsEntry",
                    ))],
                )
            },
            message(
                "Value",
                vec![
                    field("null_value", 1, Type::Int32, ""),
                    field("number_value", 2, Type::Double, ""),
                    field("string_value", 3, Type::String, ""),
                    field("struct_value", 5, Type::Message, structure),
                    field("list_value", 6, Type::Message, ".google.protobuf.ListValue"),
                ],
            ),
            message(
                "ListValue",
                vec![repeated(field("values", 1, Type::Message, value))],
            ),
            message("StringValue", vec![field("value", 1, Type::String, "")]),
        ],
        ..FileDescriptorProto::default()
    }
}

fn shop() -> FileDescriptorProto {
    let repeated = |field| counted(Label::Repeated, field);
    let customer = ".shop.Customer";
    let fields = vec![
        field("name", 1, Type::String, ""),
        field("email", 2, Type::String, ""),
        field("number", 3, Type::Int64, ""),
        repeated(field("phones", 4, Type::String, "")),
        repeated(field(
            "labels",
            5,
            Type::Message,
            ".shop.Customer.LabelsEntry",
        )),
        field("parent", 6, Type::Message, customer),
        field("token", 7, Type::Bytes, ""),
        repeated(field("cards", 8, Type::Int64, "")),
        field("extra", 9, Type::Message, ".google.protobuf.Struct"),
        field("detail", 10, Type::Message, ".google.protobuf.Any"),
        field("legacy", 11, Type::Group, customer),
        field("nick", 12, Type::Message, ".google.protobuf.StringValue"),
        counted(Label::Required, field("must_have", 13, Type::String, "")),
        counted(Label::Required, field("must_count", 14, Type::Fixed32, "")),
        field("home_phone", 15, Type::String, ""),
        field("balance", 16, Type::Sint64, ""),
    ];
    FileDescriptorProto {
        name: Some("shop.proto".to_owned()),
        package: Some("shop".to_owned()),
        message_type: vec![
            DescriptorProto {
                nested_type: vec![entry("LabelsEntry", field("value", 2, Type::String, ""))],
                ..message("Customer", fields)
            },
            message(
                "Page",
                vec![repeated(field("customers", 1, Type::Message, customer))],
            ),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some("Customers".to_owned()),
            method: vec![MethodDescriptorProto {
                name: Some("List".to_owned()),
                input_type: Some(customer.to_owned()),
                output_type: Some(".shop.Page".to_owned()),
                ..MethodDescriptorProto::default()
            }],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}

fn set(files: Vec<FileDescriptorProto>) -> Result<Schema, String> {
    Schema::of(&FileDescriptorSet { file: files }.encode_to_vec())
}

fn call() -> Call {
    let schema = Arc::new(set(vec![google(), shop(), google()]).unwrap());
    let named = |method: &str| GrpcFacts {
        service: "shop.Customers".to_owned(),
        method: method.to_owned(),
    };
    assert!(Call::of(&schema, &named("Drop")).is_none());
    Call::of(&schema, &named("List")).unwrap()
}

fn masks(fields: &[(&str, Mask)], detect: &[(Kind, Action)]) -> Masks {
    let fields: Vec<_> = fields
        .iter()
        .map(|(field, mask)| ((*field).to_owned(), mask.clone()))
        .collect();
    let detect = detect.iter().copied().collect();
    Masks::new(&fields, &detect, &Secret::from("key")).unwrap()
}

fn how(headers: &HeaderMap, strict: bool) -> How<'_> {
    How {
        direction: Direction::Received,
        headers,
        most: 0,
        strict,
        room: Room::default(),
    }
}

/// A page through masks, in pieces of this size.
fn feed(
    masks: &Masks,
    body: &[u8],
    (coding, strict): (Option<&'static str>, bool),
    cut: usize,
) -> Result<(Vec<u8>, u64), Broken> {
    let mut headers = HeaderMap::new();
    if let Some(coding) = coding {
        headers.insert(ENCODING, HeaderValue::from_static(coding));
    }
    let masker = masks.grpc("application/grpc", Some(&call()), how(&headers, strict));
    let mut masker = masker.unwrap().unwrap();
    let mut out = Vec::new();
    for piece in body.chunks(cut.max(1)) {
        masker.feed(piece, &mut out)?;
    }
    masker.end(&mut out)?;
    Ok((out, masker.found().values().sum()))
}

fn read(masks: &Masks, body: &[u8]) -> Result<Vec<u8>, Broken> {
    let whole = feed(masks, body, (None, true), body.len());
    for cut in [1, 3, 7] {
        assert_eq!(feed(masks, body, (None, true), cut), whole);
    }
    whole.map(|(out, _)| out)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn tag(number: u64, wire: u64) -> Vec<u8> {
    varint(number << 3 | wire)
}

fn varint(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_varint(number, &mut out);
    out
}

fn text(number: u64, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = varint(u64::try_from(text.len()).unwrap());
    [&tag(number, 2), &length, text].concat()
}

fn number(of: u64, value: u64) -> Vec<u8> {
    [tag(of, 0), varint(value)].concat()
}

fn group(number: u64, fields: &[u8]) -> Vec<u8> {
    [&tag(number, 3), fields, &tag(number, 4)].concat()
}

/// One customer of a page, framed.
fn page(fields: &[Vec<u8>]) -> Vec<u8> {
    framed(&text(1, fields.concat()))
}

#[test]
fn a_field_is_masked_and_every_length_around_it_is_right() {
    let deep = text(6, text(6, text(2, CANARY)));
    let before = [text(1, "Ann"), text(2, CANARY), deep, number(3, 7)];
    let shown = |mask: &str| {
        let deep = text(6, text(6, text(2, mask)));
        page(&[text(1, "Ann"), text(2, mask), deep, number(3, 7)])
    };
    let email = masks(&[("**.email", Mask::Email)], &[]);
    assert_eq!(
        read(&email, &page(&before)).unwrap(),
        shown("a***@example.com")
    );
    // Lengths of one byte become lengths of two.
    let long: Arc<str> = "x".repeat(300).into();
    let constant = masks(&[("**.email", Mask::Constant(Arc::clone(&long)))], &[]);
    assert_eq!(read(&constant, &page(&before)).unwrap(), shown(&long));
    for gone in [Mask::Null, Mask::Hide] {
        let gone = masks(&[("customers.email", gone)], &[]);
        let deep = text(6, text(6, text(2, CANARY)));
        let wanted = page(&[text(1, "Ann"), deep, number(3, 7)]);
        assert_eq!(read(&gone, &page(&before)).unwrap(), wanted);
    }
    // Messages come one after the other, and empty ones are messages.
    let many = [page(&before), framed(b""), page(&before)].concat();
    let wanted = [
        shown("a***@example.com"),
        framed(b""),
        shown("a***@example.com"),
    ]
    .concat();
    assert_eq!(read(&email, &many).unwrap(), wanted);
    // What nothing is masked of stays as it is, byte for byte.
    let odd = page(&[text(1, "Ann"), vec![0x18, 0x87, 0x80, 0]]);
    assert_eq!(read(&email, &odd).unwrap(), odd);
}

#[test]
fn what_is_left_out_is_left_out_as_its_field_wants_it() {
    let hide = |mask: Mask| {
        let fields = [
            "phones",
            "cards",
            "must_have",
            "must_count",
            "number",
            "legacy",
            "parent",
        ];
        let fields = fields.map(|field| format!("customers.{field}"));
        let rows: Vec<_> = fields
            .iter()
            .map(|field| (field.as_str(), mask.clone()))
            .collect();
        masks(&rows, &[])
    };
    let before = page(&[
        text(4, "1"),
        text(4, "2"),
        text(8, [1, 2, 3]),
        number(8, 4),
        text(13, CANARY),
        [tag(14, 5), vec![1, 2, 3, 4]].concat(),
        number(3, 300),
        group(11, &group(11, &text(2, CANARY))),
        text(6, text(2, CANARY)),
        text(1, "Ann"),
    ]);
    let must = [text(13, ""), [tag(14, 5), vec![0; 4]].concat()].concat();
    let nothing = page(&[must.clone(), text(1, "Ann")]);
    assert_eq!(read(&hide(Mask::Hide), &before).unwrap(), nothing);
    // A list of texts is as long as it was.
    let counted = page(&[text(4, ""), text(4, ""), must, text(1, "Ann")]);
    assert_eq!(read(&hide(Mask::Null), &before).unwrap(), counted);
    // Bytes that are no text have no first letters to be shown.
    let partial = masks(&[("**.token", Mask::Partial(1))], &[]);
    let before = page(&[text(7, [0xff, 0xfe]), text(6, text(7, "secret"))]);
    assert_eq!(
        read(&partial, &before).unwrap(),
        page(&[text(6, text(7, "s*****"))])
    );
}

#[test]
fn a_field_has_its_name_of_the_file_and_that_of_json() {
    for name in ["home_phone", "homePhone", "HOME_PHONE"] {
        let field = format!("customers.{name}");
        let last4 = masks(&[(&field, Mask::Last4)], &[]);
        let out = read(&last4, &page(&[text(15, "555-1234")])).unwrap();
        assert_eq!(out, page(&[text(15, "****1234")]), "{name}");
    }
}

#[test]
fn what_readers_of_json_take_for_objects_is_masked_by_its_keys() {
    let last4 = masks(
        &[
            ("customers.labels.phone", Mask::Last4),
            ("customers.labels.gone", Mask::Hide),
            ("customers.extra.**.ssn", Mask::Last4),
            ("customers.nick", Mask::Last4),
            ("customers.detail.email", Mask::Last4),
        ],
        &[],
    );
    let pair = |key: &str, value: Vec<u8>| [text(1, key), value].concat();
    let label = |key: &str, value: &str| text(5, pair(key, text(2, value)));
    let of_text = |said: &str| text(2, text(3, said));
    let of_number = text(2, [tag(2, 1), 4.5_f64.to_le_bytes().to_vec()].concat());
    let null = text(2, [8, 0]);
    let list = |said: &str| text(2, text(6, text(1, text(3, said))));
    let object = |within: Vec<u8>| text(2, text(5, within));
    let at = |key: &str, value: Vec<u8>| text(1, pair(key, value));
    let customer = |said: &str| {
        let named = text(1, "type.googleapis.com/shop.Customer");
        text(10, [named, text(2, text(2, said))].concat())
    };
    let before = page(&[
        label("phone", "555-1234"),
        label("PHONE", "555-1234"),
        label("other", "555-1234"),
        label("gone", "x"),
        // The value before its key.
        text(5, [text(2, "555-1234"), text(1, "phone")].concat()),
        text(
            9,
            [
                at("ssn", of_text("078-05-1120")),
                at("a", object(at("ssn", list("078-05-1120")))),
                at("b", object(at("ssn", of_number))),
                at("c", object(at("ssn", object(at("d", of_text(CANARY)))))),
                at("e", of_text("kept")),
            ]
            .concat(),
        ),
        text(12, text(1, "555-1234")),
        customer(CANARY),
    ]);
    let wanted = page(&[
        label("phone", "****1234"),
        label("PHONE", "****1234"),
        label("other", "555-1234"),
        text(5, [text(2, "****1234"), text(1, "phone")].concat()),
        text(
            9,
            [
                at("ssn", of_text("*******1120")),
                at("a", object(at("ssn", list("*******1120")))),
                at("b", object(at("ssn", null.clone()))),
                at("c", object(at("ssn", null))),
                at("e", of_text("kept")),
            ]
            .concat(),
        ),
        text(12, text(1, "****1234")),
        customer("***********.com"),
    ]);
    assert_eq!(read(&last4, &before).unwrap(), wanted);
}

#[test]
fn what_no_descriptor_has_goes_on_only_where_the_target_says_so() {
    let email = masks(&[("**.email", Mask::Null)], &[]);
    let unnamed = [text(1, "x/shop.Unknown"), text(2, CANARY)].concat();
    let rows = [
        page(&[text(99, CANARY)]),
        page(&[group(99, &group(98, &text(1, CANARY)))]),
        // Readers take a field that is written in another way for one that they do not know.
        page(&[number(2, 5)]),
        page(&[text(10, unnamed)]),
        page(&[text(5, [text(1, "k"), text(3, CANARY)].concat())]),
    ];
    for row in rows {
        assert!(feed(&email, &row, (None, true), 7).is_err(), "{row:?}");
        let passed = feed(&email, &row, (None, false), 7).unwrap();
        assert_eq!(passed.0, row);
    }
}

#[test]
fn what_is_no_message_goes_no_farther() {
    let email = masks(&[("**.email", Mask::Null)], &[]);
    let any = |fields: &[Vec<u8>]| page(&[text(10, fields.concat())]);
    let deep = (0..120).fold(text(2, "x"), |inner, _| text(6, inner));
    let deep_groups = (0..120).fold(text(2, "x"), |inner, _| group(11, &inner));
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("a length that goes on", page(&[vec![0x12, 5, b'a']])),
        ("a number that goes on", page(&[vec![0x18, 0xff]])),
        ("no field", page(&[vec![0, 0]])),
        ("no kind", page(&[vec![0x17, 0]])),
        ("a group that does not end", page(&[tag(11, 3)])),
        (
            "a group that ends as another",
            page(&[tag(11, 3), tag(12, 4)]),
        ),
        ("the end of no group", page(&[tag(11, 4)])),
        ("nested too deep", page(&[deep])),
        ("groups nested too deep", page(&[deep_groups])),
        (
            "a message as another kind",
            any(&[
                text(1, "x/shop.Page"),
                text(2, ""),
                text(1, "x/shop.Customer"),
            ]),
        ),
        (
            "two messages in one",
            any(&[
                text(1, "x/shop.Customer"),
                text(2, ""),
                text(2, text(2, CANARY)),
            ]),
        ),
        ("a message of any kind as a group", page(&[group(10, b"")])),
        (
            "two keys",
            page(&[text(5, [text(1, "a"), text(1, "b"), text(2, "x")].concat())]),
        ),
        ("another kind of frame", [vec![0x80], vec![0; 4]].concat()),
        ("packed without saying how", [vec![1], vec![0; 4]].concat()),
        (
            "the middle of a message",
            page(&[text(1, "Ann")])[..6].to_vec(),
        ),
        ("longer than is read", vec![0, 0x7f, 0xff, 0xff, 0xff]),
    ];
    for (what, body) in rows {
        for strict in [true, false] {
            let read = feed(&email, &body, (None, strict), 7);
            assert!(read.is_err(), "{what}: {read:?}");
        }
    }
}

#[test]
fn detectors_look_at_texts_bytes_keys_and_numbers() {
    let found = masks(
        &[],
        &[(Kind::Email, Action::Mask), (Kind::Card, Action::Mask)],
    );
    let card = u64::try_from(CARD).unwrap();
    let stars = "*".repeat(CANARY.len());
    let zero = [vec![0x80; 7], vec![0]].concat();
    let label = |key: &str| text(5, [text(1, key), text(2, "v")].concat());
    let before = page(&[
        text(1, format!("mail {CANARY}")),
        text(7, CANARY),
        label(CANARY),
        number(3, card),
        text(8, [varint(5), varint(card)].concat()),
        number(16, card * 2),
    ]);
    let wanted = page(&[
        text(1, format!("mail {stars}")),
        text(7, &stars),
        label(&stars),
        [tag(3, 0), zero.clone()].concat(),
        text(8, [varint(5), zero.clone()].concat()),
        [tag(16, 0), zero].concat(),
    ]);
    let (out, count) = feed(&found, &before, (None, true), 5).unwrap();
    assert_eq!((out, count), (wanted, 6));
    let refused = masks(&[], &[(Kind::Email, Action::Refuse)]);
    assert!(read(&refused, &before).is_err());
    let told = masks(&[], &[(Kind::Email, Action::Report)]);
    assert_eq!(feed(&told, &before, (None, true), 5), Ok((before, 3)));
}

#[test]
fn compressed_messages_are_read_and_go_on_as_what_they_say() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let said = page(&[text(2, CANARY)]);
    encoder.write_all(&said[HEAD..]).unwrap();
    let packed = encoder.finish().unwrap();
    let length = u32::try_from(packed.len()).unwrap().to_be_bytes();
    let body = [&[1][..], &length, &packed].concat();
    let email = masks(&[("**.email", Mask::Email)], &[]);
    let wanted = page(&[text(2, "a***@example.com")]);
    for cut in [1, 7, 1000] {
        let (out, _) = feed(&email, &body, (Some("gzip"), true), cut).unwrap();
        assert_eq!(out, wanted);
    }
    assert!(feed(&email, &body, (None, true), 7).is_err());
    // One that makes too much of little.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; MESSAGE_MAX + 1]).unwrap();
    let packed = encoder.finish().unwrap();
    let length = u32::try_from(packed.len()).unwrap().to_be_bytes();
    let body = [&[1][..], &length, &packed].concat();
    assert!(feed(&email, &body, (Some("gzip"), true), 4096).is_err());
    let mut headers = HeaderMap::new();
    headers.insert(ENCODING, HeaderValue::from_static("snappy"));
    let masker = email.grpc("application/grpc", Some(&call()), how(&headers, true));
    assert_eq!(masker.unwrap_err(), CODED);
}

#[test]
fn what_is_not_known_is_refused_where_something_is_masked() {
    let headers = HeaderMap::new();
    let email = masks(&[("**.email", Mask::Email)], &[]);
    let told = masks(&[], &[(Kind::Email, Action::Report)]);
    for (kind, call) in [
        ("application/grpc", None),
        ("application/grpc+json", Some(call())),
    ] {
        assert!(
            email
                .grpc(kind, call.as_ref(), how(&headers, true))
                .is_err()
        );
        let masker = told.grpc(kind, call.as_ref(), how(&headers, true));
        assert!(masker.unwrap().is_none());
    }
    assert!(email.masker("application/grpc+json").is_err());
}

#[test]
fn why_a_call_failed_is_looked_at() {
    let found = masks(&[], &[(Kind::Email, Action::Mask)]);
    let mut headers = HeaderMap::new();
    headers.insert(
        MESSAGE,
        HeaderValue::from_static("no ann%40example.com %e2%82%ac"),
    );
    headers.insert(DETAILS, HeaderValue::from_static("AAAA"));
    let mut count = Found::default();
    found.status(&mut headers, true, &mut count);
    assert_eq!(headers[MESSAGE], "no *************** %E2%82%AC");
    assert!(!headers.contains_key(DETAILS));
    assert_eq!(count.total(), 1);
}

#[test]
fn why_a_call_failed_goes_no_farther_where_fields_are_masked() {
    let said = "duplicate key (email)=(ann@example.com)";
    let told = |masks: &Masks, strict| {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE, HeaderValue::from_static(said));
        headers.append(MESSAGE, HeaderValue::from_static("and bob@example.com"));
        headers.insert("grpc-status", HeaderValue::from_static("6"));
        let mut count = Found::default();
        masks.status(&mut headers, strict, &mut count);
        assert_eq!(headers["grpc-status"], "6");
        let said: Vec<_> = headers.get_all(MESSAGE).into_iter().collect();
        (format!("{said:?}"), count.total())
    };
    let fields = masks(&[("**.email", Mask::Email)], &[]);
    let both = masks(
        &[("**.email", Mask::Email)],
        &[(Kind::Email, Action::Report)],
    );
    for (masks, found) in [(&fields, 0), (&both, 2)] {
        let (message, count) = told(masks, true);
        assert!(message.contains("goes no farther"), "{message}");
        assert!(
            !message.contains('@') && count == found,
            "{message} {count}"
        );
        let (message, _) = told(masks, false);
        assert!(message.contains(said), "{message}");
        // Whoever may see fields sees what is said of them.
        assert!(told(&masks.revealed(), true).0.contains(said));
    }
}

/// What is reported alone is passed on, also where it cannot be read.
#[test]
fn what_is_only_reported_breaks_no_call() {
    let report = masks(&[], &[(Kind::Email, Action::Report)]);
    let known = framed(&text(1, text(2, "ann@example.com")));
    let unknown = framed(&text(77, "x"));
    let malformed = framed(b"\x0a\xff\xff");
    let deep = (0..200).fold(text(2, "x"), |inner, _| text(6, inner));
    let deep = framed(&text(1, deep));
    let long = framed(&vec![0xff; MESSAGE_MAX + 1]);
    let all = [&known, &unknown, &malformed, &deep, &long, &known];
    let body: Vec<u8> = all.into_iter().flatten().copied().collect();
    for cut in [7, 4096, body.len()] {
        let (out, found) = feed(&report, &body, (None, true), cut).unwrap();
        assert!(out == body, "{} of {}", out.len(), body.len());
        assert_eq!(found, 2);
    }
    // What came compressed goes on as what it says.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&text(77, "x")).unwrap();
    let packed = encoder.finish().unwrap();
    let length = u32::try_from(packed.len()).unwrap().to_be_bytes();
    let packed = [&[1][..], &length, &packed].concat();
    let (out, _) = feed(&report, &packed, (Some("gzip"), true), 3).unwrap();
    assert_eq!(out, unknown);
    // Where something is kept it does.
    let keeps = masks(&[], &[(Kind::Email, Action::Mask)]);
    for body in [&unknown, &malformed, &deep, &long] {
        assert!(feed(&keeps, body, (None, true), 4096).is_err());
    }
}

#[test]
fn descriptors_that_are_not_whole_are_told_apart() {
    assert!(Schema::of(b"\xff").unwrap_err().contains("none"));
    assert!(Schema::of(b"").unwrap_err().contains("no service"));
    let told = set(vec![shop()]).unwrap_err();
    assert!(told.contains("--include_imports"), "{told}");
}

proptest! {
    /// Whatever a message says, nothing of a field that is hidden comes out of it, and what comes out is a message.
    #[test]
    fn no_canary_comes_out_of_any_message(fields in parts(), cut in 1..20_usize, strict: bool) {
        let hidden = masks(&[("**.email", Mask::Hide), ("**.ssn", Mask::Hide)], &[]);
        let body = page(&fields);
        if let Ok((out, _)) = feed(&hidden, &body, (None, strict), cut) {
            prop_assert!(!out.windows(CANARY.len()).any(|at| at == CANARY.as_bytes()));
            prop_assert_eq!(feed(&hidden, &out, (None, strict), cut).unwrap().0, out);
        }
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, cut in 1..20_usize, strict: bool) {
        let hidden = masks(&[("**.email", Mask::Last4)], &[(Kind::Card, Action::Mask)]);
        drop(feed(&hidden, &framed(&bytes), (None, strict), cut));
        drop(feed(&hidden, &page(&[bytes]), (None, strict), cut));
    }
}

/// Fields of a customer, with the canary where it is hidden.
fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let leaf = prop_oneof![
        Just(text(2, CANARY)),
        Just(text(1, "Ann")),
        any::<u64>().prop_map(|value| number(3, value)),
        Just(text(5, [text(1, "ssn"), text(2, CANARY)].concat())),
        Just(text(
            9,
            text(1, [text(1, "ssn"), text(2, text(3, CANARY))].concat())
        )),
    ];
    let field = leaf.prop_recursive(8, 64, 8, |inner| {
        let many = prop::collection::vec(inner, 0..8);
        (many, 0..3).prop_map(|(fields, how)| match how {
            0 => text(6, fields.concat()),
            1 => group(11, &fields.concat()),
            _ => text(
                10,
                [text(1, "x/shop.Customer"), text(2, fields.concat())].concat(),
            ),
        })
    });
    prop::collection::vec(field, 0..6)
}
