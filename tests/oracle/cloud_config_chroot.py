"""What becomes of a root when cloud-init, or preroot, applies a cloud-config? Runs inside the tree, with its python3.

One request a line on standard input (JSON: side, case), one answer a line on standard output: what changed. Everything that
cloud-init imports is imported once; each run is a fork of that, in a mount and a UTS namespace of its own, on an overlay.
"""

import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_UTS = 0x20000, 0x4000000
BIND = 4096
STAGES = (["init", "--local"], ["init"], ["modules", "--mode=config"], ["modules", "--mode=final"])
CLEAR = ("secret", "other", "x y:z", "mine", "first", "a:b c", "p@ss'\"w\\rd", "12345")
LIMIT_S = 120
# What systemd gives a unit.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# The day of a new password is today's, or that on which the root was built: later than this.
DAYS = 20000


def mount(source, target, kind, flags=0, options=""):
    if LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind} on {target}")


def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)


# --- a machine ---------------------------------------------------------------------------------------------

def make_root(work):
    for name in ("up", "work", "root", "boot"):
        os.makedirs(f"{work}/{name}")
        os.chmod(f"{work}/{name}", 0o755)
    root = work + "/root"
    mount("overlay", root, "overlay", 0, f"lowerdir=/mnt/payload:/,upperdir={work}/up,workdir={work}/work")
    mount("proc", root + "/proc", "proc")
    mount("sys", root + "/sys", "tmpfs")
    for name in ("class/net/lo", "class/block", "class/dmi/id", "firmware/efi", "bus"):
        os.makedirs(f"{root}/sys/{name}")
    put(f"{root}/sys/class/net/lo/address", "00:00:00:00:00:00\n")
    put(f"{root}/sys/class/net/lo/operstate", "unknown\n")
    mount("dev", root + "/dev", "tmpfs", 0, "mode=755")
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(f"{root}/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        os.chmod(f"{root}/dev/{name}", 0o666)
    put(f"{root}/dev/console", "", 0o600)
    for at, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{at}", f"{root}/dev/{name}")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    put(f"{work}/cmdline", "root=/dev/vda1 ro\n")
    mount(f"{work}/cmdline", root + "/proc/cmdline", "", BIND)
    return root


def begin_boot(work, root, number):
    """What each boot begins with: an empty /run, a boot id."""
    mount("run", root + "/run", "tmpfs", 0, "mode=755")
    os.makedirs(root + "/run/lock")
    os.makedirs(root + "/run/sshd", 0o755)
    # by which cloud-init knows systemd
    os.makedirs(root + "/run/systemd/system")
    put(f"{work}/boot/{number}", f"00000000-0000-4000-8000-00000000000{number}\n")
    mount(f"{work}/boot/{number}", root + "/proc/sys/kernel/random/boot_id", "", BIND)
    LIBC.sethostname(b"localhost", 9)


def in_child(work):
    """Does it in a fork, and kills its whole session should it hang."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            code = work() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    until = time.monotonic() + LIMIT_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "killed after %d s" % LIMIT_S
        time.sleep(0.01)


def enter(root, log):
    """In a child: the root is `root`, and what is written goes to `log`."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 1)
    os.dup2(1, 2)
    os.chroot(root)
    os.chdir("/")


def theirs(root, case, log):
    """cloud-init's four commands, with the seed directory of NoCloud."""
    seed = root + "/var/lib/cloud/seed/nocloud/"
    put(seed + "meta-data", json.dumps(case["meta-data"]))
    for name in ("user-data", "vendor-data"):
        if case[name] or name == "user-data":
            put(seed + name, case[name])

    def stage(words):
        def work():
            enter(root, log)
            os.environ.clear()
            os.environ.update(ENVIRONMENT)
            sys.argv = ["/usr/bin/cloud-init"] + words
            return MAIN.main(sysv_args=sys.argv)
        return work
    codes = [in_child(stage(words)) for words in STAGES]
    if "power_state" in case["user-data"] + case["vendor-data"]:
        # A process of its own waits for the last stage's end, a second at a time.
        time.sleep(2.5)
    return codes


def ours(root, case, log):
    """The seed that the initrd would have left, then both commands."""
    seed = root + "/run/preroot/seed/"
    instance, host = case["meta-data"]["instance-id"], case["meta-data"]["local-hostname"]
    put(root + "/run/preroot/identity", f"nocloud {instance}\n")
    entries = {"instance-id": instance, "hostname": host}
    if "public-keys" in case["meta-data"]:
        entries["user/authorized-keys"] = "\n".join(case["meta-data"]["public-keys"])
    entries.update({"source": "\n".join(f"{name} nocloud" for name in entries), "format": "1", "platform": "nocloud", "verdict": "provision"})
    for name, text in entries.items():
        put(seed + name, text + "\n", 0o600)
    for name, place in (("user-data", "user-data"), ("vendor-data", "vendor-data/0")):
        if case[name]:
            put(seed + place, case[name], 0o600)
    for folder, _, _ in os.walk(seed):
        os.chmod(folder, 0o700)

    def stage(words):
        def work():
            enter(root, log)
            os.execve("/usr/bin/preroot", ["preroot"] + words, ENVIRONMENT)
        return work
    return [in_child(stage(words)) for words in (["apply"], ["scripts"])]


# --- what became of it -------------------------------------------------------------------------------------

def names_of(root):
    """Names of users and groups by their numbers: who was made first has the lower number, and is the same person."""
    names = []
    for file in ("passwd", "group"):
        with open(f"{root}/etc/{file}", encoding="utf-8", errors="replace") as lines:
            names.append({int(fields[2]): fields[0] for fields in (line.split(":") for line in lines) if len(fields) > 2 and fields[2].isdigit()})
    return names


def number(text, given):
    """One that nobody asked for: they are given by turn."""
    return "<next>" if text.isdigit() and 100 <= int(text) < 5000 and text not in given else text


def accounts(path, text, groups, given):
    """Lines of an account file in the order of names, without numbers that nobody asked for."""
    lines = []
    for line in text.splitlines():
        fields = line.split(":")
        if path == "etc/passwd" and len(fields) > 3:
            fields[2] = number(fields[2], given)
            fields[3] = groups.get(int(fields[3]), fields[3]) if fields[3].isdigit() else fields[3]
        elif path == "etc/group" and len(fields) > 2:
            fields[2] = number(fields[2], given)
        elif path in ("etc/subuid", "etc/subgid") and len(fields) > 1:
            fields[1] = "<next>"
        if path in ("etc/group", "etc/gshadow"):
            fields[-1] = ",".join(sorted(fields[-1].split(",")))
        lines.append(":".join(fields))
    return "".join(line + "\n" for line in sorted(lines))


def entry(path):
    """What is there, without times: (kind, mode, uid, gid, text)."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    kind = stat.S_IFMT(state.st_mode)
    text = ""
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            data = file.read()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "sha256 " + hashlib.sha256(data).hexdigest()
    elif kind == stat.S_IFLNK:
        text = os.readlink(path)
    name = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "directory"}.get(kind, oct(kind))
    return [name, oct(state.st_mode & 0o7777), state.st_uid, state.st_gid, text]


def known_hash(field, given):
    """A hash that was given stays; one that was made here is named by its password."""
    bare = field.lstrip("!")
    if not bare.startswith("$") or bare in given:
        return field
    locked = "!" * (len(field) - len(bare))
    for clear in CLEAR:
        try:
            if crypt.crypt(clear, bare) == bare:
                return f"{locked}<a hash of {clear!r}>"
        except OSError:
            pass
    return f"{locked}<a hash of what nobody knows>"


def shadow(text, given):
    lines = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2:
            fields[1] = known_hash(fields[1], given)
            fields[2] = "today" if fields[2].isdigit() and int(fields[2]) > DAYS else fields[2]
        lines.append(":".join(fields))
    return "\n".join(lines) + "\n"


def host_key(name, text, given):
    """A key that was given stays; of one that was made here, that it is one."""
    words = text.split()
    lines = text.splitlines()
    if len(words) > 1 and words[1] in given and name.endswith(".pub") or len(lines) > 1 and lines[1] in given:
        return text
    if name.endswith(".pub") and len(words) > 1:
        return " ".join(["<a public key>", words[0]] + words[2:]) + "\n"
    return "<a private key>\n" if "PRIVATE KEY" in text else text


def changed(up):
    """Each path that the run touched."""
    paths = set()
    for directory, folders, files in os.walk(up):
        for name in folders + files:
            paths.add(os.path.relpath(os.path.join(directory, name), up))
    return paths


def seen(root, path, given, names):
    """An entry without what differs from run to run; of the root that both began with, if `root` is ''."""
    what = entry(f"{root}/{path}") if root else entry("/mnt/payload/" + path) or entry("/" + path)
    if what:
        what[2:4] = [known.get(owner, owner) for known, owner in zip(names, what[2:4])]
    if what and what[0] == "file" and path in ("etc/shadow", "etc/shadow-"):
        what[4] = shadow(what[4], given)
    if what and path == "swap.img":
        what[4] = "swap file" if "sha256" in what[4] else what[4]
    if what and path in ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid"):
        what[4] = accounts(path, what[4], names[1], given)
    if what and re.match(r"etc/ssh/ssh_host_", path):
        what[4] = host_key(path, what[4], given)
    return what


def scan(work, root, case):
    given = case["user-data"] + case["vendor-data"]
    names = names_of(root)
    return {path: seen(root, path, given, names) for path in sorted(changed(work + "/up")) if not re.match(STATE, path)}


# cloud-init's own state and preroot's: compared by neither.
STATE = r"(var/lib/cloud|var/lib/preroot|var/log/cloud-init|var/log/preroot|run|tmp|proc|sys|dev|mnt/payload)(/|$|[-.])"


def inside(root, words, text=None):
    run = subprocess.run(["chroot", root] + words, input=text, capture_output=True, text=True)
    return run.stdout if run.returncode == 0 else f"{run.stdout}{run.stderr}exit {run.returncode}\n"


def said_status(work, root, side):
    """What `cloud-init status` says to who waits for it: cloud-init's own, or the command that preroot has for images without."""
    if side == "ours":
        return inside(root, ["/bin/sh", "/usr/share/preroot/cloud-init", "status"])

    def ask():
        os.dup2(os.open(work + "/status", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.chroot(root)
        os.chdir("/")
        # the file that keeps preroot from leaving the machine to cloud-init
        import cloudinit.cmd.status
        cloudinit.cmd.status.CLOUDINIT_DISABLED_FILE = "/nothing"
        return MAIN.main(sysv_args=["cloud-init", "status"])
    code = in_child(ask)
    return entry(work + "/status")[4] + (f"exit {code}\n" if code else "")


def effects(work, root, side):
    """What programs make of the files."""
    rules = []
    if os.path.isdir(root + "/etc/sudoers.d"):
        for name in sorted(os.listdir(root + "/etc/sudoers.d")):
            if name != "README":
                with open(f"{root}/etc/sudoers.d/{name}", encoding="utf-8") as file:
                    rules += [re.sub(r"PASSWD: ", "PASSWD:", re.sub(r"\s+", " ", line)).strip() for line in file if line.strip() and not line.startswith("#")]
    certificates = []
    for folder in ("usr/local/share/ca-certificates", "usr/share/ca-certificates"):
        for path in sorted(glob.glob(f"{root}/{folder}/cloud-init-*")):
            certificates += re.findall("-----BEGIN.*?END CERTIFICATE-----", entry(path)[4], re.DOTALL)
    clock = [line for path in (["etc/chrony/chrony.conf"] + sorted(glob.glob("etc/chrony/conf.d/*.conf", root_dir=root) + glob.glob("etc/chrony/sources.d/*.sources", root_dir=root)))
             for line in (entry(f"{root}/{path}") or ["", 0, 0, 0, ""])[4].splitlines() if re.match(r"(server|pool|peer|allow)\b", line)]
    calls = entry(root + "/run/calls")
    fstab = [re.sub(r"\s+", " ", line) for line in (entry(root + "/etc/fstab") or ["", 0, 0, 0, ""])[4].splitlines() if line and not line.startswith("#")]
    return {
        # cloud-init's own state; programs that look for it take the machine for cloud-init's
        "var/lib/cloud/instance": "there\n" if side == "ours" and os.path.lexists(root + "/var/lib/cloud/instance") else "",
        "cloud-init status": said_status(work, root, side),
        "sshd -T": "\n".join(sorted(inside(root, ["/usr/sbin/sshd", "-T"]).splitlines())) + "\n",
        "rules of sudo": "".join(sorted(rule + "\n" for rule in rules)),
        "visudo -c": inside(root, ["/usr/sbin/visudo", "-cq"]),
        "lines of fstab": "".join(line + "\n" for line in fstab),
        "calls": calls[4] if calls else "",
        "certificates": "".join(text + "\n" for text in sorted(set(certificates))),
        "clocks of chrony": "".join(re.sub(r"\s+", " ", line) + "\n" for line in sorted(clock)),
        "name of the kernel": os.uname().nodename + "\n",
        "pwck": inside(root, ["/usr/sbin/pwck", "-rq"]),
        "grpck": inside(root, ["/usr/sbin/grpck", "-rq"]),
    }


def run(request):
    case, side, work = request["case"], request["side"], request["work"]
    answer = {"codes": []}
    if LIBC.unshare(NEW_MOUNTS | NEW_UTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    log = work + "/log"
    os.makedirs(work)
    put(log, "")
    root = make_root(work)
    for number in range(case["boots"]):
        begin_boot(work, root, number)
        answer["codes"].append((theirs if side == "theirs" else ours)(root, case, log))
    answer["effects"] = effects(work, root, side)
    answer["found"] = scan(work, root, case)
    logs = [entry(path) for path in (log, root + "/var/log/cloud-init.log", root + "/var/log/cloud-init-output.log", root + "/run/preroot/timeline", root + "/var/log/preroot-scripts.log")]
    answer["log"] = "".join(what[4] for what in logs if what)
    return answer


def main():
    global MAIN
    import cloudinit.cmd.main as MAIN
    import cloudinit.sources.DataSourceNoCloud  # noqa: F401
    import cloudinit.config.modules  # noqa: F401
    import importlib
    import pkgutil

    import cloudinit.config
    import cloudinit.distros.debian  # noqa: F401
    import cloudinit.handlers  # noqa: F401
    import jinja2  # noqa: F401
    import jsonschema  # noqa: F401
    for module in pkgutil.iter_modules(cloudinit.config.__path__):
        if module.name.startswith("cc_"):
            importlib.import_module(f"cloudinit.config.{module.name}")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "base" in request:
            print(json.dumps({path: seen("", path, "", names_of("")) for path in request["base"]}), file=answers, flush=True)
            continue

        def work(request=request):
            try:
                answer = run(request)
            except Exception:
                answer = {"error": traceback.format_exc()}
            with open(request["work"] + ".json", "w", encoding="utf-8") as file:
                json.dump(answer, file)
        in_child(work)
        try:
            with open(request["work"] + ".json", encoding="utf-8") as file:
                answer = file.read()
        except OSError as error:
            answer = json.dumps({"error": str(error)})
        shutil.rmtree(request["work"], ignore_errors=True)
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
