//! Which files does each software read, and who writes their content?

use super::Software;
use crate::apply::Object;
use crate::error::Result;
use crate::facts::network::LinkAt;
use crate::format::network::{Plan, ifupdown, interfaces, netplan, network_manager, networkd};
use crate::format::text::{Out, PathText, join};

/// Files of one kind: one for each link that has it, or one in all.
pub(super) struct Files {
    /// Who reads them.
    pub(super) readers: &'static [Software],
    pub(super) directory: &'static str,
    pub(super) prefix: &'static str,
    pub(super) suffix: &'static str,
    pub(super) mode: u32,
    pub(super) object: &'static Object,
    /// True if there is one for this link; that of all is the first's.
    pub(super) has: fn(&Plan<'_>, LinkAt) -> bool,
    pub(super) put: fn(&Plan<'_>, LinkAt, &mut Out<'_>) -> Result<()>,
    is_one: bool,
}

impl Files {
    pub(super) fn name(&self, plan: &Plan<'_>, at: LinkAt) -> Result<PathText> {
        let label = plan.label(at);
        join(&[self.prefix, if self.is_one { "" } else { &label }, self.suffix])
    }
}

/// Files of systemd's sort before those that cloud-init left (10-cloud-init-*) and netplan makes: the first that matches
/// counts. What others than root may see is told by `ip` to anybody; NetworkManager reads no file that they may.
pub(super) const FILES: &[Files] = &[
    Files {
        readers: &[Software::Networkd, Software::NetworkManager, Software::Netplan],
        directory: SYSTEMD,
        prefix: "05-preroot-",
        suffix: ".link",
        mode: 0o644,
        object: object!(SYSTEMD),
        has: networkd::has_link,
        put: networkd::put_link,
        is_one: false,
    },
    Files {
        readers: &[Software::Networkd],
        directory: SYSTEMD,
        prefix: "05-preroot-",
        suffix: ".netdev",
        mode: 0o644,
        object: object!(SYSTEMD),
        has: networkd::has_netdev,
        put: networkd::put_netdev,
        is_one: false,
    },
    Files {
        readers: &[Software::Networkd],
        directory: SYSTEMD,
        prefix: "05-preroot-",
        suffix: ".network",
        mode: 0o644,
        object: object!(SYSTEMD),
        has: networkd::has_network,
        put: networkd::put_network,
        is_one: false,
    },
    Files {
        readers: &[Software::NetworkManager],
        directory: KEYFILES,
        prefix: "preroot-",
        suffix: ".nmconnection",
        mode: 0o600,
        object: object!(KEYFILES),
        has: |plan, at| !plan.label(at).is_empty(),
        put: network_manager::put,
        is_one: false,
    },
    Files {
        readers: &[Software::Ifupdown],
        directory: INTERFACES_D,
        prefix: "50-preroot",
        suffix: "",
        mode: 0o644,
        object: object!(INTERFACES_D),
        has: |_, at| at == 0,
        put: |plan, _, out| ifupdown::put(plan, out),
        is_one: true,
    },
    Files {
        readers: &[Software::Netplan],
        directory: NETPLAN,
        prefix: "90-preroot",
        suffix: ".yaml",
        mode: 0o600,
        object: object!(NETPLAN),
        has: |_, at| at == 0,
        put: |plan, _, out| netplan::put(plan, out),
        is_one: true,
    },
];

/// Files of the image's own, which may say something of the same links, and what they say besides.
pub(super) struct Others {
    /// Who reads them.
    pub(super) reader: Software,
    pub(super) directory: &'static str,
    pub(super) suffix: &'static str,
    /// None of them.
    pub(super) ours: &'static str,
    pub(super) object: &'static Object,
    /// Writes one of them so that it says nothing of our links.
    pub(super) give_way: GiveWay,
}

pub(super) type GiveWay = fn(&[u8], &Plan<'_>, &mut Out<'_>) -> Result<()>;

pub(super) const OTHERS: &[Others] = &[
    Others {
        reader: Software::Ifupdown,
        directory: INTERFACES_D,
        suffix: "",
        ours: "50-preroot",
        object: object!(INTERFACES_D),
        give_way: interfaces::set_aside,
    },
    Others {
        reader: Software::Netplan,
        directory: NETPLAN,
        suffix: ".yaml",
        ours: "90-preroot.yaml",
        object: object!(NETPLAN),
        give_way: interfaces::set_netplan_aside,
    },
];

const SYSTEMD: &str = "etc/systemd/network/";
const KEYFILES: &str = "etc/NetworkManager/system-connections/";
const INTERFACES_D: &str = "etc/network/interfaces.d/";
const NETPLAN: &str = "etc/netplan/";
