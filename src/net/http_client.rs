//! How does one HTTP exchange go, as a machine that is fed bytes and does no I/O itself?

use crate::error::{Error, Result};
use crate::format::http::{ChunkReader, Chunked, Framing, Head};
use crate::sys::Stream;

pub use crate::format::http::{Method, Request};

const RESPONSE: &str = "HTTP response";
/// 1xx responses before the real one; more is somebody playing.
const INTERIM: u8 = 8;

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Status code, 200 to 599. Redirects are not followed.
    pub status: u16,
    /// Retry-After, where the peer sent seconds.
    pub retry_after_s: Option<u32>,
    /// Length of the body.
    pub body_bytes: u64,
}

impl Outcome {
    /// 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// Receives a response. Only the body of a 2xx reaches the sink: other bodies are counted and dropped.
pub struct Response<'b> {
    head: &'b mut [u8],
    head_length: usize,
    interim: u8,
    limit: u64,
    state: State,
    outcome: Outcome,
}

enum State {
    Head,
    Length(u64),
    Chunked(ChunkReader),
    UntilClose,
    Done,
}

impl<'b> Response<'b> {
    /// `head` holds the response head (its length is the limit, see [`crate::limits::HTTP_HEAD`]);
    /// a body above `limit` bytes is an error.
    #[must_use]
    pub const fn new(head: &'b mut [u8], limit: u64) -> Self {
        let outcome = Outcome { status: 0, retry_after_s: None, body_bytes: 0 };
        Self { head, head_length: 0, interim: 0, limit, state: State::Head, outcome }
    }

    /// Takes what came from the peer, in any portions. Bytes after the end of the body are ignored.
    /// After an error the response is void.
    ///
    /// # Errors
    /// `Malformed`, `TooMany`, `Unsupported`, and whatever `body` returns.
    pub fn push(&mut self, mut bytes: &[u8], body: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Head => self.push_head(bytes)?,
                State::Done => return Ok(()),
                State::UntilClose => {
                    self.deliver(bytes, body)?;
                    &[]
                }
                State::Length(left) => {
                    let (now, rest) = split(bytes, *left);
                    *left -= now.len() as u64;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    self.deliver(now, body)?;
                    rest
                }
                State::Chunked(reader) if reader.data() > 0 => {
                    let (now, rest) = split(bytes, reader.data());
                    reader.take(now.len() as u64);
                    self.deliver(now, body)?;
                    rest
                }
                State::Chunked(reader) => {
                    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
                    if reader.push(*first)? == Chunked::End {
                        self.state = State::Done;
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    /// The outcome once the response is complete.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Done => Some(self.outcome),
            _ => None,
        }
    }

    /// The peer closed: complete, or cut short.
    ///
    /// # Errors
    /// `Malformed` ("HTTP response cut short").
    pub const fn finish(&self) -> Result<Outcome> {
        match self.state {
            State::Done | State::UntilClose => Ok(self.outcome),
            _ => Err(malformed!(RESPONSE, "HTTP response cut short", self.outcome.body_bytes)),
        }
    }

    /// Collects the head up to its empty line; returns what follows it.
    fn push_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let full = too_many!("HTTP response head", self.head.len());
        for (at, byte) in bytes.iter().enumerate() {
            *self.head.get_mut(self.head_length).ok_or(full)? = *byte;
            self.head_length += 1;
            let head = self.head.get(..self.head_length).unwrap_or_default();
            // A line that ends without CR is where two readers of a head part ways (RFC 9112, 2.2).
            if *byte == b'\n' && !head.ends_with(b"\r\n") {
                return Err(malformed!(RESPONSE, "HTTP response head", 0));
            }
            if *byte == b'\n' && head.ends_with(b"\n\r\n") {
                let head = Head::parse(head)?;
                self.start_body(head)?;
                return Ok(bytes.get(at + 1..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    fn start_body(&mut self, head: Head) -> Result<()> {
        self.head_length = 0;
        if head.status < 200 {
            self.interim += 1;
            let flood = too_many!("HTTP interim responses", INTERIM.into());
            return if self.interim > INTERIM { Err(flood) } else { Ok(()) };
        }
        self.outcome.status = head.status;
        self.outcome.retry_after_s = head.retry_after_s;
        self.state = match head.framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) if length > self.limit => return Err(self.too_long()),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(ChunkReader::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Ok(())
    }

    fn deliver(&mut self, bytes: &[u8], body: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.outcome.body_bytes = self.outcome.body_bytes.saturating_add(bytes.len() as u64);
        if self.outcome.body_bytes > self.limit {
            return Err(self.too_long());
        }
        if self.outcome.is_success() { body(bytes) } else { Ok(()) }
    }

    fn too_long(&self) -> Error {
        too_many!("HTTP body", usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}

fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len()))
}

/// The whole exchange over a connected stream (kernel sockets). `scratch` holds the emitted request first
/// and each received piece later.
///
/// # Errors
/// As [`Response::push`]; `Deadline` and `Os` from the stream.
pub fn exchange(
    stream: &mut dyn Stream,
    request: &Request<'_>,
    scratch: &mut [u8],
    response: &mut Response<'_>,
    body: &mut dyn FnMut(&[u8]) -> Result<()>,
    until_us: u64,
) -> Result<Outcome> {
    let length = request.emit(scratch)?;
    let mut left = scratch.get(..length).unwrap_or_default();
    while !left.is_empty() {
        let sent = stream.send(left, until_us)?;
        left = left.get(sent..).unwrap_or_default();
    }
    loop {
        let length = stream.receive(scratch, until_us)?;
        if length == 0 {
            return response.finish();
        }
        response.push(scratch.get(..length).unwrap_or_default(), body)?;
        if let Some(outcome) = response.outcome() {
            return Ok(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Method, Outcome, Request, Response, exchange};
    use crate::error::{Errno, Kind, Result};
    use crate::sys::Stream;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    /// One line: what becomes of a server's bytes.
    fn described(bytes: &[u8], step: usize) -> String {
        let mut head = vec![0; crate::limits::HTTP_HEAD];
        let (mut response, mut body) = (Response::new(&mut head, 4096), Vec::new());
        let mut keep = |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok(())
        };
        let pushed = bytes.chunks(step).try_for_each(|piece| response.push(piece, &mut keep));
        let outcome = pushed.and_then(|()| response.outcome().map_or_else(|| response.finish(), Ok));
        match outcome {
            Err(error) => format!("error = {}\n", error.reason()),
            Ok(outcome) => {
                let text = String::from_utf8_lossy(&body).escape_debug().to_string();
                let text =
                    if text.len() > 80 { format!("{} bytes", body.len()) } else { format!("\"{text}\"") };
                let retry = outcome.retry_after_s.map_or(String::new(), |s| format!(", again after {s} s"));
                format!("status {}, body {text}{retry}\n", outcome.status)
            }
        }
    }

    /// The corpus: every shape that two readers could take differently, and floods.
    #[test]
    fn every_fixture_is_taken_or_refused_as_expected_however_it_is_cut() {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/http");
        let mut count = 0;
        for case in std::fs::read_dir(cases).unwrap().map(|case| case.unwrap().path()) {
            let (Ok(input), Ok(expected)) =
                (std::fs::read(case.join("input")), std::fs::read_to_string(case.join("expected")))
            else {
                continue;
            };
            for step in [1, 2, 7, 1000, input.len().max(1)] {
                assert_eq!(described(&input, step), expected, "{} by {step}", case.display());
            }
            count += 1;
        }
        assert!(count >= 130, "{count}");
    }

    /// Feeds `bytes` cut at `cuts`, then closes.
    fn receive(bytes: &[u8], cuts: &[usize]) -> Result<(Outcome, Vec<u8>)> {
        let mut head = [0; 1024];
        let mut response = Response::new(&mut head, 4096);
        let mut body = Vec::new();
        let mut start = 0;
        for cut in cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]) {
            let cut = cut.max(start);
            response.push(&bytes[start..cut], &mut |piece| {
                body.extend_from_slice(piece);
                Ok(())
            })?;
            start = cut;
        }
        Ok((response.outcome().map_or_else(|| response.finish(), Ok)?, body))
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n\
        00c\r\n, wide world\r\n0\r\nX-Sum: 1\r\n\r\n";

    #[test]
    fn each_framing_gives_the_body() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nhello, wide world"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nhello, wide worldEXTRA",
            b"HTTP/1.0 200 OK\r\n\r\nhello, wide world",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nhello, wide world",
            CHUNKED,
        ] {
            let (outcome, body) = receive(bytes, &[]).unwrap();
            assert_eq!((outcome.status, outcome.body_bytes, &body[..]), (200, 17, &b"hello, wide world"[..]));
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_an_error() {
        let with_length = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nhello, wide world";
        for bytes in [&with_length[..], CHUNKED] {
            for end in 0..bytes.len() {
                assert!(receive(&bytes[..end], &[]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn an_error_body_is_read_but_not_delivered() {
        let bytes = b"HTTP/1.1 429 Slow\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy";
        let (outcome, body) = receive(bytes, &[]).unwrap();
        assert_eq!(outcome, Outcome { status: 429, retry_after_s: Some(2), body_bytes: 4 });
        assert!(body.is_empty());
    }

    #[test]
    fn a_redirect_is_an_outcome_like_any_other() {
        let bytes = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(receive(bytes, &[]).unwrap().0.status, 302);
    }

    #[test]
    fn floods_end() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(2000));
        assert_eq!(receive(long.as_bytes(), &[]), Err(too_many!("HTTP response head", 1024)));
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9);
        assert!(matches!(receive(interim.as_bytes(), &[]), Err(error) if error.is(Kind::TooMany)));
        // Each chunk of one byte, with all the extensions that 4 KiB of framing allow: that would be 16 MiB.
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(4000));
        let chunks = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", extension.repeat(20));
        assert!(matches!(receive(chunks.as_bytes(), &[]), Err(error) if error.is(Kind::TooMany)));
        let trailers =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}", "a: b\r\n".repeat(1000));
        assert!(matches!(receive(trailers.as_bytes(), &[]), Err(error) if error.is(Kind::TooMany)));
        for framing in ["Content-Length: 4097\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1001\r\n", "\r\n"]
        {
            let bytes = format!("HTTP/1.1 200 OK\r\n{framing}{}", "z".repeat(4097));
            assert_eq!(receive(bytes.as_bytes(), &[]), Err(too_many!("HTTP body", 4096)));
        }
    }

    #[test]
    fn a_line_feed_alone_ends_no_line_of_a_head() {
        for head in [
            "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\n",
            "\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        ] {
            let error = receive(format!("{head}hello").as_bytes(), &[]).unwrap_err();
            assert_eq!(error.reason(), "HTTP response head", "{head:?}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for chunks in [
            "g\r\n",
            "\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "-1\r\n",
            "0x5\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "1000000000000000\r\n",
            "5\0\r\nhello\r\n0\r\n\r\n",
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            let error = receive(bytes.as_bytes(), &[]).unwrap_err();
            assert_eq!(error.reason(), "HTTP chunk", "{chunks:?}");
        }
    }

    /// A peer with a script.
    struct Script {
        answer: Vec<u8>,
        at: usize,
        sent: Vec<u8>,
    }

    impl Stream for Script {
        fn send(&mut self, bytes: &[u8], _: u64) -> Result<usize> {
            let length = bytes.len().min(7);
            self.sent.extend_from_slice(&bytes[..length]);
            Ok(length)
        }
        fn receive(&mut self, bytes: &mut [u8], _: u64) -> Result<usize> {
            if self.at > self.answer.len() {
                return Err(os!("receive", Errno::CONNRESET));
            }
            let length = (self.answer.len() - self.at).min(bytes.len());
            bytes[..length].copy_from_slice(&self.answer[self.at..self.at + length]);
            self.at += length.max(1);
            Ok(length)
        }
    }

    #[test]
    fn an_exchange_ends_at_the_end_of_the_body_without_waiting_for_the_close() {
        let mut peer = Script { answer: CHUNKED.to_vec(), at: 0, sent: Vec::new() };
        let request = Request { method: Method::Post, path: "/x", host: "h", headers: &[], body: b"{}" };
        let (mut head, mut scratch) = ([0; 256], [0; 100]);
        let mut body = Vec::new();
        let outcome = exchange(
            &mut peer,
            &request,
            &mut scratch,
            &mut Response::new(&mut head, 100),
            &mut |piece| {
                body.extend_from_slice(piece);
                Ok(())
            },
            0,
        );
        assert_eq!(outcome.unwrap().body_bytes, 17);
        assert_eq!(body, b"hello, wide world");
        assert!(peer.sent.ends_with(b"Content-Length: 2\r\n\r\n{}"));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_result(cuts in prop::collection::vec(any::<usize>(), 0..40),
            sizes in prop::collection::vec(1usize..60, 0..8), noise in prop::option::of((any::<usize>(), any::<u8>())))
        {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for size in &sizes {
                bytes.extend(format!("{size:x}\r\n{}\r\n", "d".repeat(*size)).bytes());
            }
            bytes.extend(b"0\r\n\r\n");
            if let Some((at, byte)) = noise {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let whole = receive(&bytes, &[]);
            prop_assert_eq!(&receive(&bytes, &cuts), &whole);
            let single: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(&receive(&bytes, &single), &whole);
            prop_assert!(noise.is_some() || whole.is_ok());
        }

        #[test]
        fn no_response_panics(bytes: Vec<u8>, cuts in prop::collection::vec(any::<usize>(), 0..8)) {
            let _ = receive(&bytes, &cuts);
            let _ = receive(&[b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 10], bytes].concat(), &cuts);
        }
    }
}
