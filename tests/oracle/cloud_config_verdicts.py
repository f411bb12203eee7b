"""Which differences between cloud-init and preroot are meant to be, and why? A row explains one line of one file, as narrow as it can be.

A row: the verdict's name, the path (or effect), the aspect (kind, mode, owner, order, only theirs, only ours), the text, and what the
case has to say somewhere in its data ('' for anything). Patterns, each for the whole. What a pattern cannot say is a function below.
"""

import re

ADMINISTRATOR = "debian"
# Name: whose choice it is, and why. Those of ALWAYS come with nearly every run, whatever it asks for.
REASONS = {
    "backups": "cloud-init: shadow-utils leave `passwd-` and its like (docs/apply.md)",
    "default locale": "cloud-init: Debian's sets LANG=en_US.UTF-8 where nobody asks for a locale",
    "restart": "cloud-init: has daemons restarted, locales generated; preroot comes before the daemons, and generates none",
    "settle": "cloud-init: waits for udev; preroot for the devices",
    "debconf": "cloud-init: tells debconf which disk grub is on",
    "hosts": "preroot: the name always resolves, by 127.0.1.1; cloud-init only with manage_etc_hosts",
    "dsa": "cloud-init: makes a DSA host key, which sshd does not use",
    "sudoers directory": "cloud-init: sets the mode of /etc/sudoers.d; the rules are compared",
    "sudoers file": "both: each has its own files in /etc/sudoers.d; the rules are compared",
    "star": "preroot: no password is `*`, not `!`, with which sshd without PAM refuses keys too (docs/apply.md)",
    "root keys": "cloud-init: with disable_root root has the platform's keys with a command that says whom to log in as; preroot gives root none of them",
    "empty keys": "cloud-init: makes an empty authorized_keys where there is no key",
    "order of keys": "cloud-init: has keys in an order of chance",
    "localtime": "preroot: the link is relative, as systemd's",
    "preserved name": "preroot: preserve_hostname holds from the first; cloud-init has set the name before it reads user data",
    "administrator": "preroot: who has the platform's keys is made even where `users` does not name `default`",
    "no keys": "preroot: a default account that nobody could log in to is not made",
    "sshd files": "both: each has its own file in sshd_config.d; what sshd makes of them is compared (ChallengeResponseAuthentication goes with `no`)",
    "apt": "preroot: other options of apt-get; the packages are the same",
    "root locked": "cloud-init: locks the password of an account of the image again (`!*`)",
    "setuid": "cloud-init: its chown takes the setuid bit away",
    "mode 0": "cloud-init: takes permissions of 0 for none",
    "parents": "preroot: missing directories belong to the file's owner, as newer cloud-init does",
    "bad owner": "preroot: a file of nobody is not written, and the next is; cloud-init leaves it to root and stops",
    "lenient files": "preroot: takes one file that is not in a list, and content that is a number",
    "chrony template": "preroot: a file beside chrony's own; cloud-init writes the whole file from its template, the image's servers are gone",
    "chrony servers": "preroot: the image's own servers stay beside those asked for",
    "ntp client": "preroot: does not install the client that is asked for (docs/cloud-config.md)",
    "no ntp servers": "preroot: without a server or pool the image's own stay; cloud-init takes the distribution's",
    "resolv.conf head": "both: each has its own first lines",
    "resolv.conf order": "both: other order of lines, search domains on one line",
    "home": "preroot: HOME=/root is there for scripts; cloud-init's have none",
    "hosts comments": "preroot: without the template's comments about cloud.cfg",
    "hosts blanks": "cloud-init: writes lines anew that it does not change",
    "hosts localhost": "cloud-init: the full name stays the medium's where user data name the host alone, even as `localhost`",
    "certificates": "preroot: certificates in /usr/local/share/ca-certificates, as newer cloud-init does; the certificates are compared",
    "default certificates": "preroot: the image's certificates are switched off in ca-certificates.conf, as newer cloud-init does; Debian's deletes the files",
    "order of accounts": "preroot: the account with the platform's keys is made first, cloud-init's default account last; so are their numbers",
    "fstab blanks": "cloud-init: a blank in a path breaks the line of fstab",
    "fstab numbers": "cloud-init: fails where a field is a number",
    "fstab unit": "preroot: mounts wait for preroot's unit, not for cloud-init's",
    "swap line": "preroot: the line of the swap file has no comment; `deprovision` knows it by /var/lib/preroot/fstab",
    "swapon": "preroot: switches the file on by its name, cloud-init by `swapon -a`",
    "host keys": "preroot: makes all kinds of host keys where none is asked for; cloud-init makes none, and sshd does not start",
    "public key": "cloud-init: a given public host key has mode 0600 and no line end",
    "image accounts": "preroot: an account of the image joins its groups and has its missing home made; cloud-init skips it",
    "files after users": "preroot: files come after accounts, so a home with a file in it is a whole one",
    "half made": "cloud-init: its module fails at a value, and does not come to what follows; preroot does",
    "both spellings": "preroot: keys under `ssh-authorized-keys` and under `ssh_authorized_keys` count; with cloud-init the later ones",
    "locale": "preroot: LANG as asked, even where the image lacks that locale; cloud-init's update-locale refuses",
    "cloud name": "preroot: v1.cloud_name is the platform's name; cloud-init has `unknown` for NoCloud",
    "status": "cloud-init: `status` is `error` where one of its modules failed or a script did; preroot's is `done`, with exit code 2 for scripts",
    "script names": "preroot: scripts of user data that lie beside the image's begin with `user-data.`, by which they are known",
    "administrators groups": "preroot: an administrator has adm, sudo, wheel and systemd-journal, and the groups asked for",
    "root key options": "cloud-init: loses the options of a key for root",
    "group blanks": "cloud-init: takes the blank behind a comma for a part of the group's name, and fails",
}
ALWAYS = {"backups", "default locale", "restart", "debconf", "hosts", "dsa", "sudoers directory", "sudoers file", "star", "root keys", "order of keys", "empty keys"}
LOCKED = r"no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo 'Please login as the user .*"
KEY = r"(.*no-pty )?(ssh|ecdsa)-.*"
APT = r"apt-get .*(update|dist-upgrade|install .*)"
SKELETON = r"(/(\.ssh(/authorized_keys)?|\.bashrc|\.profile|\.bash_logout))?"
ROWS = (
    ("backups", r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-", r"kind|order|mode|only theirs|only ours", r".*", ""),
    ("default locale", "etc/default/locale", "only theirs", r"LANG=en_US\.UTF-8", r"(?!.*\nlocale:).*"),
    ("restart", "calls", "only theirs", r"service \S+ (status|restart|reload)|systemctl (status|restart|reload-or-restart|reload-or-try-restart|daemon-reload|try-reload-or-restart) ?\S*|locale-gen \S+", ""),
    ("settle", "calls", "only theirs", "udevadm settle", ".*(fs_setup|disk_setup):.*"),
    ("debconf", r"var/cache/debconf/(config|templates)\.dat(-old)?", ".*", ".*", ""),
    ("hosts", "etc/hosts", "only ours", r"127\.0\.1\.1\t.*", r"(?!.*manage_etc_hosts: ([Tt]rue|template|localhost)).*"),
    ("dsa", r"etc/ssh/ssh_host_dsa_key(\.pub)?", "kind", "file / nothing", ""),
    ("dsa", r"etc/ssh/ssh_host_dsa_key(\.pub)?", "only theirs", r"<a private key>|<a public key> ssh-dss .*", ""),
    ("sudoers directory", r"etc/sudoers\.d", "mode", "0o750 / 0o755", ""),
    ("sudoers file", r"etc/sudoers\.d/90-cloud-init-users", "kind", "file / nothing", ""),
    ("sudoers file", r"etc/sudoers\.d/90-cloud-init-users", "only theirs", ".*", ""),
    ("sudoers file", r"etc/sudoers\.d/90-preroot-.*", "kind", "nothing / file", ""),
    ("sudoers file", r"etc/sudoers\.d/90-preroot-.*", "only ours", ".*", ""),
    ("root keys", r"root/\.ssh/authorized_keys", "kind", "file / nothing", ""),
    ("root keys", r"root/\.ssh/authorized_keys", "only theirs", LOCKED, ""),
    ("order of keys", r".*/\.ssh/authorized_keys", "order", "", ""),
    ("localtime", "etc/localtime", "only theirs", r"/usr/share/zoneinfo/.*", ""),
    ("localtime", "etc/localtime", "only ours", r"\.\./usr/share/zoneinfo/.*", ""),
    ("preserved name", "etc/hostname|name of the kernel", "only theirs", "vm1", ".*preserve_hostname: true.*"),
    ("preserved name", "etc/hostname|name of the kernel", "only ours", "localhost", ".*preserve_hostname: true.*"),
    ("preserved name", r"etc/ssh/ssh_host_.*_key\.pub", "only ours|only theirs", "<a public key> .* root@(localhost|vm1)", ".*preserve_hostname: true.*"),
    ("sshd files", r"etc/ssh/sshd_config\.d/50-cloud-init\.conf", "kind|only theirs", r"file / nothing|PasswordAuthentication (yes|no)", ""),
    ("sshd files", r"etc/ssh/sshd_config\.d/40-preroot\.conf", "kind|only ours",
     r"nothing / file|# Written by preroot.*|PasswordAuthentication (yes|no)|ChallengeResponseAuthentication no", ""),
    ("apt", "calls", "only theirs", r"apt-get --option=\S+ --option=\S+ --assume-yes --quiet (update|dist-upgrade|install .*)", ".*package.*"),
    ("apt", "calls", "only ours", r"apt-get -q -y -o \S+ -o \S+ (update|dist-upgrade|install .*)", ".*package.*"),
    ("root locked", "etc/shadow", "only theirs", r"(root|www-data):!\*:.*", ""),
    ("root locked", "etc/shadow", "only ours", r"(root|www-data):\*:.*", ""),
    ("setuid", ".*", "mode", "0o755 / 0o4755", r'.*permissions: "4755".*'),
    ("mode 0", ".*", "mode", "0o644 / 0o0", r'.*permissions: "0000".*'),
    ("parents", "opt/app|etc/new|etc/new/deep|var/spool/x", "owner", r"root:root / .*", ".*owner:.*"),
    ("bad owner", "home/alice/f", "kind|only theirs", "file / nothing|x<no line end>", ".*path: /home/alice/f\n.*owner: .*"),
    ("bad owner", "opt/first", "kind|only theirs", "file / nothing|x<no line end>", ".*ghost:ghost.*"),
    ("bad owner", "opt/second", "kind|only ours", "nothing / file|y<no line end>", ".*ghost:ghost.*"),
    ("lenient files", "opt/(no-list|text)", "kind|only ours", "nothing / file|x<no line end>|12345<no line end>", ""),
    ("chrony template", r"etc/chrony/chrony\.conf\.dist", "kind|only theirs", ".*", r".*\bntp:.*"),
    ("chrony template", r"etc/chrony/chrony\.conf", "only theirs|only ours|order", r"#.*||(server|pool|peer|confdir|sourcedir|leapsectz|ntsdumpdir|keyfile|driftfile|logdir|maxupdateskew|rtcsync|makestep|allow)\b.*", r".*\bntp:.*"),
    ("chrony template", r"etc/chrony/(conf\.d|sources\.d)/preroot\.(conf|sources)", "kind|only ours", ".*", r".*\bntp:.*"),
    ("chrony servers", "clocks of chrony", "only ours", r"pool 2\.debian\.pool\.ntp\.org iburst", r".*\bntp:.*"),
    ("chrony servers", "clocks of chrony", "only ours", r"(peer|allow) .*", r".*\bpeers:.*"),
    ("no ntp servers", "clocks of chrony", "only theirs", r"pool [0-3]\.debian\.pool\.ntp\.org iburst", r".*\bntp:.*"),
    ("ntp client", r"etc/ntp\.conf|etc/systemd/timesyncd\.conf\.d/cloud-init\.conf|etc/systemd/timesyncd\.conf\.d", "kind|only theirs", ".*", r".*ntp_client: (ntp|systemd-timesyncd).*"),
    ("ntp client", "calls", "only theirs", r"apt-get --option=\S+ --option=\S+ --assume-yes --quiet (update|install ?(ntp|systemd-timesyncd)?)|.*restart (ntp|systemd-timesyncd)(\.service)?", r".*ntp_client: (ntp|systemd-timesyncd).*"),
    ("ntp client", "clocks of chrony", "only ours", "(server|pool|peer|allow) .*", r".*ntp_client: (ntp|systemd-timesyncd).*"),
    ("resolv.conf head", r"etc/resolv\.conf", "only theirs|only ours", r"#.*|", ".*resolv_conf:.*"),
    ("resolv.conf order", r"etc/resolv\.conf", "only theirs|only ours", r"(search|domain|options|sortlist|nameserver) .*", ".*resolv_conf:.*"),
    ("order of accounts", "var/spool/marks/order", "only theirs|only ours", "who 0 .*", ".*runcmd:.*"),
    ("home", "var/spool/marks/order", "only theirs", r"env 0  / .*", ".*runcmd:.*"),
    ("home", "var/spool/marks/order", "only ours", r"env 0 /root / .*", ".*runcmd:.*"),
    ("script names", "var/spool/marks/order", "only theirs", r"per-(once|boot|instance) 0 \w+\.sh", r".*x-shellscript-per-.*"),
    ("script names", "var/spool/marks/order", "only ours", r"per-(once|boot|instance) 0 user-data\.\w+\.sh", r".*x-shellscript-per-.*"),
    ("hosts comments", "etc/hosts", "only theirs", r"#.*|", ".*manage_etc_hosts:.*"),
    ("hosts comments", "etc/hosts", "only ours", r"# Written by preroot.*|", ".*manage_etc_hosts:.*"),
    ("hosts blanks", "etc/hosts", "only theirs", r"::1\tlocalhost\tip6-localhost\tip6-loopback|", ".*manage_etc_hosts:.*"),
    ("hosts blanks", "etc/hosts", "only ours", r"::1\t\tlocalhost ip6-localhost ip6-loopback", ".*manage_etc_hosts:.*"),
    ("hosts localhost", "etc/hosts", "only theirs", r"127\.0\.1\.1\s+vm1(\.example\.org)?\s+(web1|web2|localhost|beside)", ".*manage_etc_hosts:.*"),
    ("hosts localhost", "etc/hosts", "only ours", r"127\.0\.1\.1\s+(web1|web2|localhost|beside)(\s+(web1|web2|localhost|beside))?", ".*manage_etc_hosts:.*"),
    ("certificates", r"usr/local/share/ca-certificates/cloud-init-ca-cert-\d+\.crt", "kind|only ours", "nothing / file|.*", ".*ca[_-]certs:.*"),
    ("certificates", r"usr/share/ca-certificates/cloud-init-ca-certs\.crt", "kind|only theirs", "file / nothing|.*", ".*ca[_-]certs:.*"),
    ("certificates", r"etc/ca-certificates\.conf", "only theirs", r"cloud-init-ca-certs\.crt", ".*ca[_-]certs:.*"),
    ("default certificates", r"etc/ca-certificates\.conf", "only ours", "#.*|!mozilla/.*|", r".*remove[_-]defaults: true.*"),
    ("default certificates", r"etc/ssl/certs/.*|usr/share/ca-certificates/mozilla(/.*)?", "kind|only ours", ".*", r".*remove[_-]defaults: true.*"),
    ("fstab blanks", "etc/fstab|lines of fstab", "only theirs", r"none\s/mnt/b b\s.*", ""),
    ("fstab blanks", "etc/fstab|lines of fstab", "only ours", r"none\s/mnt/b\\040b\s.*", ""),
    ("fstab blanks", "mnt/b b", "mode", "0o755 / 0o1777", ""),
    ("fstab numbers", "etc/fstab|lines of fstab|mnt/x", "only ours|kind", r"tmpfs\s/mnt/x\s.*|nothing / directory", r".*\n    - 0\n.*"),
    ("fstab unit", "etc/fstab|lines of fstab", "only theirs", r".*,x-systemd\.requires=cloud-init\.service,_netdev,comment=cloudconfig\s0\s2", ""),
    ("fstab unit", "etc/fstab|lines of fstab", "only ours", r".*,x-systemd\.after=preroot-apply\.service,_netdev,comment=cloudconfig\s0\s2", ""),
    ("swap line", "etc/fstab|lines of fstab", "only theirs", r"/swap\.img\snone\sswap\ssw,comment=cloudconfig\s0\s0", ""),
    ("swap line", "etc/fstab|lines of fstab", "only ours", r"/swap\.img\snone\sswap\ssw\s0\s0", ""),
    ("swapon", "calls", "only ours", r"swapon (/swap\.img|-a)", ".*swap.*"),
    ("swapon", "calls", "only theirs", "swapon -a", ".*swap.*"),
    ("host keys", r"etc/ssh/ssh_host_(rsa|ecdsa|ed25519)_key(\.pub)?", "kind|only ours", "nothing / file|<a private key>|<a public key> .*", r".*ssh_genkeytypes: \[\].*"),
    ("host keys", "sshd -T", "only theirs", "exit 1|sshd: no hostkeys available -- exiting.", r".*ssh_genkeytypes: \[\].*"),
    ("host keys", "sshd -T", "only ours", ".*", r".*ssh_genkeytypes: \[\].*"),
    ("public key", r"etc/ssh/ssh_host_ed25519_key\.pub", "mode|only theirs|only ours", r"0o600 / 0o644|ssh-ed25519 .*", ".*ssh_keys:.*"),
    ("image accounts", "etc/(group|gshadow)", "only theirs|only ours", r"adm:.*", ".*name: www-data.*"),
    ("image accounts", "var/www" + SKELETON, "owner|kind|only ours", ".*", ".*name: www-data.*"),
    ("files after users", "home/alice" + SKELETON, "owner|mode|kind|only ours", ".*", ".*path: /home/alice/.*"),
    ("files after users", "home/debian" + SKELETON, "owner|mode|kind|only ours", ".*", ".*path: /home/debian/.*"),
    ("root key options", r"root/\.ssh/authorized_keys", "only ours", 'from="10.0.0.0/8",no-pty .*', ".*disable_root: false.*"),
    ("group blanks", "etc/(group|gshadow)", "only ours", "ops:.*", '.*groups: "developers, ops".*'),
    ("root key options", r"root/\.ssh/authorized_keys", "only theirs", r"ssh-ed25519 \S+ limited", ".*disable_root: false.*"),
    ("files after users", "home/[^/]+/\\.hello", "kind|only theirs", ".*", ".*path: /etc/skel/\\.hello.*"),
    ("half made", "etc/shadow", "only theirs", r"debian:!:today:.*", ".*# no comment.*"),
    ("half made", "etc/shadow", "only ours", r"debian:<a hash of 'secret'>:.*", ".*# no comment.*"),
    ("both spellings", r"home/[^/]+/\.ssh/authorized_keys", "only ours", KEY, ".*ssh-authorized-keys:.*ssh_authorized_keys:.*|.*ssh_authorized_keys:.*ssh-authorized-keys:.*"),
    ("locale", "etc/default/locale", "only ours", "LANG=en_GB", ".*locale: en_GB\n.*"),
    ("locale", "etc/default/locale", "only theirs", r"LANG=.*", ".*locale: (en_GB|false)\n.*"),
    ("status", "cloud-init status", "only theirs", "status: error|exit 1", ""),
    ("status", "cloud-init status", "only ours", "status: done|exit 2", ""),
    ("administrators groups", "etc/(group|gshadow)", "only theirs|only ours", r"(adm|sudo|systemd-journal):.*", r".*\nuser:\n.*groups:.*"),
    ("cloud name", "opt/j", "only theirs", "unknown nocloud debian .*", ".*v1.cloud_name.*"),
    ("cloud name", "opt/j", "only ours", "nocloud nocloud debian .*", ".*v1.cloud_name.*"),
)
COMPILED = [(name, *(re.compile(pattern, re.DOTALL) for pattern in patterns)) for name, *patterns in ROWS]
ACCOUNTS = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid")


def lines_of(side, path):
    return ((side["found"].get(path) or [""] * 5)[4]).split("\n")


def has(side, name):
    return any(line.startswith(name + ":") for line in lines_of(side, "etc/passwd"))


def starred(difference, theirs, ours):
    """The same line of shadow with `!` there and `*` here."""
    path, aspect, text = difference
    if path != "etc/shadow":
        return False
    if aspect == "only theirs":
        return text.replace(":!:", ":*:", 1) in lines_of(ours, path)
    return text.replace(":*:", ":!:", 1) in lines_of(theirs, path)


def emptied(difference, theirs):
    """An authorized_keys without a key, and the directory that was made for it."""
    path, aspect, text = difference
    if not re.fullmatch(r".*/\.ssh(/authorized_keys)?", path) or aspect not in ("kind", "order") or text not in ("file / nothing", "directory / nothing", ""):
        return False
    file = theirs["found"].get(path if path.endswith("/authorized_keys") else path + "/authorized_keys")
    return bool(file) and file[0] == "file" and not file[4].strip()


def without(line, name):
    head, _, members = line.rpartition(":")
    return head + ":" + ",".join(member for member in members.split(",") if member != name)


def account(difference, name, theirs, ours):
    """What comes with an account that one of them has not made."""
    path, aspect, text = difference
    if has(theirs, name) == has(ours, name):
        return False
    if path in ACCOUNTS and aspect.startswith("only"):
        other = ours if aspect == "only theirs" else theirs
        is_group = path in ("etc/group", "etc/gshadow")
        return text.startswith(name + ":") or not text or is_group and (
            path not in other["found"] or without(text, name) in [without(line, name) for line in lines_of(other, path)])
    if path in ACCOUNTS and aspect == "order":
        return True
    return bool(re.fullmatch(f"(home/|home/x-|srv/){re.escape(name)}" + SKELETON, path)) or path == "rules of sudo" and text.startswith(name + " ")


def given_to_root(difference, case):
    """Keys that user data give to root himself: cloud-init locks those as well."""
    path, aspect, text = difference
    return path == "root/.ssh/authorized_keys" and aspect == "only ours" and bool(re.fullmatch(KEY, text)) and "name: root" in case["user-data"]


def verdict(difference, case, theirs, ours):
    """The name of the first row that explains it, or None."""
    if starred(difference, theirs, ours):
        return "star"
    if emptied(difference, theirs):
        return "empty keys"
    text = case["user-data"] + case["vendor-data"]
    if account(difference, ADMINISTRATOR, theirs, ours):
        return "no keys" if has(theirs, ADMINISTRATOR) else "administrator"
    if given_to_root(difference, case):
        return "root keys"
    for name, *patterns, said in COMPILED:
        if all(pattern.fullmatch(part) for pattern, part in zip(patterns, difference)) and (not said.pattern or said.fullmatch(text)):
            return name
    # A module of cloud-init's that fails makes none of what follows.
    if re.search(r"Running module users.groups .*failed", theirs["log"]):
        names = [line.split(":")[0] for line in lines_of(ours, "etc/passwd")]
        if any(account(difference, name, theirs, ours) for name in names if name and not has(theirs, name)):
            return "half made"
    return None
