//! A ring of io_uring (Linux 5.1), as little of it as connects a socket.

#![expect(
    unsafe_code,
    reason = "rings are memory that is shared with the kernel"
)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};

use super::call;

/// `struct io_uring_params`, by its words; those from the tenth on say where things lie.
type Parameters = [u32; 30];
/// Where it says the tail of what is asked lies, the mask of its numbers, and the numbers.
const TAIL: usize = 11;
const MASK: usize = 12;
const ARRAY: usize = 16;

/// `IORING_OFF_SQES`.
const ENTRIES: i64 = 0x1000_0000;
/// `IORING_OP_CONNECT` (Linux 5.5).
const CONNECT: u8 = 16;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u64 = 1;

/// The first half of `struct io_uring_sqe`, and the rest of it.
#[repr(C)]
#[derive(Default)]
struct Entry {
    code: u8,
    flags: u8,
    priority: u16,
    descriptor: i32,
    offset: u64,
    address: u64,
    rest: [u64; 5],
}

/// Memory of a ring; unmapped with this value.
struct Mapped {
    at: NonNull<libc::c_void>,
    length: usize,
}

impl Mapped {
    fn new(ring: &OwnedFd, length: usize, offset: i64) -> io::Result<Self> {
        let (wanted, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                wanted,
                shared,
                ring.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(at).filter(|_| at != libc::MAP_FAILED) {
            Some(at) => Ok(Self { at, length }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// The word at an offset that the kernel has told.
    fn word(&self, offset: u32) -> io::Result<&AtomicU32> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if offset % 4 != 0 || offset + 4 > self.length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: within the mapping, which begins at a page, and aligned.
        Ok(unsafe { AtomicU32::from_ptr(self.at.as_ptr().byte_add(offset).cast()) })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing borrows from it any more.
        unsafe { libc::munmap(self.at.as_ptr(), self.length) };
    }
}

/// Has a ring of its own connect the socket, and waits until it says what came of it; whether it did shows with what
/// is sent.
pub(super) fn connect(socket: &OwnedFd, to: &SockaddrStorage) -> io::Result<()> {
    let mut told: Parameters = [0; 30];
    let setup = [
        4,
        ptr::from_mut(&mut told).expose_provenance() as u64,
        0,
        0,
        0,
    ];
    let ring = call::any(libc::SYS_io_uring_setup, setup)?;
    let ring = call::descriptor(i64::try_from(ring).unwrap_or(-1))?;
    let [tail, mask, array] = [TAIL, MASK, ARRAY].map(|at| told.get(at).copied().unwrap_or(0));
    let asked = Mapped::new(&ring, 4096, 0)?;
    let entries = Mapped::new(&ring, 4096, ENTRIES)?;
    let entry = Entry {
        code: CONNECT,
        descriptor: socket.as_raw_fd(),
        offset: to.len().into(),
        address: to.as_ptr().expose_provenance() as u64,
        ..Entry::default()
    };
    // SAFETY: the first entry of the array, which nobody else writes; the kernel reads it when it is asked below.
    unsafe { entries.at.cast::<Entry>().write(entry) };
    let next = asked.word(tail)?.load(Ordering::Relaxed);
    let slot = next & asked.word(mask)?.load(Ordering::Relaxed);
    asked.word(array + 4 * slot)?.store(0, Ordering::Relaxed);
    asked
        .word(tail)?
        .store(next.wrapping_add(1), Ordering::Release);
    let number = u64::try_from(ring.as_raw_fd()).unwrap_or(0);
    call::any(libc::SYS_io_uring_enter, [number, 1, 1, GET_EVENTS, 0]).map(drop)
}

const _: () = assert!(size_of::<Entry>() == 64);
