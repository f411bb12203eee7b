#!/bin/sh
# Grows the root partition before it is mounted. Sourced by dracut's init where it has no systemd: never exit.
# Once: before the mount (pre-mount), or already while the root's device is waited for (initqueue/settled, skipped where it is
# there at once): behind a torn primary table it has none until it is restored here. A hibernated system comes first there,
# for ten seconds of that loop.
# shellcheck disable=SC2154 # job, main_loop and resume are dracut's
preroot_grow() {
    if command -v timeout >/dev/null 2>&1; then
        timeout -s KILL 20 /usr/bin/preroot grow >/dev/null 2>&1
    else
        /usr/bin/preroot grow >/dev/null 2>&1
    fi
}

if getargbool 1 rd.preroot; then
    case ${job-} in
        */initqueue/settled/*)
            # No device in time: it may be there now.
            if [ -e /run/preroot/grow.later ]; then
                rm -f /run/preroot/grow.later
                preroot_growing=
            fi
            if [ -z "${preroot_growing-}" ] && { [ -z "${resume-}" ] || [ -e /dev/resume ] || [ "${main_loop:-0}" -ge 20 ]; }; then
                preroot_grow &
                preroot_growing=$!
            fi
            ;;
        *)
            [ -z "${preroot_growing-}" ] || wait "$preroot_growing" || true
            if [ -z "${preroot_growing-}" ] || [ -e /run/preroot/grow.later ]; then
                rm -f /run/preroot/grow.later
                preroot_grow || true
            fi
            ;;
    esac
fi
