#!/usr/bin/env python3
"""Does the translator's YAML say what PyYAML's safe loader says? Makes documents (the same on every run), has both read them.

    yaml_oracle.py [N]      5,000 documents, or so many

Where python3-yaml is not installed that is said, with PREROOT_REQUIRE_ORACLES=1 it is a failure. Splits have reasons, counted by
reason; one without a reason is a failure. Prints `N passed, N failed`.
"""

import base64
import collections
import json
import os
import random
import re
import struct
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
try:
    import yaml
except ImportError:
    print("skipped: python3-yaml is not installed")
    print("0 passed, 0 failed")
    sys.exit(1 if os.environ.get("PREROOT_REQUIRE_ORACLES") else 0)

SCALARS = """yes no on Off TRUE y n ~ null Null 0 1 -1 +12 0644 0o644 644 08 0x1F 0b101 1_000 1:30 1:60 20:30:20 190:20:30.15 1.5 1. .5 +.5 -.5
1e3 1.0e3 1.0e+3 .inf -.INF .nan 2012-09-01 2012-9-1 2001-12-14t21:59:43.10-05:00 08:00 52:54:00:12:34:56 = << a b_c hello-world /etc/x
ALL=(ALL) $6$ab$c echo,x x:y http://a/b?c=d#e a#b -x --- ... ? - : @a `b %c &x *x !x |x >x 'it' "say" [a {b 1.2.3.4/24 fe80::1 ==
0_7 0x_f -0 +0x1 0b 0x 00 01 0.0 1e+3 1_0.5 12e03 -.5e-3 .1e+2 +.inf 1:2:3 -1:30 :30 1: 0:0 000 _1 2001-1-1 1:30.5 :a a: a:b""".split()


class Maker:
    """Documents as people write them, and some that nobody would."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.anchors = []

    def pick(self, *choices):
        return self.random.choice(choices)

    def text(self):
        words = [self.random.choice(SCALARS) for _ in range(self.random.randrange(1, 4))]
        return self.pick(" ", "  ", ": ", " #", ":", "-", "\t").join(words)

    def plain(self):
        return self.random.choice(SCALARS)

    def quoted(self):
        text = self.text()
        if self.random.random() < 0.5:
            return "'" + text.replace("'", "''") + self.pick("", "\n\n    x", "\n      y") + "'"
        escape = self.pick("\\n", "\\t", "\\x41", "\\u00e9", "\\\\", '\\"', "\\0", "\\e", "\\/", "\\N", "\\_", "\\U0001F600", "\\\n    ", "é")
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + escape + '"'

    def block(self, indent):
        head = self.pick("|", ">") + self.pick("", "-", "+", "") + self.pick("", "", "", " # c")
        pad = " " * (indent + self.pick(1, 2, 4))
        lines = [self.pick(pad, pad, pad + " ", "") + self.pick(self.text(), "", "echo x", "#!/bin/sh", "- a", "k: v") for _ in range(self.random.randrange(0, 5))]
        return head + "\n" + "\n".join(line if line.strip() else "" for line in lines)

    def flow(self, depth):
        kind = self.random.random()
        if depth <= 0 or kind < 0.4:
            return self.pick(self.plain(), self.quoted().replace("\n", " "))
        if kind < 0.7:
            return "[" + self.pick(", ", ",", " , ").join(self.flow(depth - 1) for _ in range(self.random.randrange(0, 4))) + self.pick("]", ",]", " ]")
        pairs = [self.pick(self.plain(), self.quoted().replace("\n", " ")) + self.pick(": ", ": ", ":", " : ") + self.flow(depth - 1) for _ in range(self.random.randrange(0, 3))]
        return "{" + ", ".join(pairs) + "}"

    def value(self, indent, depth):
        """Behind a `key:` or a `-`, with what stands before it."""
        kind = self.random.random()
        anchor = ""
        if self.random.random() < 0.06:
            self.anchors.append(f"a{len(self.anchors)}")
            anchor = f" &{self.anchors[-1]}"
        if self.anchors and self.random.random() < 0.06:
            return " *" + self.random.choice(self.anchors)
        if self.random.random() < 0.04:
            anchor += self.pick(" !!str", " !!int", " !!binary", " !x", " !", " !!float", " !!bool", " !!null")
        if kind < 0.3:
            return f"{anchor} {self.plain()}" + self.pick("", "", " # note", "\n" + " " * (indent + 2) + "more words")
        if kind < 0.42:
            return f"{anchor} {self.quoted()}"
        if kind < 0.54:
            return f"{anchor} {self.block(indent)}"
        if kind < 0.66:
            return f"{anchor} {self.flow(2)}"
        if kind < 0.7:
            return self.pick("", " ", " ~")
        if depth <= 0:
            return " x"
        if kind < 0.86:
            return f"{anchor}\n" + self.mapping(indent + self.pick(1, 2, 4), depth - 1)
        return f"{anchor}\n" + self.sequence(indent + self.pick(0, 1, 2), depth - 1)

    def mapping(self, indent, depth):
        keys = ["runcmd", "users", "name", "a b", "1", "yes", "'q'", '"d"', "x-y", "k", "<<", "0644", "? c"]
        lines = []
        for _ in range(self.random.randrange(1, 5)):
            lines.append(" " * indent + self.random.choice(keys) + self.pick(":", ":", ":", " :") + self.value(indent, depth))
            if self.random.random() < 0.1:
                lines.append(self.pick("", "# comment", " " * indent + "# comment"))
        return "\n".join(lines)

    def sequence(self, indent, depth):
        lines = []
        for _ in range(self.random.randrange(1, 4)):
            if self.random.random() < 0.3 and depth > 0:
                inner = self.mapping(indent + 2, depth - 1)
                lines.append(" " * indent + "- " + inner[indent + 2:])
            else:
                lines.append(" " * indent + "-" + self.value(indent, depth))
        return "\n".join(lines)

    def document(self):
        self.anchors = []
        head = self.pick("#cloud-config\n", "#cloud-config\n", "", "#cloud-config\n---\n", "%YAML 1.1\n---\n", "\ufeff#cloud-config\n")
        body = self.mapping(0, 3) if self.random.random() < 0.9 else self.sequence(0, 3)
        text = head + body + self.pick("\n", "\n", "", "\n...\n", "\n\n# end\n")
        if self.random.random() < 0.05:
            text = text.replace("\n", "\r\n")
        if self.random.random() < 0.1:
            at = self.random.randrange(len(text))
            text = text[:at] + self.pick("", ":", "'", '"', "[", "}", "\t", " ", "\n", "-", "#", "&", "\x07") + text[at + 1:]
        return text


def shape(value):
    """As the example yaml of the translator prints it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return {"$int": str(value)}
    if isinstance(value, float):
        return {"$float": "nan" if value != value else struct.pack(">d", value).hex()}
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {"$map": [[shape(key), shape(inner)] for key, inner in value.items()]}
    return {"$date": ""}


def calm(value):
    """One spelling of what is not a number."""
    if isinstance(value, dict):
        if "$float" in value and struct.unpack(">d", bytes.fromhex(value["$float"]))[0] != struct.unpack(">d", bytes.fromhex(value["$float"]))[0]:
            return {"$float": "nan"}
        return {key: calm(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [calm(inner) for inner in value]
    return value


def theirs(text):
    try:
        return shape(yaml.safe_load(text)), ""
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, KeyError, IndexError, AttributeError) as error:
        return None, type(error).__name__ + ": " + str(getattr(error, "problem", None) or error).split("\n")[0]


# What both mean by it, and whose reading is the stricter. Each row: who refuses, what the refusal says, why that stays.
REASONS = [
    ("theirs", r"cannot start any token|but (got|found) '[?:]'|expected alphabetic or numeric|found '<document end>'", "more lenient: a mark of YAML where PyYAML wants quotes"),
    ("ours", r"a tag nobody knows", "a tag behind `<<`, which PyYAML never looks at: the part is left out, with its line"),
    ("ours", r"a collection as a key", "an anchor whose name ends in a colon: the part is left out, with its line"),
    ("none", r"\n(#!/bin/sh)\n\1$", "a comment without a line end that repeats the last line of the block before it"),
    ("none", r"\?[,\]}]", "a lone `?` in a flow collection: text, not a key of null"),
    ("ours", r"invalid indentation in quoted scalar", "a quoted text goes on left of its key: the part is left out, with its line"),
    ("ours", r"':' may not precede|simple key expect ':'|plain scalar cannot start with '-'|comments must be separated|while parsing a flow", "YAML 1.2 wants a blank there: the part is left out, with its line"),
]


def reason(text, ours, ours_fault, theirs_value, theirs_fault):
    for who, pattern, why in REASONS:
        fault = {"ours": ours_fault, "theirs": theirs_fault, "none": text if not ours_fault and not theirs_fault else ""}[who]
        if fault and re.search(pattern, fault):
            return why
    return None


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    maker = Maker(20261122)
    documents = [maker.document() for _ in range(count)]
    build = subprocess.run(["cargo", "build", "--quiet", "--locked", "--example", "yaml"], cwd=f"{TOP}/tools/cloud-config", check=False)
    if build.returncode:
        return 1
    program = next(line for line in subprocess.run(
        ["sh", "-c", "ls target/*/debug/examples/yaml"], cwd=f"{TOP}/tools/cloud-config", capture_output=True, text=True, check=True).stdout.split())
    said = subprocess.run([f"{TOP}/tools/cloud-config/{program}"], input="\0".join(documents).encode(), capture_output=True, check=True)
    lines = said.stdout.decode().splitlines()
    assert len(lines) == count, (len(lines), count)
    equal, splits, wrong = collections.Counter(), collections.Counter(), []
    for text, line in zip(documents, lines):
        ours_fault = line[1:] if line.startswith("!") else ""
        ours = None if ours_fault else calm(json.loads(line))
        value, fault = theirs(text)
        if fault and ours_fault:
            equal["refused by both"] += 1
        elif not fault and not ours_fault and ours == value:
            equal["equal"] += 1
        else:
            why = reason(text, ours, ours_fault, value, fault)
            if why:
                splits[why] += 1
            else:
                wrong.append((text, line, json.dumps(value), fault))
    for name, number in [*equal.items(), *splits.items()]:
        print(f"| yaml | {number} | {name}")
    for text, line, value, fault in wrong[: int(os.environ.get("SHOW", "5"))]:
        print(f"FAILED\n{text!r}\n  ours   {line}\n  theirs {fault or value}")
    if os.environ.get("KINDS"):
        kinds = collections.Counter((line.split(" ", 1)[1] if line.startswith("!") else "read", fault or "read") for _, line, _, fault in wrong)
        for kind, number in kinds.most_common(40):
            print(number, kind)
    print(f"{sum(equal.values()) + sum(splits.values())} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
