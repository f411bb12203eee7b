//! HTTP responses: no bytes panic, and any portions give the result that one piece gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::net::http_client::{Outcome, Response};

fn receive(bytes: &[u8], portion: usize) -> Result<(Outcome, Vec<u8>)> {
    let mut head = [0; 1024];
    let mut response = Response::new(&mut head, 4096);
    let mut body = Vec::new();
    for piece in bytes.chunks(portion.max(1)) {
        response.push(piece, &mut |bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    Ok((response.outcome().map_or_else(|| response.finish(), Ok)?, body))
}

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, portion) = input;
    let whole = receive(bytes, bytes.len());
    assert_eq!(receive(bytes, usize::from(portion)), whole);
    if let Ok((outcome, body)) = whole {
        assert!(!outcome.is_success() || outcome.body_bytes == body.len() as u64);
    }
});
