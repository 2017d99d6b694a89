//! Secrets: how they are sealed at rest, hashed, made up, and kept out of every log.
//!
//! New values are sealed as `v2:<iv>:<ciphertext>:<mac>` (lower-case hex): AES-256-CBC with PKCS#7 padding and a random IV,
//! then HMAC-SHA256 over version, IV and ciphertext, with separate keys. Two older forms of the original are still read:
//! `<iv>:<ciphertext>` and, from its first releases, a ciphertext alone; neither says whether it was altered.
//!
//! Where secrets are kept, and who may have them, is not decided here.

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

const VERSION: &str = "v2";
/// The original's scrypt parameters: N = 16384, r = 8, p = 1, and this salt.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_SALT: &[u8] = b"salt";
/// The salt for Console accounts in the original's later versions.
const CONSOLE_SCRYPT_SALT: &[u8] = b"claude-console-salt";
/// Letters and digits that are not taken for one another.
const PASSWORD_ALPHABET: &[u8; 54] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz234567";
const PASSWORD_CHARACTERS: usize = 16;

/// Text that must not be shown: `Debug` and `Display` print `***`.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps a secret.
    pub fn new(secret: String) -> Sensitive {
        Sensitive(secret)
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be sealed, opened or made. Says nothing about its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Error {
    /// The operating system gave no random numbers.
    NoRandom,
    /// The text is in none of the known forms.
    Malformed,
    /// The authentication tag does not fit: altered, or sealed with another key.
    Forged,
    /// The padding or the UTF-8 inside does not fit: most likely another key.
    Undecipherable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NoRandom => "the operating system gave no random numbers",
            Error::Malformed => "not in a known form",
            Error::Forged => "altered, or sealed with another key",
            Error::Undecipherable => "not decipherable with this key",
        })
    }
}

impl std::error::Error for Error {}

/// Seals and opens secrets. Its keys are derived once.
pub struct Cipher {
    encryption_key: String,
    /// scrypt of the encryption key, as the original derives it: opens its values.
    original_key: [u8; 32],
    sealing_key: [u8; 32],
    mac_key: [u8; 32],
}

impl Cipher {
    /// Derives the keys; takes some 30 ms and 16 MiB.
    ///
    /// # Errors
    /// None with these parameters; the library's interface has one.
    pub fn new(encryption_key: &str) -> Result<Cipher, Error> {
        Cipher::derived(encryption_key, SCRYPT_SALT)
    }

    /// The same for the Console accounts of the original's later versions, which it seals under another salt.
    ///
    /// # Errors
    /// As of `new`.
    pub fn of_console_accounts(encryption_key: &str) -> Result<Cipher, Error> {
        Cipher::derived(encryption_key, CONSOLE_SCRYPT_SALT)
    }

    fn derived(encryption_key: &str, salt: &[u8]) -> Result<Cipher, Error> {
        let params = scrypt::Params::new(SCRYPT_LOG_N, 8, 1).map_err(|_| Error::Malformed)?;
        let mut original_key = [0; 32];
        scrypt::scrypt(encryption_key.as_bytes(), salt, &params, &mut original_key).map_err(|_| Error::Malformed)?;
        // HMAC under a label of its own, as HKDF-Expand does (RFC 5869), gives keys that do not tell of one another. The
        // original's key seals nothing new: cutting version and tag off a sealed value does not make it one of the original's.
        Ok(Cipher {
            encryption_key: encryption_key.to_owned(),
            original_key,
            sealing_key: hmac(&original_key, b"claude-relay v2 encryption"),
            mac_key: hmac(&original_key, b"claude-relay v2 authentication"),
        })
    }

    /// Seals a text. The empty text stays empty: it stands for "none".
    ///
    /// # Errors
    /// No random numbers.
    pub fn seal(&self, clear: &str) -> Result<String, Error> {
        if clear.is_empty() {
            return Ok(String::new());
        }
        let mut iv = [0; 16];
        getrandom::fill(&mut iv).map_err(|_| Error::NoRandom)?;
        let ciphertext = cbc::Encryptor::<Aes256>::new(&self.sealing_key.into(), &iv.into())
            .encrypt_padded_vec::<Pkcs7>(clear.as_bytes());
        let (iv, ciphertext) = (hex::encode(iv), hex::encode(ciphertext));
        let signed = format!("{VERSION}:{iv}:{ciphertext}");
        let mac = hex::encode(hmac(&self.mac_key, signed.as_bytes()));
        Ok(format!("{signed}:{mac}"))
    }

    /// Seals a text in the original's form, which it reads; whether that was altered cannot be told. The empty text stays
    /// empty.
    ///
    /// # Errors
    /// No random numbers.
    pub fn seal_for_original(&self, clear: &str) -> Result<String, Error> {
        if clear.is_empty() {
            return Ok(String::new());
        }
        let mut iv = [0; 16];
        getrandom::fill(&mut iv).map_err(|_| Error::NoRandom)?;
        let ciphertext = cbc::Encryptor::<Aes256>::new(&self.original_key.into(), &iv.into())
            .encrypt_padded_vec::<Pkcs7>(clear.as_bytes());
        Ok(format!("{}:{}", hex::encode(iv), hex::encode(ciphertext)))
    }

    /// Opens a text in any of the three forms.
    ///
    /// # Errors
    /// It cannot be opened. The stored text is never given back in its place.
    pub fn open(&self, sealed: &str) -> Result<String, Error> {
        if sealed.is_empty() {
            return Ok(String::new());
        }
        let parts: Vec<&str> = sealed.split(':').collect();
        match parts.as_slice() {
            [VERSION, iv, ciphertext, mac] => {
                let signed = &sealed[..sealed.len() - mac.len() - 1];
                // Compared as text, so that a sealed value has one spelling only, and in constant time.
                let expected = hex::encode(hmac(&self.mac_key, signed.as_bytes()));
                if !bool::from(expected.as_bytes().ct_eq(mac.as_bytes())) {
                    return Err(Error::Forged);
                }
                decrypt(&self.sealing_key, &block(iv)?, ciphertext)
            }
            [iv, ciphertext] => decrypt(&self.original_key, &block(iv)?, ciphertext),
            [ciphertext] => {
                let (key, iv) = evp_bytes_to_key(self.encryption_key.as_bytes());
                decrypt(&key, &iv, ciphertext)
            }
            _ => Err(Error::Malformed),
        }
    }

    /// A name for this key, 16 hex digits, that tells nothing of it: a database opened with another key is noticed by it.
    pub fn fingerprint(&self) -> String {
        hex::encode(&hmac(&self.original_key, b"claude-relay fingerprint")[..8])
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    sign(key, message)
}

/// HMAC-SHA256 under a key of any length (RFC 2104).
pub fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let hashed = Sha256::digest(key);
    let key = if key.len() > 64 { &hashed[..] } else { key };
    // A key shorter than the hash's block is filled up with zeros; given in that length it cannot be refused.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn block(text: &str) -> Result<[u8; 16], Error> {
    let bytes = hex::decode(text).map_err(|_| Error::Malformed)?;
    bytes.try_into().map_err(|_| Error::Malformed)
}

fn decrypt(key: &[u8; 32], iv: &[u8; 16], ciphertext: &str) -> Result<String, Error> {
    let bytes = hex::decode(ciphertext).map_err(|_| Error::Malformed)?;
    let clear = cbc::Decryptor::<Aes256>::new(&(*key).into(), &(*iv).into())
        .decrypt_padded_vec::<Pkcs7>(&bytes)
        .map_err(|_| Error::Undecipherable)?;
    String::from_utf8(clear).map_err(|_| Error::Undecipherable)
}

/// OpenSSL's EVP_BytesToKey with MD5, one round, no salt: Node's `createCipher` of the original's first releases.
fn evp_bytes_to_key(password: &[u8]) -> ([u8; 32], [u8; 16]) {
    let mut previous: Vec<u8> = Vec::new();
    let mut derived = Vec::with_capacity(48);
    while derived.len() < 48 {
        let mut hash = Md5::new();
        hash.update(&previous);
        hash.update(password);
        previous = hash.finalize().to_vec();
        derived.extend_from_slice(&previous);
    }
    let (mut key, mut iv) = ([0; 32], [0; 16]);
    key.copy_from_slice(&derived[..32]);
    iv.copy_from_slice(&derived[32..48]);
    (key, iv)
}

/// What is kept of an API key: lower-case hex SHA-256 of key and pepper, without anything in between, as in the original.
/// Its pepper is the encryption key, so that the keys it issued go on working only with that.
pub fn hash_api_key(clear: &str, pepper: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(clear.as_bytes());
    hash.update(pepper.as_bytes());
    hex::encode(hash.finalize())
}

/// What is kept of a session token. The token has 256 random bits, so a plain hash is enough.
pub fn hash_session_token(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// A new API key: the prefix and 32 random bytes in hex.
///
/// # Errors
/// No random numbers.
pub fn new_api_key(prefix: &str) -> Result<String, Error> {
    Ok(format!("{prefix}{}", random_hex()?))
}

/// A new session token: 32 random bytes in hex.
///
/// # Errors
/// No random numbers.
pub fn new_session_token() -> Result<String, Error> {
    random_hex()
}

/// A new encryption key: 32 random bytes in hex.
///
/// # Errors
/// No random numbers.
pub fn new_encryption_key() -> Result<String, Error> {
    random_hex()
}

/// A new PKCE verifier: 32 random bytes in base64url (RFC 7636 section 4.1).
///
/// # Errors
/// No random numbers.
pub fn new_pkce_verifier() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandom)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A new state of a sign-in: 32 random bytes in hex.
///
/// # Errors
/// No random numbers.
pub fn new_oauth_state() -> Result<String, Error> {
    random_hex()
}

fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandom)?;
    Ok(hex::encode(bytes))
}

/// A new identifier: UUID version 4 (RFC 9562), lower case.
///
/// # Errors
/// No random numbers.
pub fn new_uuid() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandom)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// A made-up password: 16 characters that a person can read off a screen, some 92 bits.
///
/// # Errors
/// No random numbers.
pub fn new_password() -> Result<String, Error> {
    let mut password = String::with_capacity(PASSWORD_CHARACTERS);
    while password.len() < PASSWORD_CHARACTERS {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| Error::NoRandom)?;
        // A byte past the alphabet is thrown away rather than folded: every character is equally likely.
        let letters = bytes.iter().filter_map(|byte| PASSWORD_ALPHABET.get(usize::from(byte & 63)));
        password.extend(letters.take(PASSWORD_CHARACTERS - password.len()).map(|letter| char::from(*letter)));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        #[serde(default)]
        derived_key_hex: Option<String>,
        encryption_key: String,
        #[serde(default)]
        plaintext: Option<String>,
        #[serde(default)]
        stored: Option<String>,
        #[serde(default)]
        api_key: Option<String>,
        #[serde(default)]
        sha256: Option<String>,
    }

    #[test]
    fn values_of_the_original_are_read() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/fixtures/crypto-vectors.json")).unwrap();
        assert!(vectors.len() >= 5);
        for vector in vectors {
            let cipher = Cipher::new(&vector.encryption_key).unwrap();
            if let Some(key) = vector.derived_key_hex {
                assert_eq!(hex::encode(cipher.original_key), key);
            }
            if let (Some(stored), Some(clear)) = (&vector.stored, &vector.plaintext) {
                assert_eq!(&cipher.open(stored).unwrap(), clear);
            }
            if let (Some(key), Some(hash)) = (&vector.api_key, &vector.sha256) {
                assert_eq!(&hash_api_key(key, &vector.encryption_key), hash);
            }
        }
    }

    #[test]
    fn what_is_sealed_opens_and_what_is_altered_does_not() {
        let cipher = Cipher::new("k").unwrap();
        for clear in ["", "x", "密码 🔑", &"long ".repeat(1000)] {
            assert_eq!(cipher.open(&cipher.seal(clear).unwrap()).unwrap(), clear);
        }
        let sealed = cipher.seal("sk-ant-oat01-example").unwrap();
        assert_ne!(sealed, cipher.seal("sk-ant-oat01-example").unwrap(), "the IV is new each time");
        for at in 0..sealed.len() {
            for bit in 0..7 {
                let mut altered = sealed.clone().into_bytes();
                altered[at] ^= 1 << bit;
                let altered = String::from_utf8(altered).unwrap();
                assert!(cipher.open(&altered).is_err(), "bit {bit} of byte {at}: {altered}");
            }
            assert!(cipher.open(&sealed[..at]).is_err() || at == 0, "cut at {at}");
        }
        assert!(cipher.open(&sealed.to_ascii_uppercase()).is_err());
        let parts: Vec<&str> = sealed.split(':').collect();
        assert!(cipher.open(&format!("{}:{}", parts[1], parts[2])).is_err(), "a tag cannot be cut off");
        assert_eq!(Cipher::new("another").unwrap().open(&sealed), Err(Error::Forged));
        for wrong in ["not hex", "00:00", "a:b:c", "v2:::", &format!("v3{}", &sealed[2..])] {
            assert!(cipher.open(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_made_up_has_its_form_and_is_not_shown() {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let key = new_api_key("cr_").unwrap();
        assert!(key.len() == 67 && key.strip_prefix("cr_").is_some_and(is_hex));
        for text in [new_session_token().unwrap(), new_encryption_key().unwrap(), hash_session_token("x")] {
            assert!(text.len() == 64 && is_hex(&text));
        }
        // SHA-256 of the empty text, FIPS 180-4.
        assert!(hash_session_token("").starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
        for _ in 0..100 {
            let uuid = new_uuid().unwrap();
            let parts: Vec<&str> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(
                parts[2].starts_with('4')
                    && parts[3].starts_with(['8', '9', 'a', 'b'])
                    && is_hex(&uuid.replace('-', ""))
            );
        }
        let password = new_password().unwrap();
        assert!(password.len() == 16 && password.bytes().all(|byte| PASSWORD_ALPHABET.contains(&byte)));
        assert_ne!(password, new_password().unwrap());
        let secret = Sensitive::new("x".into());
        assert_eq!(format!("{secret:?}{secret}"), "******");
        let (one, two) = (Cipher::new("a").unwrap(), Cipher::new("b").unwrap());
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.fingerprint().len(), 16);
    }
}
