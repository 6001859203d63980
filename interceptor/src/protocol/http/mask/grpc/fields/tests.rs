//! Policy sees in a call what its server will read, or the call is refused.

use std::sync::Arc;

use hyper::header::HeaderMap;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto,
};

use super::super::tests::{entry, field, message};
use super::*;
use crate::policy::GrpcFacts;
use crate::session::Direction;
use crate::session::meter::Room;

fn repeated(name: &str, number: i32, kind: Type, of: &str) -> FieldDescriptorProto {
    FieldDescriptorProto {
        label: Some(Label::Repeated.into()),
        ..field(name, number, kind, of)
    }
}

fn chosen(field: FieldDescriptorProto, is_optional: bool) -> FieldDescriptorProto {
    FieldDescriptorProto {
        oneof_index: Some(i32::from(is_optional)),
        proto3_optional: Some(is_optional),
        ..field
    }
}

fn order() -> DescriptorProto {
    let labels = entry("LabelsEntry", field("value", 2, Type::String, ""));
    let state = |number: i32, name: &str| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..EnumValueDescriptorProto::default()
    };
    let choice = |name: &str| OneofDescriptorProto {
        name: Some(name.to_owned()),
        ..OneofDescriptorProto::default()
    };
    DescriptorProto {
        nested_type: vec![labels],
        enum_type: vec![EnumDescriptorProto {
            name: Some("State".to_owned()),
            value: vec![state(0, "DRAFT"), state(1, "LIVE"), state(1, "ACTIVE")],
            ..EnumDescriptorProto::default()
        }],
        oneof_decl: vec![choice("way"), choice("_note")],
        ..message(
            "Order",
            vec![
                field("currency", 1, Type::String, ""),
                field("amount", 2, Type::Int64, ""),
                field("dry_run", 3, Type::Bool, ""),
                repeated("tags", 4, Type::String, ""),
                repeated("counts", 5, Type::Sint32, ""),
                repeated("labels", 6, Type::Message, ".shop.Order.LabelsEntry"),
                field("customer", 7, Type::Message, ".shop.Customer"),
                field("state", 8, Type::Enum, ".shop.Order.State"),
                field("small", 9, Type::Int32, ""),
                chosen(field("card", 10, Type::String, ""), false),
                chosen(field("note", 11, Type::String, ""), true),
                field("proof", 12, Type::Bytes, ""),
                repeated("customers", 13, Type::Message, ".shop.Customer"),
                field("rate", 14, Type::Double, ""),
            ],
        )
    }
}

fn call() -> Call {
    let file = FileDescriptorProto {
        name: Some("shop.proto".to_owned()),
        package: Some("shop".to_owned()),
        message_type: vec![
            order(),
            message("Customer", vec![field("country", 1, Type::String, "")]),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some("Orders".to_owned()),
            method: vec![MethodDescriptorProto {
                name: Some("Create".to_owned()),
                input_type: Some(".shop.Order".to_owned()),
                output_type: Some(".shop.Order".to_owned()),
                ..MethodDescriptorProto::default()
            }],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    let schema = Schema::of(&FileDescriptorSet { file: vec![file] }.encode_to_vec());
    let named = GrpcFacts {
        service: "shop.Orders".to_owned(),
        method: "Create".to_owned(),
    };
    Call::of(&Arc::new(schema.unwrap()), &named).unwrap()
}

/// What a body says in a field.
fn said(body: &[u8], wanted: &str) -> Result<String, &'static str> {
    let (headers, wanted) = (HeaderMap::new(), [wanted.to_owned()]);
    let how = How {
        direction: Direction::Sent,
        headers: &headers,
        most: 1 << 20,
        strict: true,
        room: Room::default(),
    };
    let said = call().fields("application/grpc", body, (&wanted, how))?;
    Ok(said.into_iter().collect::<Vec<_>>().join(" "))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn varint(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_varint(number, &mut out);
    out
}

fn text(number: u64, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = varint(u64::try_from(text.len()).unwrap());
    [&varint(number << 3 | 2), &length, text].concat()
}

fn number(of: u64, value: u64) -> Vec<u8> {
    [varint(of << 3), varint(value)].concat()
}

#[test]
fn a_field_says_what_its_server_reads_in_it_also_where_it_is_not_written() {
    let label = |key: &str, value: &str| text(6, [text(1, key), text(2, value)].concat());
    let order = [
        text(1, "EUR"),
        number(2, u64::MAX),
        text(4, "a"),
        text(4, "b"),
        text(5, [varint(1), varint(4)].concat()),
        number(5, 6),
        label("env", "prod"),
        label("team", "x"),
        text(7, text(1, "DE")),
        number(8, 1),
        number(9, (1 << 32) + 5),
        text(12, b"\xff"),
        text(13, text(1, "FR")),
        text(13, b""),
        [varint(14 << 3 | 1), 1_f64.to_le_bytes().to_vec()].concat(),
        // No descriptor has it, and no field that is read is called so.
        text(99, "USD"),
    ]
    .concat();
    for (wanted, written, absent) in [
        ("currency", "currency=EUR", "currency="),
        ("amount", "amount=-1", "amount=0"),
        ("dry_run", "dry_run=false", "dry_run=false"),
        ("dryRun", "dryRun=false", "dryRun=false"),
        ("tags", "tags=a tags=b", ""),
        ("counts", "counts=-1 counts=2 counts=3", ""),
        ("labels.env", "labels.env=prod", ""),
        ("labels.none", "", ""),
        (
            "customer.country",
            "customer.country=DE",
            "customer.country=",
        ),
        (
            "customers.country",
            "customers.country= customers.country=FR",
            "",
        ),
        ("state", "state=ACTIVE state=LIVE", "state=DRAFT"),
        ("small", "small=5", "small=0"),
        ("card", "", ""),
        ("note", "note=", "note="),
        ("proof", "proof=/w==", "proof="),
        ("rate", "rate=1", "rate=0"),
    ] {
        assert_eq!(
            said(&framed(&order), wanted).as_deref(),
            Ok(written),
            "{wanted}"
        );
        assert_eq!(
            said(&framed(b""), wanted).as_deref(),
            Ok(absent),
            "{wanted}"
        );
    }
}

#[test]
fn what_two_readers_may_take_for_different_things_is_refused() {
    let label = |value: &str| text(6, [text(1, "env"), text(2, value)].concat());
    let twice = |field: Vec<u8>| [field.clone(), field].concat();
    let rows = [
        ("currency", twice(text(1, "EUR"))),
        ("customer.country", twice(text(7, text(1, "DE")))),
        ("customer.country", text(7, twice(text(1, "DE")))),
        ("labels.env", twice(label("prod"))),
        ("labels.env", text(6, twice(text(1, "env")))),
        ("currency", number(1, 5)),
        ("amount", text(2, varint(5))),
        ("currency", text(1, b"\xff")),
        // A number without a name is kept by some, and is none to others.
        ("state", number(8, 7)),
        (
            "currency",
            [varint(1 << 3 | 3), varint(1 << 3 | 4)].concat(),
        ),
        ("customer", text(7, text(1, "DE"))),
        ("nobody", Vec::new()),
        ("currency.code", text(1, "EUR")),
        ("labels", label("prod")),
        ("currency", vec![0x0a, 5, b'x']),
    ];
    for (wanted, order) in &rows {
        assert!(said(&framed(order), wanted).is_err(), "{wanted} {order:?}");
    }
    let one = framed(&text(1, "EUR"));
    assert_eq!(
        said(&[one.clone(), one.clone()].concat(), "currency"),
        Err(NOT_ONE)
    );
    assert_eq!(said(b"", "currency"), Err(NOT_ONE));
    assert!(said(&one[..6], "currency").is_err());
}
