//! What the guest is called, and what names resolve to.

use nix::errno::Errno;

use crate::error::{AgentError, Context};
use crate::proto::{Host, Names, Network};

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
pub fn hosts_file(hostname: &str, names: &Names, network: Option<&Network>) -> String {
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
        let own = network.map_or("127.0.0.1", |network| &network.address);
        text.push_str(&format!("{own}\t{full}{hostname}\n"));
    }
    text
}

/// Contents of /etc/resolv.conf: what the user has said, else what the network has.
pub fn resolver_file(names: &Names, network: Option<&Network>) -> String {
    let mut text = String::from(match network {
        Some(_) => "# Written by firectl.\n",
        None => "# Written by firectl: this guest has no network.\n",
    });
    let none = Network::default();
    let network = network.unwrap_or(&none);
    for server in first_of(&names.servers, &network.servers) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, words) in
        [("search", first_of(&names.search, &network.search)), ("options", &names.options)]
    {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// The first list, unless nothing is in it.
fn first_of<'a>(first: &'a [String], second: &'a [String]) -> &'a [String] {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_guest_resolves_its_own_name() {
        let names = Names::default();
        assert!(hosts_file("web", &names, None).ends_with("ip6-allrouters\n127.0.0.1\tweb\n"));
        assert!(hosts_file("", &names, None).ends_with("ip6-allrouters\n"));
        let db = Host { address: "10.0.0.7".into(), name: "db".into() };
        let names = Names { domain: "lan".into(), hosts: vec![db], ..names };
        assert!(hosts_file("web", &names, None).ends_with("10.0.0.7\tdb\n127.0.0.1\tweb.lan web\n"));
        let network = Network { address: "10.0.0.8".into(), ..Network::default() };
        let hosts = |hostname| hosts_file(hostname, &names, Some(&network));
        assert!(hosts("web").ends_with("10.0.0.7\tdb\n10.0.0.8\tweb.lan web\n"));
        assert!(hosts("web").starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(hosts("").ends_with("10.0.0.7\tdb\n"));
    }

    #[test]
    fn the_resolver_is_told_what_was_given() {
        let nothing = "# Written by firectl: this guest has no network.\n";
        assert_eq!(resolver_file(&Names::default(), None), nothing);
        let names = Names {
            servers: list(&["10.0.0.1", "10.0.0.2"]),
            search: list(&["a.lan", "lan"]),
            options: list(&["ndots:2"]),
            ..Names::default()
        };
        let lines = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.lan lan\noptions ndots:2\n";
        assert_eq!(resolver_file(&names, None), format!("{nothing}{lines}"));
    }

    #[test]
    fn the_network_names_servers_and_domains_where_the_user_has_not() {
        let network =
            Network { servers: list(&["10.0.2.3"]), search: list(&["example.org"]), ..Network::default() };
        let resolver = |names: Names| resolver_file(&names, Some(&network));
        let options = list(&["ndots:2"]);
        for (names, lines) in [
            (Names::default(), "nameserver 10.0.2.3\nsearch example.org\n"),
            (
                Names { servers: list(&["1.1.1.1"]), ..Names::default() },
                "nameserver 1.1.1.1\nsearch example.org\n",
            ),
            (
                Names { search: list(&["lan"]), options, ..Names::default() },
                "nameserver 10.0.2.3\nsearch lan\noptions ndots:2\n",
            ),
        ] {
            assert_eq!(resolver(names), format!("# Written by firectl.\n{lines}"));
        }
    }
}
