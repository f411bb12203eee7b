#!/bin/bash
# Does cloud-config in customData become what it asks for? The shipped binary and the translator on the real kernel: a mount
# namespace and an overlay of this machine's root stand for the VM. Needs root; without, it says so.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
binary=$PWD/target/release/preroot
translator=$(find "$PWD"/tools/cloud-config/target/*/release -maxdepth 1 -name preroot-cloud-config | head -n 1)

# in_vm TRANSLATOR USER-DATA SCRIPT [MORE]: applies in a fresh VM whose /usr/bin/preroot-cloud-config is this program, then runs the script,
# with the VM's root as $root and what apply said as $said. MORE is run in the seed before.
in_vm() {
    # shellcheck disable=SC2016 # it expands there
    unshare -mn sh -c '
        set -e
        . tests/overlay-vm.sh
        overlay_vm "$2" "$3"
        eval "${5:-}"
        cd /
        "$1" apply --root $root --run /mnt/run >$said 2>&1; echo "exit $?" >>$said
        eval "$4"
    ' sh "$binary" "$@"
}

if [ "$(id -u)" -ne 0 ] || ! unshare -m true 2>/dev/null; then
    echo 'skipped: needs root and a mount namespace'
    exit 0
fi
passed=0 failed=0
check() {
    local text=$1 wanted=$2 got=$3
    if [ "$wanted" = "$got" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n--- wanted\n%s\n--- got\n%s\n' "$text" "$wanted" "$got"
    fi
}

# shellcheck disable=SC2016 # the VM expands it
check 'a realistic cloud-config is applied, its scripts run once' "$(cat <<'OUT'
exit 0
vm9
640 root:prerootweb hello there
prerootweb:x:/srv/web:/bin/sh
prerootops
UTC
700 runcmd
bootcmd ran
runcmd ran as 0
snap: a module that preroot does not have
OUT
)" "$(in_vm "$translator" '#cloud-config
hostname: vm9
timezone: Etc/UTC
users:
- default
- {name: prerootweb, homedir: /srv/web, shell: /bin/sh, lock_passwd: true}
write_files:
- path: /etc/preroot-test/hello
  owner: root:prerootweb
  permissions: "0640"
  encoding: b64
  content: aGVsbG8gdGhlcmU=
bootcmd:
- echo bootcmd ran
runcmd:
- [sh, -c, "echo runcmd ran as $(id -u)"]
snap: {commands: [x]}
' '
tail -n 1 $said
cat $root/etc/hostname
echo "$(stat -c "%a %U:%G" $root/etc/preroot-test/hello | sed "s/UNKNOWN/prerootweb/") $(cat $root/etc/preroot-test/hello)"
sed -n "s/^\(prerootweb:x\):[0-9:]*:/\1:/p" $root/etc/passwd
cut -d: -f1 $root/etc/passwd | grep prerootops
readlink $root/etc/localtime | sed "s/.*\///"
stat -c "%a %n" $root/var/lib/preroot/scripts/user/* | sed "s/ .*\// /"
"$1" scripts --root $root --run /mnt/run >/dev/null 2>&1
"$1" scripts --root $root --run /mnt/run >/dev/null 2>&1
grep ran $root/var/log/preroot-scripts.log
grep -o "snap: a module.*" $said | head -n 1
')"

# shellcheck disable=SC2016 # the VM expands it
check 'files of an owner whom a package brings are written behind it, and what cannot be had keeps nothing from it' "$(cat <<'OUT'
exit 0
user data: write_files: no path of a file
91267c52-9f02-4cfe-b1f4-a4da7ebac2cf
990 990 600 conf
990 0 644 late
runcmd has conf
OUT
)" "$(in_vm "$translator" '#cloud-config
packages: [prerootpkg]
write_files:
- {path: /, content: x}
- {path: /etc/preroot-test/x.conf, owner: "prerootpkg:prerootpkg", permissions: "0600", content: conf, defer: true}
- {path: /etc/preroot-test/late, owner: prerootpkg, content: late}
runcmd:
- echo runcmd has $(cat /etc/preroot-test/x.conf)
' '
tail -n 1 $said
echo "$(cat /mnt/run/seed/failure)"
cat $root/var/lib/preroot/provisioned
ls $root/etc/preroot-test 2>/dev/null || true
printf "%s\n" "#!/bin/sh" "case \$* in *install*)" "echo prerootpkg:x:990:990::/:/bin/false >>/etc/passwd" \
    "echo prerootpkg:x:990: >>/etc/group ;; esac" >$root/usr/local/sbin/apt-get
chmod 755 $root/usr/local/sbin/apt-get
"$1" scripts --root $root --run /mnt/run >/dev/null 2>&1 || echo "ended with $?"
for file in x.conf late; do echo "$(stat -c "%u %g %a" $root/etc/preroot-test/$file) $(cat $root/etc/preroot-test/$file)"; done
grep "has conf" $root/var/log/preroot-scripts.log
[ ! -e $root/var/lib/preroot/deferred ]
')"

# What the initrd makes of vendor_data.json on a config drive that is a mapping; the medium has a host name of its own.
# shellcheck disable=SC2016 # the VM expands it
vendors='
mkdir -p vendor-data users files/0
bare() { printf "%s" "$2" >"$1"; }
put source "hostname vendor-data"; put hostname vendors; bare asked-by vendor-data; bare medium-hostname mediums
bare files/0/path /etc/preroot-vendor; bare files/0/content initrd; bare timezone Etc/UTC
put users/63 "name prerootops
hashed_passwd \$6\$a\$initrd"
bare vendor-data/mapping "#cloud-config
{\"hostname\": \"vendors\", \"users\": [{\"name\": \"prerootops\", \"hashed_passwd\": \"\$6\$a\$vendors\", \"lock_passwd\": false}],
\"write_files\": [{\"path\": \"\\/etc\\/preroot-vendor\", \"content\": \"\\ud83d\\ude00\"}]}"
'
# shellcheck disable=SC2016 # no variables
users='users: [{name: prerootops, hashed_passwd: $6$a$users, lock_passwd: false}]'
for data in 'vendor_data: {enabled: false}' "$users" '[broken'; do
    # shellcheck disable=SC2016
    case $data in
        vendor*) wanted='mediums - *' ;;
        users*) wanted='vendors 😀 $6$a$users' ;;
        *) wanted='vendors 😀 $6$a$vendors' ;;
    esac
    # shellcheck disable=SC2016 # the VM expands it
    check "vendor data of a config drive, and in user data $data" "exit 0
$wanted" "$(in_vm "$translator" "#cloud-config
$data
" '
tail -n 1 $said
hash=$(sed -n "s/^prerootops:\([^:]*\):.*/\1/p" $root/etc/shadow)
echo "$(cat $root/etc/hostname) $(cat $root/etc/preroot-vendor 2>/dev/null || echo -) $hash"
' "$vendors")"
done

# Whatever the translator is, the rest of the seed is applied.
hostile() {
    local file
    file=$(mktemp)
    printf '#!/bin/sh\n%s\n' "$1" >"$file"
    # shellcheck disable=SC2016
    in_vm "$file" '#cloud-config
hostname: vm9
' 'tail -n 1 $said; cut -d: -f1 $root/etc/passwd | grep prerootops; cat $root/etc/hostname /mnt/run/seed/failure; cat $root/tmp/hostile 2>/dev/null'
    rm -f "$file"
}
gone='exit 0
prerootops
vm1
user data were not translated'
check 'a translator that fails' "$gone" "$(hostile 'exit 3')"
check 'a translator that says nothing' "$gone" "$(hostile 'cat >/dev/null')"
check 'a translator that wants an entry of the platform' "$gone" \
    "$(hostile 'cat >/dev/null; printf "entry user/name 4\nroot\nend - 0\n\n"')"
check 'a translator that floods' "$gone" "$(hostile 'yes "entry ntp 1
x"')"
# an empty one, where anyone may make one: its size is limited to nothing
check 'a translator that writes files' "$gone" "$(hostile 'echo x >/tmp/hostile; echo x >>/etc/passwd; exit 1')"
check 'a translator that kills itself' "$gone" "$(hostile 'kill -9 $$')"
# The same sandbox as the translator's, and somebody who took it over from the inside.
captured=$(find "$PWD"/tools/cloud-config/target/*/*/examples -maxdepth 1 -name hostile 2>/dev/null | head -n 1)
# shellcheck disable=SC2016
taken_over() {
    rm -f /tmp/preroot-hostile
    in_vm "$captured" "$1
" 'tail -n 1 $said; cut -d: -f1 $root/etc/passwd | grep prerootops; cat $root/etc/hostname /mnt/run/seed/failure
        ls $root/tmp/preroot-hostile /tmp/preroot-hostile 2>/dev/null; grep -c achieved $said $root/var/log/* 2>/dev/null | grep -v ":0"'
}
if [ -n "$captured" ]; then
    for act in open write list connect socket run thread fork kill signal memory sleep; do
        check "a translator taken over: $act" "$gone" "$(taken_over "$act")"
    done
    if [ -n "${SLOW:-}" ]; then
        check 'a translator taken over: loop' "$gone" "$(taken_over loop)"
        check 'a translator taken over: deaf' "$gone" "$(taken_over deaf)"
    fi
else
    echo 'no translator to be taken over: (cd tools/cloud-config && cargo build --examples)'
fi
if [ -n "${SLOW:-}" ]; then
    check 'a translator that hangs' "$gone" "$(hostile 'sleep 1000')"
    check 'a translator that takes the processor' "$gone" "$(hostile 'while :; do :; done')"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
