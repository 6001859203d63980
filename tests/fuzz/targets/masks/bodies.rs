//! Bodies of every kind, made by what a fuzzer says, with the canary in what is hidden and nowhere else.

use std::sync::{Arc, LazyLock};

use interceptor::policy::GrpcFacts;
use interceptor::protocol::http::mask::grpc::{Call, How, Schema};
use interceptor::protocol::http::mask::{Masker, Masks};
use interceptor::session::Direction;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

/// What is hidden is called so, and consists of these; nothing else does.
pub const HIDDEN: &str = "a";
pub const CANARY: &[u8] = b"Z9";
const DEPTH: usize = 12;

/// What the fuzzer says is left of it.
pub struct Play<'a>(pub &'a [u8]);

/// What columns are called that are hidden, and others, by where they stand: no name may be there twice.
const NAMES: [([&str; 2], [&str; 2]); 4] = [
    (["a", "\"A\""], ["b", "\"x\""]),
    (["b.a", " b.a "], ["c", ""]),
    (["\"c.A\"", "c.a"], ["d", "a.b"]),
    (["d.e.a", "D.a"], ["e", " a.c "]),
];

impl Play<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn pick<'t, T: ?Sized>(&mut self, among: &[&'t T]) -> &'t T {
        among[usize::from(self.next()) % among.len()]
    }

    pub fn json(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            self.value(false, 0, &mut out);
            out.push(b'\n');
        }
        out
    }

    fn value(&mut self, hidden: bool, depth: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.pick(&[&b""[..], b" ", b"\t\n"]));
        match self.next() % if depth > DEPTH { 3 } else { 6 } {
            0 => self.string(hidden, out),
            1 if hidden => out.extend_from_slice(self.pick(&[
                &b"9"[..],
                b"-9.9",
                b"9e+99",
                b"99999999999999999",
            ])),
            1 => out.extend_from_slice(self.pick(&[
                &b"1"[..],
                b"-2.5",
                b"3e10",
                b"4111111111111111",
            ])),
            2 => out.extend_from_slice(self.pick(&[&b"true"[..], b"null"])),
            3 | 4 => self.object(hidden, depth, out),
            _ => {
                out.push(b'[');
                for at in 0..self.next() % 4 {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.value(hidden, depth + 1, out);
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(self.pick(&[&b""[..], b" "]));
    }

    fn object(&mut self, hidden: bool, depth: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for at in 0..self.next() % 4 {
            if at > 0 {
                out.push(b',');
            }
            let hides = self.next() % 3 == 0;
            match hides {
                true => {
                    let key = self.pick(&["\"a\"", "\"A\"", "\"\\u0061\"", "\"\\u0041\""]);
                    out.extend_from_slice(key.as_bytes());
                }
                false => self.string(hidden, out),
            }
            out.extend_from_slice(self.pick(&[&b":"[..], b" : "]));
            self.value(hidden || hides, depth + 1, out);
        }
        out.push(b'}');
    }

    fn string(&mut self, hidden: bool, out: &mut Vec<u8>) {
        out.push(b'"');
        for _ in 0..self.next() % 6 {
            let said = match hidden {
                true => self.pick(&[
                    "Z",
                    "9",
                    "\\\"Z",
                    "\\\\",
                    "\\u005aZ",
                    "\\ud83d\\ude009",
                    "é",
                ]),
                false => self.pick(&[
                    "b", "\\\"", "\\\\", "\\n", "\\ud83d", "x@y.com", "é", "\\u0061b",
                ]),
            };
            out.extend_from_slice(said.as_bytes());
        }
        out.push(b'"');
    }

    pub fn events(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            let mut value = Vec::new();
            self.value(false, 0, &mut value);
            let ending = self.pick(&["\n", "\r\n"]);
            out.extend_from_slice(
                self.pick(&["", "event: x\n", ": said\n", "id: 1\r\n"])
                    .as_bytes(),
            );
            for line in value.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line);
                out.extend_from_slice(ending.as_bytes());
            }
            out.extend_from_slice(ending.as_bytes());
        }
        out
    }

    pub fn table(&mut self) -> Vec<u8> {
        let separator = self.pick(&[",", ";", "\t", "|"]);
        let columns: Vec<bool> = (0..=self.next() % 4)
            .map(|_| self.next() % 2 == 0)
            .collect();
        let names: Vec<&str> = columns
            .iter()
            .zip(NAMES)
            .map(|(hidden, (named, plain))| self.pick(if *hidden { &named } else { &plain }))
            .collect();
        let mut out = self.pick(&["", "\u{feff}"]).as_bytes().to_vec();
        out.extend_from_slice(names.join(separator).as_bytes());
        out.push(b'\n');
        while !self.0.is_empty() {
            let fields: Vec<&str> = columns
                .iter()
                .map(|hidden| match hidden {
                    true => self.pick(&[
                        "Z",
                        "9",
                        "\"Z\"",
                        "\"Z\n9\"",
                        "\"\"\"9\"",
                        "\"Z,;\t|9\"",
                        "",
                    ]),
                    false => self.pick(&["b", "\"x\"", "\"\n\"", "\"\"", "\",\"", "x@y.com", ""]),
                })
                .collect();
            // A row may be shorter, and none has fields in no column.
            let shown = usize::from(self.next()) % 4;
            let length = if shown == 0 {
                fields.len().div_ceil(2)
            } else {
                fields.len()
            };
            out.extend_from_slice(fields[..length].join(separator).as_bytes());
            out.extend_from_slice(self.pick(&["\n", "\r\n"]).as_bytes());
        }
        out
    }

    pub fn messages(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            let mut body = Vec::new();
            self.fields(0, &mut body);
            out.push(0);
            out.extend_from_slice(&u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
            out.append(&mut body);
        }
        out
    }

    /// Fields of `Thing`: 1 and 5 are hidden.
    fn fields(&mut self, depth: usize, out: &mut Vec<u8>) {
        for _ in 0..self.next() % 5 {
            match self.next() % if depth > DEPTH { 5 } else { 7 } {
                0 => field(1, self.pick(&["ZZ", "ZZ99", ""]).as_bytes(), out),
                1 => field(2, self.pick(&["b", "x@y.com", ""]).as_bytes(), out),
                2 => {
                    prost::encoding::encode_varint(3 << 3, out);
                    prost::encoding::encode_varint(u64::from(self.next() & 0x1f), out);
                }
                3 => field(5, &[0x39; 8][..usize::from(self.next() % 9)], out),
                4 => field(6, &[], out),
                5 => {
                    let mut inner = Vec::new();
                    self.fields(depth + 1, &mut inner);
                    field(4, &inner, out);
                }
                _ => {
                    prost::encoding::encode_varint(7 << 3 | 3, out);
                    self.fields(depth + 1, out);
                    prost::encoding::encode_varint(7 << 3 | 4, out);
                }
            }
        }
    }
}

fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_varint(number << 3 | 2, out);
    prost::encoding::encode_varint(u64::try_from(bytes.len()).unwrap_or_default(), out);
    out.extend_from_slice(bytes);
}

static CALL: LazyLock<Call> = LazyLock::new(|| {
    let of = |name: &str, number, label: Label, kind: Type| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name: matches!(kind, Type::Message | Type::Group).then(|| ".Thing".to_owned()),
        ..FieldDescriptorProto::default()
    };
    let one = Label::Optional;
    let thing = DescriptorProto {
        name: Some("Thing".to_owned()),
        field: vec![
            of("a", 1, one, Type::String),
            of("b", 2, one, Type::String),
            of("n", 3, one, Type::Int64),
            of("c", 4, Label::Repeated, Type::Message),
            // By its other name.
            FieldDescriptorProto {
                json_name: Some("A".to_owned()),
                ..of("numbers", 5, Label::Repeated, Type::Sint64)
            },
            of("d", 6, one, Type::Bytes),
            of("e", 7, one, Type::Group),
        ],
        ..DescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("S".to_owned()),
        method: vec![MethodDescriptorProto {
            name: Some("M".to_owned()),
            input_type: Some(".Thing".to_owned()),
            output_type: Some(".Thing".to_owned()),
            ..MethodDescriptorProto::default()
        }],
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        message_type: vec![thing],
        service: vec![service],
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    let schema = Arc::new(Schema::of(&set).expect("descriptors"));
    let named = GrpcFacts {
        service: "S".to_owned(),
        method: "M".to_owned(),
    };
    Call::of(&schema, &named).expect("a procedure")
});

/// What masks messages.
pub fn messages(masks: &Masks) -> Option<Masker> {
    let how = How {
        direction: Direction::Received,
        headers: &hyper::HeaderMap::new(),
        most: 0,
        strict: true,
        room: Default::default(),
    };
    masks
        .grpc("application/grpc", Some(&CALL), how)
        .expect("it is read")
}
