#!/bin/sh
# Drivers, then provisioning data beside the rest of the boot. Sourced by dracut's init where it has no systemd: never exit.
preroot_bounded() {
    preroot_limit=$1
    shift
    if command -v timeout >/dev/null 2>&1; then
        timeout -s KILL "$preroot_limit" "$@"
    else
        "$@"
    fi
}

if getargbool 1 rd.preroot; then
    preroot_bounded 25 /usr/bin/preroot modules >/dev/null 2>&1 || true
    preroot_bounded 145 /usr/bin/preroot fetch >/dev/null 2>&1 &
    # persist ends it
    /usr/bin/preroot kvp --early >/dev/null 2>&1 &
fi
