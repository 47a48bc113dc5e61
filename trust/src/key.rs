//! Ed25519 keys (PKCS#8) for tokens and audit checkpoints, and the wrapper that keeps private keys out of messages.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

/// A private key as PEM text. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Takes the text as it is; whoever uses it parses it.
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(redacted)")
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not a PKCS#8 Ed25519 key in PEM.
    #[error("not an Ed25519 private key (PKCS#8, PEM)")]
    NotEd25519,
    /// It is not 32 bytes in URL-safe base64 without padding.
    #[error("not an Ed25519 public key (43 characters of URL-safe base64)")]
    NotAPublicKey,
    /// The cryptographic library refused; it gives no reason.
    #[error("the cryptographic library refused to make or use a key")]
    Library,
}

/// An Ed25519 key that signs. `Debug` shows its public half only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { pair: Ed25519KeyPair::generate().map_err(|_| KeyError::Library)? })
    }

    /// Reads a PKCS#8 key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotEd25519)?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self { pair })
    }

    /// The key as PKCS#8 in PEM.
    pub fn to_pem(&self) -> Result<PrivateKeyPem, KeyError> {
        let text = base64::engine::general_purpose::STANDARD.encode(self.pkcs8()?);
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for (at, character) in text.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        Ok(PrivateKeyPem(pem))
    }

    /// The half that everybody may know.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a message; 64 bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }

    /// PKCS#8 version 1: the shape that other tools (openssl, jsonwebtoken) read.
    pub(crate) fn pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.pair.to_pkcs8v1().map_err(|_| KeyError::Library)?.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// An Ed25519 public key; its text is 43 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// True when `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // Bounded before it is decoded: 32 bytes are exactly 43 characters.
        if text.len() != 43 {
            return Err(KeyError::NotAPublicKey);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::NotAPublicKey)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyError::NotAPublicKey)?))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_round_trips_through_pem_and_signs() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(key.to_pem().unwrap().expose().as_bytes()).unwrap();
        assert_eq!(key.public(), again.public());
        assert!(key.public().verifies(b"message", &again.sign(b"message")));
        assert!(!key.public().verifies(b"massage", &again.sign(b"message")));
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
    }

    #[test]
    fn debug_shows_no_secret() {
        let pem = SigningKey::generate().unwrap().to_pem().unwrap();
        assert_eq!(format!("{pem:?}"), "PrivateKeyPem(redacted)");
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(SigningKey::from_pem(b"garbage").unwrap_err(), KeyError::NotEd25519);
        for bad in ["", "AAAA", &"A".repeat(44), &"=".repeat(43), &format!("{}B", "A".repeat(42))] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?} was accepted");
        }
    }
}
