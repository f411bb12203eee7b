//! A goal state from a hostile wireserver: any bytes, in any pieces, and what is made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::goalstate::Reader;
use preroot::limits;
use preroot::report::health::Health;

fuzz_target!(|data: &[u8]| {
    let whole = read(&[data]);
    let (first, second) = data.split_at(data.len() / 3);
    assert_eq!(whole, read(&[first, second]));
    if let Some(goal) = whole {
        let mut body = [0; limits::HEALTH_BODY];
        assert!(Health::Ready.emit_xml(&goal, &mut body).is_ok());
    }
});

fn read(pieces: &[&[u8]]) -> Option<preroot::format::goalstate::GoalState> {
    let mut reader = Reader::new();
    pieces.iter().try_for_each(|piece| reader.push(piece)).ok()?;
    reader.finish().ok()
}
