//! Whole trees of other systems: Alpine (OpenRC, busybox, no shadow) and Fedora (SELinux, wheel, sshd_config.d).

use super::{HASH, Image};
use crate::apply::State;
use crate::sys::Owner;
use crate::sys::fake::FakeDir;

/// As Alpine 3.20's minirootfs with openssh-server and doas: busybox's own adduser has neither gshadow nor login.defs.
fn alpine() -> Image {
    let mut root = FakeDir::default();
    root.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/sbin/nologin\nsshd:x:22:22:sshd:/dev/null:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")
        .put_owned("etc/shadow", Owner { mode: 0o640, uid: 0, gid: 42 }, "root:*::0:::::\nbin:!::0:::::\nsshd:!::0:::::\nnobody:!::0:::::\n")
        .put("etc/group", "root:x:0:root\nwheel:x:10:root\nshadow:x:42:\nsshd:x:22:\nnogroup:x:65533:\n")
        .put("etc/hostname", "localhost\n")
        .put("etc/hosts", "127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n")
        .put("etc/shells", "/bin/sh\n/bin/ash\n")
        .put("etc/ssh/sshd_config", "AuthorizedKeysFile\t.ssh/authorized_keys\nInclude /etc/ssh/sshd_config.d/*.conf\nAllowTcpForwarding no\n")
        .put_dir("etc/ssh/sshd_config.d")
        .put("etc/init.d/preroot-apply", "#!/sbin/openrc-run\n")
        .put("sbin/openrc-run", "")
        .put("bin/busybox", "")
        .put_symlink("bin/sh", "/bin/busybox")
        .put("usr/bin/doas", "")
        .put("etc/doas.conf", "permit persist :wheel\n")
        .put("usr/bin/ssh-keygen", "")
        .put_dir("home")
        .put_dir("var/lib");
    let mut image = Image::debian();
    image.root = root;
    image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
    image
}

#[test]
fn alpine_is_provisioned_without_shadow_bash_or_sudo() {
    let mut image = alpine();
    image.all();
    assert!(image.text("etc/passwd").ends_with("\nops:x:1000:1000::/home/ops:/bin/sh\n"));
    assert!(
        image.text("etc/shadow").ends_with(&std::format!("\nops:{HASH}:20000::::::\n")),
        "no ages without login.defs"
    );
    assert_eq!(image.root.owner("etc/shadow").unwrap(), Owner { mode: 0o640, uid: 0, gid: 42 });
    let groups = image.text("etc/group");
    assert!(groups.contains("\nwheel:x:10:root,ops\n") && groups.ends_with("\nops:!:1000:\n"), "{groups}");
    assert!(image.root.text("etc/gshadow").is_none(), "busybox has none");
    assert_eq!(image.text("etc/hostname"), "vm1.example.com\n");
    let hosts = image.text("etc/hosts");
    assert!(
        hosts.contains("vm1.example.com") && hosts.contains("localhost localhost.localdomain"),
        "{hosts}"
    );
    let home = image.root.owner("home/ops").unwrap();
    assert_eq!((home.uid, home.gid), (1000, 1000));
    assert_eq!(
        image.root.owner("home/ops/.ssh/authorized_keys").unwrap(),
        Owner { mode: 0o600, uid: 1000, gid: 1000 }
    );
    assert!(image.text("etc/ssh/sshd_config.d/40-preroot.conf").contains("PasswordAuthentication no"));
    assert!(image.system.runs.iter().any(|run| run.contains("ssh-keygen -A")), "{:?}", image.system.runs);
    let before = image.root.dump();
    image.all();
    assert_eq!(image.root.dump(), before, "a second run changes nothing");
}

#[test]
fn labels_of_an_selinux_image_survive_and_new_files_are_labelled_by_its_policy() {
    let mut image = Image::debian();
    let labels = [
        ("etc/passwd", "system_u:object_r:passwd_file_t:s0"),
        ("etc/shadow", "system_u:object_r:shadow_t:s0"),
        ("etc/group", "system_u:object_r:passwd_file_t:s0"),
        ("etc/gshadow", "system_u:object_r:shadow_t:s0"),
        ("etc/hostname", "system_u:object_r:hostname_etc_t:s0"),
        ("etc/hosts", "system_u:object_r:net_conf_t:s0"),
    ];
    for (path, label) in labels {
        image.root.set_label(path, label);
    }
    image.root.put("sys/fs/selinux/enforce", "1").put("usr/sbin/restorecon", "");
    image.system.programs.insert("/usr/sbin/restorecon".into(), 0);
    image.all();
    for (path, label) in labels {
        assert_eq!(image.root.label(path).unwrap(), label, "{path}");
    }
    let restored = image.system.runs.iter().find(|run| run.contains("restorecon")).unwrap();
    for made in ["/etc/sudoers.d", "/etc/ssh", "/var/lib/preroot", "/home/ops"] {
        assert!(restored.split(' ').any(|word| word == made), "{made}: {restored}");
    }
    assert_eq!(image.check("hostname").unwrap(), State::Satisfied);
}
