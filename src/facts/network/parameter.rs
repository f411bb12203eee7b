//! What can a bond or a bridge be told, and what does each software call it?

use super::WHAT;
use crate::error::Result;
use crate::limits;

/// What a bond, a bridge or a bridge's port is told. The key is a row of [`KEYS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// Position in [`KEYS`].
    pub key: u8,
    /// Its value.
    pub value: heapless::String<{ limits::BOND_VALUE }>,
}

/// Of bonds the kernel's names (Documentation/networking/bonding.rst), which network_data.json, ifupdown and NetworkManager
/// have too; of bridges ifupdown's (bridge-utils-interfaces(5)). Then systemd's (systemd.netdev(5), of ports
/// systemd.network(5)) and netplan's, which NetworkManager has of bridges, too.
pub const KEYS: &[[&str; 3]] = &[
    ["mode", "Mode", "mode"],
    ["miimon", "MIIMonitorSec", "mii-monitor-interval"],
    ["updelay", "UpDelaySec", "up-delay"],
    ["downdelay", "DownDelaySec", "down-delay"],
    ["xmit_hash_policy", "TransmitHashPolicy", "transmit-hash-policy"],
    ["lacp_rate", "LACPTransmitRate", "lacp-rate"],
    ["ad_select", "AdSelect", "ad-select"],
    ["min_links", "MinLinks", "min-links"],
    ["arp_interval", "ARPIntervalSec", "arp-interval"],
    ["arp_ip_target", "ARPIPTargets", "arp-ip-targets"],
    ["arp_validate", "ARPValidate", "arp-validate"],
    ["arp_all_targets", "ARPAllTargets", "arp-all-targets"],
    ["fail_over_mac", "FailOverMACPolicy", "fail-over-mac-policy"],
    ["primary", "", "primary"],
    ["primary_reselect", "PrimaryReselectPolicy", "primary-reselect-policy"],
    ["num_grat_arp", "GratuitousARP", "gratuitous-arp"],
    ["all_slaves_active", "AllSlavesActive", "all-members-active"],
    ["packets_per_slave", "PacketsPerSlave", "packets-per-member"],
    ["lp_interval", "LearnPacketIntervalSec", "learn-packet-interval"],
    ["bridge_ageing", "AgeingTimeSec", "ageing-time"],
    ["bridge_bridgeprio", "Priority", "priority"],
    ["bridge_fd", "ForwardDelaySec", "forward-delay"],
    ["bridge_hello", "HelloTimeSec", "hello-time"],
    ["bridge_maxage", "MaxAgeSec", "max-age"],
    ["bridge_stp", "STP", "stp"],
    ["bridge_pathcost", "Cost", "path-cost"],
    ["bridge_portprio", "Priority", "port-priority"],
];
/// What all keys of bridges, and no others, begin with.
const BRIDGE: &str = "bridge";
/// Whether a bridge looks for circles: `true` or `false` here, whatever was said.
const STP: &str = "bridge_stp";

impl Parameter {
    /// Reads a key, with or without `bond` before it, its words between dashes or underscores, and its value.
    ///
    /// # Errors
    /// `Unsupported` for a key that is none; `Malformed`, `TooMany` for the value.
    pub fn parse(key: &str, value: &str) -> Result<Self> {
        let of_bond = key.strip_prefix("bond").map(|rest| rest.trim_start_matches(['-', '_']));
        let key = match of_bond.unwrap_or(key) {
            "slaves_active" | "slaves-active" => "all_slaves_active",
            "learn_packet_interval" | "learn-packet-interval" => "lp_interval",
            key => key,
        };
        let is_same = |ours: &str| {
            ours.len() == key.len()
                && ours.bytes().zip(key.bytes()).all(|(ours, b)| ours == b || (ours == b'_' && b == b'-'))
                && !(of_bond.is_some() && ours.starts_with(BRIDGE))
        };
        let found = KEYS.iter().position(|[ours, ..]| is_same(ours));
        let name = found.and_then(|n| KEYS.get(n)).map_or("", |[name, ..]| name);
        let key = found.and_then(|n| u8::try_from(n).ok());
        let key = key.ok_or(unsupported!(WHAT, "unknown parameter of a bond"))?;
        let value = match value {
            "0" | "off" | "no" if name == STP => "false",
            "1" | "on" | "yes" if name == STP => "true",
            value => value,
        };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+:,/|".contains(&b);
        if value.is_empty() || !value.bytes().all(is_plain) {
            return Err(malformed!(WHAT, "value of a bond's parameter", 0));
        }
        let value =
            value.try_into().map_err(|_| too_many!("value of a bond's parameter", limits::BOND_VALUE))?;
        Ok(Self { key, value })
    }

    /// The names of its key.
    #[must_use]
    pub fn names(&self) -> [&'static str; 3] {
        KEYS.get(usize::from(self.key)).copied().unwrap_or([""; 3])
    }

    /// True for what a bridge or its port is told.
    #[must_use]
    pub fn is_of_bridge(&self) -> bool {
        self.names()[0].starts_with(BRIDGE)
    }
}

#[cfg(test)]
mod tests {
    use super::Parameter;

    #[test]
    fn bond_keys_have_underscores_or_dashes() {
        for key in
            ["bond_xmit_hash_policy", "bond-xmit-hash-policy", "bond-xmit_hash_policy", "xmit_hash_policy"]
        {
            let parameter = Parameter::parse(key, "layer3+4").unwrap();
            assert_eq!(parameter.names()[1], "TransmitHashPolicy", "{key}");
        }
    }

    #[test]
    fn a_parameter_cannot_break_a_file() {
        for (key, value) in [("bond_mode", "a b"), ("bond_mode", ""), ("bond_x", "1"), ("mode", "a\n")] {
            assert!(Parameter::parse(key, value).is_err(), "{key} {value:?}");
        }
    }

    #[test]
    fn a_bridge_has_keys_of_its_own() {
        let stp = Parameter::parse("bridge-stp", "0").unwrap();
        assert_eq!((stp.names()[2], stp.value.as_str(), stp.is_of_bridge()), ("stp", "false", true));
        assert!(Parameter::parse("bond_bridge_fd", "1").is_err(), "a bond has no bridge's");
    }
}
