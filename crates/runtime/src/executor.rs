//! The hook through which the OCI library lets us take the last step of a container's first process.

use std::collections::HashMap;
use std::os::fd::RawFd;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use crate::launch::Launch;
use crate::shim::Inherited;

/// Becomes the container's command as [`Launch`] says, not as the library would.
#[derive(Clone)]
pub(crate) struct LaunchExecutor {
    pub(crate) launch: Launch,
    /// Write end of a pipe that closes by itself when the command runs.
    pub(crate) report: RawFd,
    pub(crate) membership: Inherited,
}

impl Executor for LaunchExecutor {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        self.launch.run(self.report)
    }

    /// The last hook before the process reports that it is ready.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.membership.take_effect().map_err(|error| {
            ExecutorValidationError::ArgValidationError(format!(
                "cannot join the container's cgroup: {error}"
            ))
        })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
