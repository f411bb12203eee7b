//! What does an HTTP/1.1 request look like, and how long is the response's body?
//!
//! Source: RFC 9112 (message syntax), RFC 9110 (Retry-After). Only what a client with `Connection: close`
//! needs; whatever two parsers could read differently is refused.

use crate::error::Result;
use crate::limits::HTTP_HEADERS;

const REQUEST: &str = "HTTP request";
const RESPONSE: &str = "HTTP response";

/// A request method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// One request. `Connection: close` and, with a body, `Content-Length` are added.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// GET or POST.
    pub method: Method,
    /// Path and query, from `/`.
    pub path: &'a str,
    /// Value of the `Host` header.
    pub host: &'a str,
    /// Further headers, name and value.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty for GET.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// Writes head and body into `out`, returns the length.
    ///
    /// # Errors
    /// `Malformed` when a part could be read as the next line, `TooMany` when `out` is too small.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize> {
        self.check()?;
        let mut out = Writer { out, at: 0 };
        let method = match self.method {
            Method::Get => "GET ",
            Method::Post => "POST ",
        };
        out.texts(&[method, self.path, " HTTP/1.1\r\nHost: ", self.host, "\r\nConnection: close\r\n"])?;
        for (name, value) in self.headers {
            out.texts(&[name, ": ", value, "\r\n"])?;
        }
        if self.method == Method::Post {
            out.texts(&["Content-Length: "])?;
            out.decimal(self.body.len())?;
            out.texts(&["\r\n"])?;
        }
        out.texts(&["\r\n"])?;
        out.bytes(self.body)?;
        Ok(out.at)
    }

    fn check(&self) -> Result<()> {
        if !self.path.starts_with('/') || !self.path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed!(REQUEST, "request path", 0));
        }
        if self.host.is_empty() || !self.host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed!(REQUEST, "request host", 0));
        }
        for (name, value) in self.headers {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(malformed!(REQUEST, "request header name", 0));
            }
            if !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
                return Err(malformed!(REQUEST, "request header value", 0));
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let full = too_many!(REQUEST, self.out.len());
        let end = self.at.checked_add(bytes.len()).ok_or(full)?;
        self.out.get_mut(self.at..end).ok_or(full)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn texts(&mut self, texts: &[&str]) -> Result<()> {
        texts.iter().try_for_each(|text| self.bytes(text.as_bytes()))
    }

    fn decimal(&mut self, number: usize) -> Result<()> {
        let mut rest = number;
        let mut digits = heapless::Deque::<u8, 20>::new();
        loop {
            // Twenty digits hold any u64.
            let digit = u8::try_from(rest % 10).unwrap_or_default();
            let _ = digits.push_front(digit.wrapping_add(b'0'));
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        digits.iter().try_for_each(|digit| self.bytes(&[*digit]))
    }
}

/// How the end of the body is found (RFC 9112, 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the peer closes.
    UntilClose,
}

/// What the head of a response means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Status code, 100 to 599.
    pub status: u16,
    /// Where the body ends. A 1xx, 204 or 304 has none: `Length(0)`.
    pub framing: Framing,
    /// Retry-After in seconds, where it is a number.
    pub retry_after_s: Option<u32>,
}

impl Head {
    /// Reads a whole head, its empty line included.
    ///
    /// # Errors
    /// `Malformed` (also for every shape that two parsers could frame differently), `TooMany` headers,
    /// `Unsupported` for an encoded body.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => {
                return Err(too_many!("HTTP headers", HTTP_HEADERS));
            }
            _ => return Err(malformed!(RESPONSE, "HTTP response head", 0)),
        }
        let mut found = Found::default();
        for header in response.headers.iter() {
            found.header(header.name, header.value)?;
        }
        let status = response.code.unwrap_or_default();
        let framing = found.framing(status, response.version == Some(1))?;
        Ok(Self { status, framing, retry_after_s: found.retry_after_s })
    }
}

/// The headers that matter, as they come by.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    is_chunked: bool,
    retry_after_s: Option<u32>,
}

impl Found {
    fn header(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("content-length") {
            let bad = malformed!(RESPONSE, "HTTP content-length", 0);
            let length = decimal(value).ok_or(bad)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(malformed!(RESPONSE, "two HTTP content-lengths", 0));
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed!(RESPONSE, "HTTP transfer-encoding", 0));
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case("content-encoding") {
            if !value.eq_ignore_ascii_case(b"identity") {
                return Err(unsupported!(RESPONSE, "HTTP content-encoding"));
            }
        } else if name.eq_ignore_ascii_case("retry-after") {
            self.retry_after_s = decimal(value).and_then(|s| u32::try_from(s).ok());
        }
        Ok(())
    }

    fn framing(&self, status: u16, is_http_1_1: bool) -> Result<Framing> {
        match (status, self.is_chunked, self.length) {
            (..100 | 600.., _, _) => Err(malformed!(RESPONSE, "HTTP status", 0)),
            (101, _, _) => Err(malformed!(RESPONSE, "HTTP switching protocols", 0)),
            (_, true, Some(_)) => {
                Err(malformed!(RESPONSE, "HTTP content-length beside transfer-encoding", 0))
            }
            (100..=199 | 204 | 304, _, _) => Ok(Framing::Length(0)),
            (_, true, None) if is_http_1_1 => Ok(Framing::Chunked),
            (_, true, None) => Err(malformed!(RESPONSE, "HTTP/1.0 with transfer-encoding", 0)),
            (_, false, Some(length)) => Ok(Framing::Length(length)),
            (_, false, None) => Ok(Framing::UntilClose),
        }
    }
}

/// Digits only: no sign, no list, no space inside.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// What a byte of a chunked body was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunked {
    /// Framing: not for the reader of the body. The next step may be a run of data, see [`ChunkReader::data`].
    Framing,
    /// The last byte of the last line.
    End,
}

/// The chunked coding (RFC 9112, 7.1), byte by byte outside the data. Extensions and trailers are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkReader {
    state: ChunkState,
    /// Bytes of framing, less what the data so far pays for; bounds extensions and trailers.
    overhead: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChunkState {
    /// Hexadecimal digits seen so far, and their value.
    Size(u8, u64),
    /// After the size, before its CR.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line (or of the empty line that ends it all).
    Trailer,
    TrailerText,
    TrailerLf,
    LastLf,
    Done,
}

impl ChunkReader {
    /// Before the first chunk.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: ChunkState::Size(0, 0), overhead: 0 }
    }

    /// Bytes of data that come next; 0 when framing does.
    #[must_use]
    pub const fn data(&self) -> u64 {
        match self.state {
            ChunkState::Data(left) => left,
            _ => 0,
        }
    }

    /// Says that `length` bytes (at most [`Self::data`]) were taken.
    pub const fn take(&mut self, length: u64) {
        if let ChunkState::Data(left) = self.state {
            // A chunk of a single byte has five of framing: eight a byte is what nobody needs.
            self.overhead = self.overhead.saturating_sub(length.saturating_mul(8));
            self.state = match left.saturating_sub(length) {
                0 => ChunkState::DataCr,
                left => ChunkState::Data(left),
            };
        }
    }

    /// Takes one byte of framing.
    ///
    /// # Errors
    /// `Malformed`; `TooMany` for endless extensions or trailers.
    pub fn push(&mut self, byte: u8) -> Result<Chunked> {
        const OVERHEAD: u64 = 4096;
        self.overhead = self.overhead.saturating_add(1);
        if self.overhead > OVERHEAD {
            return Err(too_many!("HTTP chunk framing", 4096));
        }
        self.state = self.state.next(byte).ok_or(malformed!(RESPONSE, "HTTP chunk", 0))?;
        Ok(if self.state == ChunkState::Done { Chunked::End } else { Chunked::Framing })
    }
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkState {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size(digits, size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size(digits.checked_add(1)?, size.checked_mul(16)?.checked_add(u64::from(digit))?)
            }
            (Self::Size(1.., size) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(1.., size), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::Trailer,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::Trailer, b'\r') => Self::LastLf,
            (Self::TrailerText, b'\r') => Self::TrailerLf,
            (Self::Trailer | Self::TrailerText, b'\t' | b' '..=b'~' | 0x80..) => Self::TrailerText,
            (Self::TrailerLf, b'\n') => Self::Trailer,
            (Self::LastLf, b'\n') => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Head, Method, Request};
    use crate::error::{Error, Kind};
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    fn head(lines: &str) -> Result<Head, Error> {
        Head::parse(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes())
    }

    fn framing(lines: &str) -> Framing {
        head(lines).unwrap().framing
    }

    #[test]
    fn the_imds_request_is_what_the_documentation_shows() {
        let request = Request {
            method: Method::Get,
            path: "/metadata/instance?api-version=2021-08-01&extended=true",
            host: "169.254.169.254",
            headers: &[("Metadata", "true")],
            body: b"",
        };
        let mut out = [0; 512];
        let length = request.emit(&mut out).unwrap();
        assert_eq!(
            core::str::from_utf8(&out[..length]).unwrap(),
            "GET /metadata/instance?api-version=2021-08-01&extended=true HTTP/1.1\r\nHost: 169.254.169.254\r\n\
             Connection: close\r\nMetadata: true\r\n\r\n"
        );
        assert!(matches!(request.emit(&mut out[..length - 1]), Err(error) if error.is(Kind::TooMany)));
    }

    #[test]
    fn a_body_comes_with_its_length() {
        let body = [b'x'; 1234];
        let request = Request { method: Method::Post, path: "/p", host: "h", headers: &[], body: &body };
        let mut out = [0; 2048];
        let length = request.emit(&mut out).unwrap();
        let text = String::from_utf8(out[..length].to_vec()).unwrap();
        assert!(text.contains("\r\nContent-Length: 1234\r\n\r\nxxxx"));
    }

    #[test]
    fn nothing_in_a_request_can_start_a_new_line() {
        let plain = Request { method: Method::Get, path: "/", host: "h", headers: &[], body: b"" };
        let mut out = [0; 512];
        for bad in [
            Request { path: "/a\r\nX: y", ..plain },
            Request { path: "/a b", ..plain },
            Request { path: "a", ..plain },
            Request { host: "h\n", ..plain },
            Request { host: "", ..plain },
            Request { headers: &[("X\r\n", "y")], ..plain },
            Request { headers: &[("X", "y\r\nZ: 1")], ..plain },
        ] {
            assert!(matches!(bad.emit(&mut out), Err(error) if error.is(Kind::Malformed)));
        }
    }

    #[test]
    fn the_end_of_the_body_is_found_as_rfc_9112_says() {
        assert_eq!(framing("Content-Length: 12\r\n"), Framing::Length(12));
        assert_eq!(framing("content-LENGTH:12\r\nContent-Length: 12\r\n"), Framing::Length(12));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
        assert_eq!(framing("Server: x\r\n"), Framing::UntilClose);
        let no_content = Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((no_content.status, no_content.framing), (204, Framing::Length(0)));
        assert_eq!(head("Retry-After: 7\r\n").unwrap().retry_after_s, Some(7));
        assert_eq!(head("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n").unwrap().retry_after_s, None);
    }

    #[test]
    fn shapes_used_for_smuggling_are_refused() {
        for lines in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Content-Length : 3\r\n",
            "A: b\r\n c\r\n",
            "Content-Encoding: gzip\r\n",
        ] {
            assert!(head(lines).is_err(), "{lines:?}");
        }
        assert!(Head::parse(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 099 x\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n").is_err());
    }

    #[test]
    fn a_flood_of_headers_is_too_many() {
        let lines: String = (0..65).map(|i| format!("X-{i}: y\r\n")).collect();
        assert_eq!(head(&lines), Err(too_many!("HTTP headers", 64)));
    }

    proptest! {
        #[test]
        fn no_head_panics(bytes: Vec<u8>, status in any::<u16>(), lines in "[ -~]{0,80}") {
            let _ = Head::parse(&bytes);
            let _ = Head::parse(format!("HTTP/1.1 {status} x\r\n{lines}\r\n\r\n").as_bytes());
        }

        #[test]
        fn numbers_are_written_as_std_writes_them(length in 0usize..5000) {
            let body = vec![0; length];
            let request = Request { method: Method::Post, path: "/", host: "h", headers: &[], body: &body };
            let mut out = vec![0; length + 200];
            let written = request.emit(&mut out).unwrap();
            let line = format!("Content-Length: {length}\r\n\r\n");
            let text = &out[..written - length];
            prop_assert!(text.ends_with(line.as_bytes()));
            prop_assert_eq!(&out[written - length..written], &body[..]);
        }

        #[test]
        fn no_chunked_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"0aF\r\n; \x00".to_vec()), 0..200)) {
            let mut reader = super::ChunkReader::new();
            for byte in bytes {
                if reader.data() > 0 {
                    reader.take(1);
                } else if reader.push(byte) != Ok(super::Chunked::Framing) {
                    break;
                }
            }
        }
    }
}
