//! Accounts: the administrator and the other users, on images that do things their own way.

use super::super::State;
use super::{HASH, Image, KEY, every_cut_converges, fact, prepared};
use crate::error::Kind;
use crate::facts::UserName;
use crate::sys::Owner;

#[test]
fn a_fresh_image_gets_what_useradd_would_give_it() {
    let mut image = Image::debian();
    image.all();
    assert!(image.text("etc/passwd").ends_with("\nops:x:1000:1000::/home/ops:/bin/bash\n"));
    assert!(image.text("etc/shadow").ends_with("\nops:$6$salt$hash:20000:0:99999:7:::\n"));
    assert_eq!(image.text("etc/group"), "root:x:0:\nadm:x:4:ops\nsudo:x:27:ops\nshadow:x:42:\nops:x:1000:\n");
    assert_eq!(image.text("etc/gshadow"), "root:*::\nadm:*::ops\nsudo:*::ops\nshadow:*::\nops:!::\n");
    assert_eq!(image.root.owner("etc/shadow").unwrap(), Owner { mode: 0o640, uid: 0, gid: 42 });
    assert_eq!(image.text("etc/hostname"), "vm1.example.com\n");
    assert_eq!(image.system.hostname.as_deref(), Some("vm1.example.com"));
    assert!(image.text("etc/hosts").contains("\n127.0.1.1\tvm1.example.com\tvm1\n"));
    assert!(image.text("etc/sudoers.d/90-preroot-ops").ends_with("\nops ALL=(ALL) ALL\n"));
    assert_eq!(image.root.owner("etc/sudoers.d/90-preroot-ops").unwrap(), Owner::root(0o440));
    assert!(image.text("etc/ssh/sshd_config.d/40-preroot.conf").contains("\nPasswordAuthentication no\n"));
    assert_eq!(image.text("var/lib/preroot/custom-data"), "#!/bin/sh\n");
    assert_eq!(image.root.owner("var/lib/preroot/custom-data").unwrap(), Owner::root(0o600));
    assert!(image.root.dump().keys().all(|path| !path.ends_with(".preroot")));
}

#[test]
fn the_home_is_the_skeleton_in_the_users_hands() {
    let mut image = Image::debian();
    image.all();
    let user = |mode| Owner { mode, uid: 1000, gid: 1000 };
    for (path, mode) in [
        ("home/ops", 0o755),
        ("home/ops/.bashrc", 0o644),
        ("home/ops/bin/run", 0o755),
        ("home/ops/.ssh", 0o700),
        ("home/ops/.ssh/authorized_keys", 0o600),
    ] {
        assert_eq!(image.root.owner(path).unwrap(), user(mode), "{path}");
    }
    assert_eq!(image.text("home/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert!(image.root.dump()["home/ops/link"].ends_with("-> /etc/passwd"));
}

#[test]
fn a_system_account_is_not_taken_over() {
    for name in ["root", "nobody"] {
        let mut image = Image::debian();
        image.facts.user = fact(UserName::parse(name).unwrap());
        let before = image.root.dump();
        for module in ["users", "password", "ssh_keys", "sudo"] {
            let refused = image.converge(module);
            assert!(matches!(refused, Err(error) if error.is(Kind::Unsupported)), "{module} {name}");
        }
        let mut after = image.root.dump();
        after.remove("etc/.pwd.lock");
        assert_eq!(after, before);
    }
}

#[test]
fn an_existing_user_keeps_what_it_has() {
    let mut image = Image::debian();
    let passwd = "ops:x:1234:100:Ops,,,:/srv/ops:/bin/zsh\n";
    image.root.put("etc/passwd", passwd).put("etc/shadow", "ops:!:1:2:3:4:5:6:7\n").put_dir("srv/ops");
    image.all();
    assert_eq!(image.text("etc/passwd"), passwd);
    assert_eq!(image.text("etc/shadow"), std::format!("ops:{HASH}:20000:2:3:4:5:6:7\n"));
    assert!(!image.text("etc/group").contains("ops:x:"), "it has a primary group");
    assert!(image.text("etc/group").contains("sudo:x:27:ops\n"));
    assert_eq!(image.root.owner("srv/ops/.ssh").unwrap().uid, 1234);
}

#[test]
fn without_a_hash_passwords_are_locked_or_left() {
    for (there, expected) in [("", "*"), ("!", "!"), ("$6$own", "$6$own")] {
        let mut image = Image::debian();
        image.facts.password = None;
        image.root.put("etc/passwd", "ops:x:1000:1000::/home/ops:/bin/sh\n");
        image.root.put("etc/shadow", std::format!("ops:{there}:1:0:99999:7:::\n"));
        image.all();
        assert!(image.text("etc/shadow").starts_with(&std::format!("ops:{expected}:")), "{there:?}");
        assert!(image.text("etc/sudoers.d/90-preroot-ops").contains("NOPASSWD: ALL\n"));
    }
}

#[test]
fn without_a_password_keys_work_even_where_sshd_has_no_pam() {
    let mut image = Image::debian();
    image.facts.password = None;
    image.all();
    // A `!` would lock the account for OpenSSH with UsePAM no.
    assert!(image.text("etc/shadow").ends_with("\nops:*:20000:0:99999:7:::\n"));
}

#[test]
fn sudo_of_the_vendor_is_sudo() {
    use crate::sys::Dir;
    let mut image = prepared("sudo");
    image.root.remove("etc/sudoers").unwrap();
    image.root.put("usr/etc/sudoers", "@includedir /etc/sudoers.d\n");
    image.converge("sudo").unwrap();
    assert!(image.text("etc/sudoers.d/90-preroot-ops").contains("ops ALL"));
    assert_eq!(image.check("sudo").unwrap(), State::Satisfied);
}

#[test]
fn sub_ids_behind_a_link_are_the_images_own() {
    let mut image = Image::debian();
    image.root.put_symlink("etc/subuid", "../run/subuid");
    image.converge("users").unwrap();
    assert!(image.text("etc/passwd").contains("ops:x:1000:"));
}

#[test]
fn a_hash_in_passwd_does_not_win_over_shadow() {
    let mut image = Image::debian();
    image.root.put("etc/passwd", "ops::1000:1000::/home/ops:/bin/sh\n");
    image.all();
    assert_eq!(image.text("etc/passwd"), "ops:x:1000:1000::/home/ops:/bin/sh\n");
}

#[test]
fn before_the_clock_is_set_no_new_password_is_forced() {
    let mut image = Image::debian();
    image.with(|facts, root| {
        root.wall_s = 40;
        crate::apply::users::apply(facts, root).unwrap();
        crate::apply::password::apply(facts, root).unwrap();
    });
    assert!(image.text("etc/shadow").ends_with(&std::format!("\nops:{HASH}::0:99999:7:::\n")));
}

#[test]
fn a_home_behind_a_link_of_roots_is_reached() {
    let mut image = Image::debian();
    image.root.put("etc/passwd", "ops:x:1000:1000::/exports/home/ops:/bin/sh\n");
    image.root.put_dir("var/home").put_dir("exports").put_symlink("exports/home", "/var/home");
    image.all();
    assert_eq!(image.text("var/home/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
}

#[test]
fn another_programs_lock_is_respected() {
    let mut image = Image::debian();
    image.root.hold_lock("etc/.pwd.lock");
    assert!(matches!(image.apply("users"), Err(error) if error.is(Kind::Deadline)));
    assert!(!image.text("etc/passwd").contains("ops"));
}

#[test]
fn sudo_is_optional_and_visudo_has_the_last_word() {
    let mut image = prepared("sudo");
    image.system.programs.insert("/usr/sbin/visudo".into(), 1);
    let error = image.converge("sudo").unwrap_err();
    assert_eq!(error.reason(), "visudo refuses the rule");
    assert!(image.root.text("etc/sudoers.d/90-preroot-ops").is_none());
    assert!(image.root.text("etc/sudoers.d/.90-preroot-ops.preroot").is_none());
    assert_eq!(image.system.runs, ["/usr/sbin/visudo -c -f /etc/sudoers.d/.90-preroot-ops.preroot"]);

    let mut image = prepared("sudo");
    use crate::sys::Dir;
    image.root.remove("etc/sudoers").unwrap();
    assert!(matches!(image.check("sudo").unwrap(), State::Foreign { .. }));

    let mut image = prepared("sudo");
    image.root.put_owned("etc/sudoers", Owner::root(0o440), "root ALL=(ALL) ALL\n");
    image.converge("sudo").unwrap();
    assert_eq!(image.text("etc/sudoers"), "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n");
}

#[test]
fn roots_password_is_locked_where_the_configuration_says_so() {
    let mut image = Image::configured("Provisioning.DeleteRootPassword=y\n");
    let before = image.text("etc/shadow");
    assert_eq!(image.check("root_password").unwrap(), State::Missing);
    image.all();
    assert!(image.text("etc/shadow").starts_with("root:*LOCK*:14600::::::\n"));
    assert_eq!(image.check("root_password").unwrap(), State::Satisfied);
    assert!(before.starts_with("root:*:19000"));
    assert!(image.text("etc/shadow").ends_with(std::format!("ops:{HASH}:20000:0:99999:7:::\n").as_str()));
}

#[test]
fn homes_are_where_the_configuration_says() {
    let mut image = Image::configured("OS.HomeDir=/srv/people/\n");
    image.all();
    assert!(image.text("etc/passwd").ends_with("\nops:x:1000:1000::/srv/people/ops:/bin/bash\n"));
    assert_eq!(image.text("srv/people/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert_eq!(image.root.owner("srv/people").unwrap(), Owner::root(0o755));
}

#[test]
fn a_system_account_is_the_administrator_only_where_the_configuration_allows_it() {
    let mut image = Image::configured("Provisioning.AllowResetSysUser=y\n");
    image.root.put_dir("root");
    image.facts.user = fact(UserName::parse("root").unwrap());
    image.all();
    assert!(image.text("etc/shadow").starts_with(std::format!("root:{HASH}:20000:").as_str()));
    assert_eq!(image.text("root/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    image.facts.user = fact(UserName::parse("nobody").unwrap());
    assert!(image.converge("users").is_err(), "nobody owns nothing, whatever is configured");
}

#[test]
fn a_minimal_image_without_shadow_skel_or_sudo_gets_an_account() {
    use crate::sys::Dir;
    let mut image = Image::debian();
    for path in ["etc/shadow", "etc/gshadow", "etc/sudoers", "etc/login.defs", "bin/bash", "etc/hosts"] {
        image.root.remove(path).unwrap();
    }
    image.root.remove_dir("home").unwrap();
    image.all();
    assert!(image.text("etc/passwd").ends_with(":/home/ops:/bin/sh\n"));
    assert_eq!(image.text("etc/shadow"), std::format!("ops:{HASH}:20000::::::\n"));
    assert_eq!(image.root.owner("etc/shadow").unwrap(), Owner::root(0o600));
    assert!(image.root.text("etc/gshadow").is_none());
    assert!(image.text("etc/hosts").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\tvm1"));
}

const PERSON: &str = "name web\ngroups crew,adm\nprimary_group www\npasswd $6$a$b\nhashed_passwd $6$c$d\nlock_passwd true\n\
    expire true\nsudo ALL=(ALL) /bin/ls\ndoas permit nopass web\nssh_authorized_keys ssh-rsa AAAAweb w\n";

#[test]
fn other_users_converge_after_a_cut_at_every_change() {
    const PARTS: [&str; 5] = ["users", "password", "ssh_keys", "sudo", "doas"];
    let new = || {
        let mut image = Image::debian();
        image.run.put("seed/users/0", PERSON).put("seed/users/1", "name second\nsystem true\n");
        image.root.put("usr/bin/doas", "");
        image.root.power_on(true);
        image
    };
    let (uncut, _) = every_cut_converges(&new, &PARTS);
    assert!(uncut.text("etc/shadow").contains("\nweb:!$6$c$d:0:"), "{}", uncut.text("etc/shadow"));
    assert_eq!(uncut.root.owner("home/web").unwrap().uid, 1001);
    assert!(uncut.root.owner("home/second").is_none());
}

#[test]
fn other_users_have_the_shell_that_useradd_gives_here() {
    for (file, shell) in [
        ("# SHELL=/bin/no\nSHELL=/bin/sh\n", "/bin/sh"),
        ("SHELL=/usr/bin/zsh\n", "/usr/bin/zsh"),
        ("SHELL=\n", "/bin/bash"),
        ("SHELL=/a:0:0\n", "/bin/bash"),
        ("", "/bin/bash"),
    ] {
        let mut image = Image::debian();
        image.root.put("etc/default/useradd", file);
        image.run.put("seed/users/0", "name web\n").put("seed/users/1", "name own\nshell /bin/false\n");
        image.all();
        let passwd = image.text("etc/passwd");
        assert!(passwd.contains(":/home/ops:/bin/bash\n"), "{passwd}");
        assert!(passwd.contains(&std::format!(":/home/web:{shell}\n")), "{passwd}");
        assert!(passwd.contains(":/home/own:/bin/false\n"), "{passwd}");
    }
}

#[test]
fn one_users_mistake_stops_no_other() {
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name nobody\n").put("seed/users/1", "name second\n");
    assert_eq!(image.converge("users").unwrap_err().reason(), "the name of a system account");
    assert!(image.text("etc/passwd").contains("\nops:") && image.text("etc/passwd").contains("\nsecond:"));
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name a:b\n").put("seed/users/1", "name second\n");
    assert!(image.converge("users").is_err());
    assert!(image.text("etc/passwd").contains("\nops:") && image.text("etc/passwd").contains("\nsecond:"));
    // keys, and no home for them
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name homeless\nno_create_home true\nssh_authorized_keys ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V\n");
    image.converge("users").unwrap();
    let _ = image.converge("ssh_keys");
    assert!(image.root.text("home/ops/.ssh/authorized_keys").is_some(), "the administrator comes in");
}

#[test]
fn root_is_a_user_of_the_seeds_and_never_the_administrator() {
    let mut image = Image::debian();
    image.facts.user = fact(UserName::parse("root").unwrap());
    assert!(image.converge("users").is_err());
    image.facts.user = None;
    image.run.put("seed/users/0", "name root\nhashed_passwd $6$r$r\nlock_passwd false\n");
    for part in ["users", "password"] {
        image.converge(part).unwrap();
    }
    assert!(image.text("etc/shadow").starts_with("root:$6$r$r:20000:"));
}

#[test]
fn a_disk_without_room_is_no_fault_of_what_was_asked_for() {
    let users = super::MODULES.iter().find(|module| module.name == "users").unwrap();
    let mut failures = 0;
    loop {
        let mut image = Image::debian();
        (image.facts.user, image.facts.keys) = (None, None);
        image.run.put("seed/users/0", "name second\nlock_passwd true\n");
        image.root.fail_at(failures + 1, crate::error::Errno::NOSPC);
        let (outcome, partly) = image.with(|facts, root| ((users.apply)(facts, root), root.partly));
        assert_eq!(partly, None);
        if outcome.is_ok() {
            break;
        }
        failures += 1;
        // Nor does it cost the VM that it never gets better.
        let mut image = Image::debian();
        (image.facts.user, image.facts.keys) = (None, None);
        image.run.put("seed/users/0", "name second\nlock_passwd true\n");
        image.root.fail_at(failures, crate::error::Errno::NOSPC);
        let (outcome, partly) = image.with(|facts, root| {
            root.is_last_try = true;
            ((users.apply)(facts, root), root.partly)
        });
        assert!(outcome.is_ok() && partly.is_some(), "{failures}");
    }
    assert!(failures > 5, "{failures}");
}

const SECOND: &str = "ssh-rsa AAAAB3Nz second";

/// A medium with keys that names nobody, and these files of users.
fn nobodys(files: &[(&str, &str)]) -> Image {
    let mut image = Image::configured("Provisioning.DefaultUser=debian\n");
    (image.facts.user, image.facts.password) = (None, None);
    image.facts.keys.as_mut().unwrap().from = crate::facts::Provenance::ConfigDrive;
    for (file, text) in files {
        image.run.put(&std::format!("seed/users/{file}"), *text);
    }
    image
}

#[test]
fn a_user_takes_the_place_of_the_default_account() {
    let file = "default true\nname carol\nuid 1500\nshell /bin/sh\ngroups crew\nhashed_passwd $6$c$d\n";
    let keys = std::format!("default true\nname carol\nssh_authorized_keys {SECOND}\n");
    let mut image = nobodys(&[("0", file), ("63", &keys)]);
    image.all();
    let passwd = image.text("etc/passwd");
    assert!(passwd.ends_with("\ncarol:x:1500:1500::/home/carol:/bin/sh\n") && !passwd.contains("debian"));
    assert_eq!(image.text("home/carol/.ssh/authorized_keys"), std::format!("{KEY}\n{SECOND}\n"));
    assert!(image.text("etc/sudoers.d/90-preroot-carol").ends_with("\ncarol ALL=(ALL) NOPASSWD: ALL\n"));
    for group in ["adm:x:4:", "sudo:x:27:", "crew:x:"] {
        let text = image.text("etc/group");
        let is_member = |line: &str| line.starts_with(group) && line.ends_with(":carol");
        assert!(text.lines().any(is_member), "{group}: {text}");
    }
    // cloud.cfg locks that account's password, where user data do not say otherwise.
    assert!(image.text("etc/shadow").contains("\ncarol:!$6$c$d:"), "{}", image.text("etc/shadow"));
    assert!(image.root.owner("home/debian").is_none());
}

#[test]
fn the_platforms_administrator_stays_who_it_is() {
    let mut image = Image::debian();
    image.facts.password = None;
    image.run.put("seed/users/0", "default true\nname carol\n");
    image.run.put("seed/users/1", "default true\nhashed_passwd $6$c$d\n");
    image.all();
    assert_eq!(image.text("home/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert!(image.root.text("home/carol/.ssh/authorized_keys").is_none());
    assert!(image.text("etc/shadow").contains("\nops:!$6$c$d:"));
    image.facts.password = fact(crate::facts::PasswordHash::parse(HASH).unwrap());
    image.all();
    assert!(
        image.text("etc/shadow").contains("\nops:$6$c$d:"),
        "the platform's password made it an open one"
    );
}

#[test]
fn a_password_for_the_default_account_is_open() {
    let mut image = nobodys(&[
        ("0", "default true\nhashed_passwd $6$a$b\n"),
        ("63", "default true\nlock_passwd false\nhashed_passwd $6$c$d\n"),
    ]);
    image.all();
    assert!(image.text("etc/shadow").ends_with("\ndebian:$6$c$d:20000:0:99999:7:::\n"));
}

#[test]
fn the_platforms_keys_have_an_account_whatever_is_wanted_of_it() {
    let mut image = nobodys(&[("0", "default true\nname carol\nuid 0\nsystem true\nno_create_home true\n")]);
    assert_eq!(image.converge("users").unwrap_err().reason(), "a user's id is another's");
    image.converge("ssh_keys").unwrap();
    assert_eq!(image.text("home/carol/.ssh/authorized_keys"), std::format!("{KEY}\n"));
}

#[test]
fn root_has_the_platforms_keys_where_it_is_not_disabled() {
    let own = std::format!("name root\nssh_authorized_keys {SECOND}\nplatform_keys true\n");
    let mut image = Image::debian();
    image.root.put_dir("root");
    image.run.put("seed/users/62", own);
    image.all();
    assert_eq!(image.text("root/.ssh/authorized_keys"), std::format!("{SECOND}\n{KEY}\n"));
    assert_eq!(image.check("ssh_keys").unwrap(), State::Satisfied);
    assert!(image.text("etc/shadow").starts_with("root:*:19000:"));
}

#[test]
fn who_is_redirected_is_told_whom_to_log_in_as() {
    let mut image = nobodys(&[("0", "name old\nssh_redirect_user true\n")]);
    image.all();
    // As cloud-init 22.4.2 writes it.
    let told = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo 'Please login as the user \\\"debian\\\" \
        rather than the user \\\"old\\\".';echo;sleep 10;exit 142\" ";
    assert_eq!(image.text("home/old/.ssh/authorized_keys"), std::format!("{told}{KEY}\n"));
    assert_eq!(image.text("home/debian/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert_eq!(image.check("ssh_keys").unwrap(), State::Satisfied);
    let mut keys = crate::facts::SshKeys::new();
    keys.push(crate::facts::SshKey::parse("no-pty ssh-rsa AAAAB3Nz").unwrap()).unwrap();
    image.facts.keys.as_mut().unwrap().value = keys;
    image.converge("ssh_keys").unwrap();
    let expected = std::format!("{told}{KEY}\n{told}ssh-rsa AAAAB3Nz\n");
    assert_eq!(image.text("home/old/.ssh/authorized_keys"), expected);
}

#[test]
fn rules_of_sudo_take_the_place_of_the_default_accounts() {
    for (rule, expected) in
        [("sudo\n", None), ("sudo\nsudo ALL=(root) /bin/ls\n", Some("carol ALL=(root) /bin/ls\n"))]
    {
        let mut image = nobodys(&[("0", &std::format!("default true\nname carol\n{rule}"))]);
        image.all();
        let rules = image.root.text("etc/sudoers.d/90-preroot-carol");
        let rules = rules
            .map(|text| text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect::<String>());
        assert_eq!(rules.as_deref(), expected);
    }
}

#[test]
fn a_program_that_hangs_for_one_person_costs_no_other_a_turn() {
    let mut image = Image::debian();
    (image.facts.user, image.facts.keys) = (None, None);
    image.root.put("usr/sbin/visudo", "");
    for n in 0..2 {
        image.run.put(&std::format!("seed/users/{n}"), std::format!("name user{n}\nsudo ALL=(ALL) ALL\n"));
    }
    image.converge("users").unwrap();
    let mut runs = 0;
    image.system.acts = Some(std::boxed::Box::new(move |_: &[&str]| {
        runs += 1;
        if runs == 1 { Err(deadline!("program of the image", 1)) } else { Ok(0) }
    }));
    assert!(image.converge("sudo").is_err());
    assert!(image.root.text("etc/sudoers.d/90-preroot-user1").is_some());
}

#[test]
fn a_lock_that_is_held_is_waited_for_once() {
    let mut image = Image::debian();
    (image.facts.user, image.facts.keys) = (None, None);
    for n in 0..9 {
        image.run.put(&std::format!("seed/users/{n}"), std::format!("name user{n}\nlock_passwd true\n"));
    }
    image.root.hold_lock("etc/.pwd.lock");
    let users = super::MODULES.iter().find(|module| module.name == "users").unwrap();
    let outcome = image.with(|facts, root| (users.apply)(facts, root));
    assert!(outcome.is_err_and(|error| error.is(crate::error::Kind::Deadline)));
    assert_eq!(image.root.lock_waits(), 1);
}
