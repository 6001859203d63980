//! Programs for hooks that aya has no type for, out of the same object: relocated by its reader, loaded by
//! bpf(2).

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use interceptor_ebpf::kfunc;

use super::super::{Error, btf, syscall};

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` and `BPF_PROG_TYPE_SYSCALL`.
const SOCK_ADDR: u32 = 18;
const SYSCALL: u32 = 31;

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// `BPF_JMP | BPF_CALL`, and what its source register says of a call of a function of the kernel's.
const CALL: u8 = 0x85;
const KFUNC: u8 = 2;

/// `BPF_ALU64 | BPF_MOV | BPF_K`: register 0, which a call answers in, is set.
const SET: u8 = 0xb7;

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

    /// Has the verifier take a program for one kind of hook. `kernel` is the running kernel's type
    /// information, for the functions that it calls there.
    pub(super) fn load(
        &self,
        name: &'static str,
        attach_type: u32,
        kernel: &[u8],
    ) -> Result<OwnedFd, Error> {
        self.take(name, (SOCK_ADDR, attach_type, 0), kernel)
    }

    /// Has it take a program that is attached to nothing, and run by whoever holds it.
    pub(super) fn load_runnable(&self, name: &'static str) -> Result<OwnedFd, Error> {
        self.take(name, (SYSCALL, 0, SLEEPABLE), &[])
    }

    fn take(
        &self,
        name: &'static str,
        kind: (u32, u32, u32),
        kernel: &[u8],
    ) -> Result<OwnedFd, Error> {
        let program = self.object.programs.get(name).ok_or(Error::NoPrograms)?;
        let function = self.object.functions.get(&program.function_key());
        let mut code = function.ok_or(Error::NoPrograms)?.instructions.clone();
        let failed = |source| Error::Raw {
            what: format!("load program {name}"),
            source,
        };
        for (number, function) in kfunc::ALL {
            call_kernel(&mut code, number, function, kernel);
        }
        let code: Vec<u64> = code.iter().map(word).collect();
        syscall::load_program(kind, name, &code, &self.license).map_err(failed)
    }
}

/// Puts the running kernel's number of a function in place of ours, wherever it is called. On a kernel that has
/// none of this name the call fails, as the programs see it: what needs it is refused, and all else goes on.
fn call_kernel(
    code: &mut [aya_obj::generated::bpf_insn],
    number: u32,
    function: &str,
    kernel: &[u8],
) {
    let ours = |one: &&mut aya_obj::generated::bpf_insn| {
        one.code == CALL && one.src_reg() == 0 && one.imm.cast_unsigned() == number
    };
    let mut calls = code.iter_mut().filter(ours).peekable();
    if calls.peek().is_none() {
        return;
    }
    let id = btf::function(kernel, function);
    for call in calls {
        match id {
            Some(id) => {
                call.set_src_reg(KFUNC);
                call.imm = id.cast_signed();
            }
            None => {
                call.code = SET;
                call.imm = -1;
            }
        }
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
