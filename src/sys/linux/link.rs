//! How are Ethernet interfaces raised, lowered and read, below the kernel's IP?
#![expect(unsafe_code, reason = "AF_PACKET addresses, interface ioctls and socket filters have no safe form")]

use super::raw::{checked, exit, syscall};
use super::signal::{StopSignal, timespec};
use super::{errno, open_path, raw, refused, stream};
use crate::error::{Errno, Result, Rule};
use crate::format::text::number;
use crate::limits;
use crate::sys::{Frame, Frames, LinkState, Links, Only, Stream};
use core::mem::size_of;
use core::net::{Ipv4Addr, SocketAddrV4};
use linux_raw_sys::general as nr;
use linux_raw_sys::if_packet::{
    PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, PACKET_MR_MULTICAST,
    TP_STATUS_CSUMNOTREADY, packet_mreq, sockaddr_ll, tpacket_auxdata,
};
use linux_raw_sys::ioctl::{SIOCGIFADDR, SIOCGIFFLAGS, SIOCGIFINDEX, SIOCGIFNAME, SIOCSIFFLAGS};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno as Code;
use rustix::ioctl;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

const IFF_UP: u16 = 1;
const ETH_P_ALL: u16 = 3;
const SOL_SOCKET: usize = 1;
const SO_ATTACH_FILTER: usize = 26;
const SOL_PACKET: usize = 263;
/// include/uapi/linux/if_packet.h: the kernel, or the card, has found the checksum right.
const TP_STATUS_CSUM_VALID: u32 = 0x80;
const MSG_DONTWAIT: usize = 0x40;
const MSG_TRUNC: usize = 0x20;

/// The kernel's interfaces.
pub struct LinuxLinks {
    stop: Option<StopSignal>,
    /// What we raised and have not lowered yet.
    raised: heapless::Vec<Raised, { limits::LINKS }>,
    /// The AF_PACKET socket of all links: one, because each costs a grace period of RCU to close, and because a link
    /// that goes down ends the sockets that are bound to it.
    frames: Option<OwnedFd>,
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
        Self { stop: StopSignal::new().ok(), raised: heapless::Vec::new(), frames: None }
    }

    /// Notes the link, keeps the kernel's IPv6 off it (else: fe80::/64, MLD reports, router solicitations).
    fn raise(&mut self, socket: &OwnedFd, name: &str) -> Result<()> {
        let index = Request::new(name)?.ask(SIOCGIFINDEX, socket, os!("link index"))?.index();
        let known = Name::try_from(name).map_err(|_| os!("link name", Errno::NAMETOOLONG))?;
        let full = too_many!("raised links", limits::LINKS);
        self.raised.push(Raised { name: known, index, is_silenced: false }).map_err(|_| full)?;
        let is_silenced = swap_disable_ipv6(name, b'0', b'1')?;
        if let Some(raised) = self.raised.last_mut() {
            raised.is_silenced = is_silenced;
        }
        change_up(socket, name, true)
    }

    fn frames(&self) -> Result<&OwnedFd> {
        self.frames.as_ref().ok_or(os!("links are not open", Errno::NODEV))
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
        let mut request = Request::new(name)?;
        let index = request.ask(SIOCGIFINDEX, &socket, os!("link index")).map_or(0, Request::index);
        let at = self.raised.iter().position(|raised| raised.index == index || raised.name == name);
        match (up, at) {
            (true, Some(_)) => change_up(&socket, name, true),
            (true, None) if self.state(name)?.is_up => Ok(()),
            (true, None) => self.raise(&socket, name),
            (false, Some(at)) => {
                let raised = self.raised.swap_remove(at);
                self.give_back(raised.index.unsigned_abs(), raised.is_silenced)
            }
            (false, None) => change_up(&socket, name, false),
        }
    }

    fn open(&mut self) -> Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0: nothing is received (and no grace period is due) until `bind` names the protocol.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        let socket = socket.map_err(|code| refused(os!("open links"), code))?;
        attach(&socket, &DHCP)?;
        // Kernels before 4.20 cannot; our own frames come back then, and are for nobody here.
        let _ = set_option(&socket, SOL_PACKET, PACKET_IGNORE_OUTGOING as usize, &1_i32);
        set_option(&socket, SOL_PACKET, PACKET_AUXDATA as usize, &1_i32)?;
        rustix::net::bind(&socket, &LinkAddress { index: 0 })
            .map_err(|code| refused(os!("open links"), code))?;
        self.frames = Some(socket);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(socket) = self.frames.take() {
            close_in_background(socket);
        }
    }

    fn carrier_changes(&mut self, index: u32) -> Option<u32> {
        // By the name that it has now.
        let mut request = Request::of_index(index.cast_signed());
        let name = request.ask(SIOCGIFNAME, &ioctl_socket().ok()?, os!("name of a link")).ok()?.name();
        let path = attribute(["/sys/class/net/", name, "/carrier_changes"])?;
        let file = open_path(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC).ok()?;
        let mut text = [0; 16];
        let length = rustix::io::read(&file, &mut text).ok()?;
        number(text.get(..length)?.trim_ascii())
    }

    fn has_route(&mut self, address: [u8; 4]) -> bool {
        // Connecting UDP looks the route up and does no more.
        let to = SocketAddrV4::new(Ipv4Addr::from(address), 80);
        ioctl_socket().is_ok_and(|socket| rustix::net::connect(&socket, &to).is_ok())
    }

    fn give_back(&mut self, index: u32, is_silenced: bool) -> Result<()> {
        let socket = ioctl_socket()?;
        // udev may have given it another name meanwhile (Linux 6.2): its index stays.
        let mut request = Request::of_index(index.cast_signed());
        let name = request.ask(SIOCGIFNAME, &socket, os!("name of a raised link"))?.name();
        // Where somebody gave it an address it is theirs: it stays up, and only IPv6 is given back.
        let lowered = match self.state(name)?.has_address {
            true => Ok(()),
            false => change_up(&socket, name, false),
        };
        if is_silenced {
            swap_disable_ipv6(name, b'1', b'0')?;
        }
        lowered
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

impl Frames for LinuxLinks {
    fn send(&mut self, index: u32, frame: &[u8]) -> Result<()> {
        let to = LinkAddress { index: index.cast_signed() };
        match rustix::net::sendto(self.frames()?, frame, SendFlags::DONTWAIT, &to) {
            // A full queue, or a link that is down for a moment, looks like loss: the protocols repeat.
            Ok(_) | Err(Code::AGAIN | Code::NOBUFS | Code::INTR | Code::NETDOWN) => Ok(()),
            Err(Code::NXIO) => Err(os!("send a frame", Errno::NODEV)), // the link, not the socket
            Err(code) => Err(refused(os!("send a frame"), code)),
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        let socket = self.frames()?;
        loop {
            match receive(socket, frame) {
                // A frame longer than the buffer would be cut: it counts as lost.
                Ok(received) if received.length > frame.len() => {}
                Ok(received) => return Ok(Some(received)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(os!("receive a frame", errno)),
            }
        }
    }

    fn wait(&mut self, until_us: u64) -> Result<()> {
        wait(self.frames()?, PollFlags::IN, until_us, self.stop.as_ref())
    }

    fn join(&mut self, index: u32, group: [u8; 6]) -> Result<()> {
        let [a, b, c, d, e, f] = group;
        let membership = packet_mreq {
            mr_ifindex: index.cast_signed(),
            mr_type: PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        set_option(self.frames()?, SOL_PACKET, PACKET_ADD_MEMBERSHIP as usize, &membership)
    }

    fn narrow(&mut self, only: &Only) -> Result<()> {
        attach(self.frames()?, &conversation(only))
    }
}

/// `struct msghdr` with what it points to.
#[repr(C)]
struct Message {
    name: *mut sockaddr_ll,
    name_length: u32,
    pieces: *mut Piece,
    piece_count: usize,
    control: *mut Control,
    control_length: usize,
    flags: i32,
}

/// `struct iovec`.
#[repr(C)]
struct Piece {
    start: *mut u8,
    length: usize,
}

/// `struct cmsghdr` and the one message we ask for.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    data: tpacket_auxdata,
}

/// The next frame; its length may be above that of the buffer.
fn receive(socket: &OwnedFd, frame: &mut [u8]) -> core::result::Result<Frame, Errno> {
    // SAFETY: both are plain integers, for which all zero is a value.
    let (mut from, mut control): (sockaddr_ll, Control) = unsafe { core::mem::zeroed() };
    let mut piece = Piece { start: frame.as_mut_ptr(), length: frame.len() };
    let mut message = Message {
        name: &raw mut from,
        name_length: size_of::<sockaddr_ll>() as u32,
        pieces: &raw mut piece,
        piece_count: 1,
        control: &raw mut control,
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let descriptor = usize::try_from(socket.as_raw_fd()).unwrap_or(usize::MAX);
    let place = (&raw mut message) as usize;
    // SAFETY: the message and all it points to live here, with the sizes it says.
    let result = unsafe { syscall(nr::__NR_recvmsg, [descriptor, place, MSG_DONTWAIT | MSG_TRUNC, 0, 0]) };
    let length = checked(result)?;
    let is_told = control.level == SOL_PACKET as i32 && control.kind == PACKET_AUXDATA as i32;
    let vouches = control.data.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID) != 0;
    Ok(Frame { length, index: from.sll_ifindex.unsigned_abs(), is_intact: is_told && vouches })
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

/// `sockaddr_ll` of one link (0: of all), for all protocols (the filter chooses).
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
#[derive(Clone, Copy)]
struct Instruction(u16, u8, u8, u32);

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// Loads: bytes of the frame, what the kernel knows of it (include/uapi/linux/filter.h: SKF_AD_OFF and on), and, with X
/// set to the length of the IPv4 header, of what is behind that.
const WORD: u16 = 0x20;
const HALF: u16 = 0x28;
const BYTE: u16 = 0x30;
const HALF_BEHIND: u16 = 0x48;
const HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const IFINDEX: u32 = 0xffff_f008;
const VLAN_TAG: u32 = 0xffff_f02c;
const HAS_VLAN: u32 = 0xffff_f030;

/// What DHCP servers send us: UDP to port 68, whole, in no VLAN. The tag is gone from the frame by the time we see it; a
/// tag that gives a priority only has VLAN 0. And what IPv6 routers send to all: ICMPv6 of type 134.
static DHCP: [Instruction; 21] = [
    Instruction(WORD, 0, 0, HAS_VLAN),
    Instruction(EQUAL, 3, 0, 0),
    Instruction(WORD, 0, 0, VLAN_TAG),
    Instruction(AND, 0, 0, 0xfff),
    Instruction(EQUAL, 0, 14, 0),
    Instruction(HALF, 0, 0, 12),
    Instruction(EQUAL, 0, 4, 0x86dd),
    Instruction(BYTE, 0, 0, 20),
    Instruction(EQUAL, 0, 10, 58),
    Instruction(BYTE, 0, 0, 54),
    Instruction(EQUAL, 9, 8, 134),
    Instruction(EQUAL, 0, 7, 0x0800),
    Instruction(BYTE, 0, 0, 23),
    Instruction(EQUAL, 0, 5, 17),
    Instruction(HALF, 0, 0, 20),
    Instruction(ANY_BIT, 3, 0, 0x3fff),
    Instruction(HEADER_LENGTH, 0, 0, 14),
    Instruction(HALF_BEHIND, 0, 0, 16),
    Instruction(EQUAL, 1, 0, 68),
    Instruction(RETURN, 0, 0, 0),
    Instruction(RETURN, 0, 0, u32::MAX),
];

/// Of one link and no VLAN: ARP for our address, and segments of one connection. Strangers do not even wake us.
fn conversation(only: &Only) -> [Instruction; 27] {
    let (ours, peer) = (u32::from_be_bytes(only.ours), u32::from_be_bytes(only.peer));
    [
        Instruction(WORD, 0, 0, IFINDEX),
        Instruction(EQUAL, 0, 23, only.index),
        Instruction(WORD, 0, 0, HAS_VLAN),
        Instruction(EQUAL, 3, 0, 0),
        Instruction(WORD, 0, 0, VLAN_TAG),
        Instruction(AND, 0, 0, 0xfff),
        Instruction(EQUAL, 0, 18, 0),
        Instruction(HALF, 0, 0, 12),
        Instruction(EQUAL, 0, 2, 0x0806),
        Instruction(WORD, 0, 0, 38),
        Instruction(EQUAL, 15, 14, ours),
        Instruction(EQUAL, 0, 13, 0x0800),
        Instruction(BYTE, 0, 0, 23),
        Instruction(EQUAL, 0, 11, 6),
        Instruction(HALF, 0, 0, 20),
        Instruction(ANY_BIT, 9, 0, 0x3fff),
        Instruction(WORD, 0, 0, 26),
        Instruction(EQUAL, 0, 7, peer),
        Instruction(WORD, 0, 0, 30),
        Instruction(EQUAL, 0, 5, ours),
        Instruction(HEADER_LENGTH, 0, 0, 14),
        Instruction(HALF_BEHIND, 0, 0, 14),
        Instruction(EQUAL, 0, 2, 80),
        Instruction(HALF_BEHIND, 0, 0, 16),
        Instruction(EQUAL, 1, 0, only.port as u32),
        Instruction(RETURN, 0, 0, 0),
        Instruction(RETURN, 0, 0, u32::MAX),
    ]
}

fn attach(socket: &OwnedFd, filter: &[Instruction]) -> Result<()> {
    let program = Program { length: filter.len() as u16, filter: filter.as_ptr() };
    set_option(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program)
}

/// Only for options whose value is a `T`.
fn set_option<T>(socket: &OwnedFd, level: usize, option: usize, value: &T) -> Result<()> {
    let descriptor = usize::try_from(socket.as_raw_fd()).unwrap_or(usize::MAX);
    let place = core::ptr::from_ref(value) as usize;
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `value` (and the filter that a `Program` points to).
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
