//! Decoding of the chunked transfer coding (RFC 9112 section 7.1), a state machine that may be fed bytes in any
//! pieces. No sockets, no storage: the decoded bytes are handed to the caller as slices of the input.

/// Bytes of chunk extensions and trailers accepted in one body. They are read past and dropped.
const ASIDE_BYTES_MAX: usize = 16 * 1024;

/// The body does not follow the grammar; where it ends cannot be known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a size; how many there were.
    Size(u32),
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the first byte of a trailer line.
    LineStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

/// Where in a chunked body we are.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// The size of the chunk being read, then what is left of it.
    left: u64,
    aside: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Decoder { state: State::Size(0), left: 0, aside: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on in `input`, up to the next piece of data, the end of the body or the end of the input. Returns how many
    /// bytes of the input it took, and the data, which are the last of these bytes.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> Result<(usize, &'a [u8]), Malformed> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= length as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((at + length, &input[at..at + length]));
            }
            self.state = self.advance(input[at])?;
            at += 1;
        }
        Ok((at, &[]))
    }

    /// One byte of anything but data.
    fn advance(&mut self, byte: u8) -> Result<State, Malformed> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits are all that a size of 64 bits has; leading zeros beyond are nothing to bear with.
                if digits == 16 {
                    return Err(Malformed);
                }
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(digit);
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..), b'\r') | (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size(1..), b';' | b' ' | b'\t') => Ok(State::Extension),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::LineStart),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            (State::LineStart, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerLf, b'\n') => Ok(State::LineStart),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::Extension, _) if is_text => self.skip(State::Extension),
            (State::LineStart | State::Trailer, _) if is_text => self.skip(State::Trailer),
            _ => Err(Malformed),
        }
    }

    fn skip(&mut self, state: State) -> Result<State, Malformed> {
        self.aside += 1;
        if self.aside > ASIDE_BYTES_MAX { Err(Malformed) } else { Ok(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces one after the other; returns the data and how many bytes of the last piece were left.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let (mut decoder, mut data, mut left) = (Decoder::new(), Vec::new(), 0);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && !decoder.is_done() {
                let (taken, part) = decoder.step(rest)?;
                data.extend_from_slice(part);
                rest = &rest[taken..];
            }
            left = rest.len();
        }
        Ok((data, left, decoder.is_done()))
    }

    #[test]
    fn a_body_reads_the_same_wherever_it_is_split() {
        let body = b"5\r\nhello\r\n1;a=\"b\"\r\n \r\n000A\r\nworld\r\n!!!\r\n0\r\nX-T: 1\r\n\r\nGET /";
        let end = body.len() - 5;
        for first in 0..=end {
            for second in first..=end {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(decode(&pieces), Ok((b"hello world\r\n!!!".to_vec(), 5, true)), "{first} {second}");
            }
        }
        let bytes: Vec<&[u8]> = body[..end].chunks(1).collect();
        assert_eq!(decode(&bytes), Ok((b"hello world\r\n!!!".to_vec(), 0, true)));
    }

    #[test]
    fn a_cut_body_is_never_done() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        for end in 0..body.len() {
            assert!(!decode(&[&body[..end]]).unwrap().2, "{end}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long_extension = [b"1;".to_vec(), vec![b'x'; ASIDE_BYTES_MAX + 1]].concat();
        let long_trailer = [b"0\r\n".to_vec(), vec![b'x'; ASIDE_BYTES_MAX + 1]].concat();
        for body in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b";a\r\n",
            b"1\n",
            b"1\r\r",
            b"1;a\n",
            b"1;a\0",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\r\r",
            b"1\r\na\r\n\r\n",
            b"0\r\n\n",
            b"0\r\na: b\n",
            b"0\r\n\r\r",
            b"10000000000000000\r\n",
            b"00000000000000001\r\n",
            &long_extension,
            &long_trailer,
        ] {
            assert_eq!(decode(&[body]), Err(Malformed), "{:?}", String::from_utf8_lossy(body));
        }
        assert!(decode(&[b"FFFFFFFFFFFFFFFF\r\nabc"]).is_ok());
    }
}
