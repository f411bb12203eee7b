# preroot: every way to build, look at, test and install it. `make demo` and `make test` need nothing but a
# Debian 12 or later with cargo; as root they install what they lack.
#
#   SUITE=bookworm|trixie    INITRD=dracut|initramfs-tools    ACCEL=tcg|kvm    (demo, vm-test)
#   APPLIANCE=1              demo: an image of busybox, dropbear and preroot alone instead of Debian's
#   DESTDIR= PREFIX=/usr                                                        (install)

SUITE  ?= bookworm
INITRD ?= dracut
ACCEL  ?= tcg
PREFIX ?= /usr
DESTDIR ?=
CARGO  ?= cargo
export SUITE INITRD ACCEL CARGO

BINARY    = target/release/preroot
UNITDIR   = $(PREFIX)/lib/systemd/system
PRESETDIR = $(PREFIX)/lib/systemd/system-preset
DRACUTDIR = $(PREFIX)/lib/dracut/modules.d
ITOOLSDIR = $(PREFIX)/share/initramfs-tools

.PHONY: all build toolchain demo test check vm-test test-full fuzz bench install clean

all: build

# Rust 1.95 is not in Debian 12: say so instead of failing somewhere inside a crate.
toolchain:
	@sh tests/toolchain.sh

build: toolchain
	$(CARGO) build --release --locked

demo: build
	tests/vm/demo$(if $(APPLIANCE),-appliance).sh

test: check
	PREROOT_LAYOUTS=500 $(CARGO) test --locked
	tests/media.sh 150
	tests/scripts.sh

check: toolchain
	tests/check.sh

vm-test: build
	tests/vm/scenarios.sh fast

test-full: test
	$(CARGO) test --locked --lib -- --ignored --nocapture
	PREROOT_LAYOUTS=10000 $(CARGO) test --locked --test growpart -- --nocapture
	PREROOT_HAND_OVERS=1000 python3 tests/cloud/kvp_test.py
	tests/media.sh 700
	python3 tests/oracle/cloud_config_differential.py 0
	tests/vm/udf.sh 350
	tests/vm/scenarios.sh full
	for suite in bookworm trixie; do for tool in dracut initramfs-tools; do \
	    SUITE=$$suite INITRD=$$tool tests/vm/contents.sh || exit 1; \
	done; done

fuzz: toolchain
	tests/fuzz.sh

bench: build
	bench/run.sh

# Files only: the package's own scripts enable the units and have the initrds made again.
install: build
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/preroot
	install -d $(DESTDIR)$(DRACUTDIR)/50preroot $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PRESETDIR)
	install -m 644 dracut-module/50preroot/* $(DESTDIR)$(DRACUTDIR)/50preroot/
	chmod 755 $(DESTDIR)$(DRACUTDIR)/50preroot/module-setup.sh
	install -D -m 755 initramfs-tools-hook/hooks/preroot $(DESTDIR)$(ITOOLSDIR)/hooks/preroot
	for stage in init-premount local-premount local-bottom; do \
	    install -D -m 755 initramfs-tools-hook/scripts/$$stage/preroot $(DESTDIR)$(ITOOLSDIR)/scripts/$$stage/preroot || exit 1; \
	done
	install -m 644 packaging/systemd/*.service packaging/systemd/*.path $(DESTDIR)$(UNITDIR)/
	install -m 644 packaging/systemd/90-preroot.preset $(DESTDIR)$(PRESETDIR)/

clean:
	$(CARGO) clean
	rm -rf .vm

# Manual page; install-openrc and install-busybox for other init systems.
include packaging/install.mk
