//! Tests of the command line.

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use gossip_transport::ClusterSecret;

use super::*;
use crate::descriptors::Shares;

#[test]
fn clap_accepts_the_definition_of_the_command_line() {
    use clap::CommandFactory as _;
    Args::command().debug_assert();
}

/// Returns the error of a command line.
fn refused(words: &[&str]) -> String {
    match CommandLine::parse(words.iter().map(Into::into).collect()) {
        Err(ArgsError::Malformed(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_in_the_place_of_something_else_is_not_printed() {
    let secret = ClusterSecret::generate().to_text();
    for option in ["--trust", "--listen", "--seed", "--key", "--max-members"] {
        let args = ["gossip-node", option, &secret];
        let error = refused(&args);
        assert!(
            error.contains(option) && error.contains("(a secret"),
            "{error}"
        );
        assert!(!error.contains(&secret), "{error}");
    }
    for stray in [secret.clone(), format!("--{secret}")] {
        let error = refused(&["gossip-node", &stray]);
        assert!(!error.contains(&secret), "{error}");
    }
}

#[test]
fn an_option_before_its_subcommand_is_reported_with_the_right_order() {
    let args = ["gossip-node", "--admin", "path", "get", "role"];
    let text = refused(&args);
    assert!(
        text.contains("follow it: gossip-node get [OPTIONS]"),
        "{text}"
    );
}

#[test]
fn a_word_that_is_no_subcommand_is_reported_with_those_that_are() {
    for args in [&["node.toml"][..], &["--check-config", "node.toml"]] {
        let text = refused(&[&["gossip-node"], args].concat());
        assert!(
            text.contains("'node.toml'")
                && text.contains("the subcommands are get, set, ")
                && text.contains("with --config FILE"),
            "{text}"
        );
    }
    let text = refused(&["gossip-node", "secret", "foo"]);
    assert!(
        text.contains("the subcommands are list, add, use, remove\n"),
        "{text}"
    );
    let text = refused(&["gossip-node", "member"]);
    assert!(text.contains("'members'"), "{text}");
}

#[test]
fn a_host_name_that_is_not_found_is_not_called_malformed() {
    let error = parse_addr(":7946").unwrap_err();
    assert!(error.ends_with("localhost:7946"), "{error}");
    // Longer than a label may be, so nobody is asked.
    let long = "a".repeat(70);
    let error = parse_addr(&format!("{long}:7946")).unwrap_err();
    let expected = format!("the host name \"{long}\" cannot be looked up: ");
    assert!(error.starts_with(&expected), "{error}");
    let secret = format!("{}:1", ClusterSecret::generate().to_text());
    let error = refused(&["gossip-node", "--listen", &secret]);
    assert!(!error.contains(&secret[20..60]), "{error}");
}

#[test]
fn a_value_may_contain_an_equals_sign_but_a_key_must_not_be_empty() {
    assert_eq!(parse_key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
    assert_eq!(parse_key_value("a="), Ok(("a".into(), String::new())));
    assert!(parse_key_value("=b").is_err());
    assert!(parse_key_value("a").is_err());
}

#[test]
fn without_an_option_for_trust_the_arguments_are_refused() {
    let args = Args::try_parse_from(["gossip-node"]).unwrap();
    let help = args.check().unwrap_err().to_string();
    for option in ["--secret", "--trust KEY", "--trust-anyone", "--make-secret"] {
        assert!(help.contains(option), "{help}");
    }
    let args = Args::try_parse_from(["gossip-node", "--trust-anyone"]).unwrap();
    assert_eq!(args.check(), Ok(()));
}

#[test]
fn trust_anyone_conflicts_with_the_other_options_for_trust() {
    let key = "a".repeat(52);
    for other in [["--secret", "f"], ["--trust", &key], ["--trust-file", "f"]] {
        let args = ["gossip-node", "--trust-anyone", other[0], other[1]];
        let error = Args::try_parse_from(args).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{other:?}");
    }
}

#[test]
fn link_local_addresses_are_refused_with_an_explanation() {
    for option in ["--listen", "--advertise", "--seed"] {
        for addr in ["[fe80::1%eth0]:7946", "[fe80::1%2]:7946", "[fe80::1]:7946"] {
            let args = ["gossip-node", "--trust-anyone", option, addr];
            let error = Args::try_parse_from(args).unwrap_err().to_string();
            assert!(error.contains("unique local"), "{error}");
        }
    }
}

#[test]
fn a_node_with_an_invite_takes_any_port_unless_one_is_given() {
    let listen = |args: &[&str]| {
        let args = [&["gossip-node"], args].concat();
        Args::try_parse_from(args).unwrap().listen.to_string()
    };
    assert_eq!(listen(&["--trust-anyone"]), "127.0.0.1:7946");
    assert_eq!(listen(&["--invite", "guest"]), "127.0.0.1:0");
    let given = ["--invite", "guest", "--listen", "127.0.0.1:7946"];
    assert_eq!(listen(&given), "127.0.0.1:7946");
}

#[test]
fn a_host_name_stands_for_its_address_wherever_one_is_expected() {
    for option in ["--listen", "--advertise", "--http"] {
        let args = ["gossip-node", "--trust-anyone", option, "localhost:7946"];
        let args = Args::try_parse_from(args).unwrap();
        let given = [Some(args.listen), args.advertise, args.http];
        let loopback = ([127, 0, 0, 1], 7946).into();
        assert!(given.contains(&Some(loopback)), "{option}: {given:?}");
        for wrong in [
            "localhost",
            ":7946",
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:99999",
        ] {
            let args = ["gossip-node", "--trust-anyone", option, wrong];
            let error = Args::try_parse_from(args).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}

#[test]
fn a_seed_must_have_a_host_and_a_port() {
    for wrong in [
        "foo",
        "foo:",
        ":1",
        "foo:0",
        "foo:99999",
        "http://foo:1",
        "::1",
        "",
    ] {
        let args = ["gossip-node", "--trust-anyone", "--seed", wrong];
        let error = Args::try_parse_from(args).unwrap_err().to_string();
        assert!(error.contains("host:port"), "{error}");
    }
    for right in ["foo:1", "foo.example.com:7946", "127.0.0.1:1", "[::1]:7946"] {
        let args = ["gossip-node", "--trust-anyone", "--seed", right];
        assert!(Args::try_parse_from(args).is_ok(), "{right}");
    }
}

#[test]
fn addresses_are_canonical() {
    let mapped = "[::ffff:192.0.2.1]:7";
    let args = ["gossip-node", "--listen", mapped, "--advertise", mapped];
    let args = Args::try_parse_from(args).unwrap();
    let expected = ([192, 0, 2, 1], 7).into();
    assert_eq!((args.listen, args.advertise), (expected, Some(expected)));
}

#[test]
fn a_trusted_proxy_is_an_address_or_a_network() {
    let parse = |net: &str| {
        let args = [
            "gossip-node",
            "--proxy-protocol-from",
            net,
            "--forwarded-for-from",
            net,
        ];
        Args::try_parse_from(args)
    };
    assert!(parse("10.0.0.0/8").is_ok() && parse("::1").is_ok());
    assert!(parse("10.0.0.0/33").is_err() && parse("proxy.example.com").is_err());
}

#[test]
fn an_address_of_no_machine_is_not_listened_on() {
    for option in ["--listen", "--http"] {
        for addr in [
            "224.0.0.1:1",
            "255.255.255.255:1",
            "240.0.0.1:1",
            "[ff02::1]:1",
            "[100::1]:1",
        ] {
            let args = ["gossip-node", "--trust-anyone", option, addr];
            let error = Args::try_parse_from(args)
                .unwrap()
                .check()
                .unwrap_err()
                .to_string();
            assert!(error.contains(option) && error.contains(addr), "{error}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_dialled_is_not_advertised() {
    let base = ["gossip-node", "--trust-anyone", "--listen", "0.0.0.0:0"];
    let parse = |more: &[&str]| {
        Args::try_parse_from(base.iter().chain(more))
            .unwrap()
            .check()
    };
    assert!(parse(&["--advertise", "0.0.0.0:1"]).is_err());
    assert!(parse(&["--advertise", "127.0.0.1:0"]).is_err());
    for addr in [
        "255.255.255.255:1",
        "224.0.0.1:1",
        "240.0.0.1:1",
        "[100::1]:1",
        "[ff02::1]:1",
    ] {
        let error = parse(&["--advertise", addr]).unwrap_err().to_string();
        assert!(error.contains(addr), "{error}");
    }
    assert_eq!(parse(&["--advertise", "127.0.0.1:1"]), Ok(()));
}

/// The options that set values of the library, with one that has another effect than the default.
fn tunables() -> Vec<(String, String)> {
    let command = command();
    let in_group = command.get_arguments().filter(|arg| {
        let heading = arg.get_help_heading().unwrap_or_default();
        LONG_HELP_ONLY.iter().any(|name| heading.starts_with(name))
    });
    let other = |arg: &clap::Arg| {
        let kind = arg.get_value_names().unwrap_or_default()[0].as_str();
        match kind {
            // More than the largest of all lower bounds.
            "COUNT" | "SIZE" => "12345678",
            "TIME" => "25m",
            "NUMBER" => "7.5",
            "VERSION" => "v1",
            "WHOM" => "seeds",
            _ => panic!("{kind}"),
        }
        .to_owned()
    };
    let options = in_group.map(|arg| (arg.get_long().unwrap().to_owned(), other(arg)));
    options.collect()
}

/// Returns the arguments of a node that is a bridge and has an HTTP port.
fn parse_tunable(option: &str, value: &str) -> Args {
    let given = format!("--{option}={value}");
    // The bounds of the others are far away.
    let base = [
        "gossip-node",
        "--trust-anyone",
        "--udp",
        "--http",
        "127.0.0.1:1",
    ];
    let args = base.into_iter().chain([given.as_str()]);
    Args::from_arg_matches(&command().try_get_matches_from(args).unwrap()).unwrap()
}

fn configs(args: &Args) -> String {
    let shares = Shares::unlimited(args.wanted());
    format!(
        "{:#?}{:#?}{:#?}{:#?}{shares:#?}",
        args.socket_config(&shares, None),
        args.tcp_config(&shares),
        args.udp_config(),
        args.gossip_config("n")
    )
}

#[test]
fn each_limit_and_time_reaches_the_library() {
    let default = configs(&parse_tunable("gossip-interval", "1s"));
    let tunables = tunables();
    assert!(tunables.len() > 45, "{tunables:?}");
    for (option, value) in tunables {
        let changed = configs(&parse_tunable(&option, &value));
        assert_ne!(changed, default, "--{option} {value} changes nothing");
    }
}

#[test]
fn a_value_of_zero_is_refused_with_the_name_of_its_option_or_is_documented() {
    let documented = [
        "max-partial-bytes",
        "max-shared-record-bytes",
        "max-udp-members",
        "udp-max-unechoed-bytes-per-second",
        "backoff-min",
        "outgoing-ttl",
        "peer-linger",
        "rumour-fanout",
    ];
    for (option, value) in tunables() {
        let zero = match value.as_str() {
            "25m" => "0ms",
            "v1" | "seeds" => continue,
            _ => "0",
        };
        if option == "gossip-interval" {
            assert!(zero.parse::<interval::Interval>().is_err());
            continue;
        }
        let checked = parse_tunable(&option, zero).check();
        if documented.contains(&option.as_str()) {
            assert_eq!(checked, Ok(()), "{option}");
        } else {
            let error = checked.unwrap_err();
            assert_eq!(error.option.as_deref(), Some(option.as_str()), "{error}");
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_library_and_valid() {
    let args = Args::try_parse_from(["gossip-node", "--trust-anyone"]).unwrap();
    assert_eq!(args.check(), Ok(()));
    let shares = Shares::unlimited(args.wanted());
    let socket = args.socket_config(&shares, None);
    let library = gossip_transport::TransportLayerConfig::default()
        .with_interval(args.gossip.gossip_interval.get());
    assert_eq!(format!("{socket:?}"), format!("{library:?}"));
    let mut gossip = args.gossip_config("n");
    gossip.initial_key_values.clear();
    let library = gossip_transport::gossip::GossipConfig::new("gossip", "n");
    assert_eq!(format!("{gossip:?}"), format!("{library:?}"));
    let library = gossip_transport::udp::UdpConfig::default();
    assert_eq!(format!("{:?}", args.udp_config()), format!("{library:?}"));
}

#[test]
fn with_many_connections_as_many_more_peers_are_remembered() {
    let args = parse_tunable("max-connections", "5000");
    assert_eq!(args.check(), Ok(()));
    let shares = Shares::unlimited(args.wanted());
    let socket = args.socket_config(&shares, None);
    assert_eq!((socket.max_connections, socket.max_peers), (5000, 20_000));
    assert_eq!(socket.max_connections_per_host, 5000);
}
