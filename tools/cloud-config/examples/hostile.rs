//! What can a translator do that was taken over? Enters the sandbox and then does what its argument says; the test
//! tests/program.rs runs it, and tests/cloud-config-apply.sh has apply run it: then the first line of user data says what.

use preroot_cloud_config::sandbox;
use std::io::{Read, Write};

fn main() {
    let mut act = std::env::args().nth(1).unwrap_or_default();
    sandbox::enter(0).unwrap();
    if act == "translate" {
        let mut head = String::new();
        act.clear();
        std::io::stdin().read_line(&mut head).unwrap();
        std::io::stdin().read_line(&mut act).unwrap();
        act.truncate(act.trim_end().len());
    }
    println!("inside");
    let got = match act.as_str() {
        "nothing" => return,
        "open" => std::fs::File::open("/etc/passwd").is_ok(),
        "write" => std::fs::write("/tmp/preroot-hostile", "x").is_ok(),
        "list" => std::fs::read_dir("/").is_ok(),
        "connect" => std::net::TcpStream::connect("127.0.0.1:1").is_ok(),
        "socket" => std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
        "run" => std::process::Command::new("/bin/true").status().is_ok(),
        "thread" => std::thread::Builder::new().spawn(|| ()).is_ok(),
        "kill" => {
            rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::TERM).is_ok()
        }
        "fork" => fork(),
        "signal" => tgkill(1),
        "signal-myself" => tgkill(std::process::id()),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "deaf" => loop {
            // A pipe that nobody empties, or fills, is waited for.
            let _ = std::io::stdin().read(&mut [0; 4096]);
        },
        "memory" => Vec::<u8>::new().try_reserve_exact(1 << 30).is_ok(),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(1));
            true
        }
        _ => false,
    };
    let _ = writeln!(std::io::stdout(), "{}", if got { "achieved" } else { "refused" });
}

#[expect(unsafe_code, reason = "fork(2) as somebody would who took this process over")]
fn fork() -> bool {
    // SAFETY: neither process does more than end.
    unsafe { libc::fork() >= 0 }
}

#[expect(unsafe_code, reason = "tgkill(2) as somebody would who took this process over")]
fn tgkill(whom: u32) -> bool {
    // SAFETY: signal 0 does nothing to anybody.
    unsafe { libc::syscall(libc::SYS_tgkill, whom, whom, 0) == 0 }
}
