//! NoCloud's meta-data: read, or refused with a line that is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Kind;
use preroot::format::fields::Fields;
use preroot::format::nocloud;
use preroot::format::openstack::MetaData;

fuzz_target!(|data: &[u8]| {
    let (mut fields, mut meta) = (Box::new(Fields::new()), Box::new(MetaData::new()));
    if let Err(error) = nocloud::read(data, &mut fields, &mut *meta)
        && error.is(Kind::Unsupported)
    {
        let lines = data.split(|byte| *byte == b'\n').count() as u64;
        assert!((1..=lines).contains(&error.number()));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        nocloud::pairs(text).for_each(|(key, value)| assert!(key.len() + value.len() <= text.len() + 16));
    }
});
