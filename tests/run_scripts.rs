//! The shipped binary runs scripts on the real kernel: a mount namespace of its own stands for the VM. Needs root and
//! unshare(1); without, it says so.

use std::process::Command;

const VM: &str = r##"
set -e
mount -t tmpfs t /mnt && mkdir /mnt/log /mnt/run
mkdir -p /var/lib/preroot && mount -t tmpfs t /var/lib/preroot && chmod 700 /var/lib/preroot
mount --bind /mnt/log /var/log
mount -t tmpfs t /sys && mkdir -p /sys/class/dmi/id /sys/firmware/efi
echo 7783-7084-3265-9085-8269-3286-77 >/sys/class/dmi/id/chassis_asset_tag
echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf | tee /sys/class/dmi/id/product_uuid >/var/lib/preroot/provisioned
mkdir -p /var/lib/preroot/scripts/per-boot /var/lib/preroot/scripts/user
printf '#!/bin/sh\necho hello $HOME$USER; read x || echo no input; (sleep 0.5; echo late) & exit 7\n' >/var/lib/preroot/scripts/per-boot/10-x
printf 'echo customData runs\n' >/var/lib/preroot/custom-data
ln -s ../../custom-data /var/lib/preroot/scripts/user/custom-data
chmod 755 /var/lib/preroot/scripts/per-boot/10-x && chmod 700 /var/lib/preroot/custom-data
set +e
"$1" scripts --run /mnt/run 2>/dev/null; echo "first $?"
"$1" scripts --run /mnt/run 2>/dev/null; echo "second $?"
sleep 1
cat /var/log/preroot-scripts.log
"$1" status --run /mnt/run | grep script
stat -c '%a %U' /var/log/preroot-scripts.log
"##;

#[test]
fn scripts_run_once_with_a_clean_environment_and_leave_their_status() {
    let made = !std::path::Path::new("/var/lib/preroot").exists();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", VM, "sh", env!("CARGO_BIN_EXE_preroot")]).env("USER", "somebody");
    let Ok(output) = command.output() else {
        println!("not run: no unshare");
        return;
    };
    if made {
        let _ = std::fs::remove_dir("/var/lib/preroot");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("Operation not permitted") || errors.contains("unshare failed") {
        println!("not run: {errors}");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let status = |line: &&str| line.starts_with("script ");
    let (records, rest): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(status);
    let expected = [
        "first 1",
        "second 0",
        "preroot: 10-x",
        "hello /root",
        "no input",
        "preroot: custom-data",
        "customData runs",
        "late",
    ];
    assert_eq!(rest.get(..8), Some(&expected[..]), "{said}{errors}");
    assert_eq!(rest.last(), Some(&"600 root"));
    let words: Vec<String> =
        records.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words, ["script per-boot.10-x: 7", "script user.custom-data: 0"]);
}
