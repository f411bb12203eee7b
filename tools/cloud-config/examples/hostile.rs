//! What can a translator do that was taken over? Enters the sandbox and then does what its argument says; the test
//! tests/program.rs runs it.

use preroot_cloud_config::sandbox;
use std::io::Write;

fn main() {
    let act = std::env::args().nth(1).unwrap_or_default();
    sandbox::enter().unwrap();
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
        "memory" => Vec::<u8>::new().try_reserve_exact(1 << 30).is_ok(),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(1));
            true
        }
        _ => false,
    };
    let _ = writeln!(std::io::stdout(), "{}", if got { "achieved" } else { "refused" });
}
