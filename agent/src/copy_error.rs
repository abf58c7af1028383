//! Why a copy failed, and its way from a helper to the caller.

use std::io;

use nix::errno::Errno;
use tonic::{Code, Status};

/// A failure with the code that the caller is given.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CopyError {
    code: Code,
    message: String,
}

/// Longer messages are cut: a path may be as long as it likes.
const MAX_MESSAGE_BYTES: usize = 4096;

impl CopyError {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into() }
    }

    pub fn wrong(message: impl Into<String>) -> Self {
        Self { code: Code::FailedPrecondition, message: message.into() }
    }

    /// The form in which a helper tells the agent: the code, then the message.
    pub fn encode(&self) -> Vec<u8> {
        let text = self.message.as_bytes();
        let mut bytes = vec![u8::try_from(self.code as i32).unwrap_or(2)];
        bytes.extend_from_slice(&text[..text.len().min(MAX_MESSAGE_BYTES)]);
        bytes
    }

    pub fn of(path: &[u8], error: Errno) -> Self {
        let code = match error {
            Errno::ENOENT => Code::NotFound,
            Errno::ENOTDIR | Errno::EISDIR | Errno::ELOOP | Errno::EROFS | Errno::EBUSY | Errno::EEXIST => {
                Code::FailedPrecondition
            }
            Errno::ENOSPC | Errno::EDQUOT => Code::OutOfRange,
            Errno::ENAMETOOLONG => Code::InvalidArgument,
            _ => Code::Internal,
        };
        let reason = match error {
            Errno::EROFS => "read-only file system, in the VM".to_owned(),
            error => crate::environment::describe(error),
        };
        Self { code, message: format!("{}: {reason}", shown(path)) }
    }
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self { code: Code::Aborted, message: "the copy was cut off".into() }
            }
            _ => Self { code: Code::Internal, message: error.to_string() },
        }
    }
}

/// What a helper's report says: the bytes of its answer, or why there is none.
pub fn read_report(report: &[u8]) -> Result<&[u8], Status> {
    match report.split_first() {
        None => Err(Status::internal("the copy was ended, perhaps for want of memory")),
        Some((0, answer)) => Ok(answer),
        Some((&code, text)) => {
            Err(Status::new(Code::from_i32(code.into()), String::from_utf8_lossy(text).into_owned()))
        }
    }
}

/// A path for people: relative ones are shown as they are.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".into() } else { String::from_utf8_lossy(path).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_the_helper_said() {
        let error = CopyError::of(b"/a", Errno::ENOENT);
        let status = read_report(&error.encode()).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "/a: no such file or directory"));
        assert_eq!(read_report(&[]).unwrap_err().code(), Code::Internal);
        assert_eq!(read_report(&[0, 7]).unwrap(), [7]);
        let eof = CopyError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(read_report(&eof.encode()).unwrap_err().code(), Code::Aborted);
        let long = CopyError::of(&[b'a'; 9000], Errno::EIO);
        assert_eq!(long.encode().len(), 1 + MAX_MESSAGE_BYTES);
    }
}
