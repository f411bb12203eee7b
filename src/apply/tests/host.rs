//! Host name, /etc/hosts, time zone, locale and NTP: as the seed asks, where the image lets it.

use super::super::State;
use super::{Image, every_cut_converges};
use crate::config;
use crate::facts::{Fact, Hostname, Provenance};
use crate::format::config::Config;

fn asked(entries: &[(&str, &str)]) -> Image {
    let mut image = Image::debian();
    for (entry, text) in entries {
        image.run.put(&std::format!("seed/{entry}"), *text);
    }
    image
}

fn configured(image: &mut Image) {
    image.config = config::load(&mut image.root, &mut [0; 4096], &mut |_, fault| panic!("{fault}"));
}

fn is_foreign(state: State) -> bool {
    matches!(state, State::Foreign { .. })
}

/// Asked for by somebody else than the platform, as all of these entries are.
const BY: (&str, &str) = ("asked-by", "ovf");

#[test]
fn etc_hosts_is_looked_after_as_asked() {
    for (mode, has_line, is_whole) in [
        ("", true, false),
        ("localhost", true, false),
        ("true", true, true),
        ("template", true, true),
        ("false", false, false),
    ] {
        let mut image = asked(&[("hosts/manage", mode), ("fqdn", "vm1.full.example.com")]);
        image.root.put("etc/os-release", "NAME=x\nID=\"rocky\"\n");
        image.converge("hosts").unwrap();
        let text = image.text("etc/hosts");
        assert_eq!(text.contains("vm1.full.example.com"), has_line, "{mode}");
        assert_eq!(
            text.contains("127.0.0.1 vm1.full.example.com vm1\n"),
            is_whole,
            "{mode}: of Red Hat's kind"
        );
        assert_eq!(text.contains("127.0.1.1\timage"), !is_whole, "{mode}: lines of others");
        assert_eq!(image.check("hosts").unwrap(), State::Satisfied, "{mode}");
    }
}

#[test]
fn the_image_has_the_last_word_on_etc_hosts_and_the_host_name() {
    let mut image = asked(&[("hosts/manage", "true"), BY]);
    image.root.put("etc/preroot.conf", "Provisioning.ManageEtcHosts=false\n");
    configured(&mut image);
    assert_eq!(image.check("hosts").unwrap(), State::Satisfied);
    let mut image = asked(&[("preserve-hostname", "true\n")]);
    assert!(is_foreign(image.check("hostname").unwrap()));
    let mut image = asked(&[]);
    image.root.put("etc/cloud/cloud.cfg.d/99-x.cfg", "preserve_hostname: true\n");
    configured(&mut image);
    assert!(is_foreign(image.check("hostname").unwrap()));
}

fn name(image: &mut Image, name: &str) {
    image.facts.hostname = Some(Fact { value: Hostname::parse(name).unwrap(), from: Provenance::Imds });
}

#[test]
fn a_name_that_a_person_gave_stays_in_this_vm_and_not_in_a_copy_of_it() {
    let mut image = Image::debian();
    name(&mut image, "one");
    image.converge("hostname").unwrap();
    assert_eq!((image.text("etc/hostname"), image.system.hostname.as_deref()), ("one\n".into(), Some("one")));
    name(&mut image, "two");
    image.converge("hostname").unwrap();
    assert_eq!(image.text("etc/hostname"), "two\n", "the platform renames what it named");
    image.root.put("etc/hostname", "mine\n");
    assert!(is_foreign(image.check("hostname").unwrap()));
    image.apply("hostname").unwrap();
    assert_eq!(image.text("etc/hostname"), "mine\n");
    image.id = crate::facts::InstanceId::parse("another").unwrap();
    image.converge("hostname").unwrap();
    assert_eq!(image.text("etc/hostname"), "two\n");
}

#[test]
fn a_cut_while_renaming_is_no_persons_choice() {
    for step in 0..3 {
        let named = || {
            let mut image = Image::debian();
            for it in ["one", "two"].iter().take(step) {
                name(&mut image, it);
                image.converge("hostname").unwrap();
            }
            name(&mut image, "last");
            image
        };
        every_cut_converges(&named, &["hostname"]);
    }
}

const NTP: &str = "client auto\nserver time1.example.com\npool pool.example.com\n";

#[test]
fn time_servers_stand_where_the_installed_client_looks() {
    let debian_chrony =
        "confdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\nsourcedir /etc/chrony/sources.d\n";
    for (programs, conf, path, expected) in [
        (
            &["usr/sbin/chronyd"][..],
            ("etc/chrony/chrony.conf", debian_chrony),
            "etc/chrony/conf.d/preroot.conf",
            "server time1.example.com iburst\npool pool.example.com iburst\n",
        ),
        (
            &["usr/sbin/chronyd"],
            ("etc/chrony.conf", "pool a iburst\nrtcsync\n"),
            "etc/chrony.conf",
            "server time1.example.com iburst\npool pool.example.com iburst\nrtcsync\n",
        ),
        (
            &["usr/sbin/chronyd"],
            ("etc/chrony/chrony.conf", "sourcedir /run/x\nsourcedir /etc/chrony/sources.d\n"),
            "etc/chrony/sources.d/preroot.sources",
            "server time1.example.com iburst\n",
        ),
        (
            &["usr/lib/systemd/systemd-timesyncd", "usr/sbin/ntpdate"],
            ("etc/systemd/timesyncd.conf", "[Time]\n"),
            "etc/systemd/timesyncd.conf.d/preroot.conf",
            "[Time]\nNTP=time1.example.com pool.example.com\n",
        ),
        (
            &["usr/sbin/ntpd"],
            ("etc/ntpsec/ntp.conf", "driftfile /d\npool a\npool b\n"),
            "etc/ntpsec/ntp.conf",
            "driftfile /d\nserver time1.example.com iburst\npool pool.example.com iburst\n",
        ),
        (
            &["usr/sbin/ntpd"],
            ("etc/openntpd/ntpd.conf", "servers pool.ntp.org\n"),
            "etc/openntpd/ntpd.conf",
            "server time1.example.com\nservers pool.example.com\n",
        ),
    ] {
        let mut image = asked(&[("ntp", NTP), BY]);
        for program in programs {
            image.root.put(program, "");
        }
        image.root.put(conf.0, conf.1);
        image.converge("ntp").unwrap();
        assert!(image.text(path).contains(expected), "{path}: {}", image.text(path));
        if path != conf.0 {
            assert_eq!(image.text(conf.0), conf.1, "the image's own file stays");
        }
        assert_eq!(image.check("ntp").unwrap(), State::Satisfied);
    }
}

#[test]
fn without_a_client_time_servers_are_told_and_nothing_is_made() {
    for entry in [NTP, "client openntpd\nserver a\n"] {
        let mut image = asked(&[("ntp", entry)]);
        if entry != NTP {
            image.root.put("usr/sbin/chronyd", "").put("etc/chrony.conf", "");
        }
        let before = image.root.dump();
        assert!(is_foreign(image.check("ntp").unwrap()));
        image.apply("ntp").unwrap();
        assert_eq!(image.root.dump(), before);
    }
    assert!(asked(&[("ntp", "server a;b\n")]).check("ntp").is_err());
}

#[test]
fn a_time_zone_is_linked_if_the_image_knows_it() {
    let mut image = asked(&[("timezone", "Asia/Shanghai\n")]);
    assert!(is_foreign(image.check("timezone").unwrap()));
    image
        .root
        .put("usr/share/zoneinfo/Asia/Shanghai", "TZif")
        .put("etc/timezone", "Etc/UTC\n")
        .put("etc/localtime", "TZif");
    image.converge("timezone").unwrap();
    assert_eq!(image.text("etc/timezone"), "Asia/Shanghai\n");
    let link = image.with(|_, root| {
        let mut buf = [0; 64];
        let n = root.dir.read_link("etc/localtime", &mut buf).unwrap();
        std::string::String::from_utf8(buf[..n].to_vec()).unwrap()
    });
    assert_eq!(link, "../usr/share/zoneinfo/Asia/Shanghai");
    assert_eq!(image.check("timezone").unwrap(), State::Satisfied);
    for bad in ["/etc/passwd", "../../etc/shadow", "Asia//x", "a b", "Asia/"] {
        assert!(asked(&[("timezone", bad)]).check("timezone").is_err(), "{bad}");
    }
}

#[test]
fn a_locale_is_set_where_the_image_reads_it() {
    for (there, path) in
        [("etc/debian_version", "etc/default/locale"), ("etc/redhat-release", "etc/locale.conf")]
    {
        let mut image = asked(&[("locale", "en_US.UTF-8")]);
        image.root.put(there, "").put_dir("etc/default").put(path, "LC_TIME=C\nLANG=C\n");
        image.converge("locale").unwrap();
        assert_eq!(image.text(path), "LC_TIME=C\nLANG=en_US.UTF-8\n");
        assert_eq!(image.check("locale").unwrap(), State::Satisfied);
    }
    assert!(asked(&[("locale", "a\nb")]).check("locale").is_err());
}

#[test]
fn a_directory_of_zones_is_no_zone() {
    let mut image = asked(&[("timezone", "Asia")]);
    image.root.put("usr/share/zoneinfo/Asia/Shanghai", "TZif");
    assert!(matches!(image.check("timezone").unwrap(), State::Foreign { .. }));
}

#[test]
fn every_power_cut_in_every_one_of_them_converges() {
    let prepared = || {
        let mut image =
            asked(&[("ntp", NTP), ("timezone", "UTC"), ("locale", "C"), ("hosts/manage", "true")]);
        image
            .root
            .put("usr/share/zoneinfo/UTC", "TZif")
            .put("etc/timezone", "x\n")
            .put("etc/localtime", "TZif")
            .put("etc/debian_version", "12");
        image
            .root
            .put("usr/sbin/chronyd", "")
            .put("etc/chrony/chrony.conf", "confdir /etc/chrony/conf.d\n")
            .put_dir("etc/default");
        image
    };
    for name in ["ntp", "timezone", "locale", "hosts"] {
        every_cut_converges(&prepared, &[name]);
    }
}

#[test]
fn what_the_image_has_switched_off_is_not_done_for_vendor_data() {
    let image = |entries: &[(&str, &str)], cloud: &str| {
        let mut image = asked(entries);
        image.root.put("usr/share/zoneinfo/UTC", "TZif").put("etc/cloud/cloud.cfg", cloud);
        configured(&mut image);
        image
    };
    let zone = ("timezone", "UTC");
    let list = "cloud_config_modules:\n - ntp\n - set-passwords\n";
    assert!(is_foreign(image(&[zone, BY], list).look("timezone")));
    assert_eq!(
        image(&[zone, BY], "cloud_config_modules:\n - [timezone, always]\n").look("timezone"),
        State::Missing
    );
    assert_eq!(image(&[zone, BY], "").look("timezone"), State::Missing, "no list at all");
    assert_eq!(image(&[zone], list).look("timezone"), State::Missing, "the platform asks");
    // The administrator of the platform is made all the same.
    let mut users = image(&[("users/0", "name extra\n"), BY], list);
    assert_eq!(users.look("users"), State::Missing);
    users
        .with(|facts, root| {
            root.is_switched_off = true;
            super::super::users::apply(facts, root)
        })
        .unwrap();
    assert!(users.text("etc/passwd").contains("ops:") && !users.text("etc/passwd").contains("extra:"));
    let mut skipped = asked(&[zone]);
    skipped.root.put("etc/preroot.conf", "Provisioning.SkipModules=hosts,timezone\n");
    configured(&mut skipped);
    assert!(is_foreign(skipped.look("timezone")) && is_foreign(skipped.look("hosts")));
    assert_eq!(skipped.look("hostname"), State::Missing);
}

#[test]
fn the_default_account_is_the_images() {
    const KEY: &str = "ssh-ed25519 AAAAC3Nz ops@cloud";
    let entries = [
        ("users/62", &*std::format!("default true\nssh_authorized_keys {KEY}\n")),
        ("users/63", "name root\nmust_exist true\nhashed_passwd $6$a$b\n"),
        BY,
    ];
    let mut image = asked(&entries);
    *image.facts = crate::facts::Facts::default();
    image.root.put_dir("root");
    for module in ["users", "password", "ssh_keys", "sudo"] {
        image.converge(module).unwrap();
    }
    assert!(image.text("root/.ssh/authorized_keys").contains(KEY), "root without a word of the image");
    assert!(image.text("etc/shadow").contains("root:$6$a$b:20000:"));
    assert!(image.root.text("etc/sudoers.d/90-preroot-root").is_none());
    let mut image = asked(&entries);
    *image.facts = crate::facts::Facts::default();
    image.config = Config::new(false);
    image.config.read(1, b"Provisioning.DefaultUser=ubuntu\n", &mut |_, fault| panic!("{fault}"));
    for module in ["users", "password", "ssh_keys", "sudo"] {
        image.converge(module).unwrap();
    }
    assert!(image.text("home/ubuntu/.ssh/authorized_keys").contains(KEY));
    assert!(image.text("etc/sudoers.d/90-preroot-ubuntu").contains("NOPASSWD"));
    assert!(image.text("etc/group").contains("sudo:x:27:ubuntu"));
    let mut image = Image::debian();
    (image.facts.user, image.facts.password) = (None, None);
    image.facts.keys.as_mut().unwrap().from = Provenance::ConfigDrive;
    image.root.put_dir("root");
    ["users", "ssh_keys", "sudo"].into_iter().for_each(|module| image.converge(module).unwrap());
    assert!(image.text("root/.ssh/authorized_keys").contains(KEY), "a platform that names nobody");
    let mut tencent = asked(&entries);
    tencent.run.put("seed/platform", "tencent\n");
    tencent.facts.user = None;
    tencent.facts.keys.as_mut().unwrap().from = Provenance::ConfigDrive;
    tencent
        .facts
        .keys
        .as_mut()
        .unwrap()
        .value
        .push(crate::facts::SshKey::parse("ssh-ed25519 AAAAother x").unwrap())
        .unwrap();
    tencent.root.put("root/.ssh/authorized_keys", "ssh-ed25519 AAAAimage maker\n");
    for _ in 0..2 {
        tencent.converge("ssh_keys").unwrap();
        let keys = tencent.text("root/.ssh/authorized_keys");
        assert!(
            !keys.contains("AAAAimage") && keys.contains("AAAAother") && keys.contains(KEY),
            "the console's key replaces"
        );
    }
    let mut image = asked(&[("users/63", "name nobodyelse\nmust_exist true\nhashed_passwd $6$a$b\n")]);
    *image.facts = crate::facts::Facts::default();
    image.converge("users").unwrap();
    assert!(image.converge("password").is_err() && !image.text("etc/passwd").contains("nobodyelse"));
}

#[test]
fn a_full_name_is_cut_where_cloud_init_cuts_it() {
    for (from, written) in [
        (Provenance::ConfigDrive, "vm1\n"),
        (Provenance::NoCloud, "vm1\n"),
        (Provenance::Cmdline, "vm1\n"),
        (Provenance::OvfMedium, "vm1.example.org\n"),
        (Provenance::UserData, "vm1.example.org\n"),
    ] {
        let mut image = Image::debian();
        image.facts.hostname = Some(Fact { value: Hostname::parse("vm1.example.org").unwrap(), from });
        image.converge("hostname").unwrap();
        image.converge("hosts").unwrap();
        assert_eq!(image.text("etc/hostname"), written, "{from:?}");
        assert!(image.text("etc/hosts").contains("127.0.1.1\tvm1.example.org\tvm1\n"), "{from:?}");
    }
}
