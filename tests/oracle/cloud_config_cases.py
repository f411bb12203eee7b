"""Which cloud-configs do the differential runs apply? The same for the same seed, on every machine.

Each key of docs/cloud-config.md is there alone in several shapes, then several at once, then in parts, with vendor data, in templates.
"""

import base64
import email.mime.multipart
import email.mime.text
import gzip
import json
import random
import re

KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk8oMcCXIMYnPlMTGCGmhvMDTnsREhzKlPkqzSEo4gM ops@example.invalid",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJRUdOcFyZ2eR2BGbVmtZR3L3VzGrzO9hO4OZGgF0Bk",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg= a comment",
    'from="10.0.0.0/8",no-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFYCyUcXzZWVw6pgDlnYZl3dbkvLjpQVBzPN9MqVBPnB limited',
)
# "secret" and "other"
HASHES = (
    "$6$preroot.salt$YUeqUVuR6f9Ff5NXK/8DVuCPOhAnKwLiPZJhrHIoAfhE2XFmHYJDkUBxLGNUAzRtWFkLg8F3iJZqZL3r9TjzN1",
    "$6$rounds=4096$other$6ZbO8nZqv2m4d5g1bK0eTKCXyLw4DXYW0mI3yJ0yrXxH6mAJ4iNLaUKnQ3V5nWcKJmP8lFWZ0v9rS2yq7uTzL/",
    "$5$saltsalt$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEl8",
)
NAMES = ("alice", "bob", "carol", "svc-web", "app_1", "d.e")
MARKS = "/var/spool/marks"


class Raw(str):
    """A scalar that is written as it is."""


def plain(text):
    return bool(re.fullmatch(r"[A-Za-z/][A-Za-z0-9/._@+-]*", text)) and not re.fullmatch(r"(?i)y|n|yes|no|true|false|on|off|null", text)


def scalar(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return value if plain(value) else json.dumps(value)
    return json.dumps(value)


def yaml(value, indent=0):
    """Block style, literal blocks where the text has lines."""
    pad = " " * indent
    if isinstance(value, str) and not isinstance(value, Raw) and "\n" in value and not value[0].isspace() and "\r" not in value \
            and value.isprintable() is False and all(line == line.rstrip() and line.isprintable() for line in value.split("\n")):
        body = value.rstrip("\n")
        chomp = "-" if body == value else "" if value == body + "\n" else "+"
        return f"|{chomp}\n" + "".join(f"{pad}{line}\n" if line else "\n" for line in value[:-1 if value.endswith(chr(10)) else None].split("\n"))
    if isinstance(value, dict) and value:
        return "".join(entry(f"{pad}{scalar(key)}:", item, indent) for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}- {yaml(item, indent + 2).lstrip(' ')}" if isinstance(item, (dict, list)) and item
                       else f"{pad}- {yaml(item, indent + 2)}" for item in value)
    return scalar(value) + "\n"


def entry(head, item, indent):
    if isinstance(item, (dict, list)) and item:
        return f"{head}\n{yaml(item, indent + 2)}"
    return f"{head} {yaml(item, indent + 2)}"


def config(mapping):
    return "#cloud-config\n" + yaml(mapping)


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def zipped(text):
    return gzip.compress(text.encode(), mtime=0)


def mark(name, extra=""):
    """A command that leaves a trace of when and as whom it ran."""
    return f"mkdir -p {MARKS}; echo \"{name} $(id -u) {extra}\" >>{MARKS}/order"


# --- one key each: r is a random.Random, each returns a mapping -------------------------------------------

def some(r, choices, most=3):
    return r.sample(choices, r.randrange(1, min(most, len(choices)) + 1))


def sudo_rule(r):
    return r.choice(("ALL=(ALL) NOPASSWD:ALL", ["ALL=(ALL) NOPASSWD:ALL"], "ALL=(root) /usr/bin/id", False, None,
                     ["ALL=(ALL) /bin/ls", "ALL=(www-data) NOPASSWD: /bin/true"]))


def one_user(r, name):
    user = {"name": name}
    more = {
        "gecos": lambda: r.choice(("Alice A.", "Bob", "Ops, Room 1, 555, 556", "")),
        "groups": lambda: r.choice(("sudo", "sudo, adm", "users,developers", ["adm", "www-data"], ["newgroup"], {"adm": None})),
        "primary_group": lambda: r.choice(("users", "www-data", "prime")),
        "shell": lambda: r.choice(("/bin/bash", "/bin/sh", "/usr/sbin/nologin")),
        "homedir": lambda: r.choice((f"/srv/{name}", f"/home/x-{name}")),
        "uid": lambda: r.choice((1500 + NAMES.index(name), str(2000 + NAMES.index(name)))),
        "system": lambda: r.choice((True, False)),
        "no_create_home": lambda: True,
        "no_user_group": lambda: True,
        "lock_passwd": lambda: r.choice((True, False)),
        "passwd": lambda: r.choice(HASHES),
        "hashed_passwd": lambda: r.choice(HASHES),
        "plain_text_passwd": lambda: r.choice(("secret", "a:b c", "p@ss'\"w\\rd")),
        "sudo": lambda: sudo_rule(r),
        "ssh_authorized_keys": lambda: r.choice((some(r, KEYS), KEYS[0])),
        "expiredate": lambda: r.choice(("2032-09-01", "2040-01-31")),
        "inactive": lambda: r.choice(("5", "30")),
        "create_groups": lambda: r.choice((True, False)),
        "ssh-authorized-keys": lambda: some(r, KEYS, 2),
    }
    for key in some(r, sorted(more), 6):
        user[key] = more[key]()
    return user


def users(r):
    names = some(r, NAMES, 3)
    shape = r.randrange(10)
    if shape == 0:
        return {"users": ["default"] + names}
    if shape == 1:
        return {"users": {name: {key: value for key, value in one_user(r, name).items() if key != "name"} for name in names}}
    if shape == 2:
        return {"users": ", ".join(names)}
    if shape == 3:
        return {"users": []}
    if shape == 4:
        return {"user": one_user(r, names[0])}
    if shape == 5:
        return {"user": {"name": "boss", "groups": ["sudo", "adm"]}, "users": ["default", one_user(r, names[0])]}
    default = ["default"] if r.random() < 0.7 else []
    return {"users": default + [one_user(r, name) for name in names]}


def user_fields(r):
    """One user, one key beyond the name: what each key does alone."""
    name = r.choice(NAMES)
    user = one_user(r, name)
    key = r.choice([key for key in user if key != "name"])
    return {"users": ["default", {"name": name, key: user[key]}]}


def user_root(r):
    return r.choice(({"users": [{"name": "root", "ssh_authorized_keys": some(r, KEYS)}]},
                     {"users": ["default"], "disable_root": False, "ssh_authorized_keys": some(r, KEYS)},
                     {"disable_root": True, "ssh_authorized_keys": some(r, KEYS)},
                     {"users": [{"name": "root", "lock_passwd": False, "hashed_passwd": HASHES[0]}]},
                     {"users": [{"name": "www-data", "groups": "adm", "shell": "/bin/sh"}]}))


def groups(r):
    return r.choice((
        {"groups": ["developers", "ops"]},
        {"groups": "developers, ops"},
        {"groups": {"developers": ["root", "www-data"], "ops": []}},
        {"groups": ["ops", {"developers": ["root", "games"]}]},
        {"groups": [{"adm": ["games"]}, "empty"]},
        {"groups": ["crew"], "users": ["default", {"name": "alice", "groups": "crew"}]},
        {"groups": {"crew": ["alice"]}, "users": [{"name": "alice"}]}))


def authorized_keys(r):
    return {"ssh_authorized_keys": some(r, KEYS)}


def passwords(r):
    people = {"users": ["default", {"name": "alice", "lock_passwd": False}, {"name": "bob", "plain_text_passwd": "first", "lock_passwd": False}]}
    expire = r.choice(({}, {"expire": False}, {"expire": True}))
    return r.choice((
        {"password": "secret"},
        {"password": "secret", "chpasswd": {"expire": False}},
        {"password": HASHES[0], "chpasswd": {"expire": False}},
        {"password": 12345, "ssh_pwauth": True},
        {**people, "chpasswd": {"list": "alice:secret\nbob:other\n", **expire}},
        {**people, "chpasswd": {"list": ["alice:" + HASHES[0], "bob:x y:z"], **expire}},
        {**people, "chpasswd": {"users": [{"name": "alice", "password": "secret", "type": "text"}, {"name": "bob", "password": HASHES[1]}], **expire}},
        {"chpasswd": {"list": "root:secret", **expire}},
        {**people, "password": "mine", "chpasswd": {"list": "alice:secret", **expire}},
        {"chpasswd": {"list": "debian:secret\n# no comment\n", **expire}}))


def password_login(r):
    value = r.choice((True, False, "yes", "no", "unchanged", Raw("yes"), Raw("off"), Raw("True"), None, "true"))
    more = r.choice(({}, {}, {"password": "secret"}, {"write_files": [{"path": "/etc/ssh/sshd_config.d/10-mine.conf", "content": "PasswordAuthentication yes\n"}]}))
    return {"ssh_pwauth": value, **more}


def one_file(r, path):
    text = r.choice(("hello\n", "a\n\nb", "", "t\u00e4st \u2713\n", "$x ${y} `z` \\n\n", "#!/bin/sh\necho hi\n", "tab\there\n", "  indented\n", "x" * 3000))
    entry = {"path": path}
    encoding = r.choice((None, None, "b64", "base64", "gzip", "gz", "gz+b64", "gzip+base64", "gz+base64", "text/plain", "B64"))
    if encoding is None:
        entry["content"] = text
    elif encoding.lower() in ("b64", "base64"):
        entry["content"] = r.choice((b64(text), b64(bytes(range(256)))))
    elif encoding in ("gzip", "gz"):
        entry["content"] = Raw("!!binary " + b64(zipped(text)))
    elif encoding == "text/plain":
        entry["content"] = text
    else:
        entry["content"] = b64(zipped(text))
    if encoding:
        entry["encoding"] = encoding
    if r.random() < 0.5:
        entry["permissions"] = r.choice(("0644", "0600", "755", "0755", Raw("0640"), Raw("0o644"), 420, "4755", "0000", None))
    if r.random() < 0.4:
        entry["owner"] = r.choice(("root:root", "www-data:www-data", "nobody:nogroup", "games", ":adm", "root:"))
    if r.random() < 0.2:
        entry["append"] = True
    if r.random() < 0.2:
        entry["defer"] = True
    return entry


PATHS = ("/etc/motd", "/etc/new/deep/file", "/root/f", "/opt/app/conf.ini", "/etc/environment", "/etc/skel/.hello", "/usr/local/bin/tool",
         "/var/spool/x/y", "/etc/profile.d/zz.sh", "/home/debian/note", "/home/alice/.profile", "/srv/a b", "/etc/hosts.allow")


def write_files(r):
    return {"write_files": [one_file(r, path) for path in some(r, PATHS, 4)]}


def write_files_more(r):
    return r.choice((
        {"write_files": [{"path": "/etc/issue", "content": "one\n", "append": True}, {"path": "/etc/issue", "content": "two\n", "append": True}]},
        {"write_files": [{"path": "/home/alice/f", "content": "x", "owner": "alice:alice", "defer": True}], "users": ["default", "alice"]},
        {"write_files": [{"path": "/opt/f", "content": "x", "owner": "alice:users", "defer": True}], "users": ["default", "alice"]},
        {"write_files": [{"content": "no path"}, {"path": "/opt/after", "content": "x"}]},
        {"write_files": [{"path": "/opt/q", "content": "x", "encoding": "rot13"}]},
        {"write_files": [{"path": "/opt/octal", "content": "x", "permissions": Raw("644")}, {"path": "/opt/text", "content": 12345}]},
        {"write_files": {"path": "/opt/no-list", "content": "x"}},
        {"write_files": [{"path": "/etc/hello-link/x", "content": "a"}, {"path": "/lib/hello", "content": "through a link\n"}]},
        {"write_files": [{"path": "/etc/localtime-copy", "content": ""}, {"path": "/opt/empty"}]},
        {"write_files": [{"path": "/opt/list", "content": "x", "permissions": "rwx"}]},
        {"write_files": [{"path": "/opt/dir/", "content": "x"}, {"path": "relative/file", "content": "x"}]},
        {"write_files": [{"path": "/opt/first", "content": "x", "owner": "ghost:ghost"}, {"path": "/opt/second", "content": "y"}]}))


def names(r):
    host = r.choice(({"hostname": "web1"}, {"hostname": "web1.example.com"}, {"fqdn": "web1.example.com"},
                     {"hostname": "web1", "fqdn": "web1.example.com"}, {"hostname": "web1", "fqdn": "web1.example.com", "prefer_fqdn_over_hostname": True},
                     {"hostname": "web1", "fqdn": "web1.example.com", "prefer_fqdn_over_hostname": False}, {"preserve_hostname": True}, {"hostname": "web1", "preserve_hostname": True},
                     {"hostname": "localhost"}, {}))
    manage = r.choice(({}, {"manage_etc_hosts": True}, {"manage_etc_hosts": "localhost"}, {"manage_etc_hosts": False}, {"manage_etc_hosts": "template"}))
    return {**host, **manage} or {"hostname": "web2"}


def ntp(r):
    servers = some(r, ("ntp1.example.com", "10.0.0.1", "2001:db8::1", "time.example.org"))
    pools = some(r, ("0.pool.example.org", "1.pool.example.org"))
    return {"ntp": r.choice((
        {"servers": servers}, {"pools": pools}, {"servers": servers, "pools": pools}, {"enabled": True, "servers": servers},
        {"enabled": False, "servers": servers}, {"ntp_client": "chrony", "pools": pools}, {"ntp_client": "systemd-timesyncd", "servers": servers},
        {"ntp_client": "auto", "servers": servers, "peers": ["10.0.0.9"], "allow": ["10.0.0.0/8"]}, {}, None,
        {"ntp_client": "ntp", "servers": servers}, {"servers": [], "pools": []}))}


def timezone(r):
    return {"timezone": r.choice(("Europe/Berlin", "UTC", "Etc/UTC", "America/Argentina/Buenos_Aires", "US/Eastern", "Mars/Base"))}


def locale(r):
    return {"locale": r.choice(("de_DE.UTF-8", "en_US.UTF-8", "C.UTF-8", "C", "en_GB", "fr_FR.utf8", False)),
            **r.choice(({}, {}, {"locale_configfile": "/etc/default/locale"}))}


def resolv_conf(r):
    return {"manage_resolv_conf": r.choice((True, True, True, False)), "resolv_conf": r.choice((
        {"nameservers": ["10.0.0.1", "10.0.0.2"]}, {"nameservers": ["10.0.0.1"], "searchdomains": ["a.example", "b.example"], "domain": "example"},
        {"nameservers": ["2001:db8::1"], "options": {"rotate": True, "timeout": 1}}, {"sortlist": ["10.0.0.0/8", "10.1.0.0"], "nameservers": ["10.0.0.1"]},
        {"searchdomains": ["a.example"], "options": {"rotate": True}}))}


def mounts(r):
    return r.choice((
        {"mounts": [["tmpfs", "/mnt/scratch", "tmpfs", "size=1m,nofail"]]},
        {"mounts": [["none", "/mnt/a", "tmpfs", "defaults,nofail", "0", "0"], ["none", "/mnt/b b", "tmpfs", "nofail"]]},
        {"mounts": [["/dev/disk/by-label/data", "/data", "auto", "noauto,nofail"]]},
        {"mounts": [["/dev/disk/by-label/data", "/data"]]},
        {"mounts": [["LABEL=data", "/data", "ext4", "noauto", "0", "2"]], "mount_default_fields": [None, None, "auto", "defaults,noauto,nofail", "0", "2"]},
        {"mounts": [["UUID=0123-4567", "/boot/x", "vfat", "noauto,umask=077"]]},
        {"mounts": [["srv.example.com:/export", "/mnt/nfs", "nfs", "noauto,_netdev"]]},
        {"mounts": [["ephemeral0", None]]},
        {"mounts": [["none", "/mnt/only"]]},
        {"mounts": [["tmpfs", "/mnt/t1", "tmpfs", "noauto,nofail"], ["tmpfs", "/mnt/t1", "tmpfs", "noauto,size=2m"]]},
        {"mounts": [["tmpfs"]]},
        {"mounts": []},
        {"mounts": [["/swapfile", "none", "swap", "sw,noauto", "0", "0"]]},
        {"swap": {"filename": "/swap.img", "size": 0}},
        {"swap": {"filename": "/swap.img", "size": "1M", "maxsize": "1M"}},
        {"mounts": [["tmpfs", "/mnt/x", "tmpfs", "noauto", 0, 0]], "mount_default_fields": [None, None, "auto", "noauto", "0", "0"]}))


def disks(r):
    return r.choice((
        {"disk_setup": {"/dev/nothing": {"table_type": "gpt", "layout": True, "overwrite": False}}},
        {"fs_setup": [{"label": "data", "filesystem": "ext4", "device": "/dev/nothing", "partition": "none"}]},
        {"growpart": {"mode": "off"}, "resize_rootfs": False}, {"growpart": {"mode": "auto", "devices": ["/"]}}, {"resize_rootfs": "noblock"},
        {"device_aliases": {"my": "/dev/nothing"}, "mounts": [["my", "/my", "auto", "noauto"]]}))


def runcmd(r):
    return {"runcmd": r.choice((
        [mark("one"), ["sh", "-c", mark("two", "$0 $#")], mark("three")],
        ["mkdir -p " + MARKS, ["touch", MARKS + "/a b'c"], ["echo", "$HOME", "`x`"], mark("env", "$HOME $PWD $PATH")],
        "echo a string",
        [mark("first"), "exit 3", mark("never")],
        [["false"], mark("after"), "cd /tmp", mark("pwd", "$PWD")],
        [mark("who", "$(cut -d: -f1 /etc/passwd | tail -n 2 | tr '\\n' ' ')"), mark("name", "$(hostname)")],
        [12, mark("number")], [[mark("odd")], []], [],
        [mark("q", "'single' $(printf '%s' \"double\")")], [None, mark("null")],
        {"a": "b"}, [mark("umask", "$(umask)"), f"echo x >{MARKS}/by-runcmd"]))}


def bootcmd(r):
    return {"bootcmd": r.choice((
        [mark("boot")], [["sh", "-c", mark("boot list")], mark("id", "$INSTANCE_ID")],
        ["mkdir -p /data/x; echo y >/data/x/y", mark("boot")], ["exit 1"],
        [f"test -e {MARKS}/boots || {mark('first')}", f"mkdir -p {MARKS}; echo b >>{MARKS}/boots"]))}


def ca_certs(r, key=None):
    key = key or r.choice(("ca_certs", "ca-certs"))
    first = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUAAAAexamplecertificateAAAAAAA=\n-----END CERTIFICATE-----\n"
    return {key: r.choice(({"trusted": [first]}, {"trusted": [first, first.replace("III", "IIJ")]}, {"trusted": [first], "remove_defaults": True},
                           {"trusted": [first], "remove-defaults": False}, {"remove_defaults": True}, {"trusted": []}))}


def random_seed(r):
    target = "/var/spool/seeded"
    return {"random_seed": r.choice(({"file": target, "data": "my random data"}, {"file": target, "data": b64("more"), "encoding": "base64"},
                                     {"file": target, "data": b64(zipped("zip")), "encoding": "raw"},
                                     {"file": target, "data": b64("x"), "encoding": "b64", "command": ["sh", "-c", f"echo $RANDOM_SEED_FILE >{target}.command"]},
                                     {"command": ["sh", "-c", f"echo command >{target}.command"], "command_required": True, "file": target}))}


# Made for this, and used nowhere.
PRIVATE = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
    "QyNTUxOQAAACAR/ce7fMPNqWHSPFQOu8schRq78MpYLI5CJXY/BFCJ9QAAAKAsYrUKLGK1\n"
    "CgAAAAtzc2gtZWQyNTUxOQAAACAR/ce7fMPNqWHSPFQOu8schRq78MpYLI5CJXY/BFCJ9Q\n"
    "AAAEAVGjADEW9gvCdiKcA0LetOtH7N5SU00gZCgKnELWjDTxH9x7t8w82pYdI8VA67yxyF\n"
    "GrvwylgsjkIldj8EUIn1AAAAF2ZpeHR1cmVAZXhhbXBsZS5pbnZhbGlkAQIDBAUG\n"
    "-----END OPENSSH PRIVATE KEY-----\n"
)
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBH9x7t8w82pYdI8VA67yxyFGrvwylgsjkIldj8EUIn1 fixture@example.invalid"


def ssh_keys(r):
    pair = {"ed25519_private": PRIVATE, "ed25519_public": PUBLIC}
    return r.choice(({"ssh_keys": pair}, {"ssh_keys": pair, "ssh_genkeytypes": ["ecdsa"]}, {"ssh_keys": pair, "ssh_deletekeys": False},
                     {"ssh_deletekeys": False}, {"ssh_genkeytypes": ["ed25519", "ecdsa"]}, {"ssh_genkeytypes": []},
                     {"ssh_publish_hostkeys": {"enabled": False}, "no_ssh_fingerprints": True}))


def final(r):
    return r.choice(({"final_message": "done after $UPTIME on $DATASOURCE"}, {"final_message": "two\nlines\n"},
                     {"power_state": {"mode": "poweroff", "delay": "now", "message": "bye", "timeout": 1}},
                     {"power_state": {"mode": "reboot", "delay": "+5", "condition": "true", "timeout": 1}},
                     {"power_state": {"mode": "halt", "condition": False}},
                     {"power_state": {"mode": "poweroff", "condition": ["test", "-e", "/nothing"], "timeout": 1}}))


def packages(r):
    return r.choice(({"packages": ["hello", "sl"]}, {"packages": [["hello", "2.10-3"], "sl"]}, {"package_update": True}, {"package_upgrade": True},
                     {"package_update": True, "package_upgrade": True, "packages": ["hello"]}, {"packages": "hello"}, {"packages": []},
                     {"packages": ["hello"], "runcmd": [mark("behind packages")]}))


def others(r):
    """Keys that nobody has, or that preroot does not have: they must not harm their neighbours."""
    return {**r.choice(({"snap": {"commands": ["snap install x"]}}, {"no_such_key": [1, 2]}, {"byobu_by_default": "disable"}, {"keyboard": None},
                        {"rsyslog": []}, {"apt": {"preserve_sources_list": True}}, {"ssh_import_id": []}, {"output": {"all": "| cat"}})), "hostname": "beside"}


TOPICS = {function.__name__: function for function in (
    users, user_fields, user_root, groups, authorized_keys, passwords, password_login, write_files, write_files_more, names, ntp, timezone, locale,
    resolv_conf, mounts, disks, runcmd, bootcmd, ca_certs, random_seed, ssh_keys, final, packages, others)}
# How many of each alone, for a whole.
ALONE = {"users": 14, "user_fields": 12, "passwords": 9, "write_files": 12, "write_files_more": 10, "names": 9, "ntp": 7, "mounts": 9, "runcmd": 8, "groups": 6}
DEFAULT_ALONE = 4


# --- parts -------------------------------------------------------------------------------------------------

def mime(parts, extra=()):
    whole = email.mime.multipart.MIMEMultipart(boundary="==boundary==")
    for kind, name, text in parts:
        part = email.mime.text.MIMEText(text, kind, "utf-8" if not text.isascii() else "us-ascii")
        if name:
            part.add_header("Content-Disposition", f'attachment; filename="{name}"')
        whole.attach(part)
    for key, value in extra:
        whole[key] = value
    return whole.as_string()


def script(name, interpreter="/bin/sh"):
    return f"#!{interpreter}\n{mark(name, '$(basename $0)')}\n"


def in_parts(r):
    a, b = TOPICS[r.choice(("users", "write_files", "names", "runcmd"))](r), TOPICS[r.choice(("write_files", "runcmd", "groups", "timezone"))](r)
    shape = r.randrange(12)
    if shape == 0:
        return mime([("cloud-config", "a.txt", config(a)), ("cloud-config", "b.txt", config(b))])
    if shape == 1:
        how = r.choice(("list(append)+dict(recurse_array)+str()", "dict(replace)+list(append)", "list(prepend)+dict(no_replace,recurse_list)", "dict(recurse_str)+str(append)+list(append)"))
        return mime([("cloud-config", "a", config({"runcmd": [mark("a")], "hostname": "a", "write_files": [{"path": "/opt/a", "content": "a"}]})),
                     ("cloud-config", "b", config({"merge_how": how, "runcmd": [mark("b")], "hostname": "b", "write_files": [{"path": "/opt/b", "content": "b"}]}))])
    if shape == 2:
        return mime([("x-shellscript", "z.sh", script("z")), ("x-shellscript", "a.sh", script("a")), ("cloud-config", "c", config({"runcmd": [mark("runcmd")]}))])
    if shape == 3:
        return mime([("x-shellscript-per-boot", "boot.sh", script("per-boot")), ("x-shellscript-per-instance", "instance.sh", script("per-instance")),
                     ("x-shellscript-per-once", "once.sh", script("per-once")), ("x-shellscript", "user.sh", script("user"))])
    if shape == 4:
        return "#cloud-config-archive\n" + yaml([{"type": "text/cloud-config", "content": config(a)}, {"content": script("archived"), "filename": "s"}, config(b)])
    if shape == 5:
        return mime([("cloud-boothook", "hook", "#cloud-boothook\n#!/bin/sh\n" + mark("hook", "$INSTANCE_ID") + "\n"), ("cloud-config", "c", config(b))])
    if shape == 6:
        return script("only script").replace("\n", r.choice(("\n", "\r\n")))
    if shape == 7:
        return "#cloud-boothook\n#!/bin/sh\n" + mark("hook") + "\n"
    if shape == 8:
        return mime([("cloud-config", "broken", "#cloud-config\nusers: [a, b\nhostname: x\n"), ("cloud-config", "good", config({"hostname": "good", **b}))])
    if shape == 9:
        return mime([("cloud-config-jsonp", "p", "#cloud-config-jsonp\n" + json.dumps([{"op": "add", "path": "/hostname", "value": "patched"}])), ("cloud-config", "c", config({"hostname": "base", "runcmd": []}))])
    if shape == 10:
        return mime([("plain", "a", config(a)), ("plain", "b", script("plain script")), ("x-unknown", "c", "nothing")])
    return config({**a, **b}).replace("\n", "\r\n")


def jinja(r):
    return "## template: jinja\n" + r.choice((
        "#cloud-config\nhostname: h-{{ v1.instance_id }}\nruncmd:\n- echo {{ v1.local_hostname }} >/opt/j\n",
        "#cloud-config\nwrite_files:\n- path: /opt/j\n  content: |\n    {{ v1.cloud_name }} {{ v1.platform }} {{ v1.distro }} {{ v1.no_such }} {{ instance_id }}\n",
        "#!/bin/sh\nmkdir -p /var/spool/marks; echo {{ v1.instance_id }} {{ v1.local_hostname }} >/var/spool/marks/j\n",
        "#cloud-config\nwrite_files:\n- {path: /opt/j, content: '{{ ds.meta_data.local_hostname }} {{ v1.region }}'}\n",
        "#cloud-config\n# {{ v1.local_hostname }}\nfqdn: {{ v1.local_hostname }}.example.com\nmanage_etc_hosts: true\n"))


def vendor(r):
    """(user data, vendor data)"""
    a = TOPICS[r.choice(("users", "write_files", "runcmd", "timezone"))](r)
    theirs = r.choice((config(TOPICS[r.choice(("users", "write_files", "names", "timezone", "runcmd", "locale"))](r)), script("vendor"),
                       mime([("x-shellscript", "v.sh", script("vendor part")), ("cloud-config", "v", config({"runcmd": [mark("vendor runcmd")]}))])))
    off = r.choice(({}, {}, {}, {"vendor_data": {"enabled": False}}, {"vendor_data": {"enabled": True, "prefix": []}}))
    return config({**a, **off}), theirs


# --- cases -------------------------------------------------------------------------------------------------

# What is asked of the default account, and of who is to log in as that: each as it is.
CAROL = {"name": "carol", "shell": "/bin/sh"}
DEFAULT = (
    {"user": {**CAROL, "sudo": None}, "users": ["default", {"name": "old", "ssh_redirect_user": True}]},
    {"user": {**CAROL, "sudo": "ALL=(root) /usr/bin/id", "hashed_passwd": HASHES[0]}},
    {"user": {**CAROL, "sudo": False, "hashed_passwd": HASHES[0]}, "password": HASHES[1], "chpasswd": {"expire": False}},
    {"user": CAROL, "users": [{"name": "old", "ssh_redirect_user": "default"}], "disable_root": False},
    {"user": "carol", "users": [{"name": "default", "uid": 1500}, {"name": "bob"}], "ssh_authorized_keys": KEYS[1:3]},
)


def cases(seed, count):
    """`count` of them, spread over all kinds: [{name, user-data, vendor-data, meta-data, boots}]"""
    plan = [(name, n) for name in TOPICS for n in range(ALONE.get(name, DEFAULT_ALONE))]
    plan += [("several", n) for n in range(60)] + [("parts", n) for n in range(26)] + [("jinja", n) for n in range(5)] + [("vendor", n) for n in range(12)]
    plan += [("default", n) for n in range(len(DEFAULT))]
    count = count or len(plan)
    if count < len(plan):
        chosen = sorted(random.Random(f"{seed} sample").sample(range(len(plan)), count))
        plan = [plan[at] for at in chosen]
    plan += [("several", 60 + n) for n in range(count - len(plan))]
    return [one(seed, kind, n) for kind, n in plan]


def one(seed, kind, n):
    r = random.Random(f"{seed} {kind} {n}")
    meta = {"instance-id": f"i-{kind}-{n}".replace("_", "-"), "local-hostname": r.choice(("vm1", "vm1.example.org", "vm1"))}
    # As clouds do; without keys nobody could log in.
    if r.random() < 0.85:
        meta["public-keys"] = some(r, KEYS[:3], 2)
    case = {"name": f"{kind}-{n}", "vendor-data": "", "boots": 2 if r.random() < 0.15 else 1, "meta-data": meta}
    if kind == "several":
        mapping = {}
        for name in r.sample(sorted(TOPICS), r.randrange(2, 7)):
            mapping.update(TOPICS[name](r))
        text = config(mapping)
    elif kind == "parts":
        text = in_parts(r)
    elif kind == "jinja":
        text = jinja(r)
    elif kind == "default":
        text = config(DEFAULT[n])
    elif kind == "vendor":
        text, case["vendor-data"] = vendor(r)
    else:
        text = config(TOPICS[kind](r))
    case["user-data"] = text
    return case


if __name__ == "__main__":
    import sys
    for case in cases(int(sys.argv[1]) if len(sys.argv) > 1 else 1, int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        print(f"--- {case['name']} {case['meta-data']}\n{case['user-data']}" + (f"--- vendor\n{case['vendor-data']}" if case["vendor-data"] else ""))
