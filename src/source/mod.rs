//! Who says what this VM is to be, and who is believed? The rules of the merge, one function each.
//!
//! The order in which the sources answer does not matter: each value carries where it came from.

pub mod azure_imds;
mod azure_network;
pub mod azure_ovf;
pub mod cloud_config;
pub mod config_drive;
pub mod instance;
pub mod labelled;
pub mod medium;
pub mod nocloud;
pub mod tree;

use crate::error::Result;
use crate::facts::{Fact, Facts, PreProvisioning, Provenance, SshKey, SshKeys};
use crate::format::openstack::MetaData;
use crate::format::sha512_crypt::{RANDOM, salt, sha512_crypt};

/// Metadata of a medium: its id is the machine's; of the rest, what nobody better said. A password counts where no key
/// was given: nova puts one on every drive, and cloud-init takes none. It is hashed with a salt made of `random`, and
/// overwritten.
#[inline(never)]
fn merge_meta_data(
    meta: &mut MetaData,
    facts: &mut Facts,
    from: Provenance,
    random: Option<[u8; RANDOM]>,
) -> Result<AdminPass> {
    let counts = !meta.password.is_empty() && !meta.has_any_key();
    prefer(&mut facts.instance_id, meta.id.take(), from);
    prefer(&mut facts.hostname, meta.hostname.take(), from);
    add_keys(facts, &meta.keys, from)?;
    let hash =
        random.filter(|_| counts).map(|random| sha512_crypt(meta.password.expose(), &salt(random), None));
    meta.password.wipe();
    let hash = hash.transpose()?;
    let outcome = match hash {
        _ if !counts => AdminPass::Nothing,
        Some(_) => AdminPass::Kept,
        None => AdminPass::NoEntropy,
    };
    prefer(&mut facts.password, hash, from);
    Ok(outcome)
}

/// What became of a medium's admin_pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AdminPass {
    /// There is none, or a key takes its place.
    #[default]
    Nothing,
    /// It is the password of the image's default account.
    Kept,
    /// There was no randomness for a salt.
    NoEntropy,
}

/// Keys of several documents of one medium: all of them count (cloud-init, config/cc_ssh.py).
fn add_keys(facts: &mut Facts, keys: &SshKeys, from: Provenance) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let fact = facts.keys.get_or_insert_with(|| Fact { value: SshKeys::new(), from });
    fact.from = fact.from.min(from);
    keys.lines().try_for_each(|line| fact.value.push(SshKey::parse(line)?))
}

/// Host name, user name, password login: the better source wins ([`Provenance`] is ordered), and a source that does
/// not say it (`None`) takes nothing away. Fields that one source only ever sets come through here too.
fn prefer<T>(slot: &mut Option<Fact<T>>, value: Option<T>, from: Provenance) {
    let Some(value) = value else { return };
    if slot.as_ref().is_none_or(|fact| from <= fact.from) {
        *slot = Some(Fact { value, from });
    }
}

/// Keys: the better source's list replaces the other's whole; an empty list says nothing.
fn prefer_keys(facts: &mut Facts, keys: &SshKeys, from: Provenance) {
    if keys.is_empty() || facts.keys.as_ref().is_some_and(|fact| from > fact.from) {
        return;
    }
    let fact = facts.keys.get_or_insert_with(|| Fact { value: SshKeys::new(), from });
    fact.value.copy_from(keys);
    fact.from = from;
}

/// customData: the medium's, if there is any; else IMDS's userData.
fn prefer_custom_data(facts: &mut Facts, length_bytes: u64, from: Provenance) {
    if length_bytes > 0 && (from == Provenance::OvfMedium || wants_user_data(facts)) {
        facts.custom_data = Some(Fact { value: length_bytes, from });
    }
}

/// True when userData would be used: the medium brought no customData. When it is false, IMDS's userData must not
/// be spooled over customData.
#[must_use]
pub fn wants_user_data(facts: &Facts) -> bool {
    facts.custom_data.as_ref().is_none_or(|fact| fact.from != Provenance::OvfMedium)
}

/// Pre-provisioning: a VM of a pool is one if either source says so (cloud-init `_determine_pps_type`).
fn prefer_pre_provisioning(facts: &mut Facts, kind: PreProvisioning, from: Provenance) {
    let weight = |kind| match kind {
        PreProvisioning::Savable => 4,
        PreProvisioning::OsDisk => 3,
        PreProvisioning::Running => 2,
        PreProvisioning::Unknown => 1,
        PreProvisioning::None => 0,
    };
    if facts.pre_provisioning.as_ref().is_none_or(|fact| weight(kind) > weight(fact.value)) {
        facts.pre_provisioning = Some(Fact { value: kind, from });
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod media_tests;

#[cfg(test)]
mod tests {
    use super::{prefer, prefer_custom_data, prefer_keys, prefer_pre_provisioning, wants_user_data};
    use crate::facts::{Fact, Facts, PreProvisioning, Provenance, SshKey, SshKeys};
    use Provenance::{Imds, OvfMedium};

    #[test]
    fn imds_wins_whoever_answers_first() {
        for order in [[(1, Imds), (2, OvfMedium)], [(2, OvfMedium), (1, Imds)]] {
            let mut slot = None;
            order.into_iter().for_each(|(value, from)| prefer(&mut slot, Some(value), from));
            assert_eq!(slot, Some(Fact { value: 1, from: Imds }));
        }
    }

    #[test]
    fn who_says_nothing_takes_nothing_away() {
        let mut slot = Some(Fact { value: 2, from: OvfMedium });
        prefer(&mut slot, None, Imds);
        assert_eq!(slot, Some(Fact { value: 2, from: OvfMedium }));
    }

    #[test]
    fn a_source_may_correct_itself() {
        let mut slot = Some(Fact { value: 1, from: Imds });
        prefer(&mut slot, Some(3), Imds);
        assert_eq!(slot, Some(Fact { value: 3, from: Imds }));
    }

    #[test]
    fn key_lists_are_never_mixed() {
        let list = |line: &str| {
            let mut keys = SshKeys::new();
            keys.push(SshKey::parse(line).unwrap()).unwrap();
            keys
        };
        let (imds, medium) = (list("ssh-rsa AAAAimds"), list("ssh-rsa AAAAmedium"));
        for imds_first in [true, false] {
            let mut facts = Facts::new();
            if imds_first {
                prefer_keys(&mut facts, &imds, Imds);
            }
            prefer_keys(&mut facts, &medium, OvfMedium);
            prefer_keys(&mut facts, &imds, Imds);
            prefer_keys(&mut facts, &SshKeys::new(), Imds);
            let keys = facts.keys.unwrap();
            assert_eq!((keys.value.as_str(), keys.from), ("ssh-rsa AAAAimds\n", Imds));
        }
    }

    #[test]
    fn custom_data_is_the_mediums_and_user_data_stands_in() {
        let mut facts = Facts::new();
        prefer_custom_data(&mut facts, 0, OvfMedium);
        assert!(wants_user_data(&facts) && facts.custom_data.is_none());
        prefer_custom_data(&mut facts, 10, Imds);
        assert_eq!(facts.custom_data, Some(Fact { value: 10, from: Imds }));
        prefer_custom_data(&mut facts, 20, OvfMedium);
        assert_eq!(facts.custom_data, Some(Fact { value: 20, from: OvfMedium }));
        assert!(!wants_user_data(&facts));
        prefer_custom_data(&mut facts, 30, Imds);
        assert_eq!(facts.custom_data, Some(Fact { value: 20, from: OvfMedium }));
    }

    #[test]
    fn a_pool_vm_is_one_if_either_source_says_so() {
        use PreProvisioning::{None, Running, Savable, Unknown};
        for (medium, imds, together) in [
            (None, None, None),
            (Running, None, Running),
            (None, Savable, Savable),
            (Running, Savable, Savable),
            (Unknown, None, Unknown),
            (Unknown, Running, Running),
        ] {
            let mut facts = Facts::new();
            prefer_pre_provisioning(&mut facts, medium, OvfMedium);
            prefer_pre_provisioning(&mut facts, imds, Imds);
            assert_eq!(facts.pre_provisioning.unwrap().value, together);
        }
    }
}
