//! base64 of any kind: no cut matters, and what is accepted is what the canonical encoding decodes to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::{Result, Rule};
use preroot::format::base64::{Decoder, Rules};

const RULES: Rules = Rules {
    not_base64: &Rule::new(b"mfuzz\0not base64"),
    goes_on: &Rule::new(b"mfuzz\0base64 goes on"),
    full: &Rule::new(b"tfuzz\0"),
};
const LIMIT: usize = 1000;

fn read(text: &[u8], step: usize) -> (Result<usize>, Vec<u8>) {
    let (mut decoder, mut bytes) = (Decoder::new(&RULES, LIMIT), Vec::new());
    let mut output = |chunk: &[u8]| {
        bytes.extend(chunk);
        Ok(())
    };
    let result = text.chunks(step).try_for_each(|chunk| decoder.push(chunk, &mut output));
    let result = result.and_then(|()| decoder.finish(&mut output));
    (result, bytes)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    assert!(whole.1.len() <= LIMIT);
    if let Ok(length) = whole.0 {
        assert_eq!(length, whole.1.len());
        let characters = data.iter().filter(|byte| !byte.is_ascii_whitespace()).count();
        assert_eq!(characters, length.div_ceil(3) * 4);
    }
});
