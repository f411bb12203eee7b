//! What is handed to waagent, and customData as waagent keeps it.

use super::super::State;
use super::{HASH, ID, Image, every_cut_converges, fact};
use crate::facts::{Fact, Provenance};
use crate::format::config::Config;
use crate::sys::Owner;
use std::vec::Vec;

/// Debian with waagent in it.
fn with_waagent(conf: &str) -> Image {
    let mut image = Image::configured(conf);
    image.root.put("usr/sbin/waagent", "#!/usr/bin/python3\n");
    image
}

#[test]
fn waagent_finds_that_this_vm_is_provisioned() {
    let mut image = with_waagent("");
    image.all();
    assert_eq!(image.text("var/lib/waagent/provisioned"), ID);
    let document = image.text("var/lib/waagent/ovf-env.xml");
    assert!(document.contains("<wa:UserName>ops</wa:UserName>") && !document.contains(HASH), "{document}");
    assert!(document.contains("<wa:UserPassword>*</wa:UserPassword>"));
    assert_eq!(image.root.owner("var/lib/waagent").unwrap(), Owner::root(0o700));
    assert_eq!(image.root.owner("var/lib/waagent/ovf-env.xml").unwrap(), Owner::root(0o600));
    assert!(image.root.text("var/lib/waagent/disable_agent").is_none());
    assert_eq!(image.check("waagent").unwrap(), State::Satisfied);

    let mut image = Image::debian();
    image.all();
    assert!(!image.root.dump().contains_key("var/lib/waagent"), "nobody would read it");
}

#[test]
fn waagents_own_state_is_left_to_it() {
    let mut image = with_waagent("Lib.Dir=/opt/agent/state\n");
    image
        .root
        .put("opt/agent/state/provisioned", "i-template")
        .put("opt/agent/state/disable_agent", "by hand");
    image.all();
    // It clears what it kept of the other VM when it finds that name.
    assert_eq!(image.text("opt/agent/state/provisioned"), "i-template");
    assert_eq!(image.text("opt/agent/state/disable_agent"), "by hand");
    assert!(image.text("opt/agent/state/ovf-env.xml").contains("<wa:UserName>ops<"));
}

#[test]
fn a_platform_without_extensions_gets_none() {
    let mut image = with_waagent("");
    image.facts.wants_guest_agent = fact(false);
    image.all();
    assert_eq!(image.text("var/lib/waagent/disable_agent"), "");
    assert!(image.text("var/lib/waagent/ovf-env.xml").contains("ProvisionGuestAgent>false<"));
}

#[test]
fn every_power_cut_in_the_handover_to_waagent_converges() {
    let new = || {
        let mut image = with_waagent("");
        image.facts.wants_guest_agent = fact(false);
        image.root.power_on(true);
        image
    };
    let (_, cuts) = every_cut_converges(&new, &["waagent"]);
    assert!(cuts > 16);
}

/// Sources: WALinuxAgent 2.7.3.0 pa/provision/default.py `save_customdata`, facts of waagent.conf.
#[test]
fn custom_data_is_kept_as_waagent_keeps_it_and_a_script_only_where_it_is_to_run() {
    const AGENTS: &str = "var/lib/waagent/CustomData";
    const LINK: &str = "var/lib/preroot/scripts/user/custom-data";
    let script = "#!/bin/sh\n";
    for (settings, is_decoded, is_run) in [
        (None, true, false),
        (Some(""), false, false),
        (Some("Provisioning.DecodeCustomData=y\n"), true, false),
        (Some("Provisioning.ExecuteCustomData=y\n"), true, true),
    ] {
        let mut image = Image::debian();
        if let Some(text) = settings {
            image.config = Config::new(true);
            image.config.read(1, text.as_bytes(), &mut |_, _| ());
        }
        let from = Provenance::OvfMedium;
        image.facts.custom_data = Some(Fact { value: 10, from });
        image.converge("custom_data").unwrap();
        assert_eq!(image.check("custom_data").unwrap(), State::Satisfied, "{settings:?}");
        assert_eq!(image.text(AGENTS), if is_decoded { script } else { "IyEvYmluL3NoCg==" });
        assert_eq!(image.text("var/lib/preroot/custom-data"), script);
        assert_eq!(image.root.owner(AGENTS).unwrap(), Owner::root(0o600));
        assert_eq!(image.root.owner("var/lib/waagent").unwrap(), Owner::root(0o700));
        let is_executable = image.root.owner("var/lib/preroot/custom-data").unwrap() == Owner::root(0o700);
        assert_eq!((is_executable, image.root.dump().contains_key(LINK)), (is_run, is_run));
        // Another VM's, of an image that was captured without being generalised.
        image.root.put(crate::seed::PROVISIONED, "i-other\n");
        image.facts.custom_data = None;
        image.converge("custom_data").unwrap();
        assert_eq!(image.check("custom_data").unwrap(), State::Satisfied);
        let left: Vec<_> =
            image.root.dump().into_keys().filter(|path| path.to_lowercase().contains("custom")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // userData stands in for customData, but waagent never had that.
    let mut image = Image::debian();
    image.converge("custom_data").unwrap();
    assert!(image.root.text(AGENTS).is_none() && image.check("custom_data").unwrap() == State::Satisfied);
}

#[test]
fn custom_data_converges_after_a_cut_at_every_change() {
    let new = || {
        let mut image = Image::debian();
        image.config.read(1, b"Provisioning.ExecuteCustomData=y\n", &mut |_, _| ());
        image.facts.custom_data = Some(Fact { value: 10, from: Provenance::OvfMedium });
        image
    };
    every_cut_converges(&new, &["custom_data"]);
}
