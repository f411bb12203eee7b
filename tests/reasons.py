#!/usr/bin/env python3
"""Is every reason that may reach the platform explained in docs/reasons.md? Prints `N passed, N failed`."""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
# Where reasons are made that end in a report; growing and modules are told on the console only.
PLACES = ("src/facts.rs", "src/plan.rs", "src/seed", "src/source", "src/apply", "src/net", "src/report",
          "src/format/base64.rs", "src/format/dhcp.rs", "src/format/file.rs", "src/format/goalstate.rs",
          "src/format/http.rs", "src/format/json", "src/format/imds", "src/format/fat", "src/format/volume", "src/format/ovf",
          "src/format/udf", "src/format/iso9660", "src/format/xml", "src/stage/apply.rs", "src/stage/fetch",
          "src/stage/offline.rs", "src/stage/online", "src/stage/persist.rs", "src/stage/report.rs",
          "src/sys/linux/process.rs")
REASONS = (r'(?:malformed|unsupported)!\(\s*(?:rule )?(?:"[^"]*"|[$\w]+),\s*"([^"]+)"',
           r'(?:too_many|deadline|not_applicable)!\(\s*"([^"]+)"')


def code(path):
    """A file without comments and tests."""
    text = path.read_text(encoding="utf-8").split("#[cfg(test)]\nmod ")[0]
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def files():
    for place in PLACES:
        path = TOP / place
        if not path.exists():
            raise SystemExit(f"{place} is gone: look for the reasons where it went")
        for candidate in sorted([path, path.with_suffix(".rs"), *path.rglob("*.rs")]):
            # Told to the person at the terminal only.
            if candidate.is_file() and candidate.name != "tests.rs" and "deprovision" not in candidate.parts:
                yield candidate


def main():
    explained = set(re.findall(r"`([^`\n]+)`", (TOP / "docs/reasons.md").read_text(encoding="utf-8")))
    passed, missing = 0, []
    for path in dict.fromkeys(files()):
        for reason in {m for pattern in REASONS for m in re.findall(pattern, code(path))}:
            if reason in explained:
                passed += 1
            else:
                missing.append(f"{path.relative_to(TOP)}: {reason!r} has no line in docs/reasons.md")
    print("\n".join(sorted(missing) + [f"{passed} passed, {len(missing)} failed"]))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
