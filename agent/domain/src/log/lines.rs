//! Bytes of a file to lines.

/// The longest piece of a line; what is longer comes in several.
pub const PIECE: usize = 64 * 1024;

/// A line, or a part of a long one. Its bytes are the file's, without the line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub text: Vec<u8>,
    /// Offset of its first byte in its file.
    pub offset: u64,
    /// It goes on in the next piece: longer than [`PIECE`], or its end was not written yet.
    pub continues: bool,
    /// It is not the beginning of its line.
    pub continued: bool,
}

/// Cuts bytes at line feeds, holds what has no end yet, never more than [`PIECE`] of it.
#[derive(Debug, Default)]
pub struct Splitter {
    carry: Vec<u8>,
    carry_offset: u64,
    inside: bool,
}

impl Splitter {
    /// `inside`: the next byte is not the first of its line.
    #[must_use]
    pub fn new(inside: bool) -> Self {
        Self { carry: Vec::new(), carry_offset: 0, inside }
    }

    /// Takes the next bytes, which stand at `offset` of their file, and appends finished pieces. Answers how many of
    /// `data` are in finished pieces, line feeds included; `None` when no piece was finished.
    pub fn push(&mut self, data: &[u8], offset: u64, pieces: &mut Vec<Piece>) -> Option<usize> {
        let mut done = None;
        let mut start = 0;
        while start < data.len() {
            let rest = &data[start..];
            let room = PIECE - self.carry.len();
            let window = &rest[..rest.len().min(room + 1)];
            let (taken, end) = match memchr::memchr(b'\n', window) {
                Some(at) => (at, Some(false)),
                None if window.len() > room => (room, Some(true)),
                None => (rest.len(), None),
            };
            if self.carry.is_empty() {
                self.carry_offset = offset + start as u64;
            }
            self.carry.extend_from_slice(&rest[..taken]);
            start += taken;
            if let Some(continues) = end {
                start += usize::from(!continues);
                self.finish(continues, pieces);
                done = Some(start);
            }
        }
        done
    }

    /// Hands out what has no end yet, as a piece that continues. False when there is nothing.
    pub fn flush(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.carry.is_empty() {
            return false;
        }
        self.finish(true, pieces);
        true
    }

    /// After bytes that could not be had: what comes next is taken for the beginning of a line.
    pub fn forget(&mut self) {
        self.carry.clear();
        self.inside = false;
    }

    /// Bytes held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.carry.len()
    }

    fn finish(&mut self, continues: bool, pieces: &mut Vec<Piece>) {
        let text = std::mem::take(&mut self.carry);
        pieces.push(Piece { text, offset: self.carry_offset, continues, continued: self.inside });
        self.inside = continues;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend_from_slice(&piece.text);
            if !piece.continues {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn bytes_are_kept_as_they_are() {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        assert_eq!(splitter.push(b"a\r\n\n\xff\0b\nrest", 10, &mut pieces), Some(8));
        let texts: Vec<&[u8]> = pieces.iter().map(|piece| piece.text.as_slice()).collect();
        assert_eq!(texts, [b"a\r".as_slice(), b"", b"\xff\0b"]);
        assert_eq!(pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(), [10, 13, 14]);
        assert_eq!(splitter.held(), 4);
        assert!(splitter.flush(&mut pieces));
        assert!(pieces[3].continues && pieces[3].offset == 18);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        let line = vec![b'x'; PIECE * 2 + 5];
        for chunk in line.chunks(1000) {
            splitter.push(chunk, 0, &mut pieces);
        }
        splitter.push(b"\n", 0, &mut pieces);
        let shape: Vec<_> =
            pieces.iter().map(|piece| (piece.text.len(), piece.continues, piece.continued)).collect();
        assert_eq!(shape, [(PIECE, true, false), (PIECE, true, true), (5, false, true)]);
    }

    #[test]
    fn a_line_of_exactly_one_piece_is_whole() {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        let mut line = vec![b'x'; PIECE];
        line.push(b'\n');
        splitter.push(&line, 0, &mut pieces);
        assert_eq!(pieces.len(), 1);
        assert!(!pieces[0].continues);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..4000),
            cuts in prop::collection::vec(1usize..700, 1..40),
        ) {
            let mut splitter = Splitter::default();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                if at >= bytes.len() { break; }
                let end = (at + cut).min(bytes.len());
                splitter.push(&bytes[at..end], at as u64, &mut pieces);
                at = end;
            }
            splitter.flush(&mut pieces);
            prop_assert_eq!(joined(&pieces), bytes.clone());
            for piece in &pieces {
                let at = usize::try_from(piece.offset).unwrap();
                prop_assert_eq!(&bytes[at..at + piece.text.len()], piece.text.as_slice());
            }
        }
    }
}
