//! What the guest is called, and what names resolve to.

use nix::errno::Errno;

use crate::error::{AgentError, Context};
use crate::proto::{Host, Names};

/// The domain of the guest's own name, which `domainname` and `hostname -d` show.
pub fn set_domain(names: Option<&Names>) -> Result<(), AgentError> {
    let Some(Names { domain, .. }) = names.filter(|names| !names.domain.is_empty()) else {
        return Ok(());
    };
    // SAFETY: setdomainname reads as many bytes as it is told, which are there.
    Errno::result(unsafe { libc::setdomainname(domain.as_ptr().cast(), domain.len()) })
        .map(drop)
        .context(|| format!("set the domain {domain:?}"))
}

/// Contents of /etc/hosts, line for line Docker's.
pub fn hosts_file(hostname: &str, names: &Names) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for Host { address, name } in &names.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if !hostname.is_empty() && hostname != "localhost" {
        let full =
            if names.domain.is_empty() { String::new() } else { format!("{hostname}.{} ", names.domain) };
        text.push_str(&format!("127.0.0.1\t{full}{hostname}\n"));
    }
    text
}

/// Contents of /etc/resolv.conf.
pub fn resolver_file(names: &Names) -> String {
    let mut text = String::from("# Written by firectl: this guest has no network.\n");
    for server in &names.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, words) in [("search", &names.search), ("options", &names.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_resolves_its_own_name() {
        let names = Names::default();
        assert!(hosts_file("web", &names).ends_with("ip6-allrouters\n127.0.0.1\tweb\n"));
        assert!(hosts_file("", &names).ends_with("ip6-allrouters\n"));
        let db = Host { address: "10.0.0.7".into(), name: "db".into() };
        let names = Names { domain: "lan".into(), hosts: vec![db], ..names };
        assert!(hosts_file("web", &names).ends_with("10.0.0.7\tdb\n127.0.0.1\tweb.lan web\n"));
    }

    #[test]
    fn the_resolver_is_told_what_was_given() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(resolver_file(&Names::default()).lines().count(), 1);
        let names = Names {
            servers: list(&["10.0.0.1", "10.0.0.2"]),
            search: list(&["a.lan", "lan"]),
            options: list(&["ndots:2"]),
            ..Names::default()
        };
        let text = resolver_file(&names);
        assert!(
            text.ends_with("\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.lan lan\noptions ndots:2\n")
        );
    }
}
