# shellcheck shell=bash
# Where does the laboratory keep its things, and how do its scripts speak? (sourced by all of them)
#
#   VM_DIR   roots, images, logs                      (default: .vm in the repository)
#   SUITE    bookworm | trixie                         INITRD   dracut | initramfs-tools
#   ACCEL    QEMU's accelerator (default tcg)
#   PROVISIONER  who provisions the image: preroot | none | cloud-init (Debian's package)       (default preroot)
#   WITH     what else Debian's packages bring into the root: cloud-init | waagent | openrc (no systemd) | selinux |
#            timesyncd | ifupdown (instead of networkd, and with chrony) |
#            user-data (cloud-init, the translator of cloud-config, and a repository of packages in the image) |
#            chroot (cloud-init, no kernel)

REPO=${REPO:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
VM_DIR=${VM_DIR:-$REPO/.vm}
SUITE=${SUITE:-bookworm}
INITRD=${INITRD:-dracut}
ACCEL=${ACCEL:-tcg}
PROVISIONER=${PROVISIONER:-preroot}
WITH=${WITH:-}
[ "$PROVISIONER" != cloud-init ] || WITH=cloud-init
export REPO VM_DIR SUITE INITRD ACCEL PROVISIONER WITH
mkdir -p "$VM_DIR"

# One line for people, on standard error: standard output is for answers.
say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# require PROGRAM=PACKAGE ...: installs the Debian packages of programs that are missing.
require() {
    local pair missing=()
    for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || die "missing packages: ${missing[*]} (root would install them)"
    say "installing ${missing[*]}"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# digest TEXT...: the first 12 digits of a hash, to key the caches.
digest() { printf '%s\n' "$@" | sha256sum | cut -c1-12; }
