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
    /// Paths between blanks, relative to the root or to the last word that ends with `/`. In a name `*` stands for
    /// any text; the name `@` is the administrator's; `%S` is our swap file; a path that begins with `%A` or `%L` is below the directory of
    /// waagent's state or of its extensions' logs.
    pub paths: &'static str,
}

fn always(_: &Context<'_>) -> bool {
    true
}

fn user(context: &Context<'_>) -> bool {
    context.takes.user
}

fn account(context: &Context<'_>) -> bool {
    context.takes.user && !context.user.is_empty()
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

fn our_fstab(context: &Context<'_>) -> bool {
    context.fstab.is_some()
}

fn cloud_init(context: &Context<'_>) -> bool {
    context.has_cloud_init
}

/// In order; whatever fails, the rest has its turn. The marks go first: should the power go, the next boot provisions
/// this VM again and it is whole.
pub const TABLE: &[Group] = &[
    Group {
        why: "marks of the VM that was provisioned",
        when: always,
        action: Action::Remove,
        paths: "etc/preroot.provisioned var/lib/ preroot/provisioned preroot/reported azure-init/*.provisioned",
    },
    Group {
        why: "SSH host keys: who has a copy can pose as its siblings",
        when: host_keys,
        action: Action::Remove,
        paths: "etc/ ssh/ssh_host_*key* dropbear/dropbear_*_host_key",
    },
    Group {
        why: "DHCP leases and ids",
        when: always,
        action: Action::Remove,
        paths: "var/lib/ dhclient/* dhcpcd/* dhcp/* NetworkManager/*.lease wicked/* / var/db/dhclient.leases.* \
                run/systemd/netif/leases/* etc/dhcpcd.duid",
    },
    Group { why: "this VM's name", when: always, action: Action::Edit(edits::hosts), paths: "etc/hosts" },
    Group {
        why: "this VM's name",
        when: always,
        action: Action::Edit(edits::hostname),
        paths: "etc/hostname",
    },
    Group {
        why: "this VM's name, as a DHCP client sends it",
        when: always,
        action: Action::Edit(edits::dhclient),
        paths: "etc/ dhcp/dhclient.conf dhcp3/dhclient.conf dhclient.conf",
    },
    Group {
        why: "root's password (Provisioning.DeleteRootPassword)",
        when: root_password,
        action: Action::Edit(edits::root_password),
        paths: "etc/shadow",
    },
    Group {
        why: "the agents' logs and units",
        when: always,
        action: Action::Remove,
        paths: "%L/* var/log/waagent.log var/log/preroot-scripts.log lib/systemd/system/ *agent-network-setup.service azure.slice \
                azure-vmextensions*.slice azure-walinuxagent-logcollector.slice walinuxagent.service.d/1*-*.conf \
                waagent.service.d/1*-*.conf",
    },
    Group { why: "what root typed", when: always, action: Action::Remove, paths: "root/.bash_history" },
    Group {
        why: "name servers of this VM's network",
        when: always,
        action: Action::RemoveFile,
        paths: "etc/ resolv.conf resolvconf/resolv.conf.d/tail resolvconf/resolv.conf.d/original",
    },
    Group {
        why: "this VM's network, as preroot wrote it",
        when: always,
        action: Action::Remove,
        paths: "etc/ systemd/network/05-preroot-* NetworkManager/system-connections/preroot-*.nmconnection \
                network/interfaces.d/50-preroot netplan/90-preroot.yaml",
    },
    Group {
        why: "time and name servers of this VM, as preroot wrote them",
        when: always,
        action: Action::Remove,
        paths: "etc/ chrony/conf.d/preroot.conf chrony/sources.d/preroot.sources systemd/timesyncd.conf.d/preroot.conf \
                systemd/resolved.conf.d/preroot.conf",
    },
    Group {
        why: "what stood aside for this VM's network",
        when: always,
        action: Action::Edit(edits::interfaces),
        paths: "etc/ network/interfaces network/interfaces.d/* netplan/*.yaml",
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
        why: "random seeds and secrets of this machine",
        when: always,
        action: Action::Remove,
        paths: "var/lib/ systemd/random-seed systemd/credential.secret urandom/random-seed misc/random-seed \
                random-seed seedrng/* NetworkManager/secret_key / boot/loader/random-seed \
                boot/efi/loader/random-seed efi/loader/random-seed",
    },
    Group {
        why: "what this VM and its host, and its network, told each other",
        when: always,
        action: Action::Remove,
        paths: "var/lib/ hyperv/.kvp_pool_* NetworkManager/timestamps NetworkManager/seen-bssids / \
                etc/udev/rules.d/ 70-persistent-net.rules 70-persistent-net.rules.preroot 85-persistent-net-cloud-init.rules",
    },
    Group {
        why: "cloud-init's state of this instance",
        when: always,
        action: Action::Remove,
        paths: "var/lib/cloud/ data instance instances sem handlers",
    },
    Group {
        why: "what cloud-init writes anew for each instance",
        when: cloud_init,
        action: Action::Remove,
        paths: "etc/ netplan/50-cloud-init.yaml network/interfaces.d/50-cloud-init* \
                systemd/network/10-cloud-init-* ssh/sshd_config.d/50-cloud-init.conf NetworkManager/conf.d/99-cloud-init.conf \
                NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf \
                NetworkManager/system-connections/cloud-init-*.nmconnection",
    },
    Group {
        why: "what cloud-init writes anew for each instance",
        when: cloud_init,
        action: Action::Edit(edits::fstab),
        paths: "etc/fstab",
    },
    Group {
        why: "data disks and swap of this VM, as preroot mounted them",
        when: our_fstab,
        action: Action::Edit(edits::our_fstab),
        paths: "etc/fstab",
    },
    Group {
        why: "data disks and swap of this VM, as preroot mounted them",
        when: our_fstab,
        action: Action::RemoveFile,
        paths: "%S",
    },
    Group {
        why: "whether passwords opened SSH on this VM",
        when: always,
        action: Action::Remove,
        paths: "etc/ssh/sshd_config.d/ 40-preroot.conf 50-azure-init.conf",
    },
    Group {
        why: "who logged in when",
        when: user_or_logs,
        action: Action::Empty,
        paths: "var/log/ wtmp btmp lastlog faillog tallylog",
    },
    Group {
        why: "who logged in when",
        when: user_or_logs,
        action: Action::Remove,
        paths: "var/lib/ wtmpdb/wtmp.db lastlog/lastlog2.db",
    },
    Group {
        why: "journals, crashes, what people typed",
        when: logs,
        action: Action::Remove,
        paths: "var/ log/journal/* lib/systemd/coredump/* crash/* root/ .*_history .lesshst .viminfo \
                home/*/ .*_history .lesshst .viminfo .local/share/fish/fish_history",
    },
    Group { why: "logs", when: logs, action: Action::RemoveFiles, paths: "var/log/*" },
];

/// Then these; the first failure is the end of it, for each row knows what the rows before have to look for: the line
/// in passwd the home, group which line of gshadow goes along, our own state and the agent's who the administrator was.
pub const LAST: &[Group] = &[
    Group { why: "the administrator's home", when: account, action: Action::RemoveHome, paths: "" },
    Group {
        why: "what the administrator may do and left behind",
        when: user,
        action: Action::Remove,
        paths: "%K root/.ssh/authorized_keys etc/sudoers.d/ 90-preroot-* 90-cloud-init-users azure-init-user var/ \
                mail/@ spool/cron/crontabs/@ spool/cron/@ lib/systemd/linger/@ lib/AccountsService/users/@ \
                lib/sudo/lectured/@ db/sudo/lectured/@",
    },
    Group {
        why: "what the administrator may do",
        when: account,
        action: Action::Edit(edits::sudoers),
        paths: "etc/sudoers.d/waagent",
    },
    Group {
        why: "what the administrator may do",
        when: account,
        action: Action::Edit(edits::doas),
        paths: "etc/doas.conf",
    },
    Group {
        why: "backups of the account files",
        when: user,
        action: Action::Remove,
        paths: "etc/ passwd- shadow- group- gshadow- subuid- subgid- var/backups/ passwd.bak shadow.bak group.bak \
                gshadow.bak subuid.bak subgid.bak",
    },
    Group {
        why: "the administrator's groups",
        when: account,
        action: Action::Edit(edits::groups),
        paths: "etc/ gshadow group",
    },
    Group {
        why: "the administrator's account",
        when: account,
        action: Action::Edit(edits::account),
        paths: "etc/ subuid subgid shadow passwd",
    },
    Group {
        why: "what preroot kept: customData, a seed, the administrator's name",
        when: always,
        action: Action::Remove,
        paths: "var/lib/preroot/*",
    },
    Group {
        why: "the agent's state, which names the administrator too",
        when: always,
        action: Action::Remove,
        paths: "%A/*",
    },
];
