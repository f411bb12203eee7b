//! How are Ethernet interfaces raised, lowered and read, below the kernel's IP?
#![expect(unsafe_code, reason = "AF_PACKET addresses, interface ioctls and socket filters have no safe form")]

use super::raw::{checked, exit, syscall};
use super::signal::{StopSignal, timespec};
use super::{errno, open_path, raw, refused, stream};
use crate::error::{Errno, Result, Rule};
use crate::format::text::number;
use crate::sys::{Link, LinkState, Links, Stream};
use core::mem::size_of;
use linux_raw_sys::general as nr;
use linux_raw_sys::if_packet::{PACKET_IGNORE_OUTGOING, sockaddr_ll};
use linux_raw_sys::ioctl::{
    SIOCGIFADDR, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFNAME, SIOCSIFFLAGS,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno as Code;
use rustix::ioctl;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const IFF_UP: u16 = 1;
/// include/uapi/linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;
const ETH_P_ALL: u16 = 3;
const SOL_SOCKET: usize = 1;
const SO_ATTACH_FILTER: usize = 26;
const SOL_PACKET: usize = 263;
/// Interfaces raised at one time.
const RAISED: usize = 8;

/// The kernel's interfaces.
pub struct LinuxLinks {
    stop: Option<StopSignal>,
    /// What we raised and have not lowered yet.
    raised: heapless::Vec<Raised, RAISED>,
}

type Name = heapless::String<16>;

/// A link that was down. udev may give it another name meanwhile (Linux 6.2): its index stays.
struct Raised {
    name: Name,
    index: i32,
    /// We set its `disable_ipv6` from 0 to 1.
    is_silenced: bool,
}

impl LinuxLinks {
    /// SIGTERM ends every wait from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { stop: StopSignal::new().ok(), raised: heapless::Vec::new() }
    }

    /// Notes the link, keeps the kernel's IPv6 off it (else: fe80::/64, MLD reports, router solicitations).
    fn raise(&mut self, socket: &OwnedFd, name: &str) -> Result<()> {
        let index = Request::new(name)?.ask(SIOCGIFINDEX, socket, os!("link index"))?.index();
        let known = Name::try_from(name).map_err(|_| os!("link name", Errno::NAMETOOLONG))?;
        let full = too_many!("raised links", RAISED);
        self.raised.push(Raised { name: known, index, is_silenced: false }).map_err(|_| full)?;
        let is_silenced = swap_disable_ipv6(name, b'0', b'1')?;
        if let Some(raised) = self.raised.last_mut() {
            raised.is_silenced = is_silenced;
        }
        change_up(socket, name, true)
    }

    /// Lowers what we raised, by the name that it has now. Where somebody gave it an address meanwhile it is
    /// theirs: it stays up, and only IPv6 is given back.
    fn give_back(&mut self, socket: &OwnedFd, raised: &Raised) -> Result<()> {
        let mut request = Request::of_index(raised.index);
        let name = request.ask(SIOCGIFNAME, socket, os!("name of a raised link"))?.name();
        let lowered = match self.state(name)?.has_address {
            true => Ok(()),
            false => change_up(socket, name, false),
        };
        if raised.is_silenced {
            swap_disable_ipv6(name, b'1', b'0')?;
        }
        lowered
    }
}

/// Sets or clears IFF_UP where that is a change.
fn change_up(socket: &OwnedFd, name: &str, up: bool) -> Result<()> {
    let mut request = Request::new(name)?;
    let flags = request.ask(SIOCGIFFLAGS, socket, os!("link state"))?.flags();
    request.set_flags(if up { flags | IFF_UP } else { flags & !IFF_UP });
    if request.flags() != flags {
        let rule = if up { os!("raise link") } else { os!("lower link") };
        request.ask(SIOCSIFFLAGS, socket, rule)?;
    }
    Ok(())
}

impl Default for LinuxLinks {
    fn default() -> Self {
        Self::new()
    }
}

impl Links for LinuxLinks {
    fn state(&mut self, name: &str) -> Result<LinkState> {
        let socket = ioctl_socket()?;
        let flags = Request::new(name)?.ask(SIOCGIFFLAGS, &socket, os!("link state"))?.flags();
        let has_address = match Request::new(name)?.ask(SIOCGIFADDR, &socket, os!("link address")) {
            Ok(_) => true,
            Err(error) if error.errno() == Some(Errno::ADDRNOTAVAIL) => false,
            Err(error) => return Err(error),
        };
        let is_up = flags & IFF_UP != 0;
        Ok(LinkState { is_up, has_carrier: is_up && has_carrier(name), has_address })
    }

    fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let socket = ioctl_socket()?;
        let at = self.raised.iter().position(|raised| raised.name == name);
        match (up, at) {
            (true, Some(_)) => change_up(&socket, name, true),
            (true, None) if self.state(name)?.is_up => Ok(()),
            (true, None) => self.raise(&socket, name),
            (false, Some(at)) => {
                let raised = self.raised.swap_remove(at);
                self.give_back(&socket, &raised)
            }
            (false, None) => change_up(&socket, name, false),
        }
    }

    fn open(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Link) -> Result<()>) -> Result<()> {
        let mut link = PacketLink::open(name, self.stop.as_ref())?;
        let result = work(&mut link);
        close_in_background(link.socket);
        result
    }

    fn connect(
        &mut self,
        address: [u8; 4],
        port: u16,
        until_us: u64,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        work(&mut stream::connect(address, port, until_us, self.stop.as_ref())?)
    }
}

/// From sysfs: IFF_RUNNING says the same, but up to a second later (net/core/link_watch.c).
fn has_carrier(name: &str) -> bool {
    let mut value = [0];
    let read = attribute(["/sys/class/net/", name, "/carrier"])
        .and_then(|path| open_path(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC).ok())
        .map(|file| rustix::io::read(&file, &mut value));
    matches!(read, Some(Ok(1))) && value == *b"1"
}

fn attribute(parts: [&str; 3]) -> Option<heapless::String<64>> {
    let mut path = heapless::String::new();
    parts.into_iter().all(|part| path.push_str(part).is_ok()).then_some(path)
}

/// Changes `disable_ipv6` if it has the value `from`; false when it has not, or when there is no IPv6.
fn swap_disable_ipv6(name: &str, from: u8, to: u8) -> Result<bool> {
    const WHAT: &str = "disable_ipv6 of a link";
    let path = attribute(["/proc/sys/net/ipv6/conf/", name, "/disable_ipv6"])
        .ok_or(os!(WHAT, Errno::NAMETOOLONG))?;
    let file = match open_path(path.as_str(), OFlags::RDWR | OFlags::CLOEXEC) {
        Ok(file) => file,
        Err(Code::NOENT) => return Ok(false),
        Err(code) => return Err(os!(WHAT, errno(code))),
    };
    let mut value = [0];
    rustix::io::read(&file, &mut value).map_err(|code| os!(WHAT, errno(code)))?;
    if value != [from] {
        return Ok(false);
    }
    rustix::io::pwrite(&file, &[to, b'\n'], 0).map_err(|code| os!(WHAT, errno(code)))?;
    Ok(true)
}

/// `struct ifreq` as bytes: a name and a union of 24 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    name: [u8; 16],
    data: [u8; 24],
}

impl Request {
    fn new(name: &str) -> Result<Self> {
        let is_name = !name.is_empty() && name.len() < 16 && !name.contains('/');
        let mut request = Self { name: [0; 16], data: [0; 24] };
        match request.name.get_mut(..name.len()) {
            Some(place) if is_name => place.copy_from_slice(name.as_bytes()),
            _ => return Err(os!("link name", Errno::INVAL)),
        }
        Ok(request)
    }

    /// A request that names the link by its index.
    fn of_index(index: i32) -> Self {
        let mut request = Self { name: [0; 16], data: [0; 24] };
        if let Some(place) = request.data.first_chunk_mut() {
            *place = index.to_ne_bytes();
        }
        request
    }

    /// Asks the kernel, whose answer stands in the same place.
    fn ask(&mut self, call: u32, socket: &OwnedFd, rule: &'static Rule) -> Result<&Self> {
        // SAFETY: each of the six calls used here reads and writes one `struct ifreq` of 40 bytes.
        let asked = unsafe { ioctl::ioctl(socket, Updater { call, request: self }) };
        asked.map_err(|code| refused(rule, code))?;
        Ok(self)
    }

    fn index(&self) -> i32 {
        self.data.first_chunk().map_or(0, |index| i32::from_ne_bytes(*index))
    }

    fn name(&self) -> &str {
        let name = core::ffi::CStr::from_bytes_until_nul(&self.name).unwrap_or_default();
        name.to_str().unwrap_or_default()
    }

    const fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.data[0], self.data[1]])
    }

    const fn set_flags(&mut self, flags: u16) {
        [self.data[0], self.data[1]] = flags.to_ne_bytes();
    }

    /// The Ethernet address of a `sockaddr` in the union.
    const fn mac(&self) -> Option<[u8; 6]> {
        match self.data {
            [f0, f1, a, b, c, d, e, f, ..] if u16::from_ne_bytes([f0, f1]) == ARPHRD_ETHER => {
                Some([a, b, c, d, e, f])
            }
            _ => None,
        }
    }
}

/// rustix's `Updater` takes the call as its own opcode type; linux-raw-sys has them as `u32`.
struct Updater<'a> {
    call: u32,
    request: &'a mut Request,
}

// SAFETY: the opcode is the caller's, the pointer is to the request, nothing is returned.
unsafe impl ioctl::Ioctl for Updater<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;
    fn opcode(&self) -> ioctl::Opcode {
        self.call as ioctl::Opcode
    }
    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::from_mut(self.request).cast()
    }
    unsafe fn output_from_ptr(_: ioctl::IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Any IPv4 socket takes interface ioctls; closing this kind costs nothing.
fn ioctl_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|code| refused(os!("socket"), code))
}

/// One interface, bound to an AF_PACKET socket.
struct PacketLink<'s> {
    socket: OwnedFd,
    mac: [u8; 6],
    index: i32,
    stop: Option<&'s StopSignal>,
}

impl<'s> PacketLink<'s> {
    fn open(name: &str, stop: Option<&'s StopSignal>) -> Result<Self> {
        const WHAT: &str = "open link";
        let failed = |code| os!(WHAT, errno(code));
        let mac = Request::new(name)?.ask(SIOCGIFHWADDR, &ioctl_socket()?, os!("link address"))?.mac();
        let mac = mac.ok_or(unsupported!(WHAT, "link is not Ethernet"))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0: nothing is received (and no grace period is due) until `bind` names link and protocol.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        let socket = socket.map_err(failed)?;
        let index = Request::new(name)?.ask(SIOCGIFINDEX, &socket, os!(WHAT))?.index();
        attach_filter(&socket)?;
        // Kernels before 4.20 cannot; our own frames come back then, and are ignored by their source.
        let _ = set_option(&socket, SOL_PACKET, PACKET_IGNORE_OUTGOING as usize, &1_i32);
        rustix::net::bind(&socket, &LinkAddress { index }).map_err(failed)?;
        Ok(Self { socket, mac, index, stop })
    }
}

impl Link for PacketLink<'_> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn index(&self) -> u32 {
        self.index.unsigned_abs()
    }

    fn carrier_changes(&self) -> Option<u32> {
        // By the name that it has now.
        let mut request = Request::of_index(self.index);
        let name = request.ask(SIOCGIFNAME, &self.socket, os!("name of a link")).ok()?.name();
        let path = attribute(["/sys/class/net/", name, "/carrier_changes"])?;
        let file = open_path(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC).ok()?;
        let mut text = [0; 16];
        let length = rustix::io::read(&file, &mut text).ok()?;
        number(text.get(..length)?.trim_ascii())
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        match rustix::net::send(&self.socket, frame, SendFlags::DONTWAIT) {
            // A full queue looks like loss: the protocols repeat.
            Ok(_) | Err(Code::AGAIN | Code::NOBUFS | Code::INTR) => Ok(()),
            Err(code) => Err(refused(os!("send a frame"), code)),
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match rustix::net::recv(&self.socket, &mut *frame, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                // A frame longer than the buffer would be cut: it counts as lost.
                Ok((length, whole)) if length < whole => {}
                Ok((length, _)) => return Ok(Some(length)),
                Err(Code::AGAIN) => return Ok(None),
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("receive a frame"), code)),
            }
        }
    }

    fn wait(&mut self, until_us: u64) -> Result<()> {
        wait(&self.socket, PollFlags::IN, until_us, self.stop)
    }
}

/// Waits for `events` on a descriptor, for `until_us`, or for the stop signal.
pub(super) fn wait(
    socket: &impl AsFd,
    events: PollFlags,
    until_us: u64,
    stop: Option<&StopSignal>,
) -> Result<()> {
    let left = timespec(until_us.saturating_sub(now_us()));
    // poll ignores nothing: without a stop signal the socket stands in twice.
    let stop = stop.map_or_else(|| PollFd::new(socket, events), |stop| PollFd::new(stop, PollFlags::IN));
    match poll(&mut [PollFd::new(socket, events), stop], Some(&left)) {
        Ok(_) | Err(Code::INTR) => Ok(()),
        Err(code) => Err(refused(os!("wait for the network"), code)),
    }
}

pub(super) fn now_us() -> u64 {
    raw::monotonic_ns() / 1000
}

/// `sockaddr_ll` for bind: all protocols (the filter chooses) of one link.
struct LinkAddress {
    index: i32,
}

// SAFETY: hands `f` an initialised sockaddr_ll that outlives the call, and its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let address = sockaddr_ll {
            sll_family: AddressFamily::PACKET.as_raw(),
            sll_protocol: ETH_P_ALL.to_be(),
            sll_ifindex: self.index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        f((&raw const address).cast(), size_of::<sockaddr_ll>() as SocketAddrLen)
    }
}

/// `struct sock_filter`: one instruction of classic BPF.
#[repr(C)]
struct Instruction(u16, u8, u8, u32);

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// ARP and IPv4 only: the EtherType at offset 12.
static FILTER: [Instruction; 5] = [
    Instruction(0x28, 0, 0, 12),     // ldh [12]
    Instruction(0x15, 1, 0, 0x0800), // jeq IPv4, accept
    Instruction(0x15, 0, 1, 0x0806), // jeq ARP, accept, drop
    Instruction(0x06, 0, 0, u32::MAX),
    Instruction(0x06, 0, 0, 0),
];

fn attach_filter(socket: &OwnedFd) -> Result<()> {
    let program = Program { length: 5, filter: FILTER.as_ptr() };
    set_option(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program)
}

/// Only for options whose value is a `T`.
fn set_option<T>(socket: &OwnedFd, level: usize, option: usize, value: &T) -> Result<()> {
    let descriptor = usize::try_from(socket.as_raw_fd()).unwrap_or(usize::MAX);
    let place = core::ptr::from_ref(value) as usize;
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `value` (and what FILTER's static points to).
    let result = unsafe { syscall(nr::__NR_setsockopt, [descriptor, level, option, place, size_of::<T>()]) };
    checked(result).map(|_| ()).map_err(|errno| os!("socket option", errno))
}

/// Closes an AF_PACKET socket without waiting: its release takes an RCU grace period (5 to 20 ms), and so
/// does exiting with one open. A child that shares the descriptor table waits instead; it sends no signal
/// when it ends, and whoever reaps orphans reaps it.
fn close_in_background(socket: OwnedFd) {
    let descriptor = socket.into_raw_fd();
    let number = usize::try_from(descriptor).unwrap_or(usize::MAX);
    // SAFETY: without CLONE_VM the child has its own copy of memory, this stack included; it closes a
    // descriptor that nobody uses any more and ends. If there is no child, the parent closes it.
    unsafe {
        match syscall(nr::__NR_clone, [nr::CLONE_FILES as usize, 0, 0, 0, 0]) {
            0 => {
                syscall(nr::__NR_close, [number, 0, 0, 0, 0]);
                exit(0)
            }
            1.. => {}
            _ => rustix::io::close(descriptor),
        }
    }
}
