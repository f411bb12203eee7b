#!/usr/bin/env python3
"""Does the built `preroot report` satisfy a strict wireserver, whatever that answers first?

As root: mount and network namespaces of its own, no uplink; the wireserver's address is on the loopback.
Prints one `N passed, N failed` line. PREROOT names the binary (default: target/release, else target/debug)."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import harness

HERE = pathlib.Path(__file__).resolve().parent
VM_ID = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf"
CANARY = "canary-of-custom-data"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V demo@example.invalid"
IDENTITY = ["--vm-id", VM_ID, "--hostname", "edge-vm-01", "--key", KEY, "--user", "azureuser"]
AGENT = pathlib.Path("/usr/sbin/azure-proxy-agent")
NEEDS_NETWORK = 75
NOT_APPLICABLE = 76


class World:
    """A provisioned VM's root and /run, and a platform with a script."""

    def __init__(self, script=None, seed=None, marks=("provisioned",), listen=True, imds=False):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir="/tmp/report-test"))
        self.root, self.run, self.log = (self.directory / name for name in ("root", "run", "log"))
        state = self.root / "var/lib/preroot"
        state.mkdir(parents=True)
        for mark in marks:
            (state / mark).write_text(VM_ID + "\n")
        values = {"format": "1", "platform": "azure", "source": "", "instance-id": VM_ID, **(seed or {})}
        self.seed = self.run / "seed"
        for name, value in values.items():
            path = self.seed / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value + "\n")
        (self.seed / "custom-data").write_text(CANARY)
        self.seed.chmod(0o700)
        self.platform = None
        if listen:
            (self.directory / "script.json").write_text(json.dumps(script or {}))
            self.platform = subprocess.Popen(
                [sys.executable, str(HERE / "fake_azure.py"), *(IDENTITY if imds else ["--imds", "none"]), "--log", str(self.log), "--ready-file",
                 str(self.directory / "ready"), "--script", str(self.directory / "script.json")],
                stdout=subprocess.PIPE, text=True)
            while self.platform.stdout.readline() != "platform: listening\n":
                assert self.platform.poll() is None, "the platform did not start"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.platform:
            self.platform.terminate()
            self.platform.communicate()

    def command(self, *words):
        return [harness.binary(), "report", "--root", str(self.root), "--run", str(self.run), *words]

    def report(self, *words):
        return subprocess.run(self.command(*words), timeout=60, stdin=subprocess.DEVNULL).returncode

    def stop_after(self, seconds):
        """Exit code, and how long it took to stop when asked to."""
        process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL)
        time.sleep(seconds)
        assert process.poll() is None, "it gave up by itself"
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        return process.wait(timeout=30), time.monotonic() - begin

    def requests(self):
        records = map(json.loads, self.log.read_text().splitlines()) if self.log.exists() else []
        return [record for record in records if record["event"] == "request"]

    def asked(self):
        return [record["endpoint"] for record in self.requests()]

    def ready_count(self):
        path = self.directory / "ready"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def record(self):
        pool = (self.root / "var/lib/hyperv/.kvp_pool_1").read_bytes()
        assert len(pool) % 2560 == 0
        return pool[-2048:].rstrip(b"\0").decode()

    def is_marked(self):
        return (self.root / "var/lib/preroot/reported").exists()

    def check_ready(self, asked):
        """The platform took Ready once, had no complaint about the last request, and nothing secret is left."""
        assert self.asked() == asked, self.asked()
        assert self.requests()[-1]["verdict"] == "ok", self.requests()[-1]["verdict"]
        assert self.ready_count() == 1 and self.is_marked()
        assert self.record().startswith("result=success|agent=preroot/"), self.record()
        assert not self.seed.exists()
        for path in self.directory.rglob("*"):
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


XML = ["health-json", "goalstate", "health-xml"]


def test_ready_in_one_request():
    with World() as world:
        assert world.report() == 0
        world.check_ready(["health-json"])
        assert world.report() == NOT_APPLICABLE
        assert world.asked() == ["health-json"]


def test_each_way_to_refuse_json_leads_to_xml():
    for status, shape in ((404, ["bom", "crlf"]), (405, ["entities"]), (400, [])):
        with World({"health-json": f"refuse-json-{status}", "goalstate": {"shape": shape}}) as world:
            assert world.report() == 0
            world.check_ready(XML)


def test_chunked_goal_state():
    with World({"health-json": "refuse-json", "goalstate": {"chunked": True}}) as world:
        assert world.report() == 0
        world.check_ready(XML)


def test_two_bad_then_good():
    with World({"health-json": "two-bad-then-good"}) as world:
        assert world.report() == 0
        world.check_ready(XML)


def test_the_goal_state_moved_on():
    with World({"health-json": "refuse-json", "health-xml": [{"incarnation": 2}, "good"]}) as world:
        assert world.report() == 0
        world.check_ready(XML + ["goalstate", "health-xml"])


def test_reset_and_truncated_are_tried_again():
    with World({"health-json": ["reset", {"status": 404}], "goalstate": ["truncated", "good"]}) as world:
        assert world.report() == 0
        world.check_ready(["health-json", "goalstate"] * 2 + ["health-xml"])


def test_a_form_that_is_lost_or_not_spoken_leads_to_the_other():
    for answer in ("reset", "501", "302"):
        with World({"health-json": answer}) as world:
            assert world.report() == 0
            world.check_ready(XML)
    with World({"goalstate": "501", "health-json": ["500", "good"]}) as world:
        assert world.report() == 0
        world.check_ready(["health-json", "goalstate", "health-json"])


def test_a_door_that_opens_late_is_knocked_at_again():
    with World({"health-json": ["401", "403", "good"]}) as world:
        assert world.report() == 0
        world.check_ready(["health-json"] * 3)


def test_silence_ends_when_asked_to_and_keeps_everything():
    for script, listen in (({"health-json": "never"}, True), ({}, False)):
        with World(script, listen=listen) as world:
            code, seconds = world.stop_after(2)
            assert code not in (0, None) and seconds < 2, (code, seconds)
            assert world.seed.exists() and not world.is_marked()


def test_a_failed_unit_is_told_in_both_forms():
    for script in ({}, {"health-json": "refuse-json"}):
        with World(script) as world:
            assert world.report("--failed", "unit \"x\" <&> |\x07 " + "é" * 400) == 0
            last = world.requests()[-1]
            assert last["verdict"] == "ok" and last["state"] == "NotReady", last
            assert world.record().startswith('result=error|reason=unit "x" <&> /? ??')
            assert CANARY not in world.log.read_text() and not world.is_marked()
            assert world.report() == 0  # repaired since
            assert world.ready_count() == 1


def test_a_fatal_verdict_of_the_initrd():
    seed = {"verdict": "fail", "failure": "error parsing ovf-env.xml: document ends early"}
    with World(seed=seed, marks=()) as world:
        assert world.report() == 0
        assert "|reason=error parsing ovf-env.xml: document ends early|" in world.requests()[0]["body"]


def test_early_without_a_lease_is_left_to_the_late_report():
    with World() as world:
        begin = time.monotonic()
        assert world.report("--early") == NEEDS_NETWORK
        assert time.monotonic() - begin < 1 and world.asked() == []


USER = {"user/name": "azureuser", "hostname": "edge-vm-01", "azure/wants-proxy-agent": "true", "verdict": "wait"}


def test_nothing_is_sent_before_the_agent_signs():
    for answer, is_ready in ((None, True), ("403", False)):
        script = {} if answer is None else {"imds": answer}
        with World(script, seed=USER, marks=(), imds=True) as world:
            control = world.directory / "signs"
            AGENT.write_text(f"#!/bin/sh\nuntil [ -e {control} ]; do sleep 0.1; done\n")
            AGENT.chmod(0o755)
            make_root(world.root)
            assert world.report("--early") == NOT_APPLICABLE
            process = subprocess.Popen(world.command(), stdin=subprocess.DEVNULL)
            time.sleep(1.5)
            assert process.poll() is None and world.asked() == [], world.asked()
            control.touch()
            assert process.wait(timeout=60) == 0
            assert world.asked() == ["imds", "health-json"], world.asked()
            assert world.requests()[-1]["state"] == ("Ready" if is_ready else "NotReady"), world.requests()[-1]
            keys = world.root / "home/azureuser/.ssh/authorized_keys"
            assert keys.exists() == is_ready
            assert is_ready or "|reason=http error 403 querying IMDS|" in world.requests()[-1]["body"]
    AGENT.unlink()


def make_root(root):
    """An image that a user can be made in."""
    files = {"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": "root:*:19000:0:99999:7:::\n",
             "etc/group": "root:x:0:\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/sudoers": "@includedir /etc/sudoers.d\n",
             "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n", "etc/ssh/ssh_host_ed25519_key": "key",
             "var/lib/preroot/host-keys": VM_ID}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "etc/shadow").chmod(0o600)
    (root / "home").mkdir()


def prepare():
    """Azure's SMBIOS, the wireserver's address, memory for /run; all inside namespaces."""
    def run(*words):
        subprocess.run(words, check=True)
    run("ip", "link", "set", "lo", "up")
    for address in ("168.63.129.16/32", "169.254.169.254/32"):
        run("ip", "address", "add", address, "dev", "lo")
    run("mount", "-t", "tmpfs", "none", "/sys")
    for directory in ("/sys/class/dmi/id", "/sys/firmware/efi"):
        os.makedirs(directory)
    pathlib.Path("/sys/class/dmi/id/chassis_asset_tag").write_text("7783-7084-3265-9085-8269-3286-77\n")
    pathlib.Path("/sys/class/dmi/id/product_uuid").write_text(VM_ID + "\n")
    os.makedirs("/tmp/report-test", exist_ok=True)
    run("mount", "-t", "tmpfs", "none", "/tmp/report-test")
    upper, work = "/tmp/report-test/upper", "/tmp/report-test/work"
    os.makedirs(upper)
    os.makedirs(work)
    run("mount", "-t", "overlay", "none", "-o", f"lowerdir=/usr/sbin,upperdir={upper},workdir={work}", "/usr/sbin")


def main():
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, __file__, "--inside"])
    prepare()
    return harness.run(globals())


if __name__ == "__main__":
    sys.exit(main())
