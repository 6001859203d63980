//! How much is recorded of a channel that carries files or a connection: so many bytes of each direction. Of sftp it
//! is the files' own bytes that count; what is asked for and answered is recorded whatever comes.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::super::sftp::wire::{MOST, kind};

/// Bytes of a packet's length, its type and its id.
const HEAD: usize = 9;
/// Its length alone.
const LENGTH: usize = 4;

/// One direction.
#[derive(Debug)]
pub(super) struct Thin {
    /// Bytes that are still recorded.
    left: usize,
    /// Bytes that were not.
    out: u64,
    packets: Option<Packets>,
}

/// Where it is in a row of packets.
#[derive(Debug, Default)]
struct Packets {
    /// What there is of the next one's head.
    head: BytesMut,
    /// Bytes of this one that are still to come.
    rest: usize,
    /// Whether they are left out.
    is_left_out: bool,
}

impl Thin {
    pub(super) fn new(most: usize) -> Self {
        Self {
            left: most,
            out: 0,
            packets: None,
        }
    }

    /// Packets of sftp come.
    pub(super) fn follow(&mut self) {
        self.packets = Some(Packets::default());
    }

    /// Bytes that were left out.
    pub(super) fn out(&self) -> u64 {
        self.out
    }

    /// What of these is recorded.
    pub(super) fn keep(&mut self, bytes: Bytes) -> Bytes {
        let Some(mut packets) = self.packets.take() else {
            return self.begin_of(bytes);
        };
        let mut kept = BytesMut::new();
        let followed = self.follow_on(&mut packets, &bytes, &mut kept);
        match followed {
            Ok(()) => self.packets = Some(packets),
            // What is no sftp ends here; until then it counts like anything else.
            Err(rest) => kept.extend_from_slice(&self.begin_of(Bytes::copy_from_slice(rest))),
        }
        kept.freeze()
    }

    fn begin_of(&mut self, mut bytes: Bytes) -> Bytes {
        let length = bytes.len();
        bytes.truncate(self.left);
        self.left = self.left.saturating_sub(bytes.len());
        self.leave_out(length.saturating_sub(bytes.len()));
        bytes
    }

    fn leave_out(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.out = self.out.saturating_add(bytes);
    }

    /// Follows packets to the end of what came; what no packet begins with is an error.
    fn follow_on<'a>(
        &mut self,
        packets: &mut Packets,
        mut bytes: &'a [u8],
        kept: &mut BytesMut,
    ) -> Result<(), &'a [u8]> {
        while !bytes.is_empty() {
            if packets.rest > 0 {
                let (now, later) = bytes.split_at(packets.rest.min(bytes.len()));
                packets.rest = packets.rest.saturating_sub(now.len());
                match packets.is_left_out {
                    true => self.leave_out(now.len()),
                    false => kept.extend_from_slice(now),
                }
                bytes = later;
                continue;
            }
            let wanted = packets.wanted().saturating_sub(packets.head.len());
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            packets.head.extend_from_slice(now);
            bytes = later;
            if packets.head.len() < packets.wanted() {
                continue;
            }
            let Some(length) = packets.length() else {
                kept.extend_from_slice(&packets.head);
                return Err(bytes);
            };
            packets.rest = (LENGTH + length).saturating_sub(packets.head.len());
            packets.is_left_out = packets.is_data() && packets.rest > self.left;
            if packets.is_left_out {
                // The same packet without what it carries.
                kept.put_u32(u32::try_from(HEAD - LENGTH).unwrap_or_default());
                kept.extend_from_slice(packets.head.get(LENGTH..).unwrap_or_default());
            } else {
                if packets.is_data() {
                    self.left = self.left.saturating_sub(packets.rest);
                }
                kept.extend_from_slice(&packets.head);
            }
            packets.head.clear();
        }
        Ok(())
    }
}

impl Packets {
    /// How much of a head tells what the packet is: the id as well where it may be left out.
    fn wanted(&self) -> usize {
        match self.is_data() {
            true => HEAD,
            false => LENGTH + 1,
        }
    }

    fn length(&self) -> Option<usize> {
        let length = u32::from_be_bytes(*self.head.first_chunk::<LENGTH>()?);
        let length = usize::try_from(length).ok()?;
        (1..=MOST).contains(&length).then_some(length)
    }

    /// Whether it carries a part of a file.
    fn is_data(&self) -> bool {
        let kind = self.head.get(LENGTH).copied();
        matches!(kind, Some(kind::WRITE | kind::DATA))
            && self.length().is_some_and(|length| length >= HEAD - LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sftp::wire::{framed, packet, request, status};
    use super::*;

    fn carrying(kind: u8, id: u32, bytes: usize) -> Bytes {
        let mut packet = BytesMut::new();
        packet.put_u8(kind);
        packet.put_u32(id);
        packet.put_bytes(b'x', bytes);
        framed(&packet)
    }

    /// What is kept where it comes in pieces of this size.
    fn kept(thin: &mut Thin, bytes: &[u8], piece: usize) -> Vec<u8> {
        let pieces = bytes.chunks(piece);
        pieces
            .flat_map(|piece| thin.keep(Bytes::copy_from_slice(piece)))
            .collect()
    }

    #[test]
    fn the_beginning_is_kept_of_what_is_no_sftp() {
        for piece in [1, 3, 100] {
            let mut thin = Thin::new(10);
            assert_eq!(kept(&mut thin, &[7; 25], piece), [7; 10]);
            assert_eq!(thin.out(), 15);
        }
    }

    #[test]
    fn every_packet_is_kept_and_files_no_longer_than_they_may_be() {
        let mut open = BytesMut::new();
        open.put_u8(kind::REMOVE);
        open.put_u32(3);
        open.put_u32(4);
        open.put_slice(b"/tmp");
        let open = framed(&open);
        let sent = [
            carrying(kind::WRITE, 1, 40),
            carrying(kind::WRITE, 2, 100),
            open.clone(),
            carrying(kind::WRITE, 4, 50),
            status(5, 0, "fine"),
            carrying(kind::DATA, 6, 20),
        ];
        for piece in [1, 2, 7, 50, 1000] {
            let mut thin = Thin::new(100);
            thin.follow();
            let kept = kept(&mut thin, &sent.concat(), piece);
            let mut rest = BytesMut::from(&kept[..]);
            let mut ids = Vec::new();
            let mut lengths = Vec::new();
            while let Some(packet) = packet(&mut rest).unwrap() {
                ids.push(u32::from_be_bytes(packet[1..5].try_into().unwrap()));
                lengths.push(packet.len());
                if packet[0] != kind::WRITE {
                    request(&packet).unwrap();
                }
            }
            assert!(rest.is_empty());
            assert_eq!(ids, [1, 2, 3, 4, 5, 6], "{piece}");
            assert_eq!(lengths[..4], [45, 5, open.len() - 4, 55], "{piece}");
            assert_eq!(lengths[5], 5);
            assert_eq!(thin.out(), 120, "{piece}");
        }
    }

    #[test]
    fn what_is_no_packet_counts_like_anything_else() {
        for piece in [1, 4, 100] {
            let mut thin = Thin::new(10);
            thin.follow();
            let kept = kept(&mut thin, &[0; 40], piece);
            assert_eq!(kept.len(), 15, "the head, and what may be kept");
            assert_eq!(thin.out(), 25);
        }
    }
}
