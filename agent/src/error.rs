//! The failures of the agent: what was being done, and why it did not succeed.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

use crate::control_drive::ControlDriveError;

/// Why the guest cannot go on.
#[derive(Debug, Error)]
pub enum AgentError {
    #[error("{action}: {source}")]
    System { action: String, source: Errno },
    #[error("{action}: {source}")]
    Io { action: String, source: io::Error },
    #[error("control drive: {0}")]
    ControlDrive(#[from] ControlDriveError),
    #[error("{0}")]
    Invalid(String),
}

/// Says what was being done when a system call failed.
pub trait Context<T> {
    /// `action` completes "cannot …" without the cannot: "mount /proc".
    fn context(self, action: impl FnOnce() -> String) -> Result<T, AgentError>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T, AgentError> {
        self.map_err(|source| AgentError::System { action: action(), source })
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T, AgentError> {
        self.map_err(|source| AgentError::Io { action: action(), source })
    }
}

/// Why a process could not be started, with the exit code that `docker run` gives for it: 125 when firectl
/// or the request is at fault, 126 when the program cannot be executed, 127 when it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct StartError {
    pub code: u8,
    pub message: String,
}

/// Longer messages are cut on their way to the agent.
pub const MAX_MESSAGE_BYTES: usize = 2048;

impl StartError {
    pub fn refused(message: impl Into<String>) -> Self {
        Self { code: 125, message: message.into() }
    }

    /// The form in which a child tells its parent: the code, then the message.
    pub fn encode(&self) -> Vec<u8> {
        let text = self.message.as_bytes();
        let mut bytes = vec![self.code];
        bytes.extend_from_slice(&text[..text.len().min(MAX_MESSAGE_BYTES)]);
        bytes
    }

    /// The inverse of [`StartError::encode`]; `None` for no bytes, which is a child that has executed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&code, text) = bytes.split_first()?;
        Some(Self { code, message: String::from_utf8_lossy(text).into_owned() })
    }
}

impl From<AgentError> for StartError {
    fn from(error: AgentError) -> Self {
        Self::refused(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_error_survives_the_pipe() {
        let error =
            StartError { code: 127, message: "exec: \"foo\": executable file not found in $PATH".into() };
        assert_eq!(StartError::decode(&error.encode()), Some(error));
        assert_eq!(StartError::decode(&[]), None);
        let long = StartError::refused("x".repeat(10_000));
        assert_eq!(long.encode().len(), 1 + MAX_MESSAGE_BYTES);
    }
}
