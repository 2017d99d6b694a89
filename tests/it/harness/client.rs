//! A plain HTTP/1.1 client that shows exactly what came over the wire.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to a server.
pub struct Connection {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The pieces the body came in, where it was chunked.
    pub chunks: Vec<Vec<u8>>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::over(TcpStream::connect(address).expect("connect"))
    }

    /// `None` when nobody listens.
    pub fn try_open(address: SocketAddr) -> Option<Connection> {
        TcpStream::connect(address).ok().map(Connection::over)
    }

    /// A connection that was made elsewhere.
    pub fn over(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Connection { stream, reader }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// Sends a request with a body of known length.
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) {
        self.try_request(method, target, fields, body).expect("send");
    }

    /// The same to somebody who may be gone.
    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: relay\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)
    }

    /// Reads the status line and the fields.
    pub fn head(&mut self) -> std::io::Result<Response> {
        let mut line = String::new();
        self.line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status line: {line:?}")))?;
        let mut fields = Vec::new();
        loop {
            line.clear();
            self.line(&mut line)?;
            let field = line.trim_end();
            if field.is_empty() {
                return Ok(Response { status, fields, body: Vec::new(), chunks: Vec::new() });
            }
            let (name, value) = field.split_once(':').expect("a field");
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self, line: &mut String) -> std::io::Result<()> {
        if self.reader.read_line(line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Reads one chunk; `None` is the terminal one.
    pub fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        self.line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok((length > 0).then_some(bytes))
    }

    /// Reads a whole answer to a request that was no HEAD.
    pub fn response(&mut self) -> std::io::Result<Response> {
        let mut response = self.head()?;
        if response.field("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                response.body.extend_from_slice(&chunk);
                response.chunks.push(chunk);
            }
        } else if let Some(length) = response.field("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut response.body)?;
        } else if response.status != 204 && response.status != 304 {
            self.reader.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    /// Reads until the other side closes.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// One request on a connection of its own.
pub fn fetch(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.request(method, target, fields, body);
    if method == "HEAD" { connection.head() } else { connection.response() }.expect("an answer")
}
