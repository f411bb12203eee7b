//! Does the online way work on the real kernel, and does it leave the kernel's network alone?
//!
//! Needs root, iproute2, dnsmasq and python3; without them it says so and passes. Everything happens in network
//! namespaces without a way out (`tests/cloud/namespace.sh`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use preroot::facts::Hostname;
use preroot::net::Buffers;
use preroot::report::azure::{Ask, request};
use preroot::report::health::Health;
use preroot::stage::online::{Body, Rest, Session, ask_imds, with_lease, with_saved_lease};
use preroot::sys::linux::Linux;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V demo@example.invalid";

/// A cloud of namespaces, gone when dropped.
struct Cloud {
    name: String,
    state: PathBuf,
    children: Vec<Child>,
}

impl Cloud {
    /// `None` where the machine cannot.
    fn up(name: &str, kind: &str) -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let is_root =
            Path::new("/proc/self/ns/net").exists() && succeeds(Command::new("id").arg("-u"), "0\n");
        if !is_root || !["ip", "dnsmasq", "python3"].into_iter().all(has) {
            eprintln!("skipped: needs root, iproute2, dnsmasq and python3");
            return None;
        }
        let name = format!("{name}-{}", std::process::id());
        let state = PathBuf::from("/run/preroot-lab").join(&name);
        let cloud = Self { name, state, children: Vec::new() };
        let up = cloud.script("up", &["veth", kind]).output().unwrap();
        assert!(up.status.success(), "{up:?}");
        Some(cloud)
    }

    fn script(&self, command: &str, words: &[&str]) -> Command {
        let mut script = Command::new("sh");
        script.arg(format!("{ROOT}/tests/cloud/namespace.sh")).arg(command).arg(&self.name).args(words);
        script
    }

    /// Starts a program that lives as long as the cloud.
    fn start(&mut self, side: &str, words: &[&str], output: &Path) {
        let file = std::fs::File::create(output).unwrap();
        let netns = format!("{}-{side}", self.name);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns]).args(words);
        self.children.push(
            command.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file).spawn().unwrap(),
        );
    }

    /// IMDS and wireserver; every request is a line of `platform.jsonl`.
    fn start_platform(&mut self) {
        self.start_scripted_platform("{}");
    }

    /// The same with a table of answers (`fake_azure.py`).
    fn start_scripted_platform(&mut self, script: &str) {
        let log = self.state.join("platform.jsonl");
        let table = self.state.join("script.json");
        std::fs::write(&table, script).unwrap();
        let platform = format!("{ROOT}/tests/cloud/fake_azure.py");
        let options = ["--log", log.to_str().unwrap(), "--script", table.to_str().unwrap()];
        let vm = [
            "--vm-id",
            "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf",
            "--hostname",
            "edge-vm-01",
            "--key",
            KEY,
            "--user",
            "azureuser",
            "--nic",
            "00:0d:3a:00:00:02=10.0.1.4,10.0.1.5",
            "--rate-limit",
            "5",
        ];
        let words = [&["python3", &platform], &options[..], &vm[..]].concat();
        let output = self.state.join("platform.out");
        self.start("cloud", &words, &output);
        wait_for("the platform", || self.text("platform.out").contains("listening"));
    }

    fn vm(&self, words: &[&str]) -> Output {
        self.script("vm", words).output().unwrap()
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.state.join(file)).unwrap_or_default()
    }

    /// Runs a test of this file on the VM's side.
    fn run(&self, test: &str) -> String {
        let me = std::env::current_exe().unwrap();
        let words = [me.to_str().unwrap(), "--ignored", "--exact", test, "--nocapture"];
        let output = self.script("vm", &words).env("PREROOT_TEST_RUN", &self.state).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.script("down", &[]).output();
    }
}

fn succeeds(command: &mut Command, says: &str) -> bool {
    command.output().is_ok_and(|output| output.status.success() && output.stdout == says.as_bytes())
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_lease_and_an_answer_without_a_trace_in_the_kernel() {
    let Some(mut cloud) = Cloud::up("online", "azure") else { return };
    cloud.start_platform();
    let monitor = cloud.state.join("monitor");
    cloud.start("vm", &["ip", "monitor", "all"], &monitor);
    std::thread::sleep(Duration::from_millis(300));

    let told = cloud.run("inside_ask_imds");
    println!("{told}");

    assert!(told.contains("IMDS sent a document that names osProfile"), "{told}");
    assert!(cloud.text("dnsmasq.log").contains("client provides name: edge-vm-01"));
    assert!(cloud.text("platform.jsonl").contains("imds"));
    let link = String::from_utf8(cloud.vm(&["ip", "link", "show", "eth0"]).stdout).unwrap();
    assert!(!link.contains("UP"), "down as before: {link}");
    let ipv6 = cloud.vm(&["cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"]);
    assert!(matches!(&ipv6.stdout[..], b"0\n" | b""), "as before: {ipv6:?}");
    let seen = cloud.text("monitor");
    let traces = seen.lines().filter(|line| !line.starts_with(' ') && !line.contains("LINK"));
    // "[NETCONF]" tells of the change of disable_ipv6 that keeps the rest away.
    let traces: Vec<&str> = traces.filter(|line| !line.contains("NETCONF")).collect();
    assert!(traces.is_empty(), "{traces:?} of\n{seen}");
}

#[test]
fn silence_costs_the_deadline_and_the_link_goes_down_again() {
    let Some(cloud) = Cloud::up("silent", "silent") else { return };
    let begin = Instant::now();
    cloud.run("inside_find_nobody");
    assert!((9..15).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let link = String::from_utf8(cloud.vm(&["ip", "link", "show", "eth0"]).stdout).unwrap();
    assert!(!link.contains("UP"), "down as before: {link}");
}

/// dnsmasq plays the router here; its answer goes to a group that the card must be told of.
#[test]
fn a_network_of_ipv6_alone_is_said() {
    let Some(cloud) = Cloud::up("ipv6", "ipv6") else { return };
    let said = cloud.run("inside_find_nobody");
    assert!(said.contains("but an IPv6 router answers: the platform needs IPv4"), "{said}");
    assert!(cloud.text("dnsmasq.log").contains("RTR-ADVERT(cloud0)"));
}

/// The shipped binary, in a root of its own that has an Azure VM's DMI and the namespace's interfaces.
/// `$1` is the binary, `$2` an empty directory; the rest is what to do there, `$preroot` included.
const AZURE_ROOT: &str = r#"
set -eu
mkdir -p "$2/proc" "$2/run" "$2/dev" "$2/sys/class/net" "$2/sys/devices" "$2/sys/class/dmi/id"
cp "$1" "$2/preroot"
mount --make-rprivate /
mount --rbind /proc "$2/proc"
mount --bind /sys/class/net "$2/sys/class/net"
mount --bind /sys/devices "$2/sys/devices"
mount -t tmpfs tmpfs "$2/run"
echo 7783-7084-3265-9085-8269-3286-77 > "$2/sys/class/dmi/id/chassis_asset_tag"
echo 527c2691-029f-fe4c-b1f4-a4da7ebac2cf > "$2/sys/class/dmi/id/product_uuid"
preroot="chroot $2 /preroot"
"#;

impl Cloud {
    fn binary(&self, script: &str) -> String {
        let root = self.state.join("root");
        let script = format!("{AZURE_ROOT}{script}");
        let binary = env!("CARGO_BIN_EXE_preroot");
        let words = ["unshare", "-m", "sh", "-c", &script, "sh", binary, root.to_str().unwrap()];
        let output = self.vm(&words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

#[test]
fn the_shipped_binary_learns_from_imds_who_it_is() {
    let Some(mut cloud) = Cloud::up("binary", "azure") else { return };
    cloud.start_platform();
    let text = cloud.binary("$preroot fetch --online; cd \"$2/run/preroot\"; cat status seed/hostname seed/user/* seed/lease/address; grep . seed/network/*");
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.contains("edge-vm-01") && text.contains("azureuser") && text.contains(KEY), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("10.0.0.") && line.ends_with("/24")), "{text}");
    for line in [
        "seed/network/0:mac 00:0d:3a:12:34:56",
        "seed/network/0:dhcp-metric 100",
        "seed/network/1:dhcp-metric 200",
        "seed/network/1:dhcp-dns false",
        "seed/network/1:subnet 10.0.1.5/24",
    ] {
        assert!(lines.contains(&line), "{line}: {text}");
    }
    let link = String::from_utf8(cloud.vm(&["ip", "link", "show", "eth0"]).stdout).unwrap();
    assert!(!link.contains("UP"), "down as before: {link}");
}

/// WALinuxAgent#1159: whoever gives a lease must not choose who hears how this VM is.
#[test]
fn a_wireserver_that_is_not_azures_is_not_told() {
    let Some(mut cloud) = Cloud::up("foreign", "foreign245") else { return };
    cloud.start_platform();
    let rogue = cloud.state.join("rogue.out");
    cloud.start("cloud", &["python3", "-m", "http.server", "--bind", "10.0.0.1", "80"], &rogue);
    let text = cloud.binary(
        r#"$preroot fetch --online; cat "$2/run/preroot/timeline"; ls "$2/run/preroot/seed/wireserver"
        mkdir -p "$2/var/lib/preroot"; echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > "$2/var/lib/preroot/provisioned"
        $preroot report --early"#,
    );
    assert_eq!(
        text.matches("DHCP names 10.0.0.1 as the wireserver: that is not Azure's").count(),
        1,
        "{text}"
    );
    assert!(!text.contains("\naddress\n"), "{text}");
    assert_eq!(asked(&cloud.text("platform.jsonl")), ["imds", "health-json"], "{text}");
    assert!(!cloud.text("rogue.out").contains("POST"), "{}", cloud.text("rogue.out"));
}

/// No IMDS and no route to it, a medium that was read, health in XML only.
#[test]
fn an_azure_stack_hub_costs_no_wait_and_hears_ready() {
    let Some(mut cloud) = Cloud::up("stackhub", "stackhub") else { return };
    cloud.start_scripted_platform(r#"{"health-json": ["404"]}"#);
    let text = cloud.binary(
        r#"seed="$2/run/preroot/seed"; mkdir -p -m 755 "$2/run/preroot"; mkdir -m 700 "$seed" "$seed/user"
        cd "$seed"; echo 1 > format; echo azure > platform; echo sr0 > medium; echo hub-vm-01 > hostname; : > source
        echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > instance-id; echo azureuser > user/name
        echo "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V" > user/authorized-keys
        chmod 600 * user/* || :; chmod 700 user; cd /; date +%s%N; $preroot fetch --online; date +%s%N
        cat "$2/run/preroot/timeline"; ls "$seed"
        mkdir -p "$2/var/lib/preroot"; echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > "$2/var/lib/preroot/provisioned"
        $preroot report --early; ls "$2/var/lib/preroot""#,
    );
    let times: Vec<u128> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let ms = (times[1] - times[0]) / 1_000_000;
    println!("Azure Stack Hub: fetch --online took {ms} ms");
    assert!(ms < 2000, "it took {ms} ms: {text}");
    assert!(text.contains("no route to IMDS") && !text.contains("\nfailure\n"), "{text}");
    assert!(text.contains("\nreported\n"), "{text}");
    let log = cloud.text("platform.jsonl");
    assert_eq!(asked(&log), ["health-json", "goalstate", "health-xml"], "{text}");
    assert!(log.contains("\"state\": \"Ready\""), "{log}");
}

#[test]
fn sigterm_lowers_the_link_and_ends_the_wait() {
    let Some(cloud) = Cloud::up("stopped", "silent") else { return };
    let text = cloud.binary(
        "$preroot fetch --online & pid=$!; sleep 1; ip link show eth0; date +%s%N; kill -TERM $pid; wait $pid || :; date +%s%N; ip link show eth0",
    );
    let times: Vec<u128> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let ms = (times[1] - times[0]) / 1_000_000;
    assert!(ms < 1000, "it took {ms} ms");
    let (before, after) = text.split_once(&times[0].to_string()).unwrap();
    assert!(before.contains("UP") && !after.contains("UP"), "{text}");
}

#[test]
fn a_link_that_got_another_name_or_an_owner_meanwhile_is_left_right() {
    let Some(cloud) = Cloud::up("owned", "silent") else { return };
    let story = |change: &str| {
        format!(
            "$preroot fetch --online & pid=$!; sleep 1; {change}; kill -TERM $pid; wait $pid || :; ip -o link"
        )
    };
    let text = cloud.binary(&story("ip addr add 10.0.0.77/24 dev eth0"));
    assert!(text.contains("eth0") && text.contains("UP"), "somebody else's now: {text}");
    cloud.vm(&["ip", "addr", "flush", "dev", "eth0"]);
    cloud.vm(&["ip", "link", "set", "eth0", "down"]);
    let renamed = cloud.binary(&story("ip link set eth0 name eth9 || ip link set eth0 alias busy"));
    let line = renamed.lines().rfind(|line| line.contains("eth9") || line.contains("eth0")).unwrap();
    assert!(!line.contains("UP"), "{renamed}");
    for name in ["eth0", "eth9"] {
        let ipv6 = cloud.vm(&["cat", &format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")]);
        assert_ne!(ipv6.stdout, b"1\n", "{name}");
    }
}

/// What the platform was asked, each run of the same once.
fn asked(log: &str) -> Vec<&str> {
    let endpoints = log.lines().filter_map(|line| line.split_once("\"endpoint\": \"")?.1.split('"').next());
    let mut asked: Vec<_> = endpoints.collect();
    asked.dedup();
    asked
}

/// `kind` in IMDS's words; `leave` and `arrive` are what the host does to the VM's interface.
fn pool(kind: &str, leave: &[&str], arrive: &[&str]) {
    let Some(mut cloud) = Cloud::up(&format!("pool-{}", kind.to_lowercase()), "azure") else { return };
    let fixtures = format!("{ROOT}/tests/fixtures");
    let pooled = std::fs::read_to_string(format!("{fixtures}/imds/pool-vm/input.json")).unwrap();
    let path = cloud.state.join("pooled.json");
    std::fs::write(&path, pooled.replace("\"Savable\"", &format!("\"{kind}\""))).unwrap();
    cloud.start_scripted_platform(&format!(
        r#"{{"imds": [{{"body_file": "{}"}}, {{"body_file": "{fixtures}/imds/instance/input.json"}}],
            "reprovision": [{{"status": 404, "times": 2}}, {{"body_file": "{fixtures}/ovf/sample-a-password/input.xml"}}]}}"#,
        path.display()
    ));
    let story = r#"
        $preroot fetch --online; $preroot apply || echo "apply $?"; $preroot report --early || echo "report $?"
        grep -c . "$2/run/preroot/seed/user/name"; timeout 60 $preroot pool; rm "$2/run/preroot/status"
        cd "$2/run/preroot/seed"; cat hostname user/name source; test -s user/password-hash; cat lease/address
        echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > "$2/var/lib/preroot/provisioned"; cd /; $preroot report --early
        ls "$2/var/lib/preroot"
    "#;
    let text = std::thread::scope(|scope| {
        let binary = scope.spawn(|| cloud.binary(story));
        wait_for("Ready", || cloud.text("platform.jsonl").contains("health-json"));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!cloud.text("platform.jsonl").contains("reprovision"), "it was not moved yet");
        assert!(cloud.script(leave[0], &leave[1..]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(500));
        assert!(cloud.script(arrive[0], &arrive[1..]).status().unwrap().success());
        binary.join().unwrap()
    });
    assert!(text.contains("apply 76") && text.contains("report 76"), "{text}");
    assert!(text.contains("\nedge-vm-01\nazureuser\n") && text.contains("reported\n"), "{text}");
    assert!(!text.contains("\npool\n"), "the mark is gone: {text}");
    let log = cloud.text("platform.jsonl");
    let story = ["imds", "health-json", "reprovision", "imds", "health-json"];
    assert_eq!(asked(&log), story, "{text}");
    assert_eq!(log.matches("\"state\": \"Ready\"").count(), 2);
    assert!(!cloud.text("dnsmasq.log").contains("client provides name"), "the pool's name is nobody's");
    let link = String::from_utf8(cloud.vm(&["ip", "link", "show", "eth0"]).stdout).unwrap();
    assert!(!link.contains("UP"), "down as before: {link}");
}

#[test]
fn an_imds_that_is_busy_is_waited_for_and_the_platform_knows() {
    let Some(mut cloud) = Cloud::up("busy", "azure") else { return };
    let busy = r#"{"status": 429, "times": 2, "headers": {"Retry-After": "32"}}"#;
    let good = format!(r#"{{"body_file": "{ROOT}/tests/fixtures/imds/instance/input.json"}}"#);
    cloud.start_scripted_platform(&format!(r#"{{"imds": [{busy}, {good}]}}"#));
    let story = r#"
        $preroot fetch --online; cat "$2/run/preroot/seed/verdict"; ls "$2/run/preroot"
        $preroot apply || echo "apply $?"; $preroot report --early || echo "report $?"
        timeout 90 $preroot pool; cat "$2/run/preroot/seed/verdict" "$2/run/preroot/seed/user/name"
        mkdir -p "$2/var/lib/preroot"; echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > "$2/var/lib/preroot/provisioned"; $preroot report --early
        ls "$2/var/lib/preroot"
    "#;
    let text = cloud.binary(story);
    assert!(text.contains("wait\n") && text.contains("apply 76") && text.contains("report 76"), "{text}");
    assert!(text.contains("provision\nazureuser\n") && text.contains("reported\n"), "{text}");
    let log = cloud.text("platform.jsonl");
    assert_eq!(asked(&log), ["imds", "health-json", "imds", "health-json"], "{text}");
    let states: Vec<_> =
        log.lines().filter_map(|line| line.split_once("\"state\": \"")?.1.split('"').next()).collect();
    assert_eq!(states, ["Provisioning", "Ready"]);
    cloud.is_as_before();
}

#[test]
fn a_vm_of_a_pool_waits_for_its_owner_while_its_switch_is_exchanged() {
    pool(
        "Running",
        &["cloud", "ip", "link", "set", "cloud0", "down"],
        &["cloud", "ip", "link", "set", "cloud0", "up"],
    );
}

#[test]
fn a_vm_of_a_pool_waits_for_its_owner_while_its_interface_is_exchanged() {
    let side = |side| format!("pool-savable-{}-{side}", std::process::id());
    let leave = ["vm", "ip", "link", "set", "eth0", "netns", &side("cloud")];
    pool("Savable", &leave, &["cloud", "ip", "link", "set", "eth0", "netns", &side("vm")]);
}

impl Cloud {
    /// Somebody on the platform's side of the link.
    fn start_rogue(&mut self, words: &[&str]) {
        let output = self.state.join("rogue.out");
        let rogue = format!("{ROOT}/tests/cloud/rogue.py");
        self.start("cloud", &[&["python3", &rogue], words].concat(), &output);
        wait_for("the rogue", || self.text("rogue.out").contains("listening"));
    }

    fn is_as_before(&self) {
        let link = String::from_utf8(self.vm(&["ip", "link", "show", "eth0"]).stdout).unwrap();
        assert!(!link.contains("UP"), "down as before: {link}");
        let ipv6 = self.vm(&["cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"]);
        assert!(matches!(&ipv6.stdout[..], b"0\n" | b""), "as before: {ipv6:?}");
    }
}

#[test]
fn an_offer_in_a_vlan_is_not_for_us() {
    let Some(mut cloud) = Cloud::up("vlan", "azure") else { return };
    cloud.start_rogue(&["vlan", "cloud0", "100"]);
    assert!(cloud.run("inside_print_the_lease").contains("lease of 10.0.0."));
}

#[test]
fn a_tag_that_gives_a_priority_only_is_no_vlan() {
    let Some(mut cloud) = Cloud::up("priority", "silent") else { return };
    cloud.start_rogue(&["vlan", "cloud0", "0"]);
    assert!(cloud.run("inside_print_the_lease").contains("lease of 10.66.0.4"));
}

#[test]
fn a_flood_does_not_hold_us_up() {
    let Some(mut cloud) = Cloud::up("flood", "azure") else { return };
    cloud.start_platform();
    cloud.vm(&["ip", "link", "set", "eth0", "up"]); // else it cannot flood
    cloud.start_rogue(&["flood", "cloud0"]);
    let told = cloud.run("inside_ask_imds");
    println!("{told}");
    assert!(told.contains("IMDS sent a document that names osProfile"), "{told}");
}

/// smoltcp#961, CVE-2022-2929 and its kind: a flood costs neither the exchange nor memory.
#[test]
fn a_million_hostile_frames_cost_no_exchange_and_no_memory() {
    let Some(mut cloud) = Cloud::up("million", "azure") else { return };
    cloud.start_platform();
    cloud.vm(&["ip", "link", "set", "eth0", "up"]); // else it cannot flood
    let exchanges = |count: &str, frames: &str| {
        let me = std::env::current_exe().unwrap();
        let words = [me.to_str().unwrap(), "--ignored", "--exact", "inside_many_exchanges", "--nocapture"];
        let mut run = cloud.script("vm", &words);
        run.env("PREROOT_TEST_RUN", &cloud.state)
            .env("PREROOT_EXCHANGES", count)
            .env("PREROOT_FRAMES", frames);
        let output = run.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let done = text.lines().filter(|line| line.contains("exchange ")).count();
        let ready = text.lines().filter(|line| line.contains("exchange ready ")).count();
        let most = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
        assert!(done > 0 && ready == done, "{text}");
        (done, most.unwrap())
    };
    let (_, quiet_kib) = exchanges("20", "18446744073709551615");
    let received = || {
        let counter = cloud.vm(&["cat", "/sys/class/net/eth0/statistics/rx_packets"]);
        String::from_utf8(counter.stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    let before = received();
    // One for each of two cores.
    let name = format!("{}-cloud", cloud.name);
    let flood = || {
        let mut rogue = Command::new("ip");
        rogue.args(["netns", "exec", &name, "python3"]).arg(format!("{ROOT}/tests/cloud/rogue.py"));
        rogue.args(["flood", "cloud0"]).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut rogues = [flood(), flood()];
    let begin = Instant::now();
    let (done, flooded_kib) = exchanges("1000000", &(before + 1_000_000).to_string());
    let seconds = begin.elapsed().as_secs();
    for rogue in &mut rogues {
        rogue.kill().unwrap();
        rogue.wait().unwrap();
    }
    let frames = received() - before;
    println!(
        "{frames} frames in {seconds} s: {done} exchanges, all of them accepted; most memory {flooded_kib} KiB, {quiet_kib} without"
    );
    assert!(frames >= 1_000_000 && flooded_kib <= quiet_kib + 256);
}

/// Nobody waits longer than he may, and a VM is Ready to its platform once it was told so: from the initrd to the late report,
/// three of ten frames lost each way.
#[test]
fn the_shipped_binary_gets_there_over_a_link_that_loses_frames() {
    let Some(mut cloud) = Cloud::up("lossy", "azure") else { return };
    cloud.start_platform();
    let lose = r#"for hook in ingress egress; do echo "add chain netdev loss $hook { type filter hook $hook device \"cloud0\" priority 0; }
        add rule netdev loss $hook numgen random mod 10 < 3 drop"; done | { echo "add table netdev loss"; cat; } | nft -f -"#;
    if !cloud.script("cloud", &["sh", "-c", lose]).status().unwrap().success() {
        assert!(std::env::var_os("PREROOT_REQUIRE_ORACLES").is_none(), "no nftables");
        return eprintln!("skipped: no nftables, or a kernel without its netdev hooks");
    }
    let boots: usize = std::env::var("PREROOT_BOOTS").map_or(3, |text| text.parse().unwrap());
    // The system's network is there by the late report; preroot asks no third time once it was heard.
    let story = r#"
        state="$2/var/lib/preroot"
        now() { cut -d' ' -f1 /proc/uptime; }
        for n in $(seq BOOTS); do
            rm -rf "$2"/run/* "$state"; mkdir -p "$state"
            a=$(now); $preroot fetch --online 2>/dev/null || :; b=$(now); way=initrd
            [ "$(cat "$2/run/preroot/seed/verdict")" != wait ] || { way=pool; timeout 330 $preroot pool 2>/dev/null; }
            cat "$2/run/preroot/seed/user/name"; echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf > "$state/provisioned"
            c=$(now); $preroot report --early 2>/dev/null || :; d=$(now); told=early
            [ -e "$state/reported" ] || { told=late; ip addr add 10.0.0.50/24 dev eth0; ip link set eth0 up
                ip route add default via 10.0.0.1; timeout 300 $preroot report 2>/dev/null; ip addr flush dev eth0; ip link set eth0 down; }
            heard=$(grep -c '"state": "Ready"' LOG); again=0; $preroot report 2>/dev/null || again=$?
            echo "boot $way $told $again $(($(grep -c '"state": "Ready"' LOG) - heard)) $a $b $c $d $(ls "$state")" | tr '\n' ' '; echo
        done"#;
    let log = cloud.state.join("platform.jsonl");
    let text =
        cloud.binary(&story.replace("BOOTS", &boots.to_string()).replace("LOG", log.to_str().unwrap()));
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("boot ")?.split_ascii_whitespace().collect()))
        .collect();
    assert_eq!((lines.len(), text.matches("azureuser\n").count()), (boots, boots), "{text}");
    let (mut fetches, mut tells) = (0.0_f64, 0.0_f64);
    for line in &lines {
        assert!(line[2..4] == ["76", "0"] && line.contains(&"reported"), "{text}");
        let [a, b, c, d] = [4, 5, 6, 7].map(|at| line[at].parse::<f64>().unwrap());
        (fetches, tells) = (fetches.max(b - a), tells.max(d - c));
    }
    let count = |word| lines.iter().filter(|line| line[..2].contains(&word)).count();
    let heard = cloud.text("platform.jsonl").matches("\"state\": \"Ready\"").count();
    println!(
        "{boots} boots, 30 % lost each way: IMDS in the initrd {}, later {}; Ready taken by the early report {}, by the late one {}, heard {heard} times; fetch at most {fetches:.1} s, the early report {tells:.1} s",
        count("initrd"),
        count("pool"),
        count("early"),
        count("late")
    );
    let limit_s = |ms: u64| ms as f64 / 1000.0 + 1.0;
    assert!(
        fetches < limit_s(preroot::limits::ONLINE_MS) && tells < limit_s(preroot::limits::REPORT_EARLY_MS),
        "{text}"
    );
}

#[test]
fn an_interface_that_appears_later_is_found() {
    let Some(mut cloud) = Cloud::up("late", "azure") else { return };
    cloud.start_platform();
    let (vm, side) = (format!("{}-vm", cloud.name), format!("{}-cloud", cloud.name));
    // A card that leads nowhere is there from the start.
    let nowhere =
        ["link", "add", "eth1", "netns", &vm, "type", "veth", "peer", "name", "nowhere", "netns", &side];
    assert!(Command::new("ip").args(nowhere).status().unwrap().success());
    cloud.script("cloud", &["ip", "link", "set", "nowhere", "up"]).status().unwrap();
    let away = ["-n", &vm, "link", "set", "eth0", "netns", &side];
    assert!(Command::new("ip").args(away).status().unwrap().success());
    let back = format!("sleep 3; ip -n {side} link set eth0 netns {vm}");
    let mut later = Command::new("sh").args(["-c", &back]).spawn().unwrap();
    let told = cloud.run("inside_print_the_lease");
    later.wait().unwrap();
    assert!(told.contains("lease of 10.0.0."), "{told}");
    cloud.is_as_before();
}

#[test]
fn a_link_is_put_back_after_our_death_too() {
    let Some(cloud) = Cloud::up("killed", "silent") else { return };
    let story = "$preroot fetch & pid=$!; n=0; until ls \"$2/run/preroot\" | grep -q raised-; do sleep 0.2; n=$((n + 1)); [ $n -lt 100 ]; done; ip -o link show eth0; ls \"$2/run/preroot\"; \
        child=$(cat /proc/$pid/task/$pid/children); kill -9 $child; sleep 1; echo after; ip -o link show eth0; \
        ls \"$2/run/preroot\"; touch \"$2/run/preroot/cancel\"; wait $pid || :";
    let text = cloud.binary(story);
    let (before, after) = text.split_once("after").unwrap();
    assert!(before.contains("UP") && before.contains("raised-"), "{text}");
    assert!(!after.contains("UP") && !after.contains("raised-"), "{text}");
    cloud.is_as_before();
}

/// CVE-2024-11584: nobody on the machine or the network can speak to us first.
#[test]
fn nothing_listens_but_one_packet_socket() {
    let Some(cloud) = Cloud::up("listens", "silent") else { return };
    let story = "$preroot fetch --online & pid=$!; n=0; until ls \"$2/run/preroot\" | grep -q raised-; do sleep 0.2; \
        n=$((n + 1)); [ $n -lt 100 ]; done; for kind in tcp tcp6 udp udp6 raw raw6 packet; do \
        [ ! -e /proc/net/$kind ] || tail -n +2 /proc/net/$kind | sed \"s/^/$kind: /\"; done; \
        find \"$2/run/preroot\" -type p -o -type s; kill -TERM $pid; wait $pid || :";
    let text = cloud.binary(story);
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches!(lines[..], [line] if line.starts_with("packet: ")), "{text}");
}

/// CVE-2024-6174: whoever answers on 169.254.169.254 is believed only where the firmware says Azure.
#[test]
fn no_packet_without_azures_dmi() {
    let Some(mut cloud) = Cloud::up("nodmi", "azure") else { return };
    cloud.start_platform();
    cloud.vm(&["ip", "link", "set", "eth0", "up"]);
    let sent = || {
        let counter = cloud.script("cloud", &["cat", "/sys/class/net/cloud0/statistics/rx_packets"]).output();
        String::from_utf8(counter.unwrap().stdout).unwrap()
    };
    cloud.vm(&["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"]);
    std::thread::sleep(Duration::from_millis(500));
    let before = sent();
    for tag in ["", "7783-7084-3265-9085-8269-3286-7", "7783-7084-3265-9085-8269-3286-77 x", "Azure"] {
        let story = format!(
            "printf '%s\\n' '{tag}' > \"$2/sys/class/dmi/id/chassis_asset_tag\"; [ -n '{tag}' ] || rm \"$2/sys/class/dmi/id/chassis_asset_tag\"; \
            for verb in 'fetch --online' 'fetch' 'report --early' 'report' 'persist --root /' 'apply'; do $preroot $verb || :; done"
        );
        cloud.binary(&story);
    }
    assert_eq!(sent(), before, "frames from the VM");
    assert!(!cloud.text("platform.jsonl").contains("\"endpoint\""), "a request");
    assert!(!cloud.text("dnsmasq.log").contains("DHCPDISCOVER"));
}

/// The servers that are met elsewhere. CI has them; where one is missing, that is said.
#[test]
fn other_servers_leases_are_taken() {
    for server in ["dnsmasq", "udhcpd", "dhcpd", "kea-dhcp4"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {server} || busybox {server} --help")])
            .output();
        if !found.is_ok_and(|found| found.status.success()) {
            assert!(std::env::var_os("PREROOT_REQUIRE_ORACLES").is_none(), "no {server}");
            eprintln!("skipped: no {server}");
            continue;
        }
        let kind = format!("azure-{server}");
        let Some(cloud) = Cloud::up("interop", &kind) else { return };
        let told = cloud.run("inside_print_the_lease");
        assert!(
            told.contains("lease of 10.0.0.") && told.contains("is primary, wireserver [168, 63, 129, 16]"),
            "{server}: {told}"
        );
        eprintln!("{server}: a lease");
    }
}

#[test]
#[ignore = "runs on the VM's side of a namespace"]
fn inside_print_the_lease() {
    let run = std::env::var("PREROOT_TEST_RUN").unwrap();
    let mut linux = Linux::open("/", &run, false).unwrap();
    let mut buffers = Box::new(Buffers::new());
    let mut work = |session: &mut Session<'_>, _: &mut Rest<'_>| {
        let lease = session.lease().unwrap();
        let [a, b, c, d] = lease.address;
        let word = if lease.is_primary() { "is" } else { "is not" };
        println!(
            "lease of {a}.{b}.{c}.{d} {word} primary, wireserver {:?}, {:?} s",
            lease.wireserver.unwrap_or_default(),
            lease.lease_s
        );
        Ok(())
    };
    with_lease(&mut linux.kernel(), &mut buffers, None, &mut work).unwrap();
}

/// As the early report does: until the wireserver has taken it.
fn tell_ready(session: &mut Session<'_>) -> preroot::error::Result<()> {
    let mut body = [0; preroot::limits::HEALTH_BODY];
    let address = session.wireserver();
    for _ in 0..5 {
        let request = request(Ask::Json, Health::Ready, None, "168.63.129.16", &mut body)?;
        let until_us = session.now_us() + preroot::limits::REPORT_EARLY_MS * 1000;
        let answer = session.exchange(address, &request, 0, until_us, &mut |_| Ok(()));
        if answer.is_ok_and(|outcome| outcome.is_success()) {
            return Ok(());
        }
    }
    Err(preroot::error::Error::NEED_NETWORK)
}

/// `PREROOT_EXCHANGES` times a lease, an answer and Ready, over whatever the link is made to be (`bench/exchanges.sh`). Each is
/// a line: how it ended, and milliseconds to the lease, to the answer, to the Ready that was taken, and in all. No more after
/// `PREROOT_SECONDS`, or once the interface has seen `PREROOT_FRAMES`.
#[test]
#[ignore = "runs on the VM's side of a namespace"]
fn inside_many_exchanges() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let run = std::env::var("PREROOT_TEST_RUN").unwrap();
    let end = Instant::now() + Duration::from_secs(number("PREROOT_SECONDS").unwrap_or(u64::from(u32::MAX)));
    let mut linux = Linux::open("/", &run, false).unwrap();
    let mut buffers = Box::new(Buffers::new());
    let received = || std::fs::read_to_string("/sys/class/net/eth0/statistics/rx_packets").unwrap();
    let frames = number("PREROOT_FRAMES").unwrap_or(u64::MAX);
    for _ in 0..number("PREROOT_EXCHANGES").unwrap() {
        if Instant::now() >= end || received().trim().parse::<u64>().unwrap() >= frames {
            break;
        }
        let begin = Instant::now();
        let (mut steps, mut reached) = ([0.0; 3], 0);
        let mut work = |session: &mut Session<'_>, _: &mut Rest<'_>| {
            let mut step = || {
                steps[reached] = begin.elapsed().as_secs_f64() * 1000.0;
                reached += 1;
            };
            step();
            ask_now(session, &mut |_| Ok(()))?;
            step();
            tell_ready(session)?;
            step();
            Ok(())
        };
        let outcome = with_lease(&mut linux.kernel(), &mut buffers, None, &mut work);
        let word = ["no-lease", "no-answer", "no-ready", "ready"][reached];
        let all = begin.elapsed().as_secs_f64() * 1000.0;
        println!("exchange {word} {:.1} {:.1} {:.1} {all:.1} {outcome:?}", steps[0], steps[1], steps[2]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

/// Asks over a lease, then over the same lease again without DHCP.
#[test]
#[ignore = "runs on the VM's side of a namespace"]
fn inside_ask_imds() {
    let run = std::env::var("PREROOT_TEST_RUN").unwrap();
    let mut linux = Linux::open("/", &run, false).unwrap();
    let mut kernel = linux.kernel();
    let mut buffers = Box::new(Buffers::new());
    let hostname = Hostname::parse("edge-vm-01").unwrap();
    let mut lease = None;
    let begin = Instant::now();
    let mut work = |session: &mut Session<'_>, _: &mut Rest<'_>| {
        println!("lease after {:?}", begin.elapsed());
        lease = session.lease().cloned();
        ask(session);
        Ok(())
    };
    with_lease(&mut kernel, &mut buffers, Some(&hostname), &mut work).unwrap();
    println!("answer after {:?}", begin.elapsed());
    let lease = lease.expect("our own stack was used");
    assert_eq!((lease.prefix, lease.wireserver, lease.lease_s), (24, Some([168, 63, 129, 16]), None));
    let mut work = |session: &mut Session<'_>, _: &mut Rest<'_>| {
        ask(session);
        Ok(())
    };
    with_saved_lease(&mut kernel, &mut buffers, &lease, u64::MAX, &mut work).unwrap();
    println!("second answer after {:?}", begin.elapsed());
}

/// As the initrd asks.
fn ask_now(
    session: &mut Session<'_>,
    body: &mut dyn FnMut(Body<'_>) -> preroot::error::Result<()>,
) -> preroot::error::Result<()> {
    let until_us = session.now_us() + preroot::limits::IMDS_MS * 1000;
    ask_imds(session, until_us, body).map_err(|refusal| refusal.error)
}

fn ask(session: &mut Session<'_>) {
    let mut document = Vec::new();
    let asked = ask_now(session, &mut |body| {
        match body {
            Body::Begin => document.clear(),
            Body::Bytes(bytes) => document.extend_from_slice(bytes),
            Body::End => {}
        }
        Ok(())
    });
    asked.unwrap();
    let document = String::from_utf8(document).unwrap();
    assert!(document.contains("\"osProfile\""), "{document}");
    println!("IMDS sent a document that names osProfile, {} bytes", document.len());
}

#[test]
#[ignore = "runs on the VM's side of a namespace"]
fn inside_find_nobody() {
    let run = std::env::var("PREROOT_TEST_RUN").unwrap();
    let mut linux = Linux::open("/", &run, false).unwrap();
    let mut buffers = Box::new(Buffers::new());
    let mut work = |_: &mut Session<'_>, _: &mut Rest<'_>| Ok(());
    let outcome = with_lease(&mut linux.kernel(), &mut buffers, None, &mut work);
    assert_eq!(outcome, Err(preroot::error::Error::NO_LEASE));
}
