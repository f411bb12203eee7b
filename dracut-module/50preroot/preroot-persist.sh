#!/bin/sh
# Hands what was learnt to the mounted root. Sourced by dracut's init where it has no systemd: never exit.
if getargbool 1 rd.preroot; then
    if command -v timeout >/dev/null 2>&1; then
        timeout -s KILL 60 /usr/bin/preroot persist --root "$NEWROOT" >/dev/null 2>&1 || true
    else
        /usr/bin/preroot persist --root "$NEWROOT" >/dev/null 2>&1 || true
    fi
    # Should it have been killed: nobody else ends it.
    [ ! -d /run/preroot ] || : >/run/preroot/kvp.stop
fi
