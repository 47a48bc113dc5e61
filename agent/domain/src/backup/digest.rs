//! What proves that two heaps of documents are the same, whatever their order.

use crate::ports::dump::DOCUMENT_MAX;

/// The shortest BSON document: its length and the closing zero.
const DOCUMENT_MIN: usize = 5;

/// Sums over documents, fed in pieces of whole documents.
#[derive(Clone)]
pub struct Tally {
    documents: u64,
    bytes: u64,
    crc: crc64fast::Digest,
    sum: u128,
}

/// What a [`Tally`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub documents: u64,
    /// Of uncompressed BSON.
    pub bytes: u64,
    /// CRC-64/XZ of the documents in the order in which they came, 16 hex digits.
    pub crc64: String,
    /// Sum modulo 2^128 of each document's BLAKE3 (its first 16 bytes), 32 hex digits. The order does not matter,
    /// a document that is missing, twice or changed does.
    pub digest: String,
}

/// Where bytes stop being documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} is not the beginning of a whole document")]
pub struct NotDocuments {
    /// Counted from the piece's beginning.
    pub at: usize,
}

impl Default for Tally {
    fn default() -> Self {
        Self { documents: 0, bytes: 0, crc: crc64fast::Digest::new(), sum: 0 }
    }
}

impl Tally {
    /// Walks whole documents and adds them; answers how many.
    ///
    /// # Errors
    /// When the piece does not consist of whole documents; then nothing of it was added.
    pub fn add(&mut self, piece: &[u8]) -> Result<u64, NotDocuments> {
        let mut sum = self.sum;
        let mut count = 0;
        let mut at = 0;
        while at < piece.len() {
            let document = first_document(&piece[at..]).ok_or(NotDocuments { at })?;
            let hash = blake3::hash(document);
            let head = hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
            sum = sum.wrapping_add(u128::from_le_bytes(head));
            at += document.len();
            count += 1;
        }
        self.sum = sum;
        self.crc.write(piece);
        self.documents += count;
        self.bytes += piece.len() as u64;
        Ok(count)
    }

    /// What it comes to so far.
    #[must_use]
    pub fn sums(&self) -> Sums {
        Sums {
            documents: self.documents,
            bytes: self.bytes,
            crc64: format!("{:016x}", self.crc.sum64()),
            digest: format!("{:032x}", self.sum),
        }
    }
}

/// The document that the bytes begin with, when it is whole.
#[must_use]
pub fn first_document(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(i32::from_le_bytes(*bytes.first_chunk::<4>()?)).ok()?;
    if !(DOCUMENT_MIN..=DOCUMENT_MAX).contains(&length) {
        return None;
    }
    bytes.get(..length).filter(|document| document.last() == Some(&0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The shape of a document; what is inside does not matter to a walk.
    fn document(body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(body.len() + 5).unwrap();
        [&length.to_le_bytes(), body, &[0]].concat()
    }

    #[test]
    fn the_checksum_is_the_one_of_stock_archives() {
        // mongo-tools' own vector: a document and its CRC (backup formats, mongodump 3.4).
        let bytes = "23000000075f69640058ffb124b721bc6c3234333c02666f6f00040000006261720000";
        let bytes: Vec<u8> = (0..bytes.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap())
            .collect();
        let mut tally = Tally::default();
        assert_eq!(tally.add(&bytes), Ok(1));
        assert_eq!(tally.sums().crc64, "9369f0f35bec50d9");
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_everything_else_does(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let documents: Vec<Vec<u8>> = bodies.iter().map(|body| document(body)).collect();
            let digest = |documents: &[Vec<u8>]| {
                let mut tally = Tally::default();
                for document in documents {
                    tally.add(document).unwrap();
                }
                tally.sums()
            };
            let mut turned = documents.clone();
            turned.reverse();
            prop_assert_eq!(digest(&documents).digest, digest(&turned).digest);

            let mut whole = Tally::default();
            prop_assert_eq!(whole.add(&documents.concat()), Ok(documents.len() as u64));
            prop_assert_eq!(whole.sums(), digest(&documents));

            let at = at.index(documents.len());
            let mut without = documents.clone();
            without.remove(at);
            prop_assert_ne!(digest(&documents).digest, digest(&without).digest);
            let mut twice = documents.clone();
            twice.push(documents[at].clone());
            prop_assert_ne!(digest(&documents).digest, digest(&twice).digest);
            if documents[at].len() > 5 {
                let mut changed = documents.clone();
                changed[at][4] ^= 1 << bit;
                prop_assert_ne!(digest(&documents).digest, digest(&changed).digest);
            }
        }

        #[test]
        fn a_cut_anywhere_is_seen(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
            let whole: Vec<u8> = bodies.iter().flat_map(|body| document(body)).collect();
            let borders: Vec<usize> = bodies
                .iter()
                .scan(0, |end, body| { *end += body.len() + 5; Some(*end) })
                .collect();
            for cut in 1..whole.len() {
                let mut tally = Tally::default();
                prop_assert_eq!(tally.add(&whole[..cut]).is_ok(), borders.contains(&cut));
            }
        }

        #[test]
        fn any_bytes_are_walked_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tally::default().add(&bytes);
        }
    }
}
