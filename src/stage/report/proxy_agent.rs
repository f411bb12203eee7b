//! Metadata Security Protocol: may the platform be spoken to yet?
//!
//! Where the medium says `ProvisionGuestProxyAgent`, the platform may refuse requests that azure-proxy-agent has not
//! signed; it signs what goes over the kernel's sockets, once it runs. Source: cloud-init, sources/DataSourceAzure.py
//! `_check_azure_proxy_agent_status`, whose words the reasons are.

use crate::error::Kind;
use crate::event::Level;
use crate::limits;
use crate::sys::Kernel;

const PROGRAMS: [&str; 3] =
    ["/usr/sbin/azure-proxy-agent", "/usr/bin/azure-proxy-agent", "/sbin/azure-proxy-agent"];

/// Waits until the agent signs. What stands in the way is the reason why this VM fails.
pub(super) fn await_signing(kernel: &mut Kernel<'_>) -> Result<(), &'static str> {
    kernel.say(Level::Info, "waiting for azure-proxy-agent, which signs requests", &[]);
    for program in PROGRAMS {
        // It waits itself, in seconds; the deadline is for the case that it does not.
        let argv = [program, "--status", "--wait", "120"];
        match kernel.system.run("/", &argv, limits::PROXY_AGENT_MS) {
            Err(error) if error.is_not_found() => {}
            Ok(0) => return Ok(()),
            Err(error) if error.is(Kind::Deadline) => {
                return Err("azure-proxy-agent status failure: no answer");
            }
            _ => return Err("azure-proxy-agent status failure"),
        }
    }
    Err("azure-proxy-agent not found")
}
