//! Volumes as mkfs.vfat and mtools make them, and volumes that nobody should make.
