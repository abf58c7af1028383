//! What a process is given to run with: its environment, and the program that its first argument names.
//! Rules and texts are Docker's (`CreateDaemonEnvironment` in moby, `exec.LookPath` in Go, which runc uses).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::error::StartError;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment in Docker's order: PATH and HOSTNAME, which `given` may replace, then the rest of `given`;
/// HOME comes from passwd unless it is set.
pub fn environment(hostname: &str, given: &[String], home: &str) -> Vec<String> {
    let mut variables = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    for variable in given {
        // A name without a value takes the variable away, as in Docker's `-e NAME` when it is not set.
        let (name, _) = variable.split_once('=').unwrap_or((variable, ""));
        let existing = variables.iter().position(|other| value_of(other, name).is_some());
        match (existing, variable.contains('=')) {
            (Some(index), true) => variables[index].clone_from(variable),
            (Some(index), false) => {
                variables.remove(index);
            }
            (None, true) => variables.push(variable.clone()),
            (None, false) => {}
        }
    }
    if !variables.iter().any(|variable| value_of(variable, "HOME").is_some_and(|value| !value.is_empty())) {
        variables.retain(|variable| value_of(variable, "HOME").is_none());
        let home = if home.is_empty() { "/" } else { home };
        variables.push(format!("HOME={home}"));
    }
    variables
}

/// The value when `variable` is an assignment to `name`.
fn value_of<'a>(variable: &'a str, name: &str) -> Option<&'a str> {
    variable.strip_prefix(name)?.strip_prefix('=')
}

/// The path of the program that `name` means. To be called as the user that will run it.
pub fn find_executable(name: &str, environment: &[String]) -> Result<String, StartError> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::ENOENT) => Err(StartError {
                code: 127,
                message: format!("exec: \"{name}\": stat {name}: no such file or directory"),
            }),
            Err(error) => {
                Err(StartError { code: 126, message: format!("exec: \"{name}\": {}", describe(error)) })
            }
        };
    }
    let path = environment.iter().find_map(|variable| value_of(variable, "PATH")).unwrap_or("");
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| format!("{directory}/{name}"))
        .find(|candidate| !name.is_empty() && executable(candidate).is_ok())
        .ok_or_else(|| StartError {
            code: 127,
            message: format!("exec: \"{name}\": executable file not found in $PATH"),
        })
}

fn executable(path: &str) -> Result<(), Errno> {
    let metadata = fs::metadata(path).map_err(|error| errno_of(&error))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    // Root may execute what has any x bit at all; access(2) checks against the real ids, which are the
    // effective ones here.
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL))
}

/// Why execve failed, in the words of `docker run`.
pub fn exec_failure(path: &str, error: Errno) -> StartError {
    StartError {
        code: if error == Errno::ENOENT { 127 } else { 126 },
        message: format!("exec {path}: {}", describe(error)),
    }
}

/// The C library's texts begin with a capital letter, Go's do not.
pub fn describe(error: Errno) -> String {
    error.desc().to_lowercase()
}

/// A string for execve.
/// Fails when it holds a NUL, which no C string can.
pub fn c_string(text: &str) -> Result<CString, StartError> {
    CString::new(text).map_err(|_| StartError::refused("arguments and environment must not contain NUL"))
}

pub fn c_strings(strings: &[String]) -> Result<Vec<CString>, StartError> {
    strings.iter().map(|text| c_string(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment_of(given: &[&str], home: &str) -> Vec<String> {
        environment("box", &given.iter().map(ToString::to_string).collect::<Vec<_>>(), home)
    }

    #[test]
    fn the_environment_is_dockers() {
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(environment_of(&[], "/root"), [&path, "HOSTNAME=box", "HOME=/root"]);
        assert_eq!(environment_of(&[], ""), [&path, "HOSTNAME=box", "HOME=/"]);
        assert_eq!(
            environment_of(&["A=1", "PATH=/bin", "A=2=3", "HOME=/x", "HOSTNAME"], "/root"),
            ["PATH=/bin", "A=2=3", "HOME=/x"]
        );
        assert_eq!(
            environment_of(&["HOME=", "PATHS=1"], "/h"),
            [&path, "HOSTNAME=box", "PATHS=1", "HOME=/h"]
        );
    }

    #[test]
    fn programs_are_found_or_refused_with_dockers_words() {
        let path = ["PATH=/nowhere:/usr/bin:/bin".to_owned()];
        assert!(find_executable("sh", &path).unwrap().ends_with("/sh"));
        assert_eq!(find_executable("/bin/sh", &path).unwrap(), "/bin/sh");
        for (name, code, message) in [
            ("foo-nope", 127, "exec: \"foo-nope\": executable file not found in $PATH"),
            ("", 127, "exec: \"\": executable file not found in $PATH"),
            ("/nope", 127, "exec: \"/nope\": stat /nope: no such file or directory"),
            ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
            ("/etc", 126, "exec: \"/etc\": is a directory"),
            ("/etc/passwd/x", 126, "exec: \"/etc/passwd/x\": not a directory"),
        ] {
            let message = message.to_owned();
            assert_eq!(find_executable(name, &path), Err(StartError { code, message }));
        }
        assert_eq!(find_executable("sh", &[]).unwrap_err().code, 127);
    }

    #[test]
    fn execve_failures_have_dockers_codes() {
        assert_eq!(exec_failure("/x", Errno::ENOEXEC).to_string(), "exec /x: exec format error");
        assert_eq!(exec_failure("/x", Errno::ENOEXEC).code, 126);
        assert_eq!(exec_failure("/x", Errno::ENOENT).code, 127);
    }
}
