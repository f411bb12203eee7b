//! A hostile host behind /dev/vmbus/hv_kvp: any question, of any size, and what is answered in its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::kvp::{
    KEY, MESSAGE, RECORD, Request, Status, VALUE, answer, answer_record, answer_value, parts,
};

fuzz_target!(|data: &[u8]| {
    let mut message = [0; MESSAGE];
    let length = data.len().min(MESSAGE);
    message[..length].copy_from_slice(&data[..length]);
    let (mut record, mut size) = ([0; RECORD], 0);
    for is_registered in [false, true] {
        match Request::parse(&message, is_registered) {
            Request::Registered(version) => assert!(!is_registered && version.len() < KEY),
            Request::Enumerate { pool, .. } => assert!(pool < 5),
            Request::Get { pool, key, size: wanted } => {
                assert!(pool < 5 && (1..=KEY).contains(&key.len()));
                size = wanted;
            }
            Request::Set { pool, key, value } => {
                assert!(pool < 5 && (1..=KEY).contains(&key.len()) && (1..=VALUE).contains(&value.len()));
                record[..key.len()].copy_from_slice(key);
                record[KEY..KEY + value.len()].copy_from_slice(value);
            }
            Request::Delete { pool, key } => assert!(pool < 5 && key.len() <= KEY),
            Request::Other | Request::Broken => {}
        }
    }
    let (key, value) = parts(&record);
    assert!(record.starts_with(key) && record[KEY..].starts_with(value));
    let before = message;
    answer_record(&mut message, &record);
    assert!(
        message[..4] == [0; 4]
            && message[20..20 + RECORD] == record
            && message[20 + RECORD..] == before[20 + RECORD..]
    );
    let mut message = before;
    answer_value(&mut message, &record, size);
    assert_eq!(message[16 + KEY + VALUE..], before[16 + KEY + VALUE..]);
    answer(&mut message, Status::None);
    assert_eq!(message[..4], [3, 1, 7, 0x80]);
});
