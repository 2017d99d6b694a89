//! A stream of bytes sealed under a passphrase: a backup's outer form. AES-256-CBC and HMAC-SHA256 as in `secret`, over
//! pieces of any size, with keys that scrypt derives from the passphrase and a salt of the file's own.
//!
//! `magic · cost · salt · IV · ciphertext · tag`; the tag is over all that is before it, and nothing is decrypted before the
//! whole file has been checked against it.

use super::Sensitive;
use super::secret::Error;
use aes::Aes256;
use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What every file begins with.
pub const MAGIC: &[u8; 22] = b"claude-relay backup 1\n";
/// Bytes before the ciphertext.
pub const HEAD_BYTES: usize = MAGIC.len() + 1 + 16 + 16;
/// Bytes after it.
pub const TAG_BYTES: usize = 32;
/// scrypt's cost: 32 MiB and a fifth of a second on a small machine.
const LOG_N: u8 = 15;
/// The most that a file may ask for: 128 MiB.
const LOG_N_MAX: u8 = 17;
const BLOCK: usize = 16;

struct Keys {
    sealing: [u8; 32],
    mac: Hmac<Sha256>,
}

fn derive(passphrase: &Sensitive, head: &[u8; HEAD_BYTES]) -> Result<Keys, Error> {
    let (cost, salt) = (head[MAGIC.len()], &head[MAGIC.len() + 1..MAGIC.len() + 17]);
    if cost > LOG_N_MAX {
        return Err(Error::Malformed);
    }
    let params = scrypt::Params::new(cost, 8, 1).map_err(|_| Error::Malformed)?;
    let mut derived = [0; 64];
    scrypt::scrypt(passphrase.expose().as_bytes(), salt, &params, &mut derived).map_err(|_| Error::Malformed)?;
    let (mut sealing, mut block) = ([0; 32], [0; 64]);
    sealing.copy_from_slice(&derived[..32]);
    block[..32].copy_from_slice(&derived[32..]);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(head);
    Ok(Keys { sealing, mac })
}

fn iv(head: &[u8; HEAD_BYTES]) -> [u8; 16] {
    let mut iv = [0; 16];
    iv.copy_from_slice(&head[HEAD_BYTES - 16..]);
    iv
}

/// Seals pieces as they come.
pub struct Sealer {
    cipher: cbc::Encryptor<Aes256>,
    mac: Hmac<Sha256>,
    /// Less than a block, until more comes.
    rest: Vec<u8>,
}

impl Sealer {
    /// A sealer and the first bytes of its file. Takes a fifth of a second and 32 MiB.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new(passphrase: &Sensitive) -> Result<(Sealer, [u8; HEAD_BYTES]), Error> {
        let mut head = [0; HEAD_BYTES];
        getrandom::fill(&mut head).map_err(|_| Error::NoRandom)?;
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()] = LOG_N;
        let Keys { sealing, mac } = derive(passphrase, &head)?;
        let cipher = cbc::Encryptor::<Aes256>::new(&sealing.into(), &iv(&head).into());
        Ok((Sealer { cipher, mac, rest: Vec::new() }, head))
    }

    /// Seals a piece. Gives back what can be written of it.
    pub fn seal(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        self.rest = bytes.split_off(bytes.len() / BLOCK * BLOCK);
        self.sealed(bytes)
    }

    /// Seals the end (PKCS#7) and adds the tag.
    pub fn finish(mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.rest);
        let padding = BLOCK - bytes.len() % BLOCK;
        bytes.resize(bytes.len() + padding, padding as u8);
        let mut sealed = self.sealed(bytes);
        sealed.extend_from_slice(&self.mac.finalize().into_bytes());
        sealed
    }

    fn sealed(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let (blocks, _) = Array::slice_as_chunks_mut(&mut bytes);
        self.cipher.encrypt_blocks(blocks);
        self.mac.update(&bytes);
        bytes
    }
}

/// Checks a whole file before anything of it is opened.
pub struct Checker {
    head: [u8; HEAD_BYTES],
    sealing: [u8; 32],
    mac: Hmac<Sha256>,
}

impl Checker {
    /// A checker of a file that begins so.
    ///
    /// # Errors
    /// `Malformed`: it is no such file.
    pub fn new(head: &[u8; HEAD_BYTES], passphrase: &Sensitive) -> Result<Checker, Error> {
        if !head.starts_with(MAGIC) {
            return Err(Error::Malformed);
        }
        let Keys { sealing, mac } = derive(passphrase, head)?;
        Ok(Checker { head: *head, sealing, mac })
    }

    /// Takes a piece of the ciphertext.
    pub fn check(&mut self, piece: &[u8]) {
        self.mac.update(piece);
    }

    /// Compares the tag, after the whole ciphertext.
    ///
    /// # Errors
    /// `Forged`: the file was altered, or sealed under another passphrase.
    pub fn finish(self, tag: &[u8; TAG_BYTES]) -> Result<Opener, Error> {
        let expected: [u8; TAG_BYTES] = self.mac.finalize().into_bytes().into();
        if !bool::from(expected.ct_eq(tag)) {
            return Err(Error::Forged);
        }
        let cipher = cbc::Decryptor::<Aes256>::new(&self.sealing.into(), &iv(&self.head).into());
        Ok(Opener { cipher, kept: Vec::new() })
    }
}

/// Opens the pieces of a file that has been checked.
pub struct Opener {
    cipher: cbc::Decryptor<Aes256>,
    /// The last block and what is less than one, until more comes.
    kept: Vec<u8>,
}

impl Opener {
    /// Opens a piece. Gives back what is certain of it.
    pub fn open(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.kept);
        bytes.extend_from_slice(piece);
        // The last whole block may be padding.
        let ready = bytes.len().saturating_sub(1) / BLOCK * BLOCK;
        self.kept = bytes.split_off(ready);
        self.opened(bytes)
    }

    /// Opens the end.
    ///
    /// # Errors
    /// `Malformed`: it does not end as a file does.
    pub fn finish(&mut self) -> Result<Vec<u8>, Error> {
        let last = std::mem::take(&mut self.kept);
        if last.len() != BLOCK {
            return Err(Error::Malformed);
        }
        let mut bytes = self.opened(last);
        let padding = usize::from(bytes.last().copied().unwrap_or_default());
        let is_padding =
            (1..=BLOCK).contains(&padding) && bytes[BLOCK - padding..].iter().all(|byte| usize::from(*byte) == padding);
        if !is_padding {
            return Err(Error::Malformed);
        }
        bytes.truncate(BLOCK - padding);
        Ok(bytes)
    }

    fn opened(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let (blocks, _) = Array::slice_as_chunks_mut(&mut bytes);
        self.cipher.decrypt_blocks(blocks);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(clear: &[u8], piece: usize, passphrase: &Sensitive) -> Vec<u8> {
        let (mut sealer, head) = Sealer::new(passphrase).unwrap();
        let mut file = head.to_vec();
        for piece in clear.chunks(piece) {
            file.extend(sealer.seal(piece));
        }
        file.extend(sealer.finish());
        file
    }

    fn opened(file: &[u8], piece: usize, passphrase: &Sensitive) -> Result<Vec<u8>, Error> {
        let head: &[u8; HEAD_BYTES] = file.first_chunk().ok_or(Error::Malformed)?;
        let tag: &[u8; TAG_BYTES] = file[HEAD_BYTES..].last_chunk().ok_or(Error::Malformed)?;
        let ciphertext = &file[HEAD_BYTES..file.len() - TAG_BYTES];
        let mut checker = Checker::new(head, passphrase)?;
        ciphertext.chunks(piece).for_each(|piece| checker.check(piece));
        let mut opener = checker.finish(tag)?;
        let mut clear: Vec<u8> = ciphertext.chunks(piece).flat_map(|piece| opener.open(piece)).collect();
        clear.extend(opener.finish()?);
        Ok(clear)
    }

    #[test]
    fn a_stream_opens_whatever_its_pieces_and_an_altered_one_does_not() {
        let passphrase = Sensitive::new("correct horse".into());
        for length in [0, 1, 15, 16, 17, 32, 1000] {
            let clear: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let file = sealed(&clear, 7, &passphrase);
            for piece in [1, 16, 33, 4096] {
                assert_eq!(opened(&file, piece, &passphrase).unwrap(), clear, "{length} {piece}");
            }
        }
        let file = sealed(b"some text of a backup", 4, &passphrase);
        for at in [0, MAGIC.len() + 3, HEAD_BYTES - 1, HEAD_BYTES, file.len() - TAG_BYTES - 1, file.len() - 1] {
            let mut altered = file.clone();
            altered[at] ^= 1;
            assert!(opened(&altered, 16, &passphrase).is_err(), "byte {at}");
        }
        let mut costly = file.clone();
        costly[MAGIC.len()] = 63;
        assert_eq!(opened(&costly, 16, &passphrase), Err(Error::Malformed));
        for end in [0, HEAD_BYTES, file.len() - 1, file.len() - 16] {
            assert!(opened(&file[..end], 16, &passphrase).is_err(), "cut at {end}");
        }
        assert_eq!(opened(&file, 16, &Sensitive::new("another".into())), Err(Error::Forged));
    }
}
