//! Which element is open, and which namespace does a prefix stand for?
//! (XML 1.0 section 3.1 "element type match"; Namespaces in XML 1.0 sections 3, 4 and 6)

use super::{Name, Namespace};
use crate::error::{Error, Result};

/// Deepest nesting. ovf-env.xml has 7 levels, a goal state 6.
pub(super) const DEPTH: usize = 32;
/// Bytes of one name; the longest of Azure has 40.
pub(super) const NAME: usize = 128;
/// Bytes of the names of all open elements.
const NAMES: usize = 1024;
/// Prefixes declared by all open elements. Azure's root declares 4.
const BINDINGS: usize = 32;
/// Bytes of one prefix.
const PREFIX: usize = 32;

const TOO_DEEP: Error = too_many!("XML nesting", DEPTH);
pub(super) const NAME_TOO_LONG: Error = too_many!("XML name", NAME);

/// `prefix` stands for `namespace` inside the element at `depth`.
struct Binding {
    prefix: heapless::Vec<u8, PREFIX>,
    namespace: Namespace,
    depth: usize,
}

/// The open elements and what their prefixes mean.
pub(super) struct Scopes {
    names: heapless::Vec<u8, NAMES>,
    lengths: heapless::Vec<u8, DEPTH>,
    bindings: heapless::Vec<Binding, BINDINGS>,
}

impl Scopes {
    pub(super) const fn new() -> Self {
        Self { names: heapless::Vec::new(), lengths: heapless::Vec::new(), bindings: heapless::Vec::new() }
    }

    pub(super) fn depth(&self) -> usize {
        self.lengths.len()
    }

    /// Opens an element; its start tag follows. `raw` is the name as written.
    pub(super) fn enter(&mut self, raw: &[u8]) -> Result<()> {
        let length = u8::try_from(raw.len()).map_err(|_| NAME_TOO_LONG)?;
        self.lengths.push(length).map_err(|_| TOO_DEEP)?;
        let full = too_many!("XML names of open elements", NAMES);
        self.names.extend_from_slice(raw).map_err(|_| full)
    }

    /// Binds a prefix (empty: the default namespace) for the element entered last.
    pub(super) fn bind(&mut self, prefix: &[u8], namespace: Namespace) -> Result<()> {
        let long = too_many!("XML namespace prefix", PREFIX);
        let prefix = heapless::Vec::from_slice(prefix).map_err(|_| long)?;
        let full = too_many!("XML namespace declarations", BINDINGS);
        self.bindings.push(Binding { prefix, namespace, depth: self.lengths.len() }).map_err(|_| full)
    }

    /// The name, as written, of the innermost open element.
    pub(super) fn innermost(&self) -> &[u8] {
        let length = self.lengths.last().copied().map_or(0, usize::from);
        self.names.get(self.names.len().saturating_sub(length)..).unwrap_or_default()
    }

    /// The innermost element with its namespace; `None` when its prefix was never declared or the name has a stray colon.
    pub(super) fn resolve(&self) -> Option<Name<'_>> {
        let (prefix, local) = split(self.innermost())?;
        Some(Name { namespace: self.namespace_of(prefix)?, local })
    }

    /// What a prefix stands for here; the empty prefix without a default namespace stands for none.
    pub(super) fn namespace_of(&self, prefix: &[u8]) -> Option<Namespace> {
        let bound = self.bindings.iter().rev().find(|binding| binding.prefix == prefix);
        match (bound, prefix) {
            (Some(binding), _) => Some(binding.namespace),
            (None, b"") => Some(Namespace::None),
            (None, b"xml") => Some(Namespace::Other),
            (None, _) => None,
        }
    }

    /// Closes the innermost element.
    pub(super) fn leave(&mut self) {
        let length = self.lengths.pop().map_or(0, usize::from);
        self.names.truncate(self.names.len().saturating_sub(length));
        while self.bindings.last().is_some_and(|binding| binding.depth > self.lengths.len()) {
            self.bindings.pop();
        }
    }
}

/// Prefix (empty when there is none) and local part; `None` when this is no qualified name.
pub(super) fn split(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = raw.split(|byte| *byte == b':');
    match (parts.next()?, parts.next(), parts.next()) {
        (local, None, _) if !local.is_empty() => Some((b"", local)),
        (prefix, Some(local), None) if !prefix.is_empty() && !local.is_empty() => Some((prefix, local)),
        _ => None,
    }
}
