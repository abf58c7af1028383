//! The command line, which firectl alone writes:
//! `--directory DIR (--tap NAME | --socket FD) -- PASST ARGUMENT... -- VMM ARGUMENT...`.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The network to make, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Receives the pid files.
    pub directory: PathBuf,
    pub link: LinkOption,
    /// passt and its arguments, without its socket.
    pub passt: Vec<OsString>,
    /// What to become.
    pub vmm: Vec<OsString>,
}

/// How the VMM gets to its frames.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkOption {
    /// It opens a tap of this name in its network namespace.
    Tap(String),
    /// It inherits a stream socket as this descriptor.
    Socket(RawFd),
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Options, String> {
    let (mut directory, mut link) = (None, None);
    let mut rest = arguments.iter();
    loop {
        let name = rest.next().ok_or("-- is missing, with passt and the VMM after it")?;
        let mut value = || rest.next().ok_or_else(|| format!("{} needs a value", name.display()));
        let chosen = match name.as_bytes() {
            b"--" => break,
            b"--directory" => {
                directory = Some(PathBuf::from(value()?));
                continue;
            }
            b"--tap" => LinkOption::Tap(parse_interface(value()?)?),
            b"--socket" => LinkOption::Socket(parse_descriptor(value()?)?),
            _ => return Err(format!("unknown argument {}", name.display())),
        };
        if link.replace(chosen).is_some() {
            return Err("only one of --tap and --socket can be given, and once".into());
        }
    }
    let (passt, vmm) = split_commands(rest.as_slice())?;
    Ok(Options {
        directory: directory.ok_or("--directory is missing")?,
        link: link.ok_or("--tap or --socket is missing")?,
        passt,
        vmm,
    })
}

/// passt takes no `--`; the VMM's arguments may have more of them.
fn split_commands(words: &[OsString]) -> Result<(Vec<OsString>, Vec<OsString>), String> {
    let mut commands = words.splitn(2, |word| word == "--").map(<[OsString]>::to_vec);
    let mut command = |what| {
        let words = commands.next().filter(|words| !words.is_empty());
        words.ok_or_else(|| format!("the command of {what} is missing"))
    };
    Ok((command("passt")?, command("the VMM")?))
}

/// What the kernel takes as it stands: it would put a number in the place of a `%d`, and cut what is too
/// long. <https://elixir.bootlin.com/linux/v6.12/source/net/core/dev.c>
fn parse_interface(text: &OsStr) -> Result<String, String> {
    let valid = |name: &&str| {
        (1..libc::IFNAMSIZ).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.to_str().filter(valid).map(str::to_owned).ok_or_else(|| {
        format!("--tap is 1 to 15 letters, digits, hyphens and underscores, not {}", text.display())
    })
}

fn parse_descriptor(text: &OsStr) -> Result<RawFd, String> {
    text.to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|descriptor| *descriptor > libc::STDERR_FILENO)
        .ok_or_else(|| format!("--socket is a descriptor from 3 on, not {}", text.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Options, String> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_two_commands_follow_the_options() {
        let options = parse_words("--socket 3 --directory /d -- passt -4 -- qemu -- -x").unwrap();
        let expected = Options {
            directory: "/d".into(),
            link: LinkOption::Socket(3),
            passt: words("passt -4"),
            vmm: words("qemu -- -x"),
        };
        assert_eq!(options, expected);
        let options = parse_words("--directory /d --tap fifteen-letters -- passt -- vmm").unwrap();
        assert_eq!(options.link, LinkOption::Tap("fifteen-letters".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        const TAP: &str = "--tap is 1 to 15 letters, digits, hyphens and underscores, not ";
        const SOCKET: &str = "--socket is a descriptor from 3 on, not ";
        const TWICE: &str = "only one of --tap and --socket can be given, and once";
        for (line, message) in [
            ("", "-- is missing, with passt and the VMM after it"),
            ("--directory /d --tap t", "-- is missing, with passt and the VMM after it"),
            ("--tap t -- p -- v", "--directory is missing"),
            ("--directory /d -- p -- v", "--tap or --socket is missing"),
            ("--directory /d --tap t --socket 3 -- p -- v", TWICE),
            ("--directory /d --tap t --tap t -- p -- v", TWICE),
            ("--directory", "--directory needs a value"),
            ("-x", "unknown argument -x"),
            ("--tap sixteen-letters-", &format!("{TAP}sixteen-letters-")),
            ("--tap t%d", &format!("{TAP}t%d")),
            ("--tap ../x", &format!("{TAP}../x")),
            ("--socket 2", &format!("{SOCKET}2")),
            ("--socket +3", &format!("{SOCKET}+3")),
            ("--socket 2147483648", &format!("{SOCKET}2147483648")),
            ("--directory /d --tap t --", "the command of passt is missing"),
            ("--directory /d --tap t -- -- v", "the command of passt is missing"),
            ("--directory /d --tap t -- p", "the command of the VMM is missing"),
            ("--directory /d --tap t -- p --", "the command of the VMM is missing"),
        ] {
            assert_eq!(parse_words(line).unwrap_err(), message, "{line}");
        }
    }
}
