#!/usr/bin/env python3
"""Which network does cloud-init read in IMDS's instance document, and does preroot read the same?

Makes documents (the same on every run), has cloud-init's own function of Debian's package make netplan's tree of each,
has tests/imds_oracle.rs write preroot's file of netplan, and compares the two. Every kind of difference has its row,
with count and reason, in docs/sources.md.

    imds_network.py [--keep DIR] [--require]

Fetching, skipping and --require as in ovf.py. Prints `N passed, N failed`.
"""

import argparse
import collections
import ipaddress
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import typing

sys.dont_write_bytecode = True
import ovf  # noqa: E402

REPO = ovf.REPO
COUNT = 1000
VM_ID = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf"


# --- documents --------------------------------------------------------------------------------------------

def family(rng, number, is_v6, count):
    def address(n):
        return f"fd00:db8:0:{number:x}::{n + 4:x}" if is_v6 else f"10.0.{number}.{n + 4}"

    addresses = [{"privateIpAddress": address(n), "publicIpAddress": rng.choice(("", "203.0.113.9"))} for n in range(count)]
    said = {"ipAddress": addresses}
    if not is_v6 or rng.random() < 0.95:
        prefix = rng.choice(("64", "128", "56")) if is_v6 else rng.choice(("24", "16", "26", "20"))
        said["subnet"] = [{"address": "fd00:db8::" if is_v6 else "10.0.0.0", "prefix": prefix}]
    return said


def interface(rng, number):
    counts = rng.choice(((1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (2, 2), (0, 0), (0, 1)))
    said = {"macAddress": f"000D3A{number // 256:02X}{rng.randrange(256):02X}{number % 256:02X}",
            "ipv4": family(rng, number, False, counts[0]), "ipv6": family(rng, number, True, counts[1])}
    if rng.random() < 0.3:
        said["macAddress"] = said["macAddress"].lower()
    if counts[1] == 0 and rng.random() < 0.3:
        del said["ipv6"]
    return said


def damaged(rng, interfaces):
    """One thing that is other than the platform has it."""
    one = rng.choice(interfaces)
    v4 = one["ipv4"]
    kind = rng.choice(("no mac", "bad mac", "same mac", "no subnet", "no prefix", "number", "bad prefix", "two subnets",
                       "bad address", "no address", "null", "empty prefix"))
    if kind == "no mac":
        del one["macAddress"]
    elif kind == "bad mac":
        one["macAddress"] = rng.choice(("", "000D3A", "xx0D3A000001"))
    elif kind == "same mac":
        one["macAddress"] = interfaces[0].get("macAddress", "")
    elif kind == "no subnet":
        v4.pop("subnet", None)
    elif kind == "null":
        one["ipv6"] = None
    elif v4["ipAddress"] and kind in ("bad address", "no address"):
        v4["ipAddress"] += [{"privateIpAddress": rng.choice(("10.0.0", "fd00::9", "224.0.0.9", "0.0.0.0"))}
                            if kind == "bad address" else {"publicIpAddress": ""}]
    elif v4.get("subnet"):
        if kind == "no prefix":
            del v4["subnet"][0]["prefix"]
        elif kind == "empty prefix":
            v4["subnet"][0]["prefix"] = ""
        elif kind == "number":
            v4["subnet"][0]["prefix"] = 22
        elif kind == "bad prefix":
            v4["subnet"][0]["prefix"] = rng.choice(("33", "x", "-1", "24 "))
        elif kind == "two subnets":
            v4["subnet"].append({"address": "10.9.0.0", "prefix": "8"})


def documents():
    """The network of each, and the MAC address of the interface that has the lease."""
    rng = random.Random(20260102)
    for _ in range(COUNT):
        count = rng.choice((1, 1, 1, 2, 2, 3, 4, 8)) if rng.random() < 0.98 else rng.choice((16, 17, 20))
        interfaces = [interface(rng, number) for number in range(count)]
        at = 0 if rng.random() < 0.7 else rng.randrange(count)
        mac = interfaces[at]["macAddress"]
        primary = "-" if rng.random() < 0.05 else ":".join(mac[n:n + 2] for n in range(0, 12, 2))
        if rng.random() < 0.15:
            damaged(rng, interfaces)
        yield {"interface": interfaces}, primary


# --- cloud-init -------------------------------------------------------------------------------------------

def cloud_init(where):
    """The function, without what its file imports."""
    path = os.path.join(where, "usr/lib/python3/dist-packages/cloudinit/sources/DataSourceAzure.py")
    with open(path, encoding="utf-8") as file:
        source = file.read()
    log = logging.getLogger("cloud-init")
    log.disabled = True
    names = {"LOG": log, "Dict": typing.Dict, "Any": typing.Any, "device_driver": lambda _: "hv_netvsc"}
    for function in ("normalize_mac_address", "generate_network_config_from_instance_network_metadata"):
        exec(re.search(rf"^def {function}\(.*?(?=^[@\w])", source, re.M | re.S).group(0), names)  # the package's own code
    return names["generate_network_config_from_instance_network_metadata"]


# --- comparison -------------------------------------------------------------------------------------------

def by_mac(tree):
    """The interfaces, each the first of its MAC address; and whether there are more of one."""
    all_, is_twice = {}, False
    for name in sorted(tree.get("ethernets", {}), key=lambda name: int(name[3:])):
        said = tree["ethernets"][name]
        is_twice |= said["match"]["macaddress"] in all_
        all_.setdefault(said["match"]["macaddress"], said)
    return all_, is_twice


def is_mac(text):
    return re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", text) is not None


def plain(text):
    """An address with its prefix as everybody writes it; what is none as it is."""
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        return text


def is_prefix(text):
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or address.is_loopback)


def differences(ours, theirs, fault):
    ours, _ = by_mac(ours)
    theirs, is_twice = by_mac(theirs)
    if is_twice:
        yield "one MAC address twice"
    if not ours and len(theirs) == 1:
        said = next(iter(theirs.values()))
        if is_mac(said["match"]["macaddress"]):
            yield "left to the image" if not said["dhcp6"] and not said.get("addresses") else "nothing"
            return
    if len(theirs) > 16 and len(ours) == 16 and fault == "links of the network":
        yield "more than 16 interfaces"
    elif set(theirs) - set(ours):
        bad = set(theirs) - set(ours)
        yield "no MAC address" if not any(map(is_mac, bad)) else "an interface is not there"
    if set(ours) - set(theirs):
        yield "an interface more"
    for mac in set(ours) & set(theirs):
        a, b = ours[mac], theirs[mac]
        for key in ("dhcp4", "dhcp6", "match"):
            if a[key] != b[key]:
                yield f"another {key}"
        for key in ("dhcp4-overrides", "dhcp6-overrides"):
            one, other = dict(a.get(key, {})), dict(b.get(key, {}))
            if one.pop("use-dns", None) is False:
                yield "name servers of the first interface alone"
            if one != other:
                yield "the metric: the interface with the lease comes first" if set(one) == set(other) else f"other {key}"
        a_list, b_list = ([*map(plain, said.get("addresses", []))] for said in (a, b))
        if a_list != b_list:
            others = [text for text in b_list if text not in a_list]
            if others and not any(is_prefix(text) and ":" not in text for text in others) and set(a_list) < set(b_list):
                yield "an address that is no host's, or not of its family"
            elif [text.split("/")[0] for text in a_list] == [text.split("/")[0] for text in b_list]:
                yield "a prefix that is none"
            elif fault == "subnets of the network":
                yield "more than 64 addresses"
            else:
                yield "other addresses"
        known = {"dhcp4", "dhcp6", "match", "dhcp4-overrides", "dhcp6-overrides", "addresses"}
        for key in (set(a) | set(b)) - known - {"set-name"}:
            yield f"only one has {key}"


def documented():
    rows = {}
    with open(os.path.join(REPO, "docs/sources.md"), encoding="utf-8") as file:
        behind = file.read().split("## IMDS's interfaces beside cloud-init", 1)[1].split("\n## ", 1)[0]
    for line in behind.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[2].isdigit() and cells[3]:
            rows[cells[1]] = int(cells[2])
    return rows


def compare(cases, read, networks):
    import yaml

    counts, examples, equal = collections.Counter(), {}, 0
    for number, network in enumerate(networks):
        with open(os.path.join(cases, f"{number}.yaml"), encoding="utf-8") as file:
            text = file.read()
        fault = re.match(r"# (?!Written)(.*)", text)
        ours = yaml.safe_load(text)["network"]
        try:
            theirs = read(json.loads(json.dumps(network)))
        except Exception as error:  # cloud-init then does without IMDS
            kinds = {f"cloud-init ends with {type(error).__name__}"}
        else:
            kinds = set(differences(ours, theirs, fault and fault.group(1)))
        equal += not kinds
        for kind in kinds:
            counts[kind] += 1
            examples.setdefault(kind, number)
    print(f"{len(networks)} documents, {equal} read alike")
    rows, failed = documented(), 0
    for kind in sorted(set(counts) | set(rows)):
        is_good = counts[kind] == rows.get(kind)
        failed += not is_good
        word = "" if is_good else f"  <- docs/sources.md has {rows.get(kind)}; as {examples.get(kind)}.json"
        print(f"| {kind} | {counts[kind]} |{word}")
    print(f"{len(networks)} passed, {failed} failed")
    return int(failed > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", metavar="DIR", help="leave documents and results here")
    parser.add_argument("--require", action="store_true", default=os.environ.get("PREROOT_REQUIRE_ORACLES") == "1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)
        try:
            import yaml  # noqa: F401
            why = ovf.unpacked(where, ("cloud-init",))
        except ImportError:
            why = "python3-yaml is not installed"
        if why:
            print(f"imds oracle: SKIPPED: {why}", file=sys.stderr)
            print("0 passed, 0 failed" if not options.require else "0 passed, 1 failed")
            return int(options.require)
        read = cloud_init(where)
        cases = os.path.abspath(options.keep or os.path.join(where, "cases"))
        os.makedirs(cases, exist_ok=True)
        networks = []
        with open(os.path.join(cases, "primaries"), "w", encoding="utf-8") as primaries:
            for number, (network, primary) in enumerate(documents()):
                networks.append(network)
                print(primary, file=primaries)
                with open(os.path.join(cases, f"{number}.json"), "w", encoding="utf-8") as file:
                    json.dump({"compute": {"vmId": VM_ID}, "network": network}, file)
        words = [os.environ.get("CARGO", "cargo"), "test", "--locked", "-q", "--test", "imds_oracle", "--", "--ignored", "--nocapture"]
        ran = subprocess.run(words, cwd=REPO, env={**os.environ, "PREROOT_IMDS_CASES": cases}, stdout=subprocess.PIPE, text=True)
        if ran.returncode != 0:
            print(ran.stdout)
            print("0 passed, 1 failed")
            return 1
        return compare(cases, read, networks)


if __name__ == "__main__":
    sys.exit(main())
