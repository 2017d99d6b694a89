//! An answer whose body comes in pieces: framing each piece, sending it at once, ending or aborting.

use std::io::{self, IoSlice};

use super::exchange::Wire;
use super::fields::{BodyLength, Persistence};

/// An answer under way. Dropped without `finish`, it is aborted: the client sees a reset connection and not an end.
pub struct Reply {
    wire: Wire,
    /// The head, until it is sent.
    head: Vec<u8>,
    length: BodyLength,
    omits_body: bool,
    persistence: Persistence,
    written: u64,
}

impl Reply {
    pub(super) fn new(
        wire: Wire,
        head: Vec<u8>,
        length: BodyLength,
        omits_body: bool,
        persistence: Persistence,
    ) -> Reply {
        Reply { wire, head, length, omits_body, persistence, written: 0 }
    }

    /// Frames and sends bytes, with the head if it was not sent, in one system call. Returns when the kernel has taken
    /// them, which may be as long as `Limits::write_deadline` if the client does not read. Nothing happens for no bytes.
    /// After an error the connection is dead. More bytes than announced are refused.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_by(bytes, |wire, pieces, is_last| wire.send(pieces, is_last))
    }

    /// The same for an answer without an end of its own: while the client does not read, `goes_on` is asked four times a
    /// second, and the answer is aborted when it says no.
    pub fn write_while(&mut self, bytes: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        self.write_by(bytes, |wire, pieces, _| wire.send_while(pieces, goes_on))
    }

    fn write_by(
        &mut self,
        bytes: &[u8],
        send: impl FnOnce(&mut Wire, &mut [IoSlice<'_>], bool) -> io::Result<()>,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.written.saturating_add(bytes.len() as u64);
        let mut is_last = false;
        if let BodyLength::Known(length) = self.length {
            if written > length {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "more bytes than the answer announced"));
            }
            is_last = written == length && !self.omits_body;
        }
        self.written = written;
        if self.omits_body {
            return Ok(());
        }
        let mut size = [0; 18];
        let (size, end): (&[u8], &[u8]) = match self.length {
            BodyLength::Chunked => (chunk_size(&mut size, bytes.len()), b"\r\n"),
            _ => (&[], &[]),
        };
        let mut pieces = [&self.head[..], size, bytes, end].map(IoSlice::new);
        send(&mut self.wire, &mut pieces, is_last)?;
        self.head = Vec::new();
        Ok(())
    }

    /// Sends the head now, if it was not sent.
    pub fn flush_head(&mut self) -> io::Result<()> {
        if !self.head.is_empty() {
            self.wire.send(&mut [IoSlice::new(&self.head)], false)?;
            self.head = Vec::new();
        }
        Ok(())
    }

    /// Whether anything may have reached the client.
    pub fn has_sent(&self) -> bool {
        self.wire.has_sent()
    }

    /// Ends an answer in pieces without waiting: where the client has not read what came before, the end is an abort.
    pub fn finish_now(mut self) {
        let end: &[u8] = if self.length == BodyLength::Chunked && !self.omits_body { b"0\r\n\r\n" } else { b"" };
        let mut pieces = [IoSlice::new(&self.head), IoSlice::new(end)];
        if self.wire.send_while(&mut pieces, &|| false).is_ok() {
            self.wire.go_home(self.persistence);
        }
    }

    /// Ends the answer, sending the head and the last chunk as needed; then the connection serves the next request, or
    /// is closed. An answer that is shorter than announced is aborted, with an error.
    pub fn finish(mut self) -> io::Result<()> {
        if let BodyLength::Known(length) = self.length
            && self.written < length
            && !self.omits_body
        {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fewer bytes than the answer announced"));
        }
        let end: &[u8] = if self.length == BodyLength::Chunked && !self.omits_body { b"0\r\n\r\n" } else { b"" };
        self.wire.send(&mut [IoSlice::new(&self.head), IoSlice::new(end)], true)?;
        self.wire.go_home(self.persistence);
        Ok(())
    }
}

/// Writes the line before a chunk: its size in hexadecimal and CR LF.
fn chunk_size(line: &mut [u8; 18], size: usize) -> &[u8] {
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut left = size;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
        if left == 0 {
            return &line[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (size, line) in [(1, "1\r\n"), (16, "10\r\n"), (0xabc, "abc\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
            assert_eq!(super::chunk_size(&mut [0; 18], size), line.as_bytes());
        }
    }
}
