//! What a command prints, on its way to the agent: looked at by the detectors, kept as the agent sees it.

mod plain;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use self::plain::Plain;
use super::detect::{Action, Detectors, Kind, Scan, cover};

/// One stream of one command.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    detectors: Option<Arc<Detectors>>,
    scan: Scan,
    held: Vec<u8>,
}

/// Values that were found, by kind.
pub(crate) type Found = BTreeMap<&'static str, u64>;

impl Stream {
    pub(crate) fn new(detectors: Option<&Arc<Detectors>>) -> Self {
        Self {
            detectors: detectors.map(Arc::clone),
            ..Self::default()
        }
    }

    /// Whether something is kept back until more has come.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What may go on of this and of what was kept back; with `last`, all. The kind, where something must
    /// go no farther.
    pub(crate) fn pass(
        &mut self,
        bytes: Bytes,
        last: bool,
        found: &mut Found,
    ) -> Result<Bytes, Kind> {
        let Some(detectors) = &self.detectors else {
            return Ok(bytes);
        };
        self.held.extend_from_slice(&bytes);
        let plain = Plain::of(&self.held, last);
        let letters = plain.letters(&self.held);
        let mut masked = Vec::new();
        let mut refused = None;
        let decided = self.scan.step(detectors, letters, last, |piece| {
            if piece.begins {
                let count = found.entry(piece.kind.word()).or_default();
                *count = count.saturating_add(1);
            }
            match piece.action {
                Action::Report => {}
                Action::Mask => masked.push(piece.start..piece.end),
                Action::Refuse => refused = refused.or(Some(piece.kind)),
            }
        });
        if let Some(kind) = refused {
            return Err(kind);
        }
        for letter in masked.into_iter().flatten() {
            let place = plain.place(letter);
            cover(self.held.get_mut(place..=place).unwrap_or_default());
        }
        if last {
            self.scan = Scan::default();
        }
        Ok(self
            .held
            .drain(..plain.place(decided))
            .collect::<Vec<_>>()
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a text that is cut once.
    fn cut(text: &[u8], at: usize) -> String {
        let actions = [(Kind::of("email").unwrap(), Action::Mask)].into();
        let detectors = Detectors::new(&actions).map(Arc::new);
        let mut stream = Stream::new(detectors.as_ref());
        let mut found = Found::new();
        let mut out = Vec::new();
        let (first, second) = text.split_at(at);
        for (bytes, last) in [(first, false), (second, true)] {
            let bytes = Bytes::copy_from_slice(bytes);
            out.extend(stream.pass(bytes, last, &mut found).unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_is_masked_however_it_is_coloured() {
        let text = "\u{1b}[1mto ali\u{1b}[01;31m\u{1b}[Kce@exam\u{1b}[m\u{1b}[Kple.com\u{1b}[0m now\u{1b}[";
        let wanted = "\u{1b}[1mto ***\u{1b}[01;31m\u{1b}[K*******\u{1b}[m\u{1b}[K*******\u{1b}[0m now\u{1b}[";
        for at in 0..=text.len() {
            assert_eq!(cut(text.as_bytes(), at), wanted, "cut at {at}");
        }
        // What is no colour may carry a value, and parts two.
        let title = "\u{1b}]0;bob@example.com\u{7} \u{1b}[2;3Hx";
        let wanted = "\u{1b}]0;***************\u{7} \u{1b}[2;3Hx";
        for at in 0..=title.len() {
            assert_eq!(cut(title.as_bytes(), at), wanted, "cut at {at}");
        }
    }

    #[test]
    fn a_value_is_masked_however_its_packets_are_cut() {
        let actions = [(Kind::of("email").unwrap(), Action::Mask)].into();
        let detectors = Detectors::new(&actions).map(Arc::new);
        let text = b"mail alice@example.com now\n";
        for cut in 1..text.len() {
            let mut stream = Stream::new(detectors.as_ref());
            let mut found = Found::new();
            let (first, second) = text.split_at(cut);
            let mut out = stream
                .pass(Bytes::from_static(first), false, &mut found)
                .unwrap()
                .to_vec();
            out.extend(
                stream
                    .pass(Bytes::from_static(second), true, &mut found)
                    .unwrap(),
            );
            assert_eq!(out, b"mail ***************** now\n", "cut at {cut}");
            assert_eq!(found["email"], 1);
        }
    }
}
