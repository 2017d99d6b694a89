//! A scripted upstream: it keeps every request byte for byte and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// One thing an upstream does.
pub enum Step {
    /// Writes bytes as they are.
    Send(Vec<u8>),
    /// Does nothing for a while.
    Wait(Duration),
    /// Waits until a test opens the gate.
    Gate(Arc<AtomicBool>),
    /// Waits until the other side closes, and notes when.
    AwaitEnd(Arc<Mutex<Option<Instant>>>),
    /// Closes in an orderly way.
    Close,
    /// Closes with a reset.
    Reset,
}

/// Bytes to send.
pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// A whole JSON answer.
pub fn json(status: u16, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nrequest-id: req_json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    vec![send(head), send(body)]
}

/// The head of an event stream.
pub fn stream_head() -> Step {
    send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nrequest-id: req_stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    )
}

/// Bytes as one chunk.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    Step::Send(framed)
}

/// The terminal chunk.
pub fn last_chunk() -> Step {
    send("0\r\n\r\n")
}

type Script = dyn Fn(&Received) -> Vec<Step> + Send + Sync;

/// A running upstream.
pub struct Upstream {
    pub address: SocketAddr,
    pub received: Arc<Mutex<Vec<Received>>>,
    /// How often somebody has connected.
    pub connections: Arc<AtomicUsize>,
    is_stopped: Arc<AtomicBool>,
}

impl Upstream {
    /// Starts an upstream that answers by a script.
    pub fn start(script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let connections = Arc::new(AtomicUsize::new(0));
        let (log, stopped, count) = (Arc::clone(&received), Arc::clone(&is_stopped), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                if let Ok(stream) = stream {
                    count.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || drop(serve(stream, &*script, &log)));
                }
            }
        });
        Upstream { address, received, connections, is_stopped }
    }

    /// The messages URL of this upstream.
    pub fn url(&self) -> String {
        format!("http://{}/v1/messages", self.address)
    }

    /// What arrived so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: TcpStream, script: &Script, log: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    while let Some(request) = read_request(&mut reader)? {
        log.lock().unwrap().push(request.clone());
        for step in script(&request) {
            match step {
                Step::Send(bytes) => writer.write_all(&bytes)?,
                Step::Wait(time) => std::thread::sleep(time),
                Step::Gate(gate) => {
                    while !gate.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                Step::AwaitEnd(noted) => {
                    let mut rest = Vec::new();
                    let _ = reader.read_to_end(&mut rest);
                    *noted.lock().unwrap() = Some(Instant::now());
                    return Ok(());
                }
                Step::Close => return Ok(()),
                Step::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Reads one request; `None` when the connection ends between two.
pub fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Received>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let target = words.nth(1).unwrap_or_default();
    let mut request = Received { target, fields: Vec::new(), body: Vec::new() };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let field = line.trim_end();
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').unwrap_or((field, ""));
        request.fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = request.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}
