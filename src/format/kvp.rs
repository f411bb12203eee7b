//! What does the host ask of the guest's end of Hyper-V's data exchange, and how is it answered?
//!
//! `/dev/vmbus/hv_kvp` carries `struct hv_kvp_msg` both ways, an answer in the place of its question (Linux
//! `include/uapi/linux/hyperv.h`; `drivers/hv/hv_kvp.c` turns the host's UTF-16 into the UTF-8 seen here). What is
//! answered is what `tools/hv/hv_kvp_daemon.c` answers, but to sizes that would leave a field, and to addresses for
//! cards, which are refused.

use crate::error::Result;

/// Bytes of every message.
pub const MESSAGE: usize = 7432;
/// Bytes of a key with its NUL and what fills it up.
pub const KEY: usize = 512;
/// Bytes of a value with its NUL and what fills it up.
pub const VALUE: usize = 2048;
/// Bytes of a record in a pool's file: key and value.
pub const RECORD: usize = KEY + VALUE;
/// Pools: what the host gave, the guest's own, the guest's system, the host's facts, and one unused.
pub const POOLS: u8 = 5;
/// The pool whose records the guest writes and the host reads.
pub const GUEST: u8 = 1;
/// The pool of which there is no file: what system this is.
pub const AUTO: u8 = 2;
/// Azure's host reads this much of a key (azure-init "safe" mode).
pub const KEY_LIMIT: usize = 254;
/// Azure's host reads this much of a value.
pub const VALUE_LIMIT: usize = 1022;

/// Registers a daemon that answers with a status (`KVP_OP_REGISTER1`).
const REGISTER: u8 = 100;
const HEADER: usize = 4;

/// A record.
pub type Record = [u8; RECORD];

/// How a question was answered, in the host's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// `HV_S_OK`.
    Done = 0,
    /// `HV_S_CONT`: there is no such record, or none any more.
    None = 0x8007_0103,
    /// `HV_E_FAIL`.
    Refused = 0x8000_4005,
}

/// What a message asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'m> {
    /// The driver has taken the registration; its version, as the host shows it. Nothing is answered.
    Registered(&'m str),
    /// Record number `index` of a pool.
    Enumerate {
        /// Which pool.
        pool: u8,
        /// From 0.
        index: u32,
    },
    /// The value of a key.
    Get {
        /// Which pool.
        pool: u8,
        /// With its NUL.
        key: &'m [u8],
        /// How much of the value is wanted: the driver always says 0.
        size: usize,
    },
    /// Keep a value.
    Set {
        /// Which pool.
        pool: u8,
        /// With its NUL.
        key: &'m [u8],
        /// With its NUL.
        value: &'m [u8],
    },
    /// Forget a key.
    Delete {
        /// Which pool.
        pool: u8,
        /// With its NUL.
        key: &'m [u8],
    },
    /// Nothing that is done here: `KVP_OP_GET_IP_INFO`, `KVP_OP_SET_IP_INFO`, or what nobody knows.
    Other,
    /// A size leaves its field, or there is no such pool.
    Broken,
}

/// The message that registers.
pub fn register(message: &mut [u8; MESSAGE]) {
    message.fill(0);
    message[0] = REGISTER;
}

impl<'m> Request<'m> {
    /// What `message` asks. Until the driver has taken the registration (`is_registered`) nothing but that comes.
    #[must_use]
    pub fn parse(message: &'m [u8; MESSAGE], is_registered: bool) -> Self {
        let [operation, pool, ..] = *message;
        if operation == REGISTER && !is_registered {
            return Self::Registered(text(message.get(HEADER..HEADER + KEY).unwrap_or_default()));
        }
        if pool >= POOLS {
            return Self::Broken;
        }
        // Type, size of the key, size of the value, key, value; enumerating has an index in front.
        let of_key = |size: usize, at: usize| sized(message, size, at, KEY);
        match operation {
            0 => of_key(8, 16).map_or(Self::Broken, |key| Self::Get { pool, key, size: number(message, 12) }),
            1 => match (of_key(8, 16), sized(message, 12, 16 + KEY, VALUE)) {
                (Some(key), Some(value)) => Self::Set { pool, key, value },
                _ => Self::Broken,
            },
            2 => of_key(4, 8).map_or(Self::Broken, |key| Self::Delete { pool, key }),
            3 => match u32::try_from(number(message, HEADER)) {
                Ok(index) => Self::Enumerate { pool, index },
                Err(_) => Self::Broken,
            },
            _ => Self::Other,
        }
    }
}

/// Answers with a status alone.
pub fn answer(message: &mut [u8; MESSAGE], status: Status) {
    put(message, 0, &(status as u32).to_le_bytes());
}

/// Answers `Enumerate` with a record.
pub fn answer_record(message: &mut [u8; MESSAGE], record: &Record) {
    put(message, 20, record);
    answer(message, Status::Done);
}

/// Answers `Get` with as much of the record's value as was asked for.
pub fn answer_value(message: &mut [u8; MESSAGE], record: &Record, size: usize) {
    put(message, 16 + KEY, record.get(KEY..).and_then(|value| value.get(..size)).unwrap_or_default());
    answer(message, Status::Done);
}

/// A record of texts.
///
/// # Errors
/// `TooMany` above what the host reads, `Malformed` for an empty key or a NUL.
pub fn record(key: &str, value: &str) -> Result<Record> {
    if key.len() > KEY_LIMIT {
        return Err(too_many!("KVP key", KEY_LIMIT));
    }
    if value.len() > VALUE_LIMIT {
        return Err(too_many!("KVP value", VALUE_LIMIT));
    }
    if key.is_empty() || [key, value].iter().any(|text| text.contains('\0')) {
        return Err(malformed!("KVP record", "no key, or NUL in text", 0));
    }
    let mut record = [0; RECORD];
    put(&mut record, 0, key.as_bytes());
    put(&mut record, KEY, value.as_bytes());
    Ok(record)
}

/// Key and value of a record, each with its NUL, as a daemon is handed them.
#[must_use]
pub fn parts(record: &Record) -> (&[u8], &[u8]) {
    let (key, value) = record.split_at(KEY);
    (with_nul(key), with_nul(value))
}

/// True when the record's key begins so: the daemon compares as many bytes as the host gave.
#[must_use]
pub fn has_key(record: &Record, key: &[u8]) -> bool {
    record.starts_with(key)
}

fn with_nul(field: &[u8]) -> &[u8] {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field.get(..=length).unwrap_or(field)
}

/// The text before the first NUL; "" where that is none, or where no NUL ends it.
fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or_default();
    field.get(..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default()
}

/// The field at `at`, of which the number at `size` says how much counts. Nothing is no key and no value: even an
/// empty text has its NUL.
fn sized(message: &[u8; MESSAGE], size: usize, at: usize, room: usize) -> Option<&[u8]> {
    let length = Some(number(message, size)).filter(|length| (1..=room).contains(length))?;
    message.get(at..)?.get(..length)
}

fn number(message: &[u8; MESSAGE], at: usize) -> usize {
    let bytes = message.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = to.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        KEY, MESSAGE, RECORD, Request, Status, answer, answer_record, answer_value, parts, record, register,
    };
    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    /// `offsetof` of gcc on /usr/include/linux/hyperv.h, each body from byte 4 on:
    /// get and set: `key_size` 4, `value_size` 8, key 12, value 524; enumerate: index 0, key 16, value 528;
    /// delete: `key_size` 0, key 4; `sizeof(struct hv_kvp_msg)` 7432.
    fn message(operation: u8, pool: u8, fields: &[(usize, &[u8])]) -> [u8; MESSAGE] {
        let mut message = [0; MESSAGE];
        (message[0], message[1]) = (operation, pool);
        for (at, bytes) in fields {
            message[4 + at..4 + at + bytes.len()].copy_from_slice(bytes);
        }
        message
    }

    #[test]
    fn questions_are_where_the_kernels_header_has_them() {
        let size = |n: u32| n.to_le_bytes();
        let set = message(1, 3, &[(4, &size(4)), (8, &size(6)), (12, b"key\0"), (524, b"value\0")]);
        assert_eq!(Request::parse(&set, true), Request::Set { pool: 3, key: b"key\0", value: b"value\0" });
        let get = message(0, 1, &[(4, &size(4)), (12, b"key\0")]);
        assert_eq!(Request::parse(&get, true), Request::Get { pool: 1, key: b"key\0", size: 0 });
        let delete = message(2, 0, &[(0, &size(4)), (4, b"key\0")]);
        assert_eq!(Request::parse(&delete, true), Request::Delete { pool: 0, key: b"key\0" });
        let next = message(3, 1, &[(0, &size(7))]);
        assert_eq!(Request::parse(&next, true), Request::Enumerate { pool: 1, index: 7 });
        let version = message(100, 0, &[(0, b"3.1\0")]);
        assert_eq!(Request::parse(&version, false), Request::Registered("3.1"));
        let endless = message(100, 0, &[(0, &[b'3'; KEY])]);
        assert_eq!(Request::parse(&endless, false), Request::Registered(""), "no NUL in its field");
        for operation in [4, 5, 6, 99, 100, 255] {
            assert_eq!(Request::parse(&message(operation, 0, &[]), true), Request::Other);
        }
    }

    #[test]
    fn sizes_that_leave_their_field_are_broken() {
        for (operation, at) in [(0, 4), (1, 4), (1, 8), (2, 0)] {
            for size in [0, 2049, u32::MAX] {
                let both =
                    [(4, &1u32.to_le_bytes()[..]), (8, &1u32.to_le_bytes()), (at, &size.to_le_bytes())];
                let asked = if operation == 2 { &both[2..] } else { &both[..] };
                assert_eq!(Request::parse(&message(operation, 1, asked), true), Request::Broken);
            }
        }
        assert_eq!(Request::parse(&message(3, 5, &[]), true), Request::Broken);
    }

    #[test]
    fn answers_are_where_the_kernel_looks() {
        let kept = record("key", "value").unwrap();
        let mut reply = message(3, 1, &[(0, &[9, 0, 0, 0])]);
        answer_record(&mut reply, &kept);
        assert_eq!(
            (&reply[..8], &reply[20..24], &reply[532..538]),
            (&[0, 0, 0, 0, 9, 0, 0, 0][..], &b"key\0"[..], &b"value\0"[..])
        );
        let mut reply = message(0, 1, &[]);
        answer_value(&mut reply, &kept, 3);
        assert_eq!(&reply[528..533], b"val\0\0");
        answer(&mut reply, Status::None);
        assert_eq!(reply[..4], 0x8007_0103u32.to_le_bytes());
        register(&mut reply);
        assert!(reply[0] == 100 && reply[1..].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #[test]
        fn a_record_is_always_whole(key in ".{0,200}", value in ".{0,600}") {
            if let Ok(record) = record(&key, &value) {
                prop_assert_eq!(parts(&record), (&[key.as_bytes(), b"\0"].concat()[..], &[value.as_bytes(), b"\0"].concat()[..]));
                prop_assert!(record[key.len()..KEY].iter().chain(&record[KEY + value.len()..RECORD]).all(|b| *b == 0));
            } else {
                prop_assert!(key.is_empty() || key.len() > 254 || value.len() > 1022 || (key + &value).contains('\0'));
            }
        }

        #[test]
        fn any_message_is_read(head in any::<[u8; 24]>(), operation in 0u8..8, pool in 0u8..6) {
            let mut bytes = message(0, 0, &[]);
            bytes[..24].copy_from_slice(&head);
            (bytes[0], bytes[1]) = (operation, pool);
            match Request::parse(&bytes, true) {
                Request::Set { key, value, .. } => prop_assert!(key.len() <= 512 && value.len() <= 2048),
                Request::Get { key, .. } | Request::Delete { key, .. } => prop_assert!(key.len() <= 512),
                _ => {}
            }
        }
    }
}
