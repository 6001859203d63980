//! Programs for hooks that aya has no type for, out of the same object: relocated by its reader, loaded by
//! bpf(2).

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::{Error, syscall};

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;

/// An object whose programs know their maps.
pub(super) struct Object {
    object: aya_obj::Object,
    license: CString,
    /// The maps that the programs name; open until they are loaded.
    _maps: HashMap<String, OwnedFd>,
}

impl Object {
    /// Reads the object; `open` opens each of its maps, which exist already.
    pub(super) fn read(
        bytes: &[u8],
        open: impl Fn(&str) -> io::Result<OwnedFd>,
    ) -> Result<Self, Error> {
        let mut object = aya_obj::Object::parse(bytes).map_err(aya::EbpfError::from)?;
        let maps = std::mem::take(&mut object.maps);
        let mut opened = HashMap::new();
        for name in maps.keys() {
            let map = open(name).map_err(|source| Error::Raw {
                what: format!("open map {name}"),
                source,
            })?;
            opened.insert(name.clone(), map);
        }
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let known = maps.iter().filter_map(|(name, map)| {
            let fd = opened.get(name)?;
            Some((name.as_str(), fd.as_raw_fd(), map))
        });
        object
            .relocate_maps(known, &text)
            .and_then(|()| object.relocate_calls(&text))
            .map_err(aya::EbpfError::from)?;
        object.sanitize_functions(aya::features());
        Ok(Self {
            license: object.license.clone(),
            object,
            _maps: opened,
        })
    }

    /// Has the verifier take a program for one kind of hook.
    pub(super) fn load(&mut self, name: &'static str, attach_type: u32) -> Result<OwnedFd, Error> {
        let program = self.object.programs.get(name).ok_or(Error::NoPrograms)?;
        let function = self.object.functions.get(&program.function_key());
        let function = function.ok_or(Error::NoPrograms)?;
        let code: Vec<u64> = function.instructions.iter().map(word).collect();
        syscall::load_program(SOCK_ADDR, attach_type, name, &code, &self.license).map_err(
            |source| Error::Raw {
                what: format!("load program {name}"),
                source,
            },
        )
    }
}

/// An instruction as the kernel reads it: code, both registers, offset, immediate.
fn word(instruction: &aya_obj::generated::bpf_insn) -> u64 {
    let [code] = [instruction.code];
    let registers = instruction.dst_reg() | (instruction.src_reg() << 4);
    let [low, high] = instruction.off.to_ne_bytes();
    let [one, two, three, four] = instruction.imm.to_ne_bytes();
    u64::from_ne_bytes([code, registers, low, high, one, two, three, four])
}
