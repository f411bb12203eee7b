#!/bin/sh
# Grows the root partition before it is mounted. Sourced by dracut's init where it has no systemd: never exit.
if getargbool 1 rd.preroot; then
    if command -v timeout >/dev/null 2>&1; then
        timeout -s KILL 20 /usr/bin/preroot grow >/dev/null 2>&1 || true
    else
        /usr/bin/preroot grow >/dev/null 2>&1 || true
    fi
fi
