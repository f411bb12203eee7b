#!/usr/bin/env python3
"""What do cloud-init and waagent read in ovf-env.xml, and does preroot read the same?

Makes documents (the same on every run), has the parsers of Debian's packages cloud-init and waagent read them, and
then tests/ovf_oracle.rs, which compares with preroot's reader and with the table of splits in docs/sources.md.

    ovf.py [--keep DIR] [--require]

The packages are fetched with `apt-get download` and unpacked in a temporary directory, never installed. Where that
does not work the comparison is skipped, said aloud; with --require (or PREROOT_REQUIRE_ORACLES=1) that is a failure.
Prints `N passed, N failed`.
"""

import argparse
import base64
import glob
import os
import random
import re
import subprocess
import sys
import tempfile
import types

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = ("cloud-init", "waagent")
SEED = 20260101
OVF = "http://schemas.dmtf.org/ovf/environment/1"
AZURE = "http://schemas.microsoft.com/windowsazure"
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk8oMcCXIMYnPlMTGCGmhvMDTnsREhzKlPkqzSEo4gM ops@example.invalid",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJRUdOcFyZ2eR2BGbVmtZR3L3VzGrzO9hO4OZGgF0Bk",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg= a comment",
)


# --- documents --------------------------------------------------------------------------------------------

class Node:
    """An element: space is 'ovf', 'wa', None (none at all) or a namespace of its own."""

    def __init__(self, name, *children, space="wa", attributes=""):
        self.name, self.children, self.space, self.attributes = name, list(children), space, attributes

    def all(self):
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.all()

    def find(self, name):
        return next((node for node in self.all() if node.name == name), None)

    def parent_of(self, name):
        return next((node for node in self.all() if any(isinstance(c, Node) and c.name == name for c in node.children)), None)


class Raw(str):
    """Text that goes into the document as it is."""


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Document:
    def __init__(self, rng):
        self.rng = rng
        self.declaration = rng.choice(('<?xml version="1.0" encoding="utf-8"?>', '<?xml version="1.0"?>', ""))
        self.before, self.behind = "", rng.choice(("", "\n"))
        self.encode = lambda text: text.encode()
        self.return_ends = rng.random() < 0.2
        self.style = rng.choice(("azure", "prefixes", "defaults"))
        self.prefixes = {"ovf": rng.choice(("oe", "ovf", "e")), "wa": rng.choice(("wa", "a", "ns1"))}
        self.indent = rng.choice(("", "  ", "\t"))
        key = Node("PublicKey", Node("Fingerprint", "0123456789ABCDEF0123456789ABCDEF01234567"),
                   Node("Path", "/home/azureuser/.ssh/authorized_keys"), Node("Value", rng.choice(KEYS)))
        parts = [Node("ConfigurationSetType", "LinuxProvisioningConfiguration"),
                 Node("HostName", rng.choice(("web-1", "edge-vm-01", "db.example.com"))),
                 Node("UserName", rng.choice(("azureuser", "ops", "j.doe")))]
        if rng.random() < 0.7:
            parts.append(Node("UserPassword", rng.choice(("P@ssw0rd!", "a b<&>'\"", "pass\u00e9word"))))
        parts.append(Node("DisableSshPasswordAuthentication", rng.choice(("true", "false"))))
        if rng.random() < 0.8:
            parts.append(Node("SSH", Node("PublicKeys", key)))
        if rng.random() < 0.6:
            parts.append(Node("CustomData", base64.b64encode(b"#!/bin/sh\necho " + str(rng.random()).encode()).decode()))
        self.root = Node(
            "Environment",
            Node("ProvisioningSection", Node("Version", "1.0"), Node("LinuxProvisioningConfigurationSet", *parts)),
            Node("PlatformSettingsSection", Node("Version", "1.0"), Node(
                "PlatformSettings", Node("KmsServerHostname", "kms.core.windows.net"),
                Node("ProvisionGuestAgent", rng.choice(("true", "false"))), Node("PreprovisionedVm", "false"),
                Node("PreprovisionedVMType", attributes='xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"'))),
            space="ovf")

    def ensure(self, name):
        """The element, made where it is missing."""
        node = self.root.find(name)
        if node is None:
            if name in ("Value", "Fingerprint", "PublicKey", "PublicKeys"):
                self.root.find("LinuxProvisioningConfigurationSet").children.append(
                    Node("SSH", Node("PublicKeys", Node("PublicKey", Node("Fingerprint", "AB"), Node("Value", KEYS[0])))))
            else:
                self.root.find("LinuxProvisioningConfigurationSet").children.append(Node(name))
            node = self.root.find(name)
        return node

    def set(self, name, *children):
        self.ensure(name).children = list(children)

    def text(self):
        spaces = {"ovf": OVF, "wa": AZURE}

        def write(node, default, depth):
            uri = spaces.get(node.space, node.space)
            declared = ""
            if uri is None:
                prefix, declared = "", "" if default is None else ' xmlns=""'
                default = None
            elif self.style == "defaults" or (self.style == "azure" and node.name in (
                    "Environment", "LinuxProvisioningConfigurationSet")) or (self.style == "azure" and default == uri):
                prefix = ""
                if default != uri:
                    declared, default = f' xmlns="{uri}"', uri
            elif node.space in self.prefixes:
                prefix = self.prefixes[node.space] + ":"
            else:
                prefix, declared = "x:", f' xmlns:x="{uri}"'
            if node is self.root:
                declared += "".join(f' xmlns:{p}="{spaces[s]}"' for s, p in self.prefixes.items())
            head = prefix + node.name
            attributes = declared + (" " + node.attributes if node.attributes else "")
            if not node.children:
                return f"<{head}{attributes} />"
            has_text = any(not isinstance(child, Node) for child in node.children)
            gap = "" if has_text or not self.indent else "\n" + self.indent * (depth + 1)
            end = "" if has_text or not self.indent else "\n" + self.indent * depth
            inner = "".join(
                gap + write(child, default, depth + 1) if isinstance(child, Node)
                else child if isinstance(child, Raw) else escape(child) for child in node.children)
            return f"<{head}{attributes}>{inner}{end}</{head}>"

        text = self.declaration + ("\n" if self.declaration else "") + self.before + write(self.root, None, 0) + self.behind
        return text.replace("\n", "\r\n") if self.return_ends else text

    def bytes(self):
        return self.encode(self.text())


VALUES = ("HostName", "UserName", "UserPassword", "DisableSshPasswordAuthentication", "CustomData", "Value", "Fingerprint",
          "ProvisionGuestAgent", "PreprovisionedVm", "PreprovisionedVMType")
STRUCTURE = ("Version", "ProvisioningSection", "LinuxProvisioningConfigurationSet", "PlatformSettingsSection", "PlatformSettings",
             "SSH", "PublicKeys", "PublicKey", "ConfigurationSetType")


def text_of(document, name):
    node = document.ensure(name)
    text = "".join(child for child in node.children if isinstance(child, str))
    return text or "true"


# Each takes a document and a source of chance. The name of the function is the class in the table.

def plain(d, r):
    """Nothing but the writer's style."""


def byte_order_mark(d, r):
    d.encode = lambda text: b"\xef\xbb\xbf" + text.encode()


def utf_16(d, r):
    kind = r.choice(("utf-16-le", "utf-16-be"))
    d.declaration = r.choice(('<?xml version="1.0" encoding="utf-16"?>', '<?xml version="1.0"?>'))
    d.encode = lambda text: ("\ufeff" + text).encode(kind)


def other_encoding(d, r):
    name, text = r.choice((("iso-8859-1", "caf\u00e9"), ("us-ascii", "cafe"), ("windows-1252", "\u20ac"), ("utf-16", "cafe")))
    d.declaration = f'<?xml version="1.0" encoding="{name}"?>'
    d.set("UserPassword", text)
    d.encode = lambda text: text.encode("utf-8" if name == "utf-16" else name)


def cdata(d, r):
    name = r.choice(VALUES)
    d.set(name, Raw(f"<![CDATA[{text_of(d, name)}]]>"))


def cdata_and_text(d, r):
    name = r.choice(VALUES)
    text = text_of(d, name)
    at = r.randrange(len(text) + 1)
    parts = (Raw(escape(text[:at])), Raw(f"<![CDATA[{text[at:]}]]>"))
    d.set(name, *(parts if r.random() < 0.5 else (Raw(f"<![CDATA[{text[:at]}]]>"), Raw(escape(text[at:])))))


def references(d, r):
    name = r.choice(VALUES)
    text = text_of(d, name)
    d.set(name, Raw("".join(r.choice((escape(c), f"&#{ord(c)};", f"&#x{ord(c):x};")) for c in text)))


def bad_reference(d, r):
    d.set(r.choice(VALUES), Raw(r.choice(("&nbsp;", "&", "a & b", "&#0;", "&#xD800;", "&#x110000;", "&amp", "&#;", "&lt"))))


def document_type(d, r):
    d.before = r.choice((
        "<!DOCTYPE Environment>", '<!DOCTYPE Environment [<!ENTITY host "web-1">]>',
        '<!DOCTYPE Environment [<!ELEMENT Environment ANY>]>', '<!DOCTYPE Environment SYSTEM "nowhere.dtd">'))
    if "ENTITY" in d.before:
        d.set("HostName", Raw("&host;"))


def comment_in_text(d, r):
    name = r.choice(VALUES)
    text = text_of(d, name)
    at = r.randrange(len(text) + 1)
    what = r.choice(("<!-- a comment -->", "<?an instruction?>", "<!---->"))
    d.set(name, text[:at], Raw(what), text[at:])


def comment_between(d, r):
    node = d.root.find(r.choice(STRUCTURE[1:5]))
    node.children.insert(r.randrange(len(node.children) + 1), Node("Nothing"))
    d.before = r.choice(("<!-- before -->\n", "<?pi before?>", "<!-- a - b -->"))
    d.behind = r.choice(("<!-- behind -->", "\n<?pi?>\n"))


def bad_comment(d, r):
    d.before = r.choice(("<!-- a -- b -->", "<!-- a --->", "<!- x -->", "<!---"))


def attributes(d, r):
    node = r.choice([node for node in d.root.all() if node.name in VALUES + STRUCTURE])
    node.attributes = r.choice((
        'xml:lang="en"', 'xml:space="preserve"', 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"',
        "a='1' b=\"2\"", 'a = "1"', 'a="&lt;&#10;x"', 'a=""', "xmlns:x='y' x:a='1' a='2'", 'a="' + "x" * 3000 + '"',
        " ".join(f'attribute{n}="{n}"' for n in range(40))))


def bad_attributes(d, r):
    node = r.choice([node for node in d.root.all() if node.name in VALUES + STRUCTURE])
    node.attributes = r.choice((
        'a="1" a="2"', "a=1", "a", 'a="<"', 'nowhere:a="1"', 'a="1"b="2"', 'xmlns:x=""', 'a="&nbsp;"', '1a="1"',
        'xmlns:x="y" xmlns:z="y" x:a="1" z:a="2"', 'xmlns:xml="y"', 'xmlns:xmlns="y"'))


def missing_value(d, r):
    name = r.choice(VALUES + ("Version", "ConfigurationSetType", "KmsServerHostname"))
    parent = d.root.parent_of(name)
    if parent:
        parent.children = [c for c in parent.children if not (isinstance(c, Node) and c.name == name)]


def missing_section(d, r):
    name = r.choice(STRUCTURE[1:])
    parent = d.root.parent_of(name)
    if parent:
        parent.children = [c for c in parent.children if not (isinstance(c, Node) and c.name == name)]


def empty_value(d, r):
    d.set(r.choice(VALUES + ("Version",)), *r.choice(((), ("",), (" ",), ("\n    ",), (Raw("<!-- -->"),), (Raw("<![CDATA[]]>"),))))


def empty_section(d, r):
    d.set(r.choice(STRUCTURE[1:8]), *r.choice(((), ("",), ("\n",))))


def twice_value(d, r):
    name = r.choice(VALUES + ("Version",))
    node = d.ensure(name)
    d.root.parent_of(name).children.append(Node(name, *r.choice((tuple(node.children), ("another",), ()))))


def twice_section(d, r):
    name = r.choice(STRUCTURE[1:8])
    d.ensure(name) if name in ("SSH", "PublicKeys", "PublicKey") else None
    parent = d.root.parent_of(name)
    if parent:
        node = parent.find(name)
        parent.children.insert(r.randrange(len(parent.children) + 1), r.choice((node, Node(name))))


def deeper(d, r):
    """A value or section below an element nobody knows."""
    name = r.choice(VALUES + STRUCTURE[1:5])
    node = d.ensure(name)
    parent = d.root.parent_of(name)
    parent.children[parent.children.index(node)] = Node("Wrapper", node, space=r.choice(("wa", "urn:other", "ovf")))


def decoy(d, r):
    """The same name in another namespace or another place, before the right one."""
    name = r.choice(VALUES)
    node = d.ensure(name)
    parent = d.root.parent_of(name)
    fake = Node(name, "decoy", space=r.choice(("urn:other", "ovf", "wa")))
    if fake.space == "wa":
        fake = Node("Extra", fake, space=r.choice(("wa", "urn:other")))
    parent.children.insert(parent.children.index(node) + r.choice((0, 1)), fake)


def child_in_value(d, r):
    name = r.choice(VALUES)
    text = text_of(d, name)
    at = r.randrange(len(text) + 1)
    d.set(name, text[:at], Node("Inner", *r.choice(((), ("inner",)))), text[at:])


def other_namespace(d, r):
    node = r.choice([node for node in d.root.all() if node.name in VALUES + STRUCTURE[:6] + ("Environment",)])
    node.space = r.choice((None, "ovf" if node.space == "wa" else "wa", AZURE + "/", AZURE.upper(), AZURE.replace("http:", "https:"), "urn:" + "x" * 200))


def other_root(d, r):
    d.root.name = r.choice(("environment", "Environments", "Envelope", "html"))


def other_case(d, r):
    node = r.choice([node for node in d.root.all() if node.name in VALUES + STRUCTURE])
    node.name = r.choice((node.name.lower(), node.name.upper()))


def prefix_undeclared(d, r):
    d.set(r.choice(VALUES + STRUCTURE[1:5]), Raw("<nowhere:Element />"))


def booleans(d, r):
    d.set(r.choice(("DisableSshPasswordAuthentication", "ProvisionGuestAgent", "PreprovisionedVm")), r.choice((
        "True", "TRUE", "tRuE", "1", "0", "yes", "no", "on", "off", "y", "n", "t", " true ", "\ntrue\n", "false ", "maybe", "False",
        "2", "-1", "null")))


def password(d, r):
    d.set("UserPassword", r.choice((
        "REDACTED", "*", " REDACTED ", "redacted", "**", " ", " leading", "trailing ", "x" * 72, "x" * 73, "x" * 200, "x" * 256, "x" * 257,
        "x" * 2000, "\u00e9" * 200, "\U0001f600", "a\nb", "a\tb", "]]", "%s", "$6$x$y", "\u0000".replace("\0", "n"))))


def user(d, r):
    d.set("UserName", r.choice((
        "root", "a b", "\u00dcn\u00efx", "x" * 32, "x" * 33, "x" * 64, "x" * 65, "UPPER", "user$", "a:b", "-x", " padded ", "a\nb", "1abc", "..", "a/b",
        "user@example.com", "DOMAIN\\user", "_x", "a.b-c_d", "*", "")))


def host(d, r):
    d.set("HostName", r.choice((
        "UPPER", "a_b", "x" * 63, "x" * 64, "x" * 65, "vm.", ".vm", "a..b", "-vm", "vm-", "caf\u00e9", "a b", " padded ", "a\nb", "10.0.0.1", "localhost", "a" * 40 + "." + "b" * 40,
        "1", "vm;reboot", "$(reboot)", "")))


def keys(d, r):
    d.ensure("PublicKeys")
    made = []
    for _ in range(r.choice((1, 2, 3, 8, 20))):
        value = r.choice(KEYS + (
            KEYS[0] + "\n", "\n" + KEYS[1] + "\r\n", KEYS[0] + "\n" + KEYS[1] + "\n", 'command="ls" ' + KEYS[0], "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "no key", "", "  ", "ssh-rsa !!!!", "ssh-dss AAAA"))
        children = [Node("Fingerprint", "ABCD"), Node("Path", "/home/a/.ssh/authorized_keys"), Node("Value", value)]
        r.shuffle(children)
        made.append(Node("PublicKey", *children[r.choice((0, 0, 1)):]))
    d.set("PublicKeys", *made)


def key_pairs(d, r):
    d.ensure("PublicKeys")
    d.root.find("SSH").children.append(Node("KeyPairs", Node("KeyPair", Node("Fingerprint", "CDEF"), Node("Path", "/home/a/.ssh/id_rsa"))))


def custom_data(d, r):
    raw = bytes(r.randrange(256) for _ in range(r.choice((0, 1, 2, 3, 100, 5000))))
    text = base64.b64encode(raw).decode()
    d.set("CustomData", r.choice((
        text, "\n".join(text[n:n + 76] for n in range(0, len(text), 76)), "  " + text + "\n", text.rstrip("="), text + "=", text + "====", "=" + text,
        text.replace("+", "-").replace("/", "_"), text + "!", "not base64", text[:-1], "A", "AB==CD==", "QUJD\u00e9")))


def large_custom_data(d, r):
    d.set("CustomData", base64.b64encode(bytes(r.choice((65535, 65536, 70000)))).decode())


def preprovisioned(d, r):
    d.set("PreprovisionedVm", r.choice(("true", "false", "True", "1", "")))
    d.ensure("PreprovisionedVMType").attributes = ""
    d.set("PreprovisionedVMType", r.choice(("Running", "Savable", "PreprovisionedOSDisk", "None", "running", "Other", "")))


def cut_short(d, r):
    before = d.encode
    part = r.random()
    d.encode = lambda text: (lambda data: data[:int(len(data) * part)])(before(text))


def behind_the_end(d, r):
    d.behind = r.choice(("x", "<a/>", "\0", "   \n\n ", "<!-- -->", "&#10;", "<![CDATA[ ]]>", "\n\n\r\n"))


def before_the_start(d, r):
    start = r.choice((" ", "\n", "x", "\ufeff\ufeff", "<!-- -->"))
    d.encode = lambda text: (start + text).encode()


def bad_bytes(d, r):
    bad = r.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x01", b"\x00", b"\x0b", b"\xef\xbf\xbe", b"\xc3", b"\x7f", b"\xc2\x85"))
    name = r.choice(VALUES)
    d.set(name, "MARK")
    d.encode = lambda text: text.encode().replace(b"MARK", b"a" + bad)


def bad_tags(d, r):
    node = d.root.find(r.choice(STRUCTURE[1:5]))
    node.children.append(Raw(r.choice((
        "</wrong>", "<open>", "< a/>", "<a / >", "<1a/>", "<a></a >", "<a></ a>", "<a.b-c/>", "<:a/>", "<a:/>", "<a:b:c/>", "<\u00e9l\u00e9ment/>", "<a\n/>", "a ]]> b", ">",
        "<!DOCTYPE a>", "<?xml version='1.0'?>", "<![CDATA[x]]", "<![cdata[x]]>", "<?xmlx?>", "<a>" * 20 + "</a>" * 20, "<a>" * 100 + "</a>" * 100, "<" + "n" * 300 + "/>"))))


def more_sections(d, r):
    d.root.children.insert(r.randrange(3), Node(
        r.choice(("PropertySection", "Section", "ProvisioningSections")), Node("Property", attributes='key="a" value="b"'),
        space=r.choice(("ovf", "urn:other", "wa"))))
    d.root.find("ProvisioningSection").children.append(Node("WindowsProvisioningConfigurationSet", Node("ComputerName", "win")))


def other_order(d, r):
    for node in d.root.all():
        r.shuffle(node.children)


def versions(d, r):
    d.set("Version", r.choice(("1.0", "2.0", "0.9", "10.0", "x", " 1.0 ")))


def xml_declaration(d, r):
    d.declaration = r.choice((
        '<?xml version="1.1"?>', "<?xml version='1.0' standalone='yes'?>", "<?xml version='1.0' encoding='UTF-8' standalone='no' ?>", '<?xml version="2.0"?>',
        '<?xml encoding="utf-8"?>', "<?xml?>", '<?XML version="1.0"?>', '<?xml version="1.0" encoding="nonsense"?>'))


MUTATIONS = [
    plain, byte_order_mark, utf_16, other_encoding, cdata, cdata_and_text, references, bad_reference, document_type, comment_in_text,
    comment_between, bad_comment, attributes, bad_attributes, missing_value, missing_section, empty_value, empty_section, twice_value,
    twice_section, deeper, decoy, child_in_value, other_namespace, other_root, other_case, prefix_undeclared, booleans, password, user, host,
    keys, key_pairs, custom_data, large_custom_data, preprovisioned, cut_short, behind_the_end, before_the_start, bad_bytes, bad_tags,
    more_sections, other_order, versions, xml_declaration]
EACH, MIXED = 16, 280


def documents():
    """Pairs of a class and a document."""
    for number, mutation in enumerate(MUTATIONS):
        for turn in range(EACH):
            rng = random.Random(SEED * 1000003 + number * 1009 + turn)
            document = Document(rng)
            mutation(document, rng)
            yield mutation.__name__, document.bytes()
    for turn in range(MIXED):
        rng = random.Random(SEED * 7 + turn)
        document = Document(rng)
        for mutation in rng.sample(MUTATIONS, rng.choice((2, 2, 3))):
            try:
                mutation(document, rng)
            except (AttributeError, ValueError, StopIteration):
                pass  # an earlier one took away what this one needs
        try:
            yield "mixed", document.bytes()
        except UnicodeEncodeError:
            yield "mixed", document.text().encode()


UNKNOWN = object()


# --- the references ---------------------------------------------------------------------------------------

def unpacked(where, packages=PACKAGES):
    """The packages' modules below `where`; the reason as text where they cannot be had."""
    def run(*words):
        return subprocess.run(["apt-get", *words], cwd=where, capture_output=True, text=True, timeout=300)

    try:
        ran = run("download", *packages)
        if ran.returncode != 0 and os.geteuid() == 0 and run("update", "-qq").returncode == 0:
            ran = run("download", *packages)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if ran.returncode != 0:
        return "apt-get download: " + (ran.stderr.strip().splitlines() or ["failed"])[-1]
    for package in glob.glob(os.path.join(where, "*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, where], check=True)
        print("oracle:", os.path.basename(package))
    sys.path[:0] = [os.path.join(where, "usr/lib/python3/dist-packages")]
    return None


def class_from(path, name, globals_):
    """One class of a file, without what the file imports: neither package's other dependencies are needed."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    start = re.search(rf"^class {name}\b.*$", source, re.M).start()
    end = re.search(r"^(?=\S)", source[source.index("\n", start) + 1:], re.M)
    stop = len(source) if end is None else source.index("\n", start) + 1 + end.start()
    exec(compile(source[start:stop], path, "exec"), globals_)  # the package's own code
    return globals_[name]


def cloud_init_reader(where):
    """OvfEnvXml.parse_text, as load_azure_ds_dir calls it: with bytes."""
    import logging
    import typing
    from xml.etree import ElementTree

    base = os.path.join(where, "usr/lib/python3/dist-packages/cloudinit")
    with open(os.path.join(base, "util.py"), encoding="utf-8") as file:
        source = file.read()
    names = {}
    for function in ("is_true", "translate_bool"):
        exec(re.search(rf"^def {function}\(.*?(?=^\S)", source, re.M | re.S).group(0), names)
    names["TRUE_STRINGS"] = eval(re.search(r"^TRUE_STRINGS = (.*)$", source, re.M).group(1)) if "TRUE_STRINGS" in source else ()
    util = types.SimpleNamespace(translate_bool=names["translate_bool"])
    broken, foreign = type("BrokenAzureDataSource", (Exception,), {}), type("NonAzureDataSource", (Exception,), {})
    log = logging.getLogger("cloud-init")
    log.disabled = True
    reader = class_from(os.path.join(base, "sources/helpers/azure.py"), "OvfEnvXml", {
        "ElementTree": ElementTree, "LOG": log, "base64": base64, "util": util, "BrokenAzureDataSource": broken,
        "NonAzureDataSource": foreign, **{name: getattr(typing, name) for name in ("List", "Optional")}})

    def read(data):
        # its callers: a password that is not masked counts, and empty names are none
        said = reader.parse_text(data)
        return {
            "hostname": said.hostname, "user": said.username, "password": said.password, "disable": said.disable_ssh_password_auth,
            "custom": said.custom_data, "keys": [key["value"] for key in said.public_keys if key["value"]], "agent": None,
            "type": said.preprovisioned_vm_type if said.preprovisioned_vm_type not in (None, "None") else ("Running" if said.preprovisioned_vm else None)}
    return read


def waagent_reader(where):
    from azurelinuxagent.common.protocol.ovfenv import OvfEnv
    from azurelinuxagent.common.utils import textutil

    def read(data):
        # protocol/util.py copy_ovf_env: read_file(remove_bom=True)
        said = OvfEnv(textutil.remove_bom(data).decode("utf-8"))
        custom = said.customdata
        if custom is not None:
            # osutil.decode_customdata, later and only if asked for
            try:
                custom = base64.b64decode(custom)
            except ValueError:
                custom = UNKNOWN
        return {
            "hostname": said.hostname, "user": said.username, "password": said.user_password, "disable": said.disable_ssh_password_auth,
            "custom": custom, "keys": [value for _, _, value in said.ssh_pubkeys if value], "agent": said.provision_guest_agent.lower() != "false",
            "type": None}
    return read


def line(read, data):
    """`refused WHY`, or the values as words in hexadecimal, `-` for none, `?` for what is not known here."""
    try:
        said = read(data)
    except Exception as error:  # whatever it is, it does not accept
        why = re.sub(r"^(Invalid ovf-env.xml|\[ProtocolError\] Failed to validate OVF): |: line \d.*|[\t\n].*", "", str(error))
        return "refused " + re.sub(r"^\w+ not found$", "X not found", why)

    def word(value):
        if value is None:
            return "-"
        if value is UNKNOWN:
            return "?"
        value = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        return "=" + value.hex()
    fields = [word(said[name]) for name in ("hostname", "user", "password", "disable", "custom", "agent", "type")]
    return " ".join(["accepted", *fields, *map(word, said["keys"])])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", metavar="DIR", help="leave documents and results here")
    parser.add_argument("--require", action="store_true", default=os.environ.get("PREROOT_REQUIRE_ORACLES") == "1")
    options = parser.parse_args()
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)
        why = unpacked(where)
        if why:
            print(f"ovf oracle: SKIPPED: {why}", file=sys.stderr)
            print("0 passed, 0 failed" if not options.require else "0 passed, 1 failed")
            return int(options.require)
        readers = [cloud_init_reader(where), waagent_reader(where)]
        cases = options.keep or os.path.join(where, "cases")
        os.makedirs(cases, exist_ok=True)
        with open(os.path.join(cases, "results"), "w", encoding="utf-8") as results:
            for number, (kind, data) in enumerate(documents()):
                with open(os.path.join(cases, f"{number}.xml"), "wb") as file:
                    file.write(data)
                print(number, kind, *(line(read, data) for read in readers), sep="\t", file=results)
        words = [os.environ.get("CARGO", "cargo"), "test", "--locked", "-q", "--test", "ovf_oracle", "--", "--ignored", "--nocapture"]
        return subprocess.run(words, cwd=REPO, env={**os.environ, "PREROOT_OVF_CASES": os.path.abspath(cases)}).returncode


if __name__ == "__main__":
    sys.exit(main())
