//! An HTTP server of one page.

use super::figures::Figures;
use anyhow::{Context as _, Result};
use hz_trace::model::window::Window;
use prometheus_client::{encoding::text, registry::Registry};
use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A request's head is no longer; a scraper's has some hundred bytes.
const HEAD_BYTES: usize = 8 << 10;

/// A client that is slower is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves figures, until the process ends.
#[derive(Debug)]
pub(crate) struct Exporter {
    figures: Figures,
    published: Arc<Mutex<Arc<Figures>>>,
    address: SocketAddr,
}

impl Exporter {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address is taken or not this host's.
    pub(crate) fn start(address: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let published = Arc::<Mutex<Arc<Figures>>>::default();
        let latest = Arc::clone(&published);
        std::thread::Builder::new().name("hz-top-metrics".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // What a client does wrong is nobody else's trouble.
                let _ = answer(stream, &latest);
            }
        })?;
        Ok(Self { figures: Figures::default(), published, address })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a window to what is served.
    pub(crate) fn add(&mut self, window: &Window) {
        self.figures.add(window);
        let now = Arc::new(self.figures.clone());
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The address that `text` means: a port alone is one of this host only.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let mut found = text.to_socket_addrs().map_err(|error| {
        format!("`{text}` is no address ({error}); write it like 127.0.0.1:9469, or a port alone")
    })?;
    found.next().ok_or_else(|| format!("`{text}` has no address"))
}

fn answer(mut stream: TcpStream, latest: &Mutex<Arc<Figures>>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, content_type, body) = match asked(&mut stream)?.as_deref() {
        Some("/metrics") => {
            let figures = Arc::clone(&latest.lock().unwrap_or_else(PoisonError::into_inner));
            ("200 OK", OPENMETRICS, page(figures))
        }
        Some("/") => ("200 OK", TEXT, "hz-top: figures are at /metrics\n".to_owned()),
        Some(_) => ("404 Not Found", TEXT, "figures are at /metrics\n".to_owned()),
        None => ("400 Bad Request", TEXT, "only GET is answered\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

/// The path that a client asks for; `None` if it asks for something else than a page.
fn asked(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut part)?;
        head.extend_from_slice(&part[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Partial) if read > 0 => {}
            Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
                let path = request.path.unwrap_or_default();
                return Ok(Some(path.split('?').next().unwrap_or_default().to_owned()));
            }
            _ => return Ok(None),
        }
    }
}

pub(super) fn page(figures: Arc<Figures>) -> String {
    let mut registry = Registry::with_prefix("hz");
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}
