#!/bin/bash
# Is every medium read as people's programs write it? Random trees through genisoimage, xorriso, mkfs.vfat and mtools.
# usage: media.sh [TREES]     (default 150)     prints how many of which kind; UDF by a kernel: tests/vm/udf.sh
set -euo pipefail
. "$(dirname "$0")/vm/lab.sh"
require genisoimage=genisoimage xorriso=xorriso mkfs.vfat=dosfstools mcopy=mtools blkid=util-linux
cd "$REPO"
MEDIA_TREES=${1:-150} "${CARGO:-cargo}" test --quiet --locked --test media -- --nocapture
