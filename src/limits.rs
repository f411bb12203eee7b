//! Every capacity and every deadline, with where it comes from. Reaching a capacity is
//! [`Error::TooMany`](crate::error::Error::TooMany), never a cut.

// Deadlines, milliseconds.

/// For a provisioning medium to become readable; waagent allows 25 s, ignition waits for ever.
pub const MEDIUM_MS: u64 = 30_000;
/// For an optical drive to appear at all once drivers are loaded; IMDS is asked meanwhile after that.
pub const DRIVE_MS: u64 = 5_000;
/// For a temporary disk to appear: NVMe's driver is loaded by udev, and finds it in its own time. Nobody waits for that.
pub const TEMPORARY_DISK_MS: u64 = 5_000;
/// A drive that says "no disc" this long has no disc.
pub const NO_DISC_MS: u64 = 2_000;
/// Longest sleep while waiting for hardware.
pub const POLL_MS: u64 = 250;
/// For the root device before the mount (initramfs-tools only; dracut orders us after it).
pub const ROOT_DEVICE_MS: u64 = 5_000;
/// How long a copy of the root's disk has to appear before the root's is written, from the last disk that came: those of
/// one machine are found within some ten milliseconds of each other. Only the boot that grows waits.
pub const TWIN_MS: u64 = 200;
/// So often, while disks go on coming.
pub const TWIN_LOOKS: u32 = 15;
/// For whoever else makes partitions on the root's disk to end.
pub const DISK_LOCK_MS: u64 = 2_000;
/// Between two looks for the root device: it delays the mount.
pub const ROOT_POLL_MS: u64 = 50;
/// For the first network interface to appear, once drivers are loaded.
pub const NIC_MS: u64 = 2_000;
/// For udev to name the interfaces that are there. Some initrds have no rule that would leave a trace of it: then
/// this is waited in vain.
pub const UDEV_MS: u64 = 500;
/// For a raised link to get its carrier; hv_netvsc needs up to 1 s.
pub const CARRIER_MS: u64 = 5_000;
/// The same for the early report, which has less in all; the link had a carrier minutes ago.
pub const CARRIER_EARLY_MS: u64 = 1_500;
/// Without a lease for so long, IPv6 routers are asked whether this is their network.
pub const ROUTERS_MS: u64 = 5_000;
/// For a DHCP lease, from the last carrier that came. All interfaces ask at once.
pub const DHCP_MS: u64 = 10_000;
/// A lease that does not lead to the platform waits this long for one that does, where other interfaces have none yet, or
/// may still appear.
pub const OTHER_LEASE_MS: u64 = 3_000;
/// The same where all interfaces have one.
pub const LONE_LEASE_MS: u64 = 2_000;
/// Between two looks for interfaces that appeared, or have another name.
pub const NIC_LOOK_MS: u64 = 250;
/// For IMDS, all tries together, in the initrd.
pub const IMDS_MS: u64 = 5_000;
/// For IMDS, all tries together, in the real root, where nothing else says who this VM is to be: cloud-init's 300 s.
/// `rd.preroot.imds=SECONDS` on the kernel command line is another limit, up to an hour.
pub const IMDS_AGAIN_MS: u64 = 300_000;
/// For IMDS over one lease there.
pub const IMDS_TRIES_MS: u64 = 30_000;
/// The same where there is no network interface at all.
pub const NO_CARD_AGAIN_MS: u64 = 30_000;
/// Between the first lines on the console about that; then twice as long each, and at most [`IMDS_SAY_LONGEST_MS`].
pub const IMDS_SAY_MS: u64 = 30_000;
/// See there.
pub const IMDS_SAY_LONGEST_MS: u64 = 120_000;
/// For a salt: the kernel's generator seeds itself within this on real machines.
pub const SALT_MS: u64 = 5_000;
/// For the mount to tell whether this is a first boot, where nothing at all was found and the platform would be told so.
pub const MARK_MS: u64 = 15_000;
/// A VM of a pool: between two tries; cloud-init's pause (sources/DataSourceAzure.py, `_poll_imds`).
pub const POOL_PAUSE_MS: u64 = 1_000;
/// The same when what is wrong stays the same.
pub const POOL_LONGEST_MS: u64 = 10_000;
/// Longest pause that the platform may ask for while a VM of a pool waits for its owner's document.
pub const POOL_LOOK_MS: u64 = 60_000;
/// For one request for the owner's document, and for telling the platform of a VM of a pool; cloud-init's is the same.
pub const POOL_TRY_MS: u64 = 30_000;
/// Once the owner's document is there: for IMDS to speak of the owner too; cloud-init's 300 s.
pub const POOL_IMDS_MS: u64 = 300_000;
/// Until a VM of which only the disk is kept is switched off; cloud-init sleeps a year.
pub const POOL_POWER_OFF_MS: u64 = YEAR_MS;
/// For what is to last as long as the machine.
pub const YEAR_MS: u64 = 365 * 86_400_000;
/// A VM of a pool that takes no step for so long hangs: its process is ended, and its supervisor begins it again. The longest step
/// is one request, or one pause that the platform asks for.
pub const POOL_WATCH_MS: u64 = 600_000;
/// The same of whoever answers the host in the initrd: it looks each [`POLL_MS`].
pub const KVP_WATCH_MS: u64 = 10_000;
/// So often it is begun: the initrd has no time for pauses.
pub const KVP_LIVES: u32 = 3;
/// So often a pool's wait is begun, where none of these lives was a [`LONG_LIFE_MS`].
pub const POOL_LIVES: u32 = 8;
/// The first pause between two of them.
pub const POOL_LIFE_PAUSE_MS: u64 = 1_000;
/// Whoever is lost after this was well before: it counts anew.
pub const LONG_LIFE_MS: u64 = 3_600_000;
/// For azure-proxy-agent to say that it signs requests: cloud-init has it wait 120 s, and this is somewhat more.
pub const PROXY_AGENT_MS: u64 = 130_000;
/// For the whole online half: carrier, lease and IMDS, and one report.
pub const ONLINE_MS: u64 =
    NIC_MS + UDEV_MS + CARRIER_MS + DHCP_MS + IMDS_MS + MARK_MS + REPORT_EARLY_MS + SLACK_MS;
/// For telling the platform that the online half was lost.
pub const LOST_MS: u64 = ONLINE_MS - IMDS_MS;
/// For all of fetch.
pub const FETCH_MS: u64 = MEDIUM_MS + ONLINE_MS + LOST_MS + 3 * SLACK_MS;
/// For `modules`: a slow disk under hundreds of modaliases.
pub const MODULES_MS: u64 = 20_000;
/// For `grow`, the wait for the root device included.
pub const GROW_MS: u64 = 15_000;
/// What a supervisor adds to a stage's own deadlines before it kills it.
pub const SLACK_MS: u64 = 5_000;
/// For a connection to open; then the next hop is asked for anew. Once it is open its answer is waited for to the end.
pub const CONNECT_MS: u64 = 2_500;
/// `persist` joins a running fetch for at most this long.
pub const JOIN_MS: u64 = 10_000;
/// A fetch that was told to stop may take this long to lower its link and end.
pub const STOP_MS: u64 = 1_000;
/// For all of `persist`: the root was mounted, and what it writes is small.
pub const PERSIST_MS: u64 = JOIN_MS + 4 * STOP_MS + KVP_READ_MS + GROW_MS + SLACK_MS;
/// How often fetch looks whether it was told to stop, while it has a link up: a second boot waits for that.
pub const STOP_LOOK_MS: u64 = 50;
/// For the one early report before the OS network, from the start of our process: the network waits for it. Its
/// unit's TimeoutStartSec is no guard of ours: systemd counts its own work before that start.
pub const REPORT_EARLY_MS: u64 = 2_500;
/// For visudo and restorecon, which only look.
pub const CHECK_MS: u64 = 20_000;
/// For one program of the image that makes something: ssh-keygen's RSA key is luck, and took more than 60 s on a busy
/// emulated machine; mkfs of a large disk.
pub const PROGRAM_MS: u64 = 120_000;
/// For all that is done to data disks: it comes before the accounts, whose homes may be on them, and who waits for
/// those shall not lose them to it. Without discarding, mkfs of a terabyte takes seconds.
pub const DATA_DISKS_MS: u64 = 90_000;
/// What preroot-apply.service gives all of apply: its failure shall be told, not cut off.
const APPLY_UNIT_MS: u64 = 480_000;
const _: () = assert!(
    3 * TRANSLATOR_MS + BOOT_SCRIPTS_MS + DATA_DISKS_MS + PASSWORD_LOCK_MS + PROGRAM_MS + 2 * CHECK_MS
        < APPLY_UNIT_MS
);
const _: () = assert!(TEMPORARY_DISK_MS < DATA_DISKS_MS);
/// For one of the image's or the administrator's scripts: installing packages takes minutes, and nothing waits for
/// it. What hangs longer than this is stopped.
pub const SCRIPT_MS: u64 = 60 * 60_000;
/// For a drive to eject while a report waits; it goes on by itself after that. Below a millisecond on an emulated
/// drive; a real one, or its host, may take the kernel's own 30 s.
pub const EJECT_MS: u64 = 500;
/// For one try of a report: the wireserver may be slow, but the next try must come.
pub const REPORT_TRY_MS: u64 = 20_000;
/// A provisioning that takes this long is told of: a hundred times as long as an ordinary one.
pub const PROGRESS_MS: u64 = 60_000;
/// Between two tellings of the kind.
pub const PROGRESS_AGAIN_MS: u64 = 300_000;
/// For /etc/.pwd.lock; glibc's lckpwdf waits 15 s.
pub const PASSWORD_LOCK_MS: u64 = 15_000;
/// For the late report: the platform restarts a silent VM after about 20 minutes.
pub const REPORT_LATE_MS: u64 = 20 * 60_000;

/// For hv_kvp_daemon to give a pool's lock back: it holds it while it reads or writes the file.
pub const KVP_LOCK_MS: u64 = 1_000;
/// For the host to read of a failure in the initrd: our server looks for records each [`POLL_MS`], and the host asks.
pub const KVP_READ_MS: u64 = 1_000;
/// For the host's data exchange to be opened by hv_utils, once that was loaded.
pub const KVP_OPEN_MS: u64 = 5_000;

/// For the translator of user data: 16 MiB of YAML take it seconds on a slow machine. Once more, it has twice as long.
pub const TRANSLATOR_MS: u64 = 30_000;
/// For `bootcmd` and all boothooks together: the network waits for them.
pub const BOOT_SCRIPTS_MS: u64 = 120_000;

// Capacities.

/// Its user and group: between systemd's dynamic users (to 65519) and `nobody`, where distributions give nothing away.
pub const TRANSLATOR_ID: u32 = 65_523;
/// Address space of the translator: a document of 16 MiB, its tree and its entries.
pub const TRANSLATOR_MEMORY: u64 = 1024 * 1024 * 1024;
/// All that it may say, which is in memory until the VM is provisioned.
pub const TRANSLATION: usize = 32 * 1024 * 1024;
/// Its notes that are told one by one.
pub const TRANSLATION_NOTES: u32 = 40;

/// Documents that user data and vendor data include, and what these include.
pub const INCLUDES: usize = 16;
/// How often documents are fetched that documents name: those of user data, and two times more.
pub const INCLUDE_ROUNDS: u32 = 3;
/// Bytes of one that is included, and of all.
pub const INCLUDED: (u64, u64) = (16 * 1024 * 1024, 32 * 1024 * 1024);
/// For one try to fetch one.
pub const INCLUDE_TRY_MS: u64 = 60_000;
/// For all of one boot.
pub const INCLUDE_MS: u64 = 120_000;
/// Tries, and the time between two; as cloud-init (user_data.py).
pub const INCLUDE_TRIES: u32 = 10;
/// See [`INCLUDE_TRIES`].
pub const INCLUDE_AGAIN_MS: u64 = 5_000;
/// Boots that try to fetch what could not be had.
pub const INCLUDE_BOOTS: u32 = 5;
/// Letters of a URL; one with a signature has a few hundred.
pub const INCLUDE_URL: usize = 2048;

/// Records of a KVP pool; Azure's host reads as many (azure-init).
pub const KVP_RECORDS: u32 = 1024;
/// Boots that may end inside `apply` before it is given up: a module that brings the machine down must not do
/// so for ever.
pub const APPLY_BOOTS: u32 = 3;

/// Local NVMe disks that are joined; the largest sizes have ten.
pub const ARRAY_DISKS: usize = 16;
/// A path we build, bytes. Ours are short; the kernel's limit is 4096.
pub const PATH: usize = 256;
/// Parameters of one kernel module, bytes; the whole x86 kernel command line has 2048.
pub const MODULE_PARAMETERS: usize = 1024;
/// Linux host names end at 64 (`__NEW_UTS_LEN`), Azure's computerName too.
pub const HOSTNAME: usize = 64;
/// User name: useradd's limit is 32; Azure's adminUsername 64, of which useradd would refuse half.
pub const USER_NAME: usize = 32;
/// Users a seed has besides the administrator; each password of another account takes one, too.
pub const USERS: usize = 64;
/// All that is said of one, keys and rules of sudo included.
pub const PERSON: usize = 16 * 1024;
/// Files of `write_files`; Tencent's vendor data has a dozen, the largest seen elsewhere some 60.
pub const FILES: usize = 256;
/// Clear password, bytes (the platform documents 6 to 72 characters, up to 4 UTF-8 bytes each).
pub const PASSWORD: usize = 72 * 4;
/// Characters of a clear password the platform accepts.
pub const PASSWORD_CHARS: usize = 72;
/// A crypt(3) hash; libxcrypt's CRYPT_OUTPUT_SIZE is 384.
pub const PASSWORD_HASH: usize = 384;
/// One SSH public key line; sshd reads lines up to 8 KiB, an RSA-16384 key is 2.8 KB.
pub const SSH_KEY: usize = 4096;
/// All SSH public key lines of the user together.
pub const SSH_KEYS: usize = 32 * 1024;
/// A JSON document of a config drive; OpenStack's own are far below, vendor data with files in it is not.
pub const JSON_DOCUMENT: u64 = 16 * 1024 * 1024;
/// user-data, vendor-data or network-config of a medium; cloud-init has no limit, the seed is in memory.
pub const USER_DATA: u64 = 16 * 1024 * 1024;
/// meta-data of a NoCloud medium: some hundred bytes, and keys.
pub const NOCLOUD_META_DATA: usize = 64 * 1024;
/// Parts of vendor data, each a script or a cloud-config.
pub const VENDOR_PARTS: usize = 16;
/// Files that a config drive brings along; OpenStack's own quota is 5.
pub const INJECTED_FILES: usize = 16;
/// Block devices whose names are held at once; their labels are read all.
pub const BLOCK_DEVICES: usize = 64;
/// For a labelled medium that somebody named: later a disk's driver would not find it either. As long a disk is not taken
/// while an optical drive cannot be read.
pub const LABELLED_MS: u64 = 5_000;
/// For one that may be there, where firmware alone says so: most such machines have none, and wait for this at every boot.
/// After the root was mounted is a second look.
pub const SETTLE_MS: u64 = 500;
/// Media with the right label that turn out to be unusable.
pub const LABELLED_MEDIA: usize = 16;
/// The kernel command line: arm64 and x86 have 2048, s390 4096.
pub const COMMAND_LINE: usize = 4096;
/// A text of SMBIOS; sysfs shows a page at most, serial numbers with NoCloud's words have some hundred bytes.
pub const DMI_TEXT: usize = 1024;
/// customData and userData, decoded: documented 64 KiB (87,384 base64 characters).
pub const CUSTOM_DATA: usize = 64 * 1024;
/// ovf-env.xml; customData is nearly all of a large one.
pub const OVF_DOCUMENT: u64 = 256 * 1024;
/// An IMDS reply; the theoretical maximum (50 tags, certificates, 64 KB userData) is above 150 KB.
pub const IMDS_DOCUMENT: u64 = 256 * 1024;
/// Health description: the wireserver answers 500 above 4096 characters; waagent cuts at 3686.
pub const DESCRIPTION: usize = 512;
/// The reason in it; the other fields take up to 180.
pub const REASON: usize = 256;
/// A goal state: a few KB, more with many extensions.
pub const GOAL_STATE: u64 = 256 * 1024;
/// Body of a health report: both ids and a description of which every byte is escaped.
pub const HEALTH_BODY: usize = 6 * 1024;
/// Network interfaces tried; the largest VMs have 15.
pub const LINKS: usize = 64;
/// Optical drives looked at; a VM has one or two.
pub const OPTICAL_DRIVES: usize = 8;
/// Extents of one file on a medium; a mastered file has one.
pub const FILE_EXTENTS: usize = 32;
/// A directory on a medium, bytes; a provisioning medium's fits a block or two.
pub const DIRECTORY: u64 = 1024 * 1024;
/// A name on a medium, bytes of UTF-8: 255 characters of UTF-16 on FAT; UDF's and ISO 9660's are shorter.
pub const MEDIUM_NAME: usize = 3 * 255;
/// A medium's label, bytes of UTF-8: UDF has room for 126 characters of Latin-1.
pub const MEDIUM_LABEL: usize = 2 * 126;
/// Continuation areas that one directory record of Rock Ridge may chain; Linux's RR_MAX_CE_ENTRIES.
pub const CONTINUATIONS: usize = 32;
/// Packets of a rewritten disc that were moved; a VM's medium is none, and its image has none.
pub const MOVED_PACKETS: usize = 32;
/// Pieces that one extent of a UDF volume may be in, where blocks are looked up one by one: 8 MiB of a write-once
/// disc.
pub const SCATTERED_RUNS: usize = 4096;
/// Volume descriptors looked at before a medium counts as malformed; real media have up to a dozen.
pub const VOLUME_DESCRIPTORS: usize = 64;
/// Receive buffer: GRO hands over frames far above the MTU (13,194 bytes were seen).
pub const FRAME_RX: usize = 65_536 + 64;
/// Longest Ethernet frame we send (IP MTU 1500).
pub const FRAME_TX: usize = 1514;
/// Head of an HTTP response: status line and headers.
pub const HTTP_HEAD: usize = 8192;
/// Headers of an HTTP response.
pub const HTTP_HEADERS: usize = 64;
/// An HTTP request, head and body; the largest is the health report in XML, every character escaped.
pub const HTTP_REQUEST: usize = 8192;
/// TCP's receive window; IMDS replies are mostly below it.
pub const TCP_RX: usize = 16_384;
/// A GPT entry array: sgdisk's 128 entries are 16 KiB, 256 of them are the most seen.
pub const GPT_ARRAY: usize = 32 * 1024;
/// For pvresize, lvextend and cryptsetup each, milliseconds: they wait for udev.
pub const GROW_PROGRAM_MS: u64 = 60_000;
/// Partitions of an MBR, logical ones included: sfdisk and fdisk make at most 60 (MAXIMUM_PARTS of libfdisk).
pub const MBR_PARTITIONS: usize = 60;
/// Partitions of a disk that Linux has at most (`DISK_MAX_PARTS` in block/partitions/check.h).
pub const KERNEL_PARTITIONS: u32 = 256;
/// Lent to `grow`: three blocks of 4096, an entry array, one more window, and the names of the block devices.
pub const GROW_SCRATCH: usize = GPT_ARRAY + 4 * 4096 + 8 * 1024;
/// A block device's kernel name: `BDEVNAME_SIZE`.
pub const DEVICE_NAME: usize = 32;
/// A file system's or partition's label: btrfs has the longest.
pub const LABEL: usize = 256;
/// Name of an interface: the kernel's `IFNAMSIZ` less its NUL.
pub const LINK_NAME: usize = 15;
/// Name of a card's driver: of the kernel's, the longest has 19 bytes.
pub const DRIVER: usize = 24;
/// Interfaces a source describes; the largest VMs have 15 cards, bonds and VLANs count too.
pub const NETWORK_LINKS: usize = 16;
/// How they come by addresses: four a link.
pub const NETWORK_SUBNETS: usize = 4 * NETWORK_LINKS;
/// Their routes.
pub const NETWORK_ROUTES: usize = 64;
/// Their name servers; the resolver asks three.
pub const NETWORK_DNS: usize = 32;
/// Their search domains; the resolver took six before glibc 2.26.
pub const NETWORK_SEARCH: usize = 12;
/// A search domain: RFC 1035, section 2.3.4, as text.
pub const DOMAIN: usize = 253;
/// What bonds and bridges are told.
pub const NETWORK_PARAMETERS: usize = 32;
/// One of that: the longest are four addresses to ask by ARP.
pub const BOND_VALUE: usize = 64;
/// network_data.json; sixteen links with all they have are 20 KB.
pub const NETWORK_DOCUMENT: u64 = 1024 * 1024;
/// One link in a seed: all routes, name servers and domains could be one link's.
pub const NETWORK_FILE: usize = 16 * 1024;
/// Of what happened in a boot; /run is memory, and somebody may wait in a pool for weeks.
pub const TIMELINE_BYTES: i64 = 256 * 1024;
