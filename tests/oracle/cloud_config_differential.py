#!/usr/bin/env python3
"""Does preroot make of a cloud-config what Debian's cloud-init makes of it? Applies generated ones by both, each to a copy of one root,
and compares what became of the copies: every file that one of them touched, and what sshd, sudo and mount make of the files.

    cloud_config_differential.py [N] [NAME...]    N cases (0: all of them), or those of these names, each difference printed
    PREROOT_JUDGE=1               judges again what the last run found, which is in .vm/differential

Needs root, mmdebstrap and a Debian mirror for the first time; without, that is said, with PREROOT_REQUIRE_ORACLES=1 it is a failure. A
difference that cloud_config_verdicts.py has no verdict for is a failure. Prints `N passed, N failed`.
"""

import collections
import concurrent.futures
import difflib
import glob
import json
import os
import queue
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import cloud_config_cases  # noqa: E402
import cloud_config_verdicts  # noqa: E402

SEED = 20260101
INSIDE = "PREROOT_DIFFERENTIAL_INSIDE"
# Programs that would leave the root, or take long: both sides' calls are written down and compared. As sshd, they may be asked.
RECORDED = ("usr/bin/systemctl", "usr/bin/apt-get", "usr/sbin/locale-gen", "usr/sbin/shutdown", "usr/sbin/reboot", "usr/sbin/poweroff",
            "usr/sbin/halt", "usr/sbin/service", "usr/sbin/swapon", "usr/sbin/update-ca-certificates", "usr/bin/hostnamectl", "usr/bin/udevadm")
RECORDER = "#!/bin/sh\necho \"${0##*/} $*\" >>/run/calls\n[ \"$1\" != show ]\n"
# Keys that were made once: making them takes seconds. What is asked of a key is asked of the real one.
KEYGEN = """#!/bin/sh
make() { for end in '' .pub; do sed "s/ @$/ root@$(hostname)/" "/usr/share/keys/$1$end" >"$2$end"; done; chmod 600 "$2"; chmod 644 "$2.pub"; }
kind= file=
case " $* " in
    *' -A '*) for kind in rsa ecdsa ed25519; do [ -s /etc/ssh/ssh_host_${kind}_key ] || make $kind /etc/ssh/ssh_host_${kind}_key; done; exit ;;
    *' -t '*) ;;
    *) exec /usr/bin/ssh-keygen.real "$@" ;;
esac
while [ $# -gt 0 ]; do
    case $1 in -t) kind=$2 ;; -f) file=$2 ;; esac
    shift
done
[ ! -s "$file" ] || exit 1
make "$kind" "$file"
"""
SETTINGS = """# One data source, and no network: that is compared elsewhere.
datasource_list: [NoCloud]
# Debian has resolv_conf neither here nor among the modules it was tried with.
unverified_modules: [resolv_conf]
cloud_init_modules: [migrator, seed_random, bootcmd, write-files, growpart, resizefs, disk_setup, mounts, set_hostname, update_hostname,
  update_etc_hosts, resolv_conf, ca-certs, rsyslog, users-groups, ssh]
network: {config: disabled}
# preroot takes the name of the default account from here, and gives it what an administrator has.
system_info:
  distro: debian
  default_user: {name: debian, lock_passwd: true, gecos: "", groups: [adm, sudo, systemd-journal], sudo: ["ALL=(ALL) NOPASSWD:ALL"], shell: /bin/bash}
"""


def translator():
    found = glob.glob(f"{REPO}/tools/cloud-config/target/*/release/preroot-cloud-config")
    return found[0] if found else None


def skip(why):
    print(f"skipped: {why}\n0 passed, 0 failed")
    sys.exit(1 if os.environ.get("PREROOT_REQUIRE_ORACLES") else 0)


def tree():
    """The root that both begin with; built once."""
    run = subprocess.run([f"{REPO}/tests/vm/build-root.sh"], env={**os.environ, "WITH": "chroot", "SUITE": "bookworm", "INITRD": "dracut"},
                         stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        skip("the root tree cannot be built here")
    base = run.stdout.strip()
    # cloud-init sets no locale that is not there, and generating one takes seconds.
    for name in ("en_US", "en_GB", "de_DE", "fr_FR"):
        if not os.path.exists(f"{base}/usr/lib/locale/{name}.utf8"):
            subprocess.run(["chroot", base, "localedef", "--no-archive", "-i", name, "-f", "UTF-8", f"{name}.utf8"], check=True)
    return base


def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def sh(*words):
    subprocess.run(words, check=True)


def lay_out(base):
    """The tree at a place of this mount namespace, what both sides need more in a layer above it."""
    work = "/mnt/differential"
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "differential", "/mnt")
    os.mkdir(work)
    sh("mount", "--bind", base, work)
    sh("mount", "-t", "tmpfs", "-o", "mode=755,size=6g", "cases", work + "/mnt")
    sh("mount", "-t", "proc", "proc", work + "/proc")
    sh("mount", "--bind", "/dev", work + "/dev")
    payload = work + "/mnt/payload"
    for path in RECORDED:
        put(f"{payload}/{path}", RECORDER, 0o755)
    put(payload + "/etc/cloud/cloud.cfg.d/99-differential.cfg", SETTINGS)
    # preroot leaves a machine to cloud-init unless that is off; its commands do not ask.
    put(payload + "/etc/cloud/cloud-init.disabled", "")
    # not the name of the machine that built the tree
    put(payload + "/etc/hostname", "localhost\n")
    put(payload + "/etc/hosts", "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n")
    put(payload + "/etc/resolv.conf", "")
    put(payload + "/usr/bin/curl", "#!/bin/sh\necho curl \"$@\" >>/run/calls\n", 0o755)
    put(payload + "/usr/bin/ssh-keygen", KEYGEN, 0o755)
    shutil.copy(base + "/usr/bin/ssh-keygen", payload + "/usr/bin/ssh-keygen.real")
    os.makedirs(payload + "/usr/share/keys")
    for kind in ("rsa", "dsa", "ecdsa", "ed25519"):
        sh("chroot", work, "/usr/bin/ssh-keygen", "-q", "-N", "", "-C", "@", "-t", kind, "-f", f"/mnt/payload/usr/share/keys/{kind}")
    os.makedirs(payload + "/usr/libexec/preroot")
    shutil.copy(f"{REPO}/target/release/preroot", payload + "/usr/bin/preroot")
    os.makedirs(payload + "/usr/share/preroot")
    shutil.copy(f"{REPO}/packaging/cloud-init/cloud-init", payload + "/usr/share/preroot/cloud-init")
    shutil.copy(translator(), payload + "/usr/libexec/preroot/cloud-config")
    for path in ("/usr/bin/preroot", "/usr/libexec/preroot/cloud-config"):
        os.chmod(payload + path, 0o755)
    for folder, _, _ in os.walk(payload):
        # a layer's directories are what is seen of them
        below = base + folder[len(payload):]
        os.chmod(folder, os.stat(below).st_mode & 0o7777 if os.path.isdir(below) else 0o755)
    shutil.copy(HERE + "/cloud_config_chroot.py", work + "/mnt/chroot.py")
    return work


class Side:
    """A process inside the tree that runs one case after the other."""

    def __init__(self, work):
        self.process = subprocess.Popen(["nice", "-n", "10", "chroot", work, "/usr/bin/python3", "-B", "/mnt/chroot.py"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"})
        json.loads(self.process.stdout.readline())

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def lines_between(path, theirs, ours):
    """Differences of one text, a line each; `order` where only that differs."""
    before, after = theirs.splitlines(keepends=True), ours.splitlines(keepends=True)
    if collections.Counter(before) == collections.Counter(after):
        yield (path, "order", "")
        return
    if path.endswith("/authorized_keys"):
        before, after = sorted(before), sorted(after)
    for line in difflib.ndiff(before, after):
        if line[0] in "-+":
            yield (path, "only theirs" if line[0] == "-" else "only ours", line[2:-1] if line.endswith("\n") else line[2:] + "<no line end>")


def differences(theirs, ours, base):
    """(path or effect, aspect, text), all of them."""
    for path in sorted(set(theirs["found"]) | set(ours["found"])):
        a, b = (side["found"].get(path, base.get(path)) for side in (theirs, ours))
        if a == b:
            continue
        if a is None or b is None or a[0] != b[0]:
            yield (path, "kind", f"{a[0] if a else 'nothing'} / {b[0] if b else 'nothing'}")
            kept = a or b
            if (a is None or b is None) and kept[0] != "directory":
                yield from lines_between(path, a[4] if a else "", b[4] if b else "")
            continue
        if a[1] != b[1]:
            yield (path, "mode", f"{a[1]} / {b[1]}")
        if a[2:4] != b[2:4]:
            yield (path, "owner", f"{a[2]}:{a[3]} / {b[2]}:{b[3]}")
        if a[4] != b[4]:
            yield from lines_between(path, a[4], b[4])
    for boot, codes in enumerate(ours["codes"]):
        if codes[0] not in (0, 76) or boot == 0 and codes[0] != 0:
            yield ("run", "apply", f"exit code {codes[0]}")
        if codes[1] not in (0, 1):
            yield ("run", "scripts", f"exit code {codes[1]}")
    for name in theirs["effects"]:
        a, b = theirs["effects"][name], ours["effects"][name]
        if a != b:
            yield from lines_between(name, a, b)


def compare(case, sides, logs, verbose):
    theirs, ours, side = {}, {}, sides.get()
    try:
        theirs = side.ask(side="theirs", case=case, work=f"/mnt/{case['name']}.theirs")
        ours = side.ask(side="ours", case=case, work=f"/mnt/{case['name']}.ours")
        for name, answer in (("theirs", theirs), ("ours", ours)):
            put(f"{logs}/{case['name']}.{name}", f"{case['user-data']}\n--- vendor data\n{case['vendor-data']}\n--- {answer.get('codes')}\n{answer.get('error', '')}{answer.get('log', '')}")
        if "error" in theirs or "error" in ours:
            return case, [("run", "error", (theirs.get("error") or ours.get("error")).strip().split("\n")[-1])], []
        paths = set(theirs["found"]) ^ set(ours["found"])
        base = side.ask(base=sorted(paths))
        put(f"{logs}/{case['name']}.json", json.dumps([theirs, ours, base]))
    finally:
        sides.put(side)
    return judge(case, theirs, ours, base, logs, verbose)


def judge(case, theirs, ours, base, logs, verbose):
    """The case, its differences without a verdict, the verdicts of the others."""
    explained, open_ones = [], []
    for difference in differences(theirs, ours, base):
        verdict = cloud_config_verdicts.verdict(difference, case, theirs, ours)
        (explained if verdict else open_ones).append((difference, verdict))
    text = "".join(f"{'   ' if verdict else '!! '}{path} | {aspect} | {line}   {'[' + verdict + ']' if verdict else ''}\n"
                   for (path, aspect, line), verdict in explained + open_ones)
    put(f"{logs}/{case['name']}.differences", text)
    if verbose:
        print(text, end="")
    return case, [difference for difference, _ in open_ones], [verdict for _, verdict in explained]


def report(results, began):
    reasons, on_purpose, failed, known = collections.Counter(), 0, 0, 0
    for case, open_ones, verdicts in results:
        reasons.update(set(verdicts))
        plain = [verdict for verdict in verdicts if verdict not in cloud_config_verdicts.ALWAYS]
        known += any(verdict.startswith("defect") for verdict in verdicts)
        on_purpose += bool(not open_ones and plain)
        if open_ones:
            failed += 1
            print(f"FAILED  {case['name']}: {len(open_ones)} differences without a verdict")
            for path, aspect, text in open_ones[:8]:
                print(f"        {path} | {aspect} | {text[:150]}")
    total = len(results)
    print(f"{total} cloud-configs in {time.monotonic() - began:.0f} s: {total - failed - on_purpose} equal but for what every run has, "
          f"{on_purpose} different on purpose ({known} of them with a known defect), {failed} unexplained")
    print("| cases | verdict |\n|---:|---|")
    for name, count in reasons.most_common():
        print(f"| {count} | {cloud_config_verdicts.REASONS[name]} |")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


def judge_again(cases, logs, began, verbose):
    """What the run before this one left, by today's verdicts."""
    results = []
    for case in cases:
        if os.path.exists(f"{logs}/{case['name']}.json"):
            with open(f"{logs}/{case['name']}.json", encoding="utf-8") as file:
                results.append(judge(case, *json.load(file), logs, verbose))
    return report(results, began)


def inside(arguments):
    began = time.monotonic()
    count = int(arguments[0]) if arguments and arguments[0].isdigit() else 0
    wanted = [word for word in arguments if not word.isdigit()]
    cases = cloud_config_cases.cases(SEED, count)
    if wanted:
        cases = [case for case in cloud_config_cases.cases(SEED, 0) if case["name"] in wanted]
    logs = f"{os.environ.get('VM_DIR', REPO + '/.vm')}/differential"
    if os.environ.get("PREROOT_JUDGE"):
        return judge_again(cases, logs, began, bool(wanted))
    sh("ip", "link", "set", "lo", "up")
    work = lay_out(os.environ[INSIDE])
    if not wanted:
        shutil.rmtree(logs, ignore_errors=True)
    sides = queue.Queue()
    workers = min(2, os.cpu_count() or 1, len(cases))
    for _ in range(workers):
        sides.put(Side(work))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda case: compare(case, sides, logs, bool(wanted)), cases))
    return report(results, began)


def main():
    if os.environ.get(INSIDE):
        sys.exit(inside(sys.argv[1:]))
    if os.geteuid() != 0 or subprocess.run(["unshare", "-mpn", "--fork", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        skip("needs root and namespaces")
    if not shutil.which("mmdebstrap"):
        skip("mmdebstrap is not installed")
    if not os.path.exists(f"{REPO}/target/release/preroot") or not translator():
        skip("build both release binaries first")
    # No uplink, no process that outlives it, no mount that is seen elsewhere.
    os.environ[INSIDE] = tree()
    os.execvp("unshare", ["unshare", "-mnpiu", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", sys.executable, os.path.abspath(__file__)] + sys.argv[1:])


if __name__ == "__main__":
    main()
