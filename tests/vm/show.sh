# shellcheck shell=bash
# How does a demonstration speak, follow a boot and log in? (sourced, after lab.sh and azure.sh)
# shellcheck disable=SC2034,SC2154 # used, and said, by who sources it

NAMESPACE=demo
LAB=$VM_DIR/lab-demo
console=$VM_DIR/console-demo.log
started=$SECONDS

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
point() { printf '   %-46s %s\n' "$1" "$2"; }
bad() { printf '   \033[31m%s\033[0m\n' "$*"; failures=$((failures + 1)); }
failures=0

finish() {
    if [ -f "$VM_DIR/qemu-demo.pid" ]; then kill "$(cat "$VM_DIR/qemu-demo.pid")" 2>/dev/null || true; fi
    [ -z "${BOOT_PID:-}" ] || wait "$BOOT_PID" 2>/dev/null || true
    azure_down
    rm -rf "$LAB" "$VM_DIR/demo.img"
}
trap finish EXIT

# The kernel log's lines of ours, and the boot's own milestones, as they come; ends with the marker or the machine.
follow() { # PID of the boot
    perl -MTime::HiRes=sleep -e '
        $| = 1;
        my ($file, $boot) = @ARGV;
        my %colour = (modules => 36, fetch => 36, grow => 33, persist => 35, apply => 32, report => 34);
        my ($partial, $mounted) = ("", 0);
        open(my $log, "<", $file) or exit;
        while (1) {
            my $line = <$log>;
            if (!defined $line) {
                last unless kill 0, $boot;
                sleep 0.1;
                seek $log, 0, 1;
                next;
            }
            $partial .= $line;
            next unless $partial =~ s/\n\z//;
            my $text = $partial;
            $partial = "";
            my ($at) = $text =~ /^ *([\d.]+)/ or next;
            my $say = sub { printf "   %7.2f s  \033[%dm%-8s\033[0m %s\n", $at, $colour{$_[0]} // 0, @_ };
            if ($text =~ /\] preroot ([a-z]+): (.*)/) { $say->($1, $2) }
            elsif ($text =~ /\] Linux version (\S+)/) { $say->("-", "kernel $1 starts") }
            elsif ($text =~ /EXT4-fs \(\w+\): mounted filesystem/) { $say->("-", "root file system mounted") unless $mounted++ }
            elsif ($text =~ /\] systemd\[1\]: (?:Hostname set to|Set hostname to) <(.*)>/) { $say->("-", "systemd starts on $1") }
            last if $text =~ /PREROOT-VM-OK/;
        }' "$console" "$1"
}

guest_value() { sed -n "s/^.*VM $1=\(.*\)$/\1/p" "$console" | tail -n 1; }
ssh_options=(-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=20)
in_cloud() { sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" "$@"; }
as_root() { by_key "printf '%s\\n' '$VM_PASSWORD' | sudo -S -p '' $1"; } # with a password there is no NOPASSWD
by_key() { in_cloud ssh -n -i "$LAB/key" -o PasswordAuthentication=no "${ssh_options[@]}" "$VM_USER@$address" "$@"; }
by_password() {
    SSHPASS=$VM_PASSWORD in_cloud sshpass -e ssh -n -o PubkeyAuthentication=no -o PreferredAuthentications=password,keyboard-interactive \
        "${ssh_options[@]}" "$VM_USER@$address" "$@"
}

# What the platform saw, and whether Ready came once.
show_requests() {
    while read -r line; do point "$line" ''; done < <(python3 - "$LAB/platform.jsonl" <<'PY'
import json, sys
first = None
for line in open(sys.argv[1]):
    record = json.loads(line)
    if record.get("event") != "request":
        continue
    first = first or record["time"]
    state = f' {record["state"]}' if record.get("state") else ""
    print(f'+{record["time"] - first:6.3f} s  {record["method"]} {record["path"].partition("?")[0]}{state}: {record["answer"]}, checks: {record["verdict"]}')
PY
    )
    ready=$(wc -l <"$LAB/ready")
    if [ "$ready" -eq 1 ]; then point 'Ready received' 'exactly once'; else bad "Ready was received $ready times"; fi
}
