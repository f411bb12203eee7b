"""What the tests beside this file share: which binary they mean, and how their `test_*` are run and counted."""

import os
import pathlib
import sys
import traceback

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def binary():
    """The built preroot: PREROOT names it, else target/release, else target/debug."""
    named = [os.environ["PREROOT"]] if "PREROOT" in os.environ else []
    paths = map(pathlib.Path, named + [TOP / "target/release/preroot", TOP / "target/debug/preroot"])
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        sys.exit("build first: cargo build")
    return str(found)


def run(names, is_skipped=lambda _: False):
    """Runs each `test_*` of `names`, a program's `globals()`. Prints `N passed, N failed`; returns the exit code."""
    passed = failures = 0
    for name, test in [item for item in names.items() if item[0].startswith("test_")]:
        if is_skipped(name):
            continue
        try:
            test()
            passed += 1
        except Exception:  # a test may fail in any way
            failures += 1
            print(f"FAILED {name}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failures} failed")
    return 1 if failures else 0
