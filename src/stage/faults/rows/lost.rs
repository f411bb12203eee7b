//! Bugs of ours, and kills: each stage ends, or hangs, at its begin or in the middle.

use super::{Rows, imds_says, no_medium, nothing_usable};
use crate::cli::Verb;
use crate::stage::faults::{Blocked, Expect, Growth};
use crate::sys::linux::Ended;
use std::format;

const BUG: &str = "unhandled exception";
const ALL: [Ended; 3] = [Ended::Exit(101), Ended::Deadline, Ended::Signal(9)];

/// What the supervisor says.
fn said(ended: Ended) -> &'static str {
    match ended {
        Ended::Deadline => "did not end in time",
        Ended::Exit(_) => "ended by a bug of ours",
        Ended::Signal(_) => "was killed",
    }
}

pub(super) fn stages(rows: &mut Rows) {
    for ended in ALL {
        let mut lose = |at, expect, growth| {
            rows.add(format!("lost: {at}, {ended:?}"), expect, Some(said(ended)), move |sim| {
                sim.lose(at, ended)
            });
            rows.grows(growth);
        };
        lose("enter modules", Expect::Ready, Growth::Now);
        lose("enter persist", Expect::Ready, Growth::Now);
        lose("enter grow", Expect::Ready, Growth::Next);
        lose("enter report", Expect::Ready, Growth::Now);
        let failed = Expect::Failed("apply did not finish".into());
        let said = Some("the platform knows: provisioning failed");
        rows.add(format!("lost: enter apply, {ended:?}"), failed, said, move |sim| {
            sim.lose("enter apply", ended)
        });
    }
    for ended in [Ended::Exit(101), Ended::Signal(9)] {
        for at in ["IMDS answered after", "lease of"] {
            let said = Some(said(ended));
            let warned = Expect::Warned(BUG.into());
            rows.add(format!("lost: {at}, {ended:?}"), warned, said, move |sim| sim.lose(at, ended));
            let fatal = Expect::Fatal(BUG.into());
            rows.add(format!("lost: {at}, {ended:?}, no medium"), fatal, said, move |sim| {
                sim.lose(at, ended);
                no_medium(sim);
            });
        }
        // The medium's own process: what only it has is lost with it.
        let (at, said) = ("enter fetch", Some(said(ended)));
        rows.add(format!("lost: {at}, {ended:?}"), Expect::Ready, said, move |sim| sim.lose(at, ended));
        let fatal = Expect::Fatal("neither SSH key nor password".into());
        rows.add(format!("lost: {at}, {ended:?}, a password alone"), fatal, said, move |sim| {
            sim.lose(at, ended);
            imds_says(sim, "no-keys");
        });
    }
    // `persist` goes on without what hangs, and IMDS is asked again where that is of use.
    for at in ["IMDS answered after", "lease of", "enter fetch"] {
        let said = Some("fetch has not ended after");
        // It hangs before there is any seed.
        let expect = match at {
            "enter fetch" => Expect::Failed("no provisioning data before the boot went on".into()),
            _ => Expect::Ready,
        };
        let (name, again) = (format!("lost: {at}, Deadline"), expect.clone());
        rows.add(format!("{name}, no medium"), again, said, move |sim| {
            sim.lose(at, Ended::Deadline);
            no_medium(sim);
        });
        rows.add(name, expect, said, move |sim| sim.lose(at, Ended::Deadline));
    }
    for (verb, expect, growth) in [
        (Verb::Modules, Expect::Ready, Growth::Now),
        (Verb::FetchOffline, Expect::Ready, Growth::Now),
        (Verb::FetchOnline, Expect::Ready, Growth::Now),
        (Verb::Grow, Expect::Ready, Growth::Next),
        (Verb::Persist, Expect::Ready, Growth::Now),
        (Verb::Report, Expect::Ready, Growth::Now),
    ] {
        let name = format!("lost: no process for {}", verb.word());
        rows.add(name, expect, Some("got no process"), move |sim| sim.no_process_for = Some(verb));
        rows.grows(growth);
    }
}

pub(super) fn in_the_middle(rows: &mut Rows) {
    let answered = "the host is answered (KVP)";
    for ended in ALL {
        let expect = Expect::Fatal("http error 403 querying IMDS".into());
        rows.add(format!("lost: kvp with its device open, {ended:?}"), expect, Some("IMDS: "), move |sim| {
            nothing_usable(sim);
            sim.lose(answered, ended);
        });
        if ended == Ended::Deadline {
            // Its own alarm comes too late for this boot.
            rows.without_kvp();
        }
        let expect = Expect::Fatal("neither SSH key nor password".into());
        let name = format!("lost: kvp with its device open, {ended:?}, no root ever");
        rows.add(name, expect, Some("neither SSH"), move |sim| {
            no_medium(sim);
            imds_says(sim, "no-keys");
            sim.is_mounted = false;
            sim.lose(answered, ended);
        });
        rows.blocked(Blocked { early_kvp: ended == Ended::Deadline, ..Blocked::default() });
    }
    for ended in [Ended::Exit(101), Ended::Signal(9)] {
        let expect = Expect::Fatal("http error 403 querying IMDS".into());
        let name = format!("lost: kvp each time, {ended:?}");
        rows.add(name, expect, Some("IMDS: "), move |sim| {
            nothing_usable(sim);
            (0..3).for_each(|skip| sim.when(answered, skip, move |machine, turn| machine.die(turn, ended)));
        });
        rows.without_kvp();
        rows.add(format!("lost: enter kvp, {ended:?}"), Expect::Ready, Some(said(ended)), move |sim| {
            sim.lose("enter kvp", ended);
        });
    }
    for ended in [Ended::Exit(101), Ended::Signal(9)] {
        for n in [1, 3, 5] {
            let name = format!("lost: grow at write {n}, {ended:?}");
            rows.add(name, Expect::Ready, Some(said(ended)), move |sim| sim.write_ends = Some((n, ended)));
            rows.grows(Growth::Next);
        }
        for n in [2, 9, 20] {
            let name = format!("lost: persist at change {n}, {ended:?}");
            rows.add(name, Expect::Ready, Some(said(ended)), move |sim| {
                sim.when("enter persist", 0, move |machine, _| machine.root.clone().end_at(n, ended));
            });
        }
    }
    for ended in [Ended::Exit(101), Ended::Signal(9)] {
        // The early one loses its card.
        let name = format!("lost: the late report, {ended:?}");
        rows.add(name, Expect::Ready, None, move |sim| {
            sim.cloud.drops_at_post = true;
            sim.when("enter report", 1, move |machine, turn| machine.die(turn, ended));
        });
    }
}
