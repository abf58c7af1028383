//! The command line, which firectl alone writes: `--socket PATH --path PATH [--read-only] [--owner UID:GID]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::hello::Ids;

/// What to serve, to whom, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The unix socket to listen on: the one to which the VMM connects the guest.
    pub socket: PathBuf,
    /// The directory or regular file that is shared.
    pub path: PathBuf,
    pub read_only: bool,
    /// Who owns the user's files in the guest's eyes, in place of the workload's user.
    pub owner: Option<Ids>,
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Options, String> {
    let (mut socket, mut path, mut owner, mut read_only) = (None, None, None, false);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{} needs a value", name.display()));
        match name.as_bytes() {
            b"--socket" => socket = Some(PathBuf::from(value()?)),
            b"--path" => path = Some(PathBuf::from(value()?)),
            b"--owner" => owner = Some(parse_owner(value()?)?),
            b"--read-only" => read_only = true,
            _ => return Err(format!("unknown argument {}", name.display())),
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    Ok(Options {
        socket: socket.ok_or_else(|| missing("--socket"))?,
        path: path.ok_or_else(|| missing("--path"))?,
        read_only,
        owner,
    })
}

fn parse_owner(text: &OsStr) -> Result<Ids, String> {
    text.to_str()
        .and_then(|text| text.split_once(':'))
        .and_then(|(uid, gid)| Some(Ids { uid: uid.parse().ok()?, gid: gid.parse().ok()? }))
        .ok_or_else(|| format!("--owner is UID:GID, not {}", text.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let options = parse_words(&["--read-only", "--path", "/d", "--owner", "10:20", "--socket", "/s"]);
        let expected = Options {
            socket: "/s".into(),
            path: "/d".into(),
            read_only: true,
            owner: Some(Ids { uid: 10, gid: 20 }),
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, message) in [
            (&["--path", "/d"][..], "--socket is missing"),
            (&["--socket", "/s"], "--path is missing"),
            (&["--socket"], "--socket needs a value"),
            (&["-x"], "unknown argument -x"),
            (&["--owner", "root"], "--owner is UID:GID, not root"),
        ] {
            assert_eq!(parse_words(words).unwrap_err(), message);
        }
    }
}
