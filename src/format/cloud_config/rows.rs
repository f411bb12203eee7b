//! Which keys of cloud-config are known, and what becomes of their values?

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Top,
    ResolvConf,
    ResolvOptions,
    Ntp,
    File,
    Source,
    Chpasswd,
    ChpasswdUser,
    User,
    Other,
}

/// What becomes of a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Nothing.
    None,
    /// Somebody else's; its place in [`LEFT`].
    Left(u32),
    /// The entry.
    Text(&'static str),
    /// The entry, `true` or `false`.
    Truth(&'static str),
    /// A line of the entry: this word and the value.
    Line(&'static str, &'static str),
    Hostname,
    Fqdn,
    PreferFqdn,
    ManageHosts,
    ManageResolvConf,
    Nameserver,
    ResolvOption,
    NtpEnabled,
    /// A part of the file in `write_files`.
    FilePart(&'static str),
    Content,
    /// The default account's.
    Key,
    Password,
    DisableRoot,
    Expire,
    PasswordList,
    ChpasswdName,
    ChpasswdPassword,
    ChpasswdKind,
    /// An item of `users` that is no object.
    UserItem,
    UserName,
    /// A line of the user's, with this word.
    UserLine(&'static str),
    UserTruth(&'static str),
    PlainPassword,
}

/// What a value is: as a scalar (or a list of scalars), and as an object (or a list of objects).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) act: Act,
    pub(super) place: Place,
}

impl Row {
    /// Unknown.
    pub(super) const OTHER: Self = Self { act: Act::None, place: Place::Other };
}

pub(super) const NTP: &str = "ntp";
pub(super) const RESOLV_CONF: &str = "resolv-conf";
pub(super) const FQDN: &str = "fqdn";
pub(super) const HOSTS: &str = "hosts/manage";
const PRESERVE: &str = "preserve-hostname";
const LOGIN: &str = "user/password-login";
const TIMEZONE: &str = "timezone";
const LOCALE: &str = "locale";

/// Entries that a mapping puts, but for files and users.
pub(super) fn entries() -> impl Iterator<Item = &'static str> {
    ["hostname", FQDN, PRESERVE, HOSTS, NTP, RESOLV_CONF, TIMEZONE, LOCALE, LOGIN].into_iter()
}

/// Bytes of the longest known key.
pub(super) const KEY: usize = 26;

/// Top keys that mean something, but are not done from here.
pub(super) const LEFT: &[&str] = &[
    "runcmd",
    "bootcmd",
    "packages",
    "package_update",
    "package_upgrade",
    "disk_setup",
    "fs_setup",
    "mounts",
    "swap",
    "growpart",
    "resize_rootfs",
    "groups",
    "user",
    "ssh_keys",
    "ssh_import_id",
    "random_seed",
    "apt",
    "yum_repos",
    "ca_certs",
    "power_state",
    "final_message",
    "phone_home",
    "rsyslog",
    "snap",
    "puppet",
    "chef",
    "salt_minion",
    "ansible",
    "network",
    "bootcmd_early",
    "merge_how",
    "output",
];

const fn of(act: Act) -> Row {
    Row { act, place: Place::Other }
}

const fn inside(place: Place) -> Row {
    Row { act: Act::None, place }
}

const ROWS: &[(Place, &str, Row)] = &[
    (Place::Top, "hostname", of(Act::Hostname)),
    (Place::Top, "fqdn", of(Act::Fqdn)),
    (Place::Top, "prefer_fqdn_over_hostname", of(Act::PreferFqdn)),
    (Place::Top, "preserve_hostname", of(Act::Truth(PRESERVE))),
    (Place::Top, "manage_etc_hosts", of(Act::ManageHosts)),
    (Place::Top, "timezone", of(Act::Text(TIMEZONE))),
    (Place::Top, "locale", of(Act::Text(LOCALE))),
    (Place::Top, "manage_resolv_conf", of(Act::ManageResolvConf)),
    // Tencent's.
    (Place::Top, "nameservers", of(Act::Nameserver)),
    (Place::Top, "ntp_servers", of(Act::Line(NTP, "server"))),
    (Place::Top, "resolv_conf", inside(Place::ResolvConf)),
    (Place::ResolvConf, "nameservers", of(Act::Line(RESOLV_CONF, "nameserver"))),
    (Place::ResolvConf, "searchdomains", of(Act::Line(RESOLV_CONF, "search"))),
    (Place::ResolvConf, "domain", of(Act::Line(RESOLV_CONF, "domain"))),
    (Place::ResolvConf, "sortlist", of(Act::Line(RESOLV_CONF, "sortlist"))),
    (Place::ResolvConf, "options", inside(Place::ResolvOptions)),
    (Place::Top, "ntp", inside(Place::Ntp)),
    (Place::Ntp, "enabled", of(Act::NtpEnabled)),
    (Place::Ntp, "ntp_client", of(Act::Line(NTP, "client"))),
    (Place::Ntp, "servers", of(Act::Line(NTP, "server"))),
    (Place::Ntp, "pools", of(Act::Line(NTP, "pool"))),
    (Place::Ntp, "peers", of(Act::Line(NTP, "peer"))),
    (Place::Ntp, "allow", of(Act::Line(NTP, "allow"))),
    (Place::Top, "write_files", inside(Place::File)),
    (Place::File, "path", of(Act::FilePart("path"))),
    (Place::File, "permissions", of(Act::FilePart("mode"))),
    (Place::File, "owner", of(Act::FilePart("owner"))),
    (Place::File, "encoding", of(Act::FilePart("encoding"))),
    (Place::File, "append", of(Act::FilePart("append"))),
    (Place::File, "defer", of(Act::FilePart("defer"))),
    (Place::File, "content", of(Act::Content)),
    (Place::File, "source", inside(Place::Source)),
    (Place::Top, "ssh_authorized_keys", of(Act::Key)),
    (Place::Top, "disable_root", of(Act::DisableRoot)),
    (Place::Top, "ssh_pwauth", of(Act::Truth(LOGIN))),
    (Place::Top, "password", of(Act::Password)),
    (Place::Top, "chpasswd", inside(Place::Chpasswd)),
    (Place::Chpasswd, "expire", of(Act::Expire)),
    (Place::Chpasswd, "list", of(Act::PasswordList)),
    (Place::Chpasswd, "users", inside(Place::ChpasswdUser)),
    (Place::ChpasswdUser, "name", of(Act::ChpasswdName)),
    (Place::ChpasswdUser, "password", of(Act::ChpasswdPassword)),
    (Place::ChpasswdUser, "type", of(Act::ChpasswdKind)),
    (Place::Top, "users", Row { act: Act::UserItem, place: Place::User }),
    (Place::User, "name", of(Act::UserName)),
    (Place::User, "gecos", of(Act::UserLine("gecos"))),
    (Place::User, "homedir", of(Act::UserLine("homedir"))),
    (Place::User, "shell", of(Act::UserLine("shell"))),
    (Place::User, "uid", of(Act::UserLine("uid"))),
    (Place::User, "primary_group", of(Act::UserLine("primary_group"))),
    (Place::User, "groups", of(Act::UserLine("groups"))),
    (Place::User, "passwd", of(Act::UserLine("passwd"))),
    (Place::User, "hashed_passwd", of(Act::UserLine("hashed_passwd"))),
    (Place::User, "plain_text_passwd", of(Act::PlainPassword)),
    (Place::User, "expiredate", of(Act::UserLine("expiredate"))),
    (Place::User, "inactive", of(Act::UserLine("inactive"))),
    (Place::User, "sudo", of(Act::UserLine("sudo"))),
    (Place::User, "doas", of(Act::UserLine("doas"))),
    (Place::User, "ssh_authorized_keys", of(Act::UserLine("ssh_authorized_keys"))),
    (Place::User, "create_groups", of(Act::UserTruth("create_groups"))),
    (Place::User, "no_create_home", of(Act::UserTruth("no_create_home"))),
    (Place::User, "no_user_group", of(Act::UserTruth("no_user_group"))),
    (Place::User, "system", of(Act::UserTruth("system"))),
    (Place::User, "lock_passwd", of(Act::UserTruth("lock_passwd"))),
    (Place::User, "ssh_redirect_user", of(Act::UserTruth("ssh_redirect_user"))),
];

/// What the value behind `key` is in an object.
pub(super) fn find(place: Place, key: &[u8]) -> Option<Row> {
    if place == Place::ResolvOptions {
        return Some(of(Act::ResolvOption));
    }
    let found = ROWS.iter().find(|(at, name, _)| *at == place && name.as_bytes() == key);
    let left = || {
        let left = (0u32..).zip(LEFT).find(|(_, name)| place == Place::Top && name.as_bytes() == key);
        left.map(|(n, _)| of(Act::Left(n)))
    };
    found.map(|(_, _, row)| *row).or_else(left)
}
