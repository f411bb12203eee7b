# What `make install` adds beside binary, units and initrd integrations. Included by the Makefile, which sets
# DESTDIR and PREFIX. Other init systems on request: make install-openrc, make install-busybox.

SYSCONFDIR ?= /etc
MANDIR     ?= $(PREFIX)/share/man

.PHONY: install-man install-openrc install-busybox cloud-config install-cloud-config install-cloud-init

install: install-man

install-man:
	install -d $(DESTDIR)$(MANDIR)/man8
	awk -f packaging/man.awk docs/man/preroot.8.md > $(DESTDIR)$(MANDIR)/man8/preroot.8
	chmod 644 $(DESTDIR)$(MANDIR)/man8/preroot.8

# Enable them with: rc-update add preroot-apply boot; rc-update add preroot-report-early boot; rc-update add preroot-report default;
# rc-update add preroot-scripts default; rc-update add preroot-resource-disk default
# Debian's OpenRC has its networking in sysinit: the first two belong there too.
install-openrc:
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d
	install -m 755 packaging/openrc/* $(DESTDIR)$(SYSCONFDIR)/init.d/

install-busybox:
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d
	install -m 755 packaging/busybox/* $(DESTDIR)$(SYSCONFDIR)/init.d/

# The translator of user data, for images whose users have cloud-config.
cloud-config: toolchain
	cd tools/cloud-config && $(CARGO) build --release --locked

install-cloud-config: cloud-config
	install -D -m 755 tools/cloud-config/target/*/release/preroot-cloud-config $(DESTDIR)$(PREFIX)/bin/preroot-cloud-config

# `cloud-init status --wait` and its like for programs that call it, on images without cloud-init: what is disabled is there, too.
install-cloud-init:
	@for file in $(DESTDIR)$(PREFIX)/bin/cloud-init $(DESTDIR)/usr/bin/cloud-init; do \
		if [ -e $$file ] && ! sed -n 2p $$file | grep -q '^# preroot:'; then \
			echo "$$file is cloud-init itself: remove its package first, or leave this out" >&2; exit 1; \
		fi; \
	done
	install -D -m 755 packaging/cloud-init/cloud-init $(DESTDIR)$(PREFIX)/bin/cloud-init
	install -D -m 755 packaging/cloud-init/cloud-init-per $(DESTDIR)$(PREFIX)/bin/cloud-init-per
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PRESETDIR)
	install -m 644 packaging/cloud-init/*.service packaging/cloud-init/*.target $(DESTDIR)$(UNITDIR)/
	install -m 644 packaging/cloud-init/*.preset $(DESTDIR)$(PRESETDIR)/
