//! Does the program keep its protocol, and is it as harmless as it says?

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn run(program: PathBuf, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_preroot-cloud-config").into()
}

fn frames(inputs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (name, bytes) in inputs {
        frames.extend_from_slice(format!("input {name} {}\n", bytes.len()).as_bytes());
        frames.extend_from_slice(bytes);
        frames.push(b'\n');
    }
    frames.extend_from_slice(b"end - 0\n\n");
    frames
}

fn translate(inputs: &[(&str, &[u8])]) -> String {
    let output = run(program(), &["translate"], &frames(inputs));
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn frames_come_out_where_user_data_went_in() {
    let user_data = b"#cloud-config\nusers: [default, {name: ops, sudo: 'ALL=(ALL) ALL'}]\nwrite_files:\n- {path: /etc/motd, content: hi, permissions: '0600'}\nruncmd: [echo]\nsnap: {}\n";
    let out = translate(&[("user-data", user_data), ("instance-id", b"i-1")]);
    assert_eq!(
        out,
        "entry files/0/content 2\nhi\nentry files/0/mode 4\n0600\nentry files/0/path 9\n/etc/motd\n\
         entry files/1/content 15\n#!/bin/sh\necho\n\nentry files/1/mode 4\n0700\n\
         entry files/1/path 36\n/var/lib/preroot/scripts/user/runcmd\nentry users/0 45\nname ops\nsudo ALL=(ALL) ALL\nlock_passwd true\n\n\
         note 15.65.0.1.6 0\n\nend - 0\n\n"
    );
}

#[test]
fn numbers_that_are_taken_are_left_alone() {
    let user_data = b"#cloud-config\nusers: [a, b]\nwrite_files: [{path: /x}]\nruncmd: [echo]\n";
    let out = translate(&[
        ("user-data", user_data),
        ("taken", b"users/0"),
        ("taken", b"users/63"),
        ("taken", b"files/0\nfiles/1\n"),
    ]);
    for entry in ["users/1 ", "users/2 ", "files/2/path ", "files/3/path "] {
        assert!(out.contains(&format!("entry {entry}")), "{out}");
    }
    assert!(!out.contains("users/0 ") && !out.contains("files/1/"), "{out}");
}

#[test]
fn what_is_no_frame_is_refused_whole() {
    for input in [
        &b""[..],
        b"x",
        b"input user-data 5\nab",
        b"input user-data 1\nab",
        b"entry a 0\n\nend - 0\n\n",
        b"input user-data 99999999\n",
    ] {
        let output = run(program(), &["translate"], input);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn no_secret_is_in_what_is_told() {
    let user_data = b"#cloud-config\npassword: canary1\nchpasswd: {list: ['a:canary2'], expire: false}\ncanary3: x\nusers: [{name: b, plain_text_passwd: canary4}, {gecos: canary5}, {name: c, shell: canary6}]\n";
    let out = translate(&[("user-data", user_data)]);
    assert!(!out.contains("canary"), "{out}");
    assert_eq!(out.matches("hashed_passwd $6$").count(), 2, "{out}");
}

#[test]
fn large_documents_end_in_time_and_laughs_in_a_note() {
    let mut large = b"#cloud-config\nwrite_files:\n".to_vec();
    for n in 0..200 {
        large.extend_from_slice(format!("- path: /f{n}\n  content: \"{}\"\n", "x".repeat(70_000)).as_bytes());
    }
    assert!(large.len() > 13 << 20);
    let out = translate(&[("user-data", &large)]);
    assert!(out.contains("entry files/199/path 5\n/f199\n") && !out.contains("\nnote "));
    let mut bomb = String::from("#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        bomb += &format!("a{n}: &a{n} [{}]\n", [format!("*a{}", n - 1).as_str(); 9].join(", "));
    }
    assert_eq!(translate(&[("user-data", bomb.as_bytes())]), "note 31.0.0.1.8 0\n\nend - 0\n\n");
}

/// As `gzip -n` makes it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let body = miniz_oxide::deflate::compress_to_vec(bytes, 1);
    let sum = !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    let head = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    [head, &*body, &sum.to_le_bytes(), &u32::try_from(bytes.len()).unwrap().to_le_bytes()].concat()
}

fn message(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n".to_vec();
    for (kind, content) in parts {
        text.extend_from_slice(format!("--B\nContent-Type: {kind}\n\n").as_bytes());
        text.extend_from_slice(content);
        text.push(b'\n');
    }
    [&*text, b"--B--\n"].concat()
}

const NAMED: (&str, &[u8]) = ("text/cloud-config", b"#cloud-config\nhostname: named\n");

#[test]
fn many_bombs_cost_no_more_than_themselves() {
    let bomb = gzip(&vec![0; 16 << 20]);
    let mut parts = vec![("application/gzip", &*bomb); 60];
    parts.push(NAMED);
    let out = translate(&[("user-data", &message(&parts))]);
    assert!(out.starts_with("entry hostname 5\nnamed\n") && out.contains("\nnote 0.0.0."), "{out}");

    let mut laughs = String::from("#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        laughs += &format!("a{n}: &a{n} [{}]\n", [format!("*a{}", n - 1).as_str(); 9].join(", "));
    }
    let parts = [("text/cloud-config", laughs.as_bytes()), NAMED];
    let out = translate(&[("user-data", &message(&parts))]);
    assert_eq!(out, "entry hostname 5\nnamed\nnote 31.0.0.1.8 0\n\nend - 0\n\n");
}

#[test]
fn many_small_things_are_read_in_time() {
    let begin = std::time::Instant::now();
    let user_data = [gzip(b"").repeat(400_000), gzip(NAMED.1)].concat();
    let out = translate(&[("user-data", &user_data)]);
    assert!(out.starts_with("entry hostname 5\nnamed\n"), "{out}");
    // Keys of two documents are not compared each with each, nor is a template searched to its end for each variable.
    let keys: String = (0..100_000).map(|n| format!("k{n}: 1\n")).collect();
    let keys = format!("#cloud-config\n{keys}merge_how: dict(no_replace)\n");
    let template =
        format!("## template: jinja\n#cloud-config\nx: {}\n", "{{v1.instance_id}}".repeat(200_000));
    let parts = [("text/cloud-config", keys.as_bytes()), ("text/cloud-config", keys.as_bytes()), NAMED];
    let out = translate(&[("user-data", &message(&parts))]);
    assert!(out.starts_with("entry hostname 5\nnamed\n") && out.len() < 40_000, "{}", out.len());
    let parts = [("text/jinja2", template.as_bytes()), NAMED];
    let out = translate(&[("user-data", &message(&parts)), ("instance-id", b"i")]);
    assert!(out.starts_with("entry hostname 5\nnamed\n"), "{out}");
    // Nor is a password hashed that has no place, nor a group looked for among all others.
    let groups: String = (0..100_000).map(|n| format!("- g{n}\n")).collect();
    let text = format!(
        "#cloud-config\nhostname: named\nchpasswd: {{list: [{}]}}\ngroups:\n{groups}",
        "'a:b', ".repeat(100_000)
    );
    let out = translate(&[("user-data", text.as_bytes())]);
    assert!(out.contains("entry hostname 5\nnamed\n"));
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
}

#[test]
fn files_that_are_too_much_together_are_left_out_alone() {
    let file = preroot_cloud_config::parts::base64::encode(&gzip(&vec![b'x'; 12 << 20]));
    let mut text = String::from("#cloud-config\nhostname: named\nwrite_files:\n");
    for n in 0..4 {
        text += &format!("- {{path: /f{n}, encoding: gz+b64, content: {file}}}\n");
    }
    let out = translate(&[("user-data", text.as_bytes())]);
    assert_eq!(out.matches("/path ").count(), 2);
    assert!(out.contains("entry hostname 5\nnamed\n") && out.contains("\nnote 0."));
}

#[test]
fn vendor_data_that_are_too_much_cost_the_user_nothing() {
    let text = vec![b'#'; 16 << 20];
    let mut inputs = vec![("user-data", NAMED.1)];
    let names: Vec<String> = (0..6).map(|n| format!("vendor-data/{n}")).collect();
    inputs.extend(names.iter().map(|name| (name.as_str(), &*text)));
    let out = translate(&inputs);
    assert!(out.starts_with("entry hostname 5\nnamed\n") && out.contains("\nnote 0.0.1.0.0 0\n"), "{out}");
}

#[test]
fn wrong_values_without_end_are_not_told_without_end() {
    let text = format!("#cloud-config\nmounts: [{}]\n", "x, ".repeat(300_000));
    assert!(translate(&[("user-data", text.as_bytes())]).matches("note ").count() == 1000);
}

#[test]
fn of_two_passwords_of_a_user_the_hash_counts_as_with_cloud_init() {
    for keys in ["plain_text_passwd: p, hashed_passwd: $6$a$b", "hashed_passwd: $6$a$b, plain-text-passwd: p"]
    {
        let text = format!("#cloud-config\nusers: [{{name: web, {keys}}}]\n");
        let out = translate(&[("user-data", text.as_bytes())]);
        assert!(out.contains("hashed_passwd $6$a$b\n"), "{out}");
        assert_eq!(out.matches("hashed_passwd").count(), 1, "{out}");
    }
    let out = translate(&[(
        "user-data",
        b"#cloud-config\nusers: [{name: web, plain_text_passwd: p, hashed_passwd: null}]\n",
    )]);
    assert_eq!(out.matches("hashed_passwd $6$").count(), 1, "{out}");
}

#[test]
fn vendor_data_are_merged_below_user_data_or_switched_off() {
    let mapping = b"#cloud-config\n{\"cloud-init\": {\"password\": \"provider\", \"hostname\": \"vm\", \"ssh_pwauth\": true}, \"x\": 1}";
    let of = |user_data: &[u8]| {
        translate(&[
            ("user-data", user_data),
            ("vendor-data/mapping", mapping),
            ("taken", b"users/63\nfiles/255"),
        ])
    };
    let out = of(b"#cloud-config\npassword: mine\n");
    assert!(out.starts_with("entry vendor 0\n\nentry users/"), "{out}");
    assert!(
        out.contains("\nentry vendor/hostname 2\nvm\nentry vendor/user/password-login 4\ntrue\n"),
        "{out}"
    );
    assert_eq!(out.matches("hashed_passwd").count(), 1);
    // What is wrong with another text of theirs changes nothing about the mapping.
    let out = translate(&[
        ("user-data", b"#cloud-config\npassword: mine\n"),
        ("vendor-data/mapping", mapping),
        ("vendor-data/1", b"#include http://x.example/y"),
        ("taken", b"users/63\nfiles/255"),
    ]);
    assert!(out.starts_with("entry vendor 0\n\nentry users/"), "{out}");
    assert_eq!(out.matches("hashed_passwd").count(), 1);
    let out = of(b"#cloud-config\nhostname: h\nssh_pwauth: false\n");
    assert!(
        out.contains("\nentry hostname 1\nh\n") && out.contains("\nentry user/password-login 5\nfalse\n")
    );
    for off in ["{enabled: false}", "{enabled: 'False'}", "{enabled: 'no'}", "{enabled: []}", "false", "[x]"]
    {
        let out = of(format!("#cloud-config\nvendor_data: {off}\n").as_bytes());
        assert_eq!(out, "entry vendor 0\n\nnote 28.0.0.0.0 0\n\nend - 0\n\n", "{off}");
    }
    for on in ["{}", "{enabled: true}", "{enabled: 'On'}", "{prefix: [nice]}"] {
        let out = of(format!("#cloud-config\nvendor_data: {on}\n").as_bytes());
        assert!(out.contains("hashed_passwd"), "{on}");
    }
    // What cannot be read again stays what it was.
    let out = translate(&[("user-data", NAMED.1), ("vendor-data/mapping", b"#cloud-config\n{")]);
    assert!(out.starts_with("entry hostname"), "{out}");
}

/// vendor_data.json is JSON, and what is read of it is read as YAML.
#[test]
fn vendor_data_may_be_any_json() {
    let mapping = concat!(
        "#cloud-config\n{\t\"timezone\":\t\"Etc\\/UTC\",\r\n\t\"write_files\":[{\"path\":\"\\/etc\\/x\",\"content\":",
        r#""\ud83d\ude00 \uD83D\u0041 \ude00 \\/ \\\/ \\ud83d \u00e9 \"\u007f \b"}]}"#,
    );
    let mapping = mapping.replace("\\u007f", "\u{7f}");
    let out = translate(&[("user-data", b""), ("vendor-data/mapping", mapping.as_bytes())]);
    assert!(out.starts_with("entry vendor 0\n\n"), "{out}");
    assert!(
        out.contains("entry files/0/path 6\n/etc/x\n") && out.contains("entry timezone 7\nEtc/UTC\n"),
        "{out}"
    );
    let text = "\u{1f600} \u{fffd}A \u{fffd} \\/ \\/ \\ud83d \u{e9} \"\u{7f} \u{8}";
    assert!(out.contains(&format!("entry files/0/content {}\n{text}\n", text.len())), "{out}");
}

/// What `#include` says, with so many rounds left and these documents.
fn including(user_data: &[u8], rounds: &str, pages: &[(&str, &str)]) -> String {
    let mut inputs = vec![("user-data", user_data), ("include", rounds.as_bytes())];
    inputs.extend(pages.iter().map(|(name, page)| (*name, page.as_bytes())));
    translate(&inputs)
}

const WITH_INCLUDE: &[u8] = b"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    hostname: vm1\n    password: p\n    runcmd: [outer]\n- content: |\n    #include http://a.example/x?sig=canary\n    # not this one\n    #include-once\n    HTTPS://b.example/y\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    third\n";

#[test]
fn nothing_is_included_where_nobody_asked_for_it() {
    let out = translate(&[("user-data", WITH_INCLUDE)]);
    assert!(out.contains("\nnote 5.0.0.2.0 0\n") && !out.contains("canary"), "{out}");
    assert!(out.contains("scripts/user/part-003\n"), "{out}");
}

#[test]
fn documents_are_asked_for_with_the_lines_that_name_them_and_the_rest_is_translated() {
    let out = including(WITH_INCLUDE, "3", &[]);
    let wanted = "0 2 1 http://a.example/x?sig=canary\n0 2 4 HTTPS://b.example/y\n";
    assert!(out.contains(&format!("entry include {}\n{wanted}", wanted.len())), "{out}");
    assert!(
        out.contains("entry hostname 3\nvm1\n") && out.contains("outer") && !out.contains("note "),
        "{out}"
    );
}

#[test]
fn of_documents_that_were_fetched_what_they_add_is_said_alone() {
    let x = "http://a.example/x?sig=canary\n#cloud-config\nruncmd: [inner]\nwrite_files: [{path: /x}]\n";
    let y = "HTTPS://b.example/y\n#!/bin/sh\nsecond\n";
    let out = including(WITH_INCLUDE, "2", &[("included/0", x), ("included/1", y)]);
    for text in ["inner", "/x\n", "scripts/user/part-002-002\n", "second"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    for text in ["entry hostname", "users/", "third", "outer", "entry include", "note ", "canary"] {
        assert!(!out.contains(text), "{text}: {out}");
    }
    // Later again, with one that came before.
    let out = including(WITH_INCLUDE, "2", &[("included-before/0", x), ("included/1", y)]);
    assert!(out.contains("second") && !out.contains("inner") && !out.contains("/x\n"), "{out}");
}

#[test]
fn a_document_that_cannot_be_had_costs_no_other_anything() {
    let y = "HTTPS://b.example/y\n#cloud-config\ntimezone: UTC\n";
    let out = including(WITH_INCLUDE, "2", &[("included/1", y)]);
    assert!(
        out.starts_with("entry include ") && out.ends_with("entry timezone 3\nUTC\nend - 0\n\n"),
        "{out}"
    );
}

#[test]
fn documents_in_documents_are_asked_for_until_it_is_enough() {
    let x = (
        "included/0",
        "http://a.example/x?sig=canary\n#include\nhttp://c.example/\nhttp://a.example/x?sig=canary\n",
    );
    let out = including(WITH_INCLUDE, "1", &[x]);
    assert!(out.contains("0 2 2 http://c.example/\n0 2 4 HTTPS://b.example/y\n"), "{out}");
    assert!(out.contains("\nnote 35.0.0.2.3 0\n"), "a document that names itself: {out}");
    let out = including(WITH_INCLUDE, "0", &[x]);
    assert!(!out.contains("entry include") && out.contains("note 34.0.0.2.2 0\n"), "{out}");
    let many: String = (0..40).map(|n| format!("http://{n}.example/\n")).collect();
    let out = including(format!("#include\n{many}").as_bytes(), "3", &[]);
    assert_eq!((out.matches(".example/\n").count(), out.matches("note 34.").count()), (16, 24), "{out}");
}

#[test]
fn only_what_goes_over_http_is_asked_for() {
    for url in [
        "file:///etc/shadow",
        "ftp://x/",
        "http:/x",
        "http://",
        "/etc/shadow",
        "-K/etc/shadow",
        "http://x/\"y",
        "http://x/\\y",
        "http://x/a b",
        "http://x/\u{fc}",
        "http://x/\u{1}",
        &format!("http://{}", "x".repeat(2048)),
    ] {
        let out = including(format!("#include\n{url}\n").as_bytes(), "3", &[]);
        assert!(out.starts_with("note 33.0.0.1.2 0\n"), "{url}: {out}");
    }
}

#[test]
fn disks_that_were_made_are_not_made_again() {
    let user_data = b"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    disk_setup: {/dev/sdc: {overwrite: true, layout: true}}\n    users: [{name: web, plain_text_passwd: p}]\n- content: |\n    #include http://a.example/x\n";
    let x = "http://a.example/x\n#cloud-config\nmerge_how: 'dict(recurse_dict,recurse_list)+list(append)'\ndisk_setup: {/dev/sdd: {overwrite: true, layout: true}}\nusers: [{name: late}]\n";
    let out = including(user_data, "2", &[("included/0", x)]);
    assert!(out.contains("/dev/sdd") && !out.contains("/dev/sdc"), "{out}");
    assert!(out.contains("name late\n") && !out.contains("name web\n"), "{out}");
}

#[test]
fn a_script_whose_document_came_before_is_not_run_again_under_another_name() {
    let user_data = b"#include\nhttp://a/one.sh\nhttp://b/two.sh\n";
    let (one, two) = ("http://a/one.sh\n#!/bin/sh\none\n", "http://b/two.sh\n#!/bin/sh\ntwo\n");
    let out = including(user_data, "2", &[("included/1", two)]);
    assert!(out.contains("two"), "{out}");
    let out = including(user_data, "2", &[("included/0", one), ("included-before/1", two)]);
    assert!(out.contains("\none\n") && !out.contains("two"), "{out}");
}

#[test]
fn a_password_that_was_set_before_is_not_set_again() {
    let user_data = b"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    password: first\n- content: |\n    #include http://a.example/x\n";
    let x = "http://a.example/x\n#cloud-config\nuser: {sudo: 'ALL=(ALL) ALL'}\n";
    let out = including(user_data, "2", &[("included/0", x)]);
    assert!(out.contains("sudo ALL=(ALL) ALL\n"), "{out}");
    assert!(!out.contains("hashed_passwd") && !out.contains("expire"), "{out}");
}

#[test]
fn words_go_into_files_as_they_go_into_pipes() {
    let path = std::env::temp_dir().join(format!("preroot-told-{}", std::process::id()));
    let input = std::env::temp_dir().join(format!("preroot-told-{}.yaml", std::process::id()));
    std::fs::write(&input, "#cloud-config\nsnap: {}\n").unwrap();
    let mut command = Command::new(program());
    command.arg("check").arg(&input).stdout(std::fs::File::create(&path).unwrap()).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(1));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("line 2: snap: a module"), "{text}");
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(input).unwrap();
}

#[test]
fn people_get_words_and_lines() {
    let output = run(
        program(),
        &["check", "-"],
        b"#cloud-config\nhostname: a b\npackagse: [x]\nruncmd: ls\nsnap: {}\n",
    );
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "line 3: an unknown key: packagse",
        "line 4: runcmd: a list",
        "line 5: snap: a module",
        "line 4: cloud-init's schema: runcmd: array was expected",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let output =
        run(program(), &["explain", "-"], b"#cloud-config\nhostname: vm1\nruncmd: [ls]\npassword: canary\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("host name: vm1\n") && text.contains("scripts/user/runcmd, 0700"), "{text}");
    assert!(!text.contains("canary") && !text.contains("$6$"));
    assert_eq!(run(program(), &[], b"").status.code(), Some(2));
}

#[test]
fn a_translator_that_was_taken_over_achieves_nothing() {
    let mut hostile = program();
    hostile.pop();
    hostile.push("examples/hostile");
    for act in
        ["open", "write", "list", "connect", "socket", "run", "thread", "kill", "sleep", "fork", "signal"]
    {
        let output = run(hostile.clone(), &[act], b"");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("inside\n") && !text.contains("achieved"), "{act}: {output:?}");
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{act}: {output:?}");
    }
    let output = run(hostile.clone(), &["memory"], b"");
    assert_eq!(output.stdout, b"inside\nrefused\n", "{output:?}");
    let output = run(hostile.clone(), &["signal-myself"], b"");
    assert_eq!(output.stdout, b"inside\nachieved\n", "{output:?}");
    assert!(run(hostile.clone(), &["nothing"], b"").status.success());
    if std::env::var_os("SLOW").is_some() {
        assert_eq!(run(hostile, &["loop"], b"").status.signal(), Some(libc::SIGKILL));
    }
}
