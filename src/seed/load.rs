//! What does a seed say? Every value is validated again.

use super::lease::load_lease;
use super::network::load_network;
use super::publish::SOURCE;
use super::{CUSTOM_DATA, Context, SEED, Verdict, path, pending, verify};
use crate::error::Result;
use crate::facts::{
    DeviceName, Fact, Facts, Hostname, InstanceId, PasswordHash, PreProvisioning, Provenance, SshKey,
    SshKeys, UserName,
};
use crate::limits;
use crate::machine::Platform;
use crate::sys::Dir;

/// A seed being read, published or pending, one value at a time.
pub(super) struct Reader<'d> {
    dir: &'d mut dyn Dir,
    base: &'d str,
    buf: &'d mut [u8],
}

impl<'d> Reader<'d> {
    /// Of the seed `base` below `dir`; `buf` must hold the largest value that is asked for.
    pub(super) fn new(dir: &'d mut dyn Dir, base: &'d str, buf: &'d mut [u8]) -> Self {
        Self { dir, base, buf }
    }

    /// A value without its newline; `None` where it has no file.
    #[inline(never)]
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&str>> {
        let n = match self.dir.read(&path(self.base, name)?, self.buf) {
            Ok(n) => n,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = core::str::from_utf8(self.buf.get(..n).unwrap_or_default());
        text.map(|text| Some(text.trim_end_matches('\n'))).map_err(|_| malformed!("seed", "not UTF-8", 0))
    }

    /// A value as `parse` reads it; `None` where it has no file or cannot be read so.
    pub(super) fn known<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        Ok(self.text(name)?.and_then(parse))
    }
}

/// A seed's facts being read.
struct FactReader<'d> {
    values: Reader<'d>,
    source: heapless::String<SOURCE>,
}

impl FactReader<'_> {
    /// Where the value `name` is from.
    #[inline(never)]
    fn provenance(&self, name: &str) -> Provenance {
        let word = self.source.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        word.and_then(Provenance::of_word).unwrap_or(Provenance::OvfMedium)
    }

    /// Reads a value into `fact`.
    fn read<T>(
        &mut self,
        name: &str,
        fact: &mut Option<Fact<T>>,
        parse: fn(&str) -> Result<T>,
    ) -> Result<()> {
        let from = self.provenance(name);
        *fact = match self.values.text(name)? {
            Some(text) => Some(Fact { value: parse(text)?, from }),
            None => None,
        };
        Ok(())
    }

    #[inline(never)]
    fn truth(&mut self, name: &str, fact: &mut Option<Fact<bool>>) -> Result<()> {
        self.read(name, fact, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(malformed!("seed", "neither true nor false", 0)),
        })
    }

    /// Filled in place: 32 KiB do not belong on the stack.
    fn keys(&mut self, fact: &mut Option<Fact<SshKeys>>) -> Result<()> {
        let from = self.provenance("user/authorized-keys");
        let Some(text) = self.values.text("user/authorized-keys")? else {
            *fact = None;
            return Ok(());
        };
        let keys = &mut fact.get_or_insert_with(|| Fact { value: SshKeys::new(), from }).value;
        keys.clear();
        text.lines().try_for_each(|line| keys.push(SshKey::parse(line)?))
    }
}

/// Loads a seed (published or pending) into `facts`; every value is validated again.
/// `buf` must hold [`limits::SSH_KEYS`] bytes.
///
/// # Errors
/// `Malformed` naming the value; what was loaded before stays in `facts`.
pub fn load(dir: &mut dyn Dir, base: &str, buf: &mut [u8], facts: &mut Facts) -> Result<()> {
    let source = Reader::new(dir, base, buf).known("source", |text| text.try_into().ok())?;
    let custom_data = match dir.stat(&path(base, CUSTOM_DATA)?) {
        Ok(stat) => Some(stat.size),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let mut seed = FactReader { values: Reader::new(dir, base, buf), source: source.unwrap_or_default() };
    seed.read("instance-id", &mut facts.instance_id, InstanceId::parse)?;
    seed.read("hostname", &mut facts.hostname, Hostname::parse)?;
    seed.read("user/name", &mut facts.user, UserName::parse)?;
    seed.read("user/password-hash", &mut facts.password, PasswordHash::parse)?;
    seed.truth("user/password-login", &mut facts.password_login)?;
    seed.truth("azure/has-custom-data", &mut facts.has_custom_data)?;
    seed.truth("azure/wants-guest-agent", &mut facts.wants_guest_agent)?;
    seed.truth("azure/wants-proxy-agent", &mut facts.wants_proxy_agent)?;
    seed.read("azure/pre-provisioning", &mut facts.pre_provisioning, parse_pre_provisioning)?;
    seed.truth("azure/has-os-profile", &mut facts.has_os_profile)?;
    seed.keys(&mut facts.keys)?;
    load_network(&mut seed.values, &mut facts.network)?;
    facts.network_from = Some(seed.provenance("network")).filter(|_| !facts.network.is_empty());
    facts.custom_data = custom_data.map(|value| Fact { value, from: seed.provenance(CUSTOM_DATA) });
    Ok(())
}

fn parse_pre_provisioning(text: &str) -> Result<PreProvisioning> {
    Ok(match text {
        "none" => PreProvisioning::None,
        "running" => PreProvisioning::Running,
        "savable" => PreProvisioning::Savable,
        "os-disk" => PreProvisioning::OsDisk,
        _ => PreProvisioning::Unknown,
    })
}

/// Of what pool this VM is: as this boot's seed says, else the one kept on the root. A seed that must not be used says
/// nothing.
pub fn load_pre_provisioning(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> PreProvisioning {
    let kept = pending(id).unwrap_or_default();
    let (dir, base): (&mut dyn Dir, &str) =
        if verify(run, SEED).is_ok() { (run, SEED) } else { (root, kept.as_str()) };
    if verify(dir, base).is_err()
        || load_context(dir, base).is_ok_and(|context| context.verdict == Verdict::Fail)
    {
        return PreProvisioning::None;
    }
    let kind = Reader::new(dir, base, &mut [0; 16])
        .known("azure/pre-provisioning", |text| parse_pre_provisioning(text).ok());
    kind.ok().flatten().unwrap_or(PreProvisioning::None)
}

/// True of a seed that is to be trusted and may be applied.
pub fn may_be_applied(dir: &mut dyn Dir, base: &str) -> bool {
    has_verdict(dir, base, Verdict::Provision)
}

/// True when this boot's seed waits for IMDS to be asked again, and no earlier boot left a better one.
pub fn is_waiting(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> bool {
    has_verdict(run, SEED, Verdict::Wait) && !pending(id).is_ok_and(|kept| may_be_applied(root, &kept))
}

fn has_verdict(dir: &mut dyn Dir, base: &str, verdict: Verdict) -> bool {
    verify(dir, base).is_ok() && load_context(dir, base).is_ok_and(|context| context.verdict == verdict)
}

/// True where the platform refuses requests that the image's proxy agent has not signed.
pub fn wants_proxy_agent(dir: &mut dyn Dir, base: &str) -> bool {
    let mut buf = [0; 8];
    let read = Reader::new(dir, base, &mut buf).known("azure/wants-proxy-agent", |text| Some(text == "true"));
    read.ok().flatten().unwrap_or_default()
}

/// Loads what a seed holds beside the facts; unreadable parts are left out.
///
/// # Errors
/// `Os`.
pub fn load_context(dir: &mut dyn Dir, base: &str) -> Result<Context> {
    let mut buf = [0; limits::DESCRIPTION];
    let mut seed = Reader::new(dir, base, &mut buf);
    Ok(Context {
        platform: seed.known("platform", Platform::of_word)?.unwrap_or_default(),
        medium: seed.known("medium", |text| DeviceName::parse(text).ok())?,
        failure: seed.known("failure", |text| text.try_into().ok())?,
        verdict: Verdict::of_word(seed.text("verdict")?),
        lease: load_lease(&mut seed)?,
    })
}
