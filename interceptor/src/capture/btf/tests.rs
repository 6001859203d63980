//! Offsets are found in type information that is made here, in broken ones, and in this kernel's own.

use interceptor_ebpf::process::{ABSENT, Offsets};

use super::{STRUCT, Types, UNION, offsets};

/// Writes type information as a kernel would.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A struct or union of (name, type, bit offset).
    fn record(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) {
        let name = self.text(name);
        let count = u32::try_from(members.len()).unwrap();
        self.words(&[name, kind << 24 | count, 0]);
        for (member, of, bits) in members {
            let member = self.text(member);
            self.words(&[member, *of, *bits]);
        }
    }

    fn file(self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut file = vec![];
        file.extend(0xeb9f_u16.to_ne_bytes());
        file.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(self.types);
        file.extend(self.strings);
        file
    }
}

#[test]
fn members_are_found_through_anonymous_structs() {
    let mut writer = Writer::new();
    writer.record(STRUCT, "", &[("inner", 9, 64)]);
    writer.record(UNION, "", &[("", 1, 0), ("other", 9, 0)]);
    writer.record(STRUCT, "mm_struct", &[("first", 9, 0), ("", 2, 128)]);
    let file = writer.file();
    let types = Types::parse(&file).unwrap();
    let rows = [
        ("first", Some(0)),
        ("inner", Some(24)),
        ("other", Some(16)),
        ("missing", None),
    ];
    for (member, expected) in rows {
        assert_eq!(types.offset("mm_struct", member), expected, "{member}");
    }
    assert_eq!(types.offset("no_struct", "first"), None);
}

#[test]
fn a_member_that_two_structs_put_elsewhere_is_absent() {
    let mut writer = Writer::new();
    writer.record(STRUCT, "cred", &[("euid", 9, 64), ("egid", 9, 96)]);
    writer.record(STRUCT, "cred", &[("euid", 9, 32), ("egid", 9, 96)]);
    let found = offsets(&writer.file());
    assert_eq!((found.euid, found.egid), (ABSENT, 12));
}

#[test]
fn a_self_containing_anonymous_struct_ends() {
    let mut writer = Writer::new();
    writer.record(STRUCT, "file", &[("", 1, 0)]);
    let file = writer.file();
    assert_eq!(Types::parse(&file).unwrap().offset("file", "f_inode"), None);
}

#[test]
fn broken_files_give_nothing() {
    let mut writer = Writer::new();
    writer.record(STRUCT, "file", &[("f_inode", 9, 64)]);
    let whole = writer.file();
    assert_eq!(offsets(&whole).f_inode, 8);
    for length in 0..whole.len() {
        let cut = offsets(&whole[..length]);
        assert!(cut.f_inode == ABSENT || cut.f_inode == 8, "cut at {length}");
    }
    let mut unknown = Writer::new();
    unknown.record(31, "file", &[("f_inode", 9, 64)]);
    for file in [Vec::new(), vec![0xff; 64], unknown.file()] {
        assert_eq!(offsets(&file), Offsets::NONE);
    }
}

#[test]
fn this_kernel_has_every_member() {
    let Ok(file) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return;
    };
    let mut found = offsets(&file);
    // Which of the two there is, is the version's.
    match found.ancestors {
        ABSENT => found.ancestors = 0,
        _ => found.ancestor_ids = 0,
    }
    let found = format!("{found:?}");
    assert!(!found.contains(&ABSENT.to_string()), "{found}");
}
