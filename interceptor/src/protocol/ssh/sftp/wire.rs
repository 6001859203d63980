//! The bytes of sftp, version 3 (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL): packets, and what
//! a request names. Nothing is decided here.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes of a packet (OpenSSH's SFTP_MAX_MSG_LENGTH is 256 KiB).
pub(in super::super) const MOST: usize = 256 << 10;
/// What of a packet is not the data that it carries, at most.
const HEAD: u64 = 1 << 10;

/// Packet types.
pub(in super::super) mod kind {
    pub(in super::super::super) const INIT: u8 = 1;
    pub(in super::super::super) const VERSION: u8 = 2;
    pub(in super::super::super) const OPEN: u8 = 3;
    pub(in super::super::super) const CLOSE: u8 = 4;
    pub(in super::super::super) const READ: u8 = 5;
    pub(in super::super::super) const WRITE: u8 = 6;
    pub(in super::super::super) const LSTAT: u8 = 7;
    pub(in super::super::super) const FSTAT: u8 = 8;
    pub(in super::super::super) const SETSTAT: u8 = 9;
    pub(in super::super::super) const FSETSTAT: u8 = 10;
    pub(in super::super::super) const OPENDIR: u8 = 11;
    pub(in super::super::super) const READDIR: u8 = 12;
    pub(in super::super::super) const REMOVE: u8 = 13;
    pub(in super::super::super) const MKDIR: u8 = 14;
    pub(in super::super::super) const RMDIR: u8 = 15;
    pub(in super::super::super) const REALPATH: u8 = 16;
    pub(in super::super::super) const STAT: u8 = 17;
    pub(in super::super::super) const RENAME: u8 = 18;
    pub(in super::super::super) const READLINK: u8 = 19;
    pub(in super::super::super) const SYMLINK: u8 = 20;
    pub(in super::super::super) const STATUS: u8 = 101;
    pub(in super::super::super) const HANDLE: u8 = 102;
    pub(in super::super::super) const DATA: u8 = 103;
    pub(in super::super::super) const NAME: u8 = 104;
    pub(in super::super::super) const EXTENDED: u8 = 200;
    pub(in super::super::super) const EXTENDED_REPLY: u8 = 201;
}

/// Flags of OPEN.
const READ: u32 = 1;
const WRITE: u32 = 2;
const WRITES: u32 = WRITE | 4 | 8 | 16 | 32;

/// The latest version that is read here: others have other forms of what is judged.
pub(in super::super) const LATEST: u32 = 3;

/// Codes of STATUS.
pub(in super::super) const PERMISSION_DENIED: u32 = 3;
pub(in super::super) const OP_UNSUPPORTED: u32 = 8;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Request {
    /// Nothing that is judged.
    Plain,
    /// To speak this version.
    Init(u32),
    /// Something done to what a path names.
    Path(Operation, String),
    /// Something done to what two paths name.
    Paths(Operation, String, String),
    /// A file or directory that is opened: its handle comes to stand for the path.
    Open {
        path: String,
        reads: bool,
        writes: bool,
    },
    /// Something done to what a handle stands for.
    Handle(Operation, Bytes),
    /// Something read from what a handle stands for.
    Read(Bytes),
    /// So many bytes written to it.
    Write(Bytes, u64),
    /// A handle that is given up.
    Close(Bytes),
    /// How much the server takes at once.
    Limits,
    /// Something done to a path that is no text.
    NotText,
    /// Something that is not known here.
    Unknown,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operation {
    Stat,
    OpenDir,
    ReadLink,
    StatVfs,
    SetStat,
    Remove,
    MakeDir,
    RemoveDir,
    Rename,
    Symlink,
    Hardlink,
}

impl Operation {
    pub(in super::super) const fn word(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::OpenDir => "opendir",
            Self::ReadLink => "readlink",
            Self::StatVfs => "statvfs",
            Self::SetStat => "setstat",
            Self::Remove => "remove",
            Self::MakeDir => "mkdir",
            Self::RemoveDir => "rmdir",
            Self::Rename => "rename",
            Self::Symlink => "symlink",
            Self::Hardlink => "hardlink",
        }
    }
}

/// A packet that does not have its form; the channel ends.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Broken;

/// Why a field cannot be read.
enum Unread {
    Form,
    /// It is there, and no UTF-8.
    Text,
}

impl From<Broken> for Unread {
    fn from(_broken: Broken) -> Self {
        Self::Form
    }
}

impl From<Unread> for Broken {
    fn from(_unread: Unread) -> Self {
        Self
    }
}

/// A whole packet off the front of what has come, its length left out.
pub(in super::super) fn packet(from: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
    let Some(length) = from.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length == 0 || length > MOST {
        return Err(Broken);
    }
    if from.len() < length.saturating_add(4) {
        return Ok(None);
    }
    from.advance(4);
    Ok(Some(from.split_to(length).freeze()))
}

/// A packet with its length in front.
pub(in super::super) fn framed(packet: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(packet.len().saturating_add(4));
    framed.put_u32(u32::try_from(packet.len()).unwrap_or(u32::MAX));
    framed.put_slice(packet);
    framed.freeze()
}

/// The answer to a request that goes no farther.
pub(in super::super) fn status(id: u32, code: u32, message: &str) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u8(kind::STATUS);
    packet.put_u32(id);
    packet.put_u32(code);
    put_string(&mut packet, message.as_bytes());
    put_string(&mut packet, b"en");
    framed(&packet)
}

/// A greeting that offers no later version than is read here; who speaks a later one speaks this, too.
pub(in super::super) fn greeting(packet: &[u8]) -> Result<Bytes, Broken> {
    let version = id(packet)?.min(LATEST);
    let mut greeting = BytesMut::new();
    greeting.put_u8(kind::INIT);
    greeting.put_u32(version);
    greeting.put_slice(packet.get(5..).unwrap_or_default());
    Ok(framed(&greeting))
}

/// A request for where the login's home is.
pub(in super::super) fn where_am_i(id: u32) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u8(kind::REALPATH);
    packet.put_u32(id);
    put_string(&mut packet, b".");
    framed(&packet)
}

fn put_string(packet: &mut BytesMut, text: &[u8]) {
    packet.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    packet.put_slice(text);
}

/// The type of a packet.
pub(in super::super) fn kind_of(packet: &[u8]) -> u8 {
    packet.first().copied().unwrap_or_default()
}

/// The id of a packet, or a version.
pub(in super::super) fn id(packet: &[u8]) -> Result<u32, Broken> {
    Fields(packet.get(1..).unwrap_or_default()).number()
}

/// The handle of a HANDLE.
pub(in super::super) fn handle(packet: &[u8]) -> Result<Bytes, Broken> {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    fields.number()?;
    Ok(Bytes::copy_from_slice(fields.string()?))
}

/// The first name of a NAME.
pub(in super::super) fn name(packet: &[u8]) -> Result<String, Broken> {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    fields.number()?;
    fields.number()?;
    Ok(fields.text()?)
}

/// What a STATUS says.
pub(in super::super) fn said(packet: &[u8]) -> Result<String, Broken> {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    fields.number()?;
    let code = fields.number()?;
    let words = fields.text().unwrap_or_default();
    Ok(match code {
        0 => "ok".to_owned(),
        code => format!("{words} ({code})"),
    })
}

/// How a request came out, by its answer.
pub(in super::super) fn outcome(packet: &[u8]) -> Result<String, Broken> {
    if kind_of(packet) != kind::STATUS {
        return Ok("ok".to_owned());
    }
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    fields.number()?;
    Ok(match fields.number()? {
        0 => "ok".to_owned(),
        1 => "end of file".to_owned(),
        2 => "no such file".to_owned(),
        PERMISSION_DENIED => "permission denied".to_owned(),
        4 => "failure".to_owned(),
        OP_UNSUPPORTED => "not supported".to_owned(),
        code => format!("status {code}"),
    })
}

/// Reads what a client sent.
pub(in super::super) fn request(packet: &[u8]) -> Result<(u32, Request), Broken> {
    let kind = kind_of(packet);
    let id = id(packet)?;
    if kind == kind::INIT {
        return Ok((id, Request::Init(id)));
    }
    let mut fields = Fields(packet.get(5..).unwrap_or_default());
    match named(kind, &mut fields) {
        Ok(request) => Ok((id, request)),
        Err(Unread::Text) => Ok((id, Request::NotText)),
        Err(Unread::Form) => Err(Broken),
    }
}

fn named(kind: u8, fields: &mut Fields<'_>) -> Result<Request, Unread> {
    Ok(match kind {
        kind::READDIR | kind::FSTAT | kind::REALPATH => Request::Plain,
        kind::READ => Request::Read(Bytes::copy_from_slice(fields.string()?)),
        kind::WRITE => {
            let handle = Bytes::copy_from_slice(fields.string()?);
            // Where to, in two halves.
            fields.number()?;
            fields.number()?;
            Request::Write(handle, u64::from(fields.number()?))
        }
        kind::CLOSE => Request::Close(Bytes::copy_from_slice(fields.string()?)),
        kind::OPEN => {
            let path = fields.text()?;
            let flags = fields.number()?;
            let writes = flags & WRITES != 0;
            Request::Open {
                path,
                // What is not opened to be written is opened to be read, whatever else is to become of it.
                reads: flags & READ != 0 || flags & WRITE == 0,
                writes,
            }
        }
        kind::OPENDIR => Request::Path(Operation::OpenDir, fields.text()?),
        kind::LSTAT | kind::STAT => Request::Path(Operation::Stat, fields.text()?),
        kind::READLINK => Request::Path(Operation::ReadLink, fields.text()?),
        kind::SETSTAT => Request::Path(Operation::SetStat, fields.text()?),
        kind::REMOVE => Request::Path(Operation::Remove, fields.text()?),
        kind::MKDIR => Request::Path(Operation::MakeDir, fields.text()?),
        kind::RMDIR => Request::Path(Operation::RemoveDir, fields.text()?),
        kind::FSETSTAT => {
            Request::Handle(Operation::SetStat, Bytes::copy_from_slice(fields.string()?))
        }
        kind::RENAME => Request::Paths(Operation::Rename, fields.text()?, fields.text()?),
        kind::SYMLINK => Request::Paths(Operation::Symlink, fields.text()?, fields.text()?),
        kind::EXTENDED => extended(fields)?,
        _ => Request::Unknown,
    })
}

fn extended(fields: &mut Fields<'_>) -> Result<Request, Unread> {
    let name = fields.text()?;
    Ok(match extension(&name) {
        Some(Extension::OnePath(operation)) => Request::Path(operation, fields.text()?),
        Some(Extension::TwoPaths(operation)) => {
            Request::Paths(operation, fields.text()?, fields.text()?)
        }
        Some(Extension::Plain) => Request::Plain,
        Some(Extension::Limits) => Request::Limits,
        None => Request::Unknown,
    })
}

/// What is carried beside the requests of the draft.
enum Extension {
    OnePath(Operation),
    TwoPaths(Operation),
    Plain,
    Limits,
}

fn extension(name: &str) -> Option<Extension> {
    Some(match name {
        "posix-rename@openssh.com" => Extension::TwoPaths(Operation::Rename),
        "hardlink@openssh.com" => Extension::TwoPaths(Operation::Hardlink),
        "statvfs@openssh.com" => Extension::OnePath(Operation::StatVfs),
        "lsetstat@openssh.com" => Extension::OnePath(Operation::SetStat),
        "limits@openssh.com" => Extension::Limits,
        // What these do was judged when the handle was made, or touches no file.
        "fstatvfs@openssh.com"
        | "fsync@openssh.com"
        | "expand-path@openssh.com"
        | "home-directory"
        | "users-groups-by-id@openssh.com"
        | "copy-data"
        | "ranges@asyncssh.com" => Extension::Plain,
        _ => return None,
    })
}

/// A server's VERSION, with those of its extensions that are carried: clients do without what nobody offers.
pub(in super::super) fn offered(packet: &[u8]) -> Result<Bytes, Broken> {
    let (head, rest) = packet.split_at_checked(5).ok_or(Broken)?;
    if id(packet)? > LATEST {
        return Err(Broken);
    }
    let mut offered = BytesMut::from(head);
    let mut fields = Fields(rest);
    while !fields.0.is_empty() {
        let (name, data) = (fields.string()?, fields.string()?);
        if std::str::from_utf8(name).is_ok_and(|name| extension(name).is_some()) {
            put_string(&mut offered, name);
            put_string(&mut offered, data);
        }
    }
    Ok(offered.freeze())
}

/// An answer that says how much a server takes at once, with no more than is taken here (OpenSSH's PROTOCOL, 4.8).
pub(in super::super) fn limited(packet: &[u8], handles: u64) -> Result<Bytes, Broken> {
    let (head, rest) = packet.split_at_checked(5).ok_or(Broken)?;
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let data = most.saturating_sub(HEAD);
    let mut limited = BytesMut::from(head);
    let mut fields = Fields(rest);
    for ours in [most, data, data, handles] {
        let theirs = fields.long()?;
        // None is said by a zero.
        limited.put_u64(match theirs {
            0 => ours,
            theirs => theirs.min(ours),
        });
    }
    limited.put_slice(fields.0);
    Ok(limited.freeze())
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u32, Broken> {
        let (number, rest) = self.0.split_first_chunk::<4>().ok_or(Broken)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn long(&mut self) -> Result<u64, Broken> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Broken)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    fn string(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::try_from(self.number()?).map_err(|_error| Broken)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok(text)
    }

    fn text(&mut self) -> Result<String, Unread> {
        String::from_utf8(self.string()?.to_vec()).map_err(|_error| Unread::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        let mut packet = BytesMut::new();
        packet.put_u8(kind);
        packet.put_u32(7);
        for field in fields {
            put_string(&mut packet, field);
        }
        packet.to_vec()
    }

    #[test]
    fn requests_are_read_by_what_they_name() {
        let mut open = made(kind::OPEN, &[b"/a"]);
        open.extend_from_slice(&(READ | 2).to_be_bytes());
        let opened = Request::Open {
            path: "/a".to_owned(),
            reads: true,
            writes: true,
        };
        assert_eq!(request(&open), Ok((7, opened)));
        let rename = made(kind::EXTENDED, &[b"posix-rename@openssh.com", b"/a", b"b"]);
        let renamed = Request::Paths(Operation::Rename, "/a".to_owned(), "b".to_owned());
        assert_eq!(request(&rename), Ok((7, renamed)));
        let unknown = made(kind::EXTENDED, &[b"exec@example.com", b"id"]);
        assert_eq!(request(&unknown), Ok((7, Request::Unknown)));
        assert_eq!(request(&made(kind::REMOVE, &[])), Err(Broken));
        let latin = made(kind::REMOVE, &[b"\xff"]);
        assert_eq!(request(&latin), Ok((7, Request::NotText)));
    }

    #[test]
    fn packets_come_whole_or_not_at_all() {
        let framed = framed(&made(kind::STAT, &[b"/a"]));
        for cut in 0..framed.len() {
            let mut from = BytesMut::from(framed.get(..cut).unwrap());
            assert_eq!(packet(&mut from), Ok(None), "cut at {cut}");
        }
        let mut from = BytesMut::from(&framed[..]);
        assert_eq!(packet(&mut from).unwrap().unwrap(), framed[4..]);
        let mut huge = BytesMut::from(&[0xff_u8; 8][..]);
        assert_eq!(packet(&mut huge), Err(Broken));
    }
}
