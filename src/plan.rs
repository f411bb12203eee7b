//! What is to be done with what the sources said? Pure: outcomes in, [`Verdict`] out.
//!
//! The table of the architecture, section "Verdicts", line by line; the tests are its rows.

use crate::facts::{Fact, Facts, PreProvisioning, Provenance};

/// How asking one source ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It gave its facts.
    Good,
    /// It is not there: no drive, no medium, no ovf-env.xml on it.
    Absent,
    /// It is there and cannot be used.
    Bad,
    /// It did not answer as it should, and may in a minute.
    Late,
    /// It was not asked, and will not be.
    NotAsked,
}

/// What stands in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The medium: its own error says what.
    Medium,
    /// IMDS, or the network to it: its own error says what.
    Imds,
    /// No source is there at all.
    NoSource,
    /// A user that nobody could log in as.
    NoLogin,
    /// The platform says that there is customData, and its medium, which alone has it, was not read.
    CustomData,
    /// A VM of a pool of a kind that nobody knows, or where requests are to be signed.
    Pool,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Apply the seed, then report Ready. A fault goes into the KVP record only.
    Provision {
        /// What was wrong on the way.
        fault: Option<Fault>,
    },
    /// Tell the platform at once that this VM will not be usable.
    Fail(Fault),
    /// Not enough is known, and IMDS, which may know it, is asked again in the real root; nothing is told yet.
    AskAgain,
    /// A disk that was prepared elsewhere: nothing is applied, nothing is reported.
    Specialised,
    /// A VM of a pool: it tells the platform what it is and waits for its owner, in the real root. What the sources say
    /// now must not be applied.
    Await,
}

/// Weighs what the medium and IMDS said.
#[must_use]
pub fn verdict(facts: &Facts, medium: Outcome, imds: Outcome) -> Verdict {
    let fault = match (medium, imds) {
        (Outcome::Bad, _) => Some(Fault::Medium),
        (_, Outcome::Bad | Outcome::Late) => Some(Fault::Imds),
        _ => None,
    };
    // Before the next: a VM that was restarted in its pool has no medium any more, and maybe no osProfile yet.
    match facts.pool() {
        PreProvisioning::None => {}
        PreProvisioning::Unknown => return Verdict::Fail(Fault::Pool),
        // Before its network is the owner's no proxy agent can sign.
        _ if Fact::is_true(facts.wants_proxy_agent.as_ref()) => {
            return Verdict::Fail(Fault::Pool);
        }
        _ => return Verdict::Await,
    }
    let lacks_os_profile = facts.has_os_profile.as_ref().is_some_and(|fact| !fact.value);
    if medium == Outcome::Absent && imds == Outcome::Good && lacks_os_profile {
        return Verdict::Specialised;
    }
    // Or it was not asked: where requests must be signed, that is for the real root.
    let wants_signing = Fact::is_true(facts.wants_proxy_agent.as_ref());
    let may_know = imds == Outcome::Late || (imds == Outcome::NotAsked && wants_signing);
    let lacks_source = medium != Outcome::Good && imds != Outcome::Good;
    let lacks_login = facts.user.is_some() && !has_login(facts);
    if (lacks_source || lacks_login) && may_know {
        return Verdict::AskAgain;
    }
    if lacks_source {
        return Verdict::Fail(fault.unwrap_or(Fault::NoSource));
    }
    if lacks_login {
        return Verdict::Fail(if medium == Outcome::Bad { Fault::Medium } else { Fault::NoLogin });
    }
    let is_lost = Fact::is_true(facts.has_custom_data.as_ref())
        && facts.custom_data.as_ref().is_none_or(|fact| fact.from != Provenance::OvfMedium);
    Verdict::Provision { fault: fault.or(is_lost.then_some(Fault::CustomData)) }
}

/// True when somebody could log in to what the facts describe.
#[must_use]
pub fn has_login(facts: &Facts) -> bool {
    facts.password.is_some() || facts.keys.as_ref().is_some_and(|keys| !keys.value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Fault, Outcome, Verdict, verdict};
    use crate::facts::{Fact, Facts, PasswordHash, PreProvisioning, Provenance, UserName};

    fn fact<T>(value: T) -> Option<Fact<T>> {
        Some(Fact { value, from: Provenance::Imds })
    }

    fn user(with_password: bool) -> Facts {
        let password = with_password.then(|| PasswordHash::parse("$6$a$b").unwrap());
        Facts {
            user: fact(UserName::parse("ops").unwrap()),
            password: password.and_then(fact),
            ..Facts::new()
        }
    }

    #[test]
    fn a_broken_medium_is_only_fatal_when_nobody_could_log_in() {
        let fault = Some(Fault::Medium);
        assert_eq!(verdict(&user(true), Outcome::Bad, Outcome::Good), Verdict::Provision { fault });
        assert_eq!(verdict(&user(false), Outcome::Bad, Outcome::Good), Verdict::Fail(Fault::Medium));
        assert_eq!(verdict(&user(false), Outcome::Good, Outcome::Good), Verdict::Fail(Fault::NoLogin));
    }

    #[test]
    fn the_medium_alone_is_enough() {
        let fault = Some(Fault::Imds);
        assert_eq!(verdict(&user(true), Outcome::Good, Outcome::Bad), Verdict::Provision { fault });
        assert_eq!(
            verdict(&user(true), Outcome::Good, Outcome::NotAsked),
            Verdict::Provision { fault: None }
        );
    }

    #[test]
    fn nothing_from_anybody_is_a_failure_with_its_reason() {
        assert_eq!(verdict(&Facts::new(), Outcome::Absent, Outcome::Bad), Verdict::Fail(Fault::Imds));
        assert_eq!(verdict(&Facts::new(), Outcome::Bad, Outcome::Bad), Verdict::Fail(Fault::Medium));
        assert_eq!(
            verdict(&Facts::new(), Outcome::Absent, Outcome::NotAsked),
            Verdict::Fail(Fault::NoSource)
        );
    }

    #[test]
    fn what_a_minute_mends_is_waited_for_where_it_is_needed() {
        for medium in [Outcome::Absent, Outcome::Bad] {
            assert_eq!(verdict(&Facts::new(), medium, Outcome::Late), Verdict::AskAgain);
        }
        assert_eq!(verdict(&user(false), Outcome::Good, Outcome::Late), Verdict::AskAgain, "IMDS has keys");
        let fault = Some(Fault::Imds);
        assert_eq!(verdict(&user(true), Outcome::Good, Outcome::Late), Verdict::Provision { fault });
        let facts = Facts { wants_proxy_agent: fact(true), ..user(false) };
        for medium in [Outcome::Good, Outcome::Bad] {
            assert_eq!(verdict(&facts, medium, Outcome::NotAsked), Verdict::AskAgain, "once the agent signs");
        }
        let facts = Facts { pre_provisioning: fact(PreProvisioning::Unknown), ..Facts::new() };
        assert_eq!(verdict(&facts, Outcome::Bad, Outcome::Late), Verdict::Fail(Fault::Pool));
    }

    #[test]
    fn custom_data_that_was_lost_with_the_medium_is_told() {
        let facts = Facts { has_custom_data: fact(true), custom_data: fact(9), ..user(true) };
        let lost = Verdict::Provision { fault: Some(Fault::CustomData) };
        assert_eq!(verdict(&facts, Outcome::Absent, Outcome::Good), lost, "userData is not customData");
        let custom_data = Some(Fact { value: 9, from: Provenance::OvfMedium });
        let facts = Facts { custom_data, ..facts };
        assert_eq!(verdict(&facts, Outcome::Good, Outcome::Good), Verdict::Provision { fault: None });
        let facts = Facts { has_custom_data: fact(false), custom_data: None, ..facts };
        assert_eq!(verdict(&facts, Outcome::Absent, Outcome::Good), Verdict::Provision { fault: None });
    }

    #[test]
    fn a_specialised_disk_is_left_alone() {
        let facts = Facts { has_os_profile: fact(false), ..Facts::new() };
        assert_eq!(verdict(&facts, Outcome::Absent, Outcome::Good), Verdict::Specialised);
        assert!(matches!(verdict(&facts, Outcome::Good, Outcome::Good), Verdict::Provision { .. }));
    }

    #[test]
    fn a_vm_of_a_pool_waits_for_its_owner_where_it_can() {
        for kind in [PreProvisioning::Savable, PreProvisioning::Running, PreProvisioning::OsDisk] {
            let facts = Facts { pre_provisioning: fact(kind), ..user(true) };
            assert_eq!(verdict(&facts, Outcome::Good, Outcome::Good), Verdict::Await);
            let facts = Facts { has_os_profile: fact(false), ..facts };
            assert_eq!(verdict(&facts, Outcome::Absent, Outcome::Good), Verdict::Await);
            let facts = Facts { wants_proxy_agent: fact(true), ..facts };
            assert_eq!(verdict(&facts, Outcome::Good, Outcome::NotAsked), Verdict::Fail(Fault::Pool));
        }
        let facts = Facts { pre_provisioning: fact(PreProvisioning::Unknown), ..user(true) };
        assert_eq!(verdict(&facts, Outcome::Good, Outcome::Good), Verdict::Fail(Fault::Pool));
        let facts = Facts { pre_provisioning: fact(PreProvisioning::None), ..user(true) };
        assert!(matches!(verdict(&facts, Outcome::Good, Outcome::Good), Verdict::Provision { .. }));
    }
}
