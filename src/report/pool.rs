//! How do records get into the pools of Hyper-V's data exchange, and out of them?
//!
//! A pool is a file of records without a header, as `tools/hv/hv_kvp_daemon.c` keeps it: it takes an exclusive fcntl
//! lock on all of the file for each look and for each change, and so is done here. A record's place stays while it is
//! there; what comes behind it moves up when it goes. Half a record at the end counts as none.

use crate::error::{Errno, Result};
use crate::format::kvp::{self, KEY, POOLS, RECORD, Record};
use crate::format::text::{PathText, digits, join};
use crate::limits;
use crate::sys::{Dir, FileType, Owner};

/// Where the distribution's daemon has them, below the root.
pub const DIRECTORY: &str = "var/lib/hyperv";
/// Where they are in the initrd, below /run/preroot.
pub const IN_MEMORY: &str = "kvp";

/// The pools in one directory.
pub struct Pools<'d> {
    dir: &'d mut dyn Dir,
    /// Its path below `dir`.
    place: &'static str,
}

impl<'d> Pools<'d> {
    /// The distribution's, below a root.
    pub fn of_root(root: &'d mut dyn Dir) -> Self {
        Self { dir: root, place: DIRECTORY }
    }

    /// Those of the initrd, in /run/preroot.
    pub fn in_memory(run: &'d mut dyn Dir) -> Self {
        Self { dir: run, place: IN_MEMORY }
    }

    fn path(&self, pool: u8) -> Result<PathText> {
        join(&[self.place, "/.kvp_pool_", digits(pool.into(), &mut [0; 20])])
    }

    /// True once something was put into a pool.
    pub fn has(&mut self, pool: u8) -> bool {
        self.path(pool).is_ok_and(|path| self.dir.stat(&path).is_ok_and(|stat| stat.size >= RECORD as u64))
    }

    /// Record number `index`; false when there are fewer.
    ///
    /// # Errors
    /// `Os`, `Deadline` (the lock).
    pub fn read(&mut self, pool: u8, index: u32, record: &mut Record) -> Result<bool> {
        let mut is_there = false;
        self.locked(pool, &mut |file| {
            is_there = file.read(index, record)?;
            Ok(())
        })?;
        Ok(is_there)
    }

    /// The first record whose key begins with `key`; false when there is none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find(&mut self, pool: u8, key: &[u8], record: &mut Record) -> Result<bool> {
        let mut is_there = false;
        self.locked(pool, &mut |file| {
            is_there = file.find(key, record)?.is_some();
            Ok(())
        })?;
        Ok(is_there)
    }

    /// Keeps a value: in the key's own record where there is one, else in a new one. What stood behind a longer value is
    /// gone (the daemon leaves it).
    ///
    /// # Errors
    /// As [`Self::read`]; `TooMany`.
    pub fn set(&mut self, pool: u8, key: &[u8], value: &[u8]) -> Result<()> {
        self.locked(pool, &mut |file| file.set(key, value))
    }

    /// Forgets the first record whose key begins with `key`; false when there is none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn delete(&mut self, pool: u8, key: &[u8]) -> Result<bool> {
        let mut is_gone = false;
        self.locked(pool, &mut |file| {
            let mut record = [0; RECORD];
            let Some(mut at) = file.find(key, &mut record)? else { return Ok(()) };
            while file.read(at.saturating_add(1), &mut record)? {
                file.write(at, &record)?;
                at = at.saturating_add(1);
            }
            is_gone = true;
            file.cut(at)
        })?;
        Ok(is_gone)
    }

    /// Drops what is from before this boot (`boot_s`, wall clock): a captured image carries its first life's records
    /// otherwise.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn forget_before(&mut self, pool: u8, boot_s: i64) -> Result<()> {
        self.locked(pool, &mut |file| if file.modified < boot_s { file.cut(0) } else { Ok(()) })
    }

    /// Takes over all records of `other`, key by key, and leaves nothing there. The host waits meanwhile, and the mount: into an
    /// empty pool they go as they are, for looking through what is there already once a record took seconds for a full pool.
    ///
    /// # Errors
    /// As [`Self::set`]; a pool that was not taken over whole stays.
    pub fn take_over(&mut self, other: &mut Pools<'_>) -> Result<()> {
        for pool in 0..POOLS {
            if !other.has(pool) {
                continue;
            }
            self.locked(pool, &mut |file| {
                let (mut record, mut index, is_empty) = ([0; RECORD], 0, file.count == 0);
                while other.read(pool, index, &mut record)? {
                    let (key, value) = kvp::parts(&record);
                    match is_empty && index < limits::KVP_RECORDS {
                        true => file.write(index, &record)?,
                        false => file.set(key, value)?,
                    }
                    index = index.saturating_add(1);
                }
                Ok(())
            })?;
            let path = other.path(pool)?;
            other.dir.remove(&path)?;
        }
        Ok(())
    }

    fn locked(&mut self, pool: u8, work: &mut dyn FnMut(&mut File<'_>) -> Result<()>) -> Result<()> {
        let path = self.path(pool)?;
        self.make(&path)?;
        self.dir.lock(&path, limits::KVP_LOCK_MS, &mut |dir| {
            let stat = dir.stat(&path)?;
            let count = u32::try_from(stat.size / RECORD as u64).unwrap_or(u32::MAX);
            work(&mut File { dir, path: &path, count, modified: stat.modified })
        })
    }

    /// The file and what is above it, as the daemon makes them.
    fn make(&mut self, path: &str) -> Result<()> {
        match self.dir.stat(path) {
            Ok(stat) if stat.file_type == FileType::File => return Ok(()),
            Ok(_) => return Err(malformed!("KVP pool", "not a regular file", 0)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        for (end, _) in self.place.match_indices('/').chain([(self.place.len(), "")]) {
            let above = self.place.get(..end).unwrap_or_default();
            unless_there(self.dir.make_dir(above, Owner::root(0o755)))?;
        }
        // No fsync: the daemon reads the page cache, and after a power cut the records are stale anyway.
        unless_there(self.dir.create_unsynced(path, Owner::root(0o644), b""))?;
        // In the initrd no policy is loaded that would give it one, and without it SELinux keeps the daemon out.
        let _ = self.dir.copy_label(self.place, path);
        Ok(())
    }
}

fn unless_there(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

/// A pool's file while it is locked.
struct File<'f> {
    dir: &'f mut dyn Dir,
    path: &'f str,
    /// Whole records.
    count: u32,
    modified: i64,
}

impl File<'_> {
    fn read(&mut self, index: u32, record: &mut Record) -> Result<bool> {
        Ok(index < self.count && self.dir.read_at(self.path, offset(index), record)? == RECORD)
    }

    fn find(&mut self, key: &[u8], record: &mut Record) -> Result<Option<u32>> {
        let mut index = 0;
        while self.read(index, record)? {
            if kvp::has_key(record, key) {
                return Ok(Some(index));
            }
            index = index.saturating_add(1);
        }
        Ok(None)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let full = too_many!("KVP records", limits::KVP_RECORDS as usize);
        let mut record = [0; RECORD];
        let at = match self.find(key, &mut record)? {
            Some(at) => at,
            None if self.count >= limits::KVP_RECORDS => return Err(full),
            None => {
                record = [0; RECORD];
                record.get_mut(..key.len()).ok_or(full)?.copy_from_slice(key);
                self.count
            }
        };
        let field = record.get_mut(KEY..).ok_or(full)?;
        field.fill(0);
        field.get_mut(..value.len()).ok_or(full)?.copy_from_slice(value);
        self.write(at, &record)
    }

    fn write(&mut self, index: u32, record: &Record) -> Result<()> {
        self.dir.write_at(self.path, offset(index), record)?;
        self.count = self.count.max(index.saturating_add(1));
        Ok(())
    }

    fn cut(&mut self, count: u32) -> Result<()> {
        self.dir.set_size(self.path, offset(count))
    }
}

fn offset(index: u32) -> u64 {
    u64::from(index) * RECORD as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Pools;
    use crate::format::kvp::{RECORD, parts, record};
    use crate::sys::Dir;
    use crate::sys::fake::FakeDir;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, proptest};
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    pub(crate) fn all(pools: &mut Pools<'_>, pool: u8) -> Vec<(String, String)> {
        let text = |field: &[u8]| String::from_utf8(field[..field.len() - 1].to_vec()).unwrap();
        let mut record = [0; RECORD];
        let mut found = Vec::new();
        while pools.read(pool, u32::try_from(found.len()).unwrap(), &mut record).unwrap() {
            let (key, value) = parts(&record);
            found.push((text(key), text(value)));
        }
        found
    }

    #[test]
    fn a_pool_is_labelled_as_its_directory_is() {
        let mut root = FakeDir::default();
        root.put_dir("var/lib/hyperv");
        root.set_label("var/lib/hyperv", "system_u:object_r:hypervkvp_var_lib_t:s0");
        Pools::of_root(&mut root).set(1, b"k\0", b"v\0").unwrap();
        assert_eq!(
            root.label("var/lib/hyperv/.kvp_pool_1").unwrap(),
            "system_u:object_r:hypervkvp_var_lib_t:s0"
        );
    }

    #[test]
    fn the_first_record_makes_the_pool_with_the_daemons_modes() {
        let mut root = FakeDir::default();
        Pools::of_root(&mut root).set(1, b"k\0", b"v\0").unwrap();
        assert_eq!(root.owner("var/lib/hyperv").unwrap().mode, 0o755);
        assert_eq!(root.owner("var/lib/hyperv/.kvp_pool_1").unwrap().mode, 0o644);
        assert_eq!(root.text("var/lib/hyperv/.kvp_pool_1").unwrap().len(), RECORD);
    }

    #[test]
    fn a_link_in_place_of_a_pool_is_left_alone() {
        let mut root = FakeDir::default();
        root.put("etc/shadow", "x").put_symlink("var/lib/hyperv/.kvp_pool_1", "/etc/shadow");
        assert!(Pools::of_root(&mut root).set(1, b"k\0", b"v\0").is_err());
        assert_eq!(root.text("etc/shadow").unwrap(), "x");
    }

    #[test]
    fn half_a_record_counts_as_none() {
        let mut root = FakeDir::default();
        let mut bytes = record("a", "1").unwrap().to_vec();
        bytes.extend_from_slice(b"half a record");
        root.put("var/lib/hyperv/.kvp_pool_1", bytes);
        Pools::of_root(&mut root).set(1, b"b\0", b"2\0").unwrap();
        assert_eq!(root.text("var/lib/hyperv/.kvp_pool_1").unwrap().len(), 2 * RECORD);
    }

    #[test]
    fn a_thousand_hand_overs_lose_no_record() {
        let (mut run, mut root) = (FakeDir::default(), FakeDir::default());
        let mut expected = Vec::new();
        for turn in 0..1000 {
            // Every fourth comes again with another value; all pools of a daemon.
            let (pool, key) = ([0, 1, 3, 4][turn % 4], format!("key {}\0", turn * 3 / 4));
            let value = format!("value {turn}\0");
            Pools::in_memory(&mut run).set(pool, key.as_bytes(), value.as_bytes()).unwrap();
            Pools::of_root(&mut root).take_over(&mut Pools::in_memory(&mut run)).unwrap();
            expected.retain(|(p, k, _)| (*p, k) != (pool, &key));
            expected.push((pool, key, value));
            assert!(!Pools::in_memory(&mut run).has(pool));
        }
        let mut found = Vec::new();
        for pool in 0..5 {
            let records = all(&mut Pools::of_root(&mut root), pool);
            found.extend(records.into_iter().map(|(k, v)| (pool, k + "\0", v + "\0")));
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// It is done between two servers, while the host waits and before the root is taken over.
    #[test]
    fn a_full_pool_is_taken_over_without_reading_the_other_once_a_record() {
        let (mut run, mut root) = (FakeDir::default(), FakeDir::default());
        let bytes: Vec<u8> = (0..1024).flat_map(|n| record(&format!("key {n}"), "value").unwrap()).collect();
        run.put("kvp/.kvp_pool_3", &bytes);
        Pools::of_root(&mut root).take_over(&mut Pools::in_memory(&mut run)).unwrap();
        assert_eq!(root.text("var/lib/hyperv/.kvp_pool_3").unwrap().as_bytes(), bytes);
        assert!(run.reads() + root.reads() < 3 * 1024, "{} {}", run.reads(), root.reads());
    }

    proptest! {
        /// A list of keys and values is all that a pool is.
        #[test]
        fn a_pool_does_what_a_list_does(steps in prop::collection::vec((any::<bool>(), 0u8..6, 0u16..300), 0..60)) {
            let mut root = FakeDir::default();
            let mut pools = Pools::of_root(&mut root);
            let mut list: Vec<(String, String)> = Vec::new();
            for (is_set, key, length) in steps {
                let (key, value) = (format!("k{key}"), "v".repeat(length.into()));
                let at = list.iter().position(|(known, _)| *known == key);
                let with_nul = key.clone() + "\0";
                match (is_set, at) {
                    (true, Some(at)) => list[at].1 = value.clone(),
                    (true, None) => list.push((key, value.clone())),
                    (false, Some(at)) => _ = list.remove(at),
                    (false, None) => {}
                }
                if is_set {
                    pools.set(1, with_nul.as_bytes(), (value + "\0").as_bytes()).unwrap();
                } else {
                    prop_assert_eq!(pools.delete(1, with_nul.as_bytes()).unwrap(), at.is_some());
                }
                prop_assert_eq!(&all(&mut pools, 1), &list);
            }
            let stat = root.stat("var/lib/hyperv/.kvp_pool_1").map_or(0, |stat| stat.size);
            prop_assert_eq!(stat, (list.len() * RECORD) as u64);
        }
    }
}
