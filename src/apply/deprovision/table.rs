//! What is one machine's in an image, and why? The table of everything `preroot deprovision` takes away.
//!
//! Sources: waagent's own list (WALinuxAgent 2.7.3.0, pa/deprovision/default.py), cloud-init's `clean`, systemd's
//! "Building Images Safely", virt-sysprep's operations. What waagent does otherwise stands in docs/deprovision.md.

use super::edits;
use super::{Context, Edit};

/// What is done to a path.
#[derive(Clone, Copy)]
pub enum Action {
    /// It goes; a directory with all that is in it, a link as a link.
    Remove,
    /// As `Remove`, if it is a regular file.
    RemoveFile,
    /// Every file below this directory that is not empty goes, directories stay: programs expect theirs.
    RemoveFiles,
    /// The administrator's home; the path only names it.
    RemoveHome,
    /// The file stays, empty.
    Empty,
    /// Lines of it change.
    Edit(Edit),
}

impl Action {
    /// For the list.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Remove | Self::RemoveFile | Self::RemoveFiles | Self::RemoveHome => "remove",
            Self::Empty => "empty ",
            Self::Edit(_) => "edit  ",
        }
    }
}

/// When rows count.
pub type When = fn(&Context<'_>) -> bool;

/// Rows with the same reason.
pub struct Group {
    /// What these are, and why no copy of the image may have them.
    pub why: &'static str,
    /// When they count.
    pub when: When,
    /// What is done to them.
    pub action: Action,
    /// Paths between blanks, relative to the root. In a name `*` stands for any text; the name `@` is the
    /// administrator's, `%A` and `%L` are the directories of waagent's state and of its extensions' logs.
    pub paths: &'static str,
}

fn always(_: &Context<'_>) -> bool {
    true
}

fn user(context: &Context<'_>) -> bool {
    context.takes.user
}

fn logs(context: &Context<'_>) -> bool {
    context.takes.logs
}

fn user_or_logs(context: &Context<'_>) -> bool {
    user(context) || logs(context)
}

fn host_keys(context: &Context<'_>) -> bool {
    !context.config.keeps_ssh_host_keys()
}

fn root_password(context: &Context<'_>) -> bool {
    context.config.delete_root_password()
}

fn cloud_init(context: &Context<'_>) -> bool {
    context.has_cloud_init
}

/// In order; whatever fails, the rest has its turn. The marks go first: should the power go, the next boot provisions
/// this VM again and it is whole.
pub const TABLE: &[Group] = &[
    Group {
        why: "marks of the VM that was provisioned: the next boot is a first one",
        when: always,
        action: Action::Remove,
        paths: "var/lib/preroot/provisioned var/lib/preroot/reported var/lib/azure-init/*.provisioned",
    },
    Group {
        why: "SSH host keys: who has a copy could pose as its siblings",
        when: host_keys,
        action: Action::Remove,
        paths: "etc/ssh/ssh_host_*key* etc/dropbear/dropbear_*_host_key",
    },
    Group {
        why: "leases and ids of DHCP clients",
        when: always,
        action: Action::Remove,
        paths: "var/lib/dhclient/* var/lib/dhcpcd/* var/lib/dhcp/* var/db/dhclient.leases.* \
                var/lib/NetworkManager/*.lease run/systemd/netif/leases/* var/lib/wicked/* etc/dhcpcd.duid",
    },
    Group {
        why: "the name of this VM",
        when: always,
        action: Action::Edit(edits::hosts),
        paths: "etc/hosts",
    },
    Group {
        why: "the name of this VM",
        when: always,
        action: Action::Edit(edits::hostname),
        paths: "etc/hostname",
    },
    Group {
        why: "the name a DHCP client sends",
        when: always,
        action: Action::Edit(edits::dhclient),
        paths: "etc/dhcp/dhclient.conf etc/dhcp3/dhclient.conf etc/dhclient.conf",
    },
    Group {
        why: "root's password (Provisioning.DeleteRootPassword)",
        when: root_password,
        action: Action::Edit(edits::root_password),
        paths: "etc/shadow",
    },
    Group {
        why: "logs and units of the agent and its extensions",
        when: always,
        action: Action::Remove,
        paths: "%L/* var/log/waagent.log lib/systemd/system/waagent-network-setup.service \
                lib/systemd/system/azure.slice lib/systemd/system/azure-vmextensions*.slice \
                lib/systemd/system/azure-walinuxagent-logcollector.slice \
                lib/systemd/system/walinuxagent.service.d/1*-*.conf lib/systemd/system/waagent.service.d/1*-*.conf",
    },
    Group { why: "what root typed", when: always, action: Action::Remove, paths: "root/.bash_history" },
    Group {
        why: "name servers of this VM's network; a link is the image's choice and stays",
        when: always,
        action: Action::RemoveFile,
        paths: "etc/resolv.conf",
    },
    Group {
        why: "name servers of this VM's network",
        when: always,
        action: Action::Remove,
        paths: "etc/resolvconf/resolv.conf.d/tail etc/resolvconf/resolv.conf.d/original",
    },
    Group {
        why: "the machine's id: systemd makes one for an empty file",
        when: always,
        action: Action::Empty,
        paths: "etc/machine-id",
    },
    Group {
        why: "the machine's id, D-Bus's copy",
        when: always,
        action: Action::RemoveFile,
        paths: "var/lib/dbus/machine-id",
    },
    Group {
        why: "random seeds and secrets of this machine: copies would begin with the same",
        when: always,
        action: Action::Remove,
        paths: "var/lib/systemd/random-seed var/lib/systemd/credential.secret var/lib/urandom/random-seed \
                var/lib/misc/random-seed var/lib/random-seed var/lib/seedrng/* boot/loader/random-seed \
                boot/efi/loader/random-seed efi/loader/random-seed var/lib/NetworkManager/secret_key",
    },
    Group {
        why: "what the host and this VM told each other",
        when: always,
        action: Action::Remove,
        paths: "var/lib/hyperv/.kvp_pool_*",
    },
    Group {
        why: "interface names and times of this VM",
        when: always,
        action: Action::Remove,
        paths: "etc/udev/rules.d/70-persistent-net.rules etc/udev/rules.d/85-persistent-net-cloud-init.rules \
                var/lib/NetworkManager/timestamps var/lib/NetworkManager/seen-bssids",
    },
    Group {
        why: "cloud-init's state of this instance",
        when: always,
        action: Action::Remove,
        paths: "var/lib/cloud/data var/lib/cloud/instance var/lib/cloud/instances var/lib/cloud/sem \
                var/lib/cloud/handlers",
    },
    Group {
        why: "settings cloud-init writes anew for each instance",
        when: cloud_init,
        action: Action::Remove,
        paths: "etc/netplan/50-cloud-init.yaml etc/network/interfaces.d/50-cloud-init* \
                etc/systemd/network/10-cloud-init-* etc/NetworkManager/conf.d/99-cloud-init.conf \
                etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf \
                etc/NetworkManager/system-connections/cloud-init-*.nmconnection \
                etc/ssh/sshd_config.d/50-cloud-init.conf",
    },
    Group {
        why: "mounts cloud-init writes anew for each instance",
        when: cloud_init,
        action: Action::Edit(edits::fstab),
        paths: "etc/fstab",
    },
    Group {
        why: "whether this VM's passwords opened SSH",
        when: always,
        action: Action::Remove,
        paths: "etc/ssh/sshd_config.d/40-preroot.conf etc/ssh/sshd_config.d/50-azure-init.conf",
    },
    Group {
        why: "who logged in when",
        when: user_or_logs,
        action: Action::Empty,
        paths: "var/log/wtmp var/log/btmp var/log/lastlog var/log/faillog var/log/tallylog",
    },
    Group {
        why: "who logged in when",
        when: user_or_logs,
        action: Action::Remove,
        paths: "var/lib/wtmpdb/wtmp.db var/lib/lastlog/lastlog2.db",
    },
    Group {
        why: "journals, crashes, and what people typed",
        when: logs,
        action: Action::Remove,
        paths: "var/log/journal/* var/lib/systemd/coredump/* var/crash/* root/.*_history root/.lesshst root/.viminfo \
                home/*/.*_history home/*/.lesshst home/*/.viminfo home/*/.local/share/fish/fish_history",
    },
    Group { why: "logs", when: logs, action: Action::RemoveFiles, paths: "var/log" },
];

/// Then these; the first failure is the end of it, for each row knows what the rows before have to look for: the line
/// in passwd the home, group which line of gshadow goes along, our own state who the administrator was.
pub const LAST: &[Group] = &[
    Group { why: "the administrator's home", when: user, action: Action::RemoveHome, paths: "" },
    Group {
        why: "what the administrator may do and left behind",
        when: user,
        action: Action::Remove,
        paths: "etc/sudoers.d/90-preroot-* etc/sudoers.d/90-cloud-init-users etc/sudoers.d/azure-init-user \
                root/.ssh/authorized_keys var/mail/@ var/spool/cron/crontabs/@ var/spool/cron/@ \
                var/lib/systemd/linger/@ var/lib/AccountsService/users/@ var/lib/sudo/lectured/@ var/db/sudo/lectured/@",
    },
    Group {
        why: "what the administrator may do",
        when: user,
        action: Action::Edit(edits::sudoers),
        paths: "etc/sudoers.d/waagent",
    },
    Group {
        why: "backups of the account files: they have the administrator's hash",
        when: user,
        action: Action::Remove,
        paths: "etc/passwd- etc/shadow- etc/group- etc/gshadow- etc/subuid- etc/subgid- var/backups/passwd.bak \
                var/backups/shadow.bak var/backups/group.bak var/backups/gshadow.bak var/backups/subuid.bak \
                var/backups/subgid.bak",
    },
    Group {
        why: "the administrator's groups",
        when: user,
        action: Action::Edit(edits::groups),
        paths: "etc/gshadow etc/group",
    },
    Group {
        why: "the administrator's account",
        when: user,
        action: Action::Edit(edits::account),
        paths: "etc/subuid etc/subgid etc/shadow etc/passwd",
    },
    Group {
        why: "what preroot kept: the seed, customData, who the administrator was",
        when: always,
        action: Action::Remove,
        paths: "var/lib/preroot/*",
    },
    Group {
        why: "state of the agent and its extensions; its ovf-env.xml names the administrator too",
        when: always,
        action: Action::Remove,
        paths: "%A/*",
    },
];
