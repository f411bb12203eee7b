//! How are integers at fixed offsets of on-disk structures read and written? Out of bounds is `None`.

macro_rules! integers {
    ($($get:ident $put:ident $type:ty, $from:ident, $to:ident;)*) => {$(
        #[doc = concat!("Reads a `", stringify!($type), "` (`", stringify!($from), "`) at byte `at`.")]
        #[must_use]
        pub fn $get(bytes: &[u8], at: usize) -> Option<$type> {
            bytes.get(at..)?.first_chunk().map(|raw| <$type>::$from(*raw))
        }

        #[doc = concat!("Writes a `", stringify!($type), "` (`", stringify!($to), "`) at byte `at`; `None`: nothing was written.")]
        #[must_use]
        pub fn $put(bytes: &mut [u8], at: usize, value: $type) -> Option<()> {
            bytes.get_mut(at..)?.first_chunk_mut().map(|raw| *raw = value.$to())
        }
    )*};
}

integers! {
    le16 put_le16 u16, from_le_bytes, to_le_bytes;
    le32 put_le32 u32, from_le_bytes, to_le_bytes;
    le64 put_le64 u64, from_le_bytes, to_le_bytes;
    be32 put_be32 u32, from_be_bytes, to_be_bytes;
    be64 put_be64 u64, from_be_bytes, to_be_bytes;
}

#[cfg(test)]
mod tests {
    use super::{be64, le32, put_le32};

    #[test]
    fn a_field_outside_is_none() {
        let mut bytes = [0; 8];
        assert_eq!(put_le32(&mut bytes, 4, 0x0403_0201), Some(()));
        assert_eq!(bytes, [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!((le32(&bytes, 4), be64(&bytes, 0)), (Some(0x0403_0201), Some(0x0102_0304)));
        assert_eq!(
            (le32(&bytes, 5), le32(&bytes, usize::MAX), put_le32(&mut bytes, 5, 1)),
            (None, None, None)
        );
    }
}
