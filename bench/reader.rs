//! How fast does our media reader read? `media-read DEVICE PATH`: the file to nowhere, by the code that the VM binary has.
//! For bench/media.sh, which runs it beside the kernel's own driver.

use preroot::error::{Errno, Result, Rule};
use preroot::format::ReadAt;
use preroot::format::volume::{SCRATCH_BYTES, Volume};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::ExitCode;

const READ: &Rule = &Rule::new(b"oread device\0");
/// What a stage reads at once.
const CHUNK: usize = 16 * 1024;

struct Device(File, u64);

impl ReadAt for Device {
    fn size_bytes(&self) -> u64 {
        self.1
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let sought = self.0.seek(SeekFrom::Start(offset)).and_then(|_| self.0.read_exact(buf));
        sought.map_err(|_| READ.refused(Errno::IO))
    }
}

fn read(device: &str, path: &str) -> std::result::Result<u64, String> {
    let mut file = File::open(device).map_err(|error| error.to_string())?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let (mut device, mut scratch) = (Device(file, size), [0; SCRATCH_BYTES]);
    let why = |error: preroot::error::Error| error.reason().to_string();
    let volume = Volume::open(&mut device, &mut scratch).map_err(why)?;
    let mut found = volume.find(&mut device, path, &mut scratch).map_err(why)?;
    let (mut chunk, mut offset) = ([0; CHUNK], 0);
    loop {
        match found.read(&mut device, offset, &mut chunk).map_err(why)? {
            0 => return Ok(offset),
            got => offset += got as u64,
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [device, path] = &words[..] else {
        eprintln!("usage: media-read DEVICE PATH");
        return ExitCode::from(2);
    };
    match read(device, path) {
        Ok(bytes) => {
            println!("{bytes} bytes");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{device}: {why}");
            ExitCode::FAILURE
        }
    }
}
