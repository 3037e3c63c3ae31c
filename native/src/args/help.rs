//! The texts of `--help` around the list of options.

pub(super) const LONG_ABOUT: &str = "\
A native member of a gossip cluster.

It listens on one TCP port for other nodes and for browser tabs (WebSocket on the same port), \
dials its seeds, and then learns every member of the cluster: whether it is live, and the keys that \
it has set. Every connection is encrypted, and both ends prove their identity.";

pub(super) const AFTER_HELP: &str = "\
Trusted peers
  No peer is trusted by default. Give one of these options, or --secret with one of the next two:
    --secret FILE      peers that know the cluster's secret (make one with --make-secret FILE)
    --trust KEY        peers with exactly these identities; a node prints its own when it starts
    --trust-file FILE  the same, one on each line of a file
    --trust-anyone     every peer that can reach the port; for demonstrations
    --invite FILE      the members of the cluster that has issued the invite; this node is a leaf then
  With both --secret and --trust a peer must satisfy both.

Changing secrets and keys
  The file of --secret has one to four secrets, one on each line. The node dials with the first, and accepts
  all. Both files may have empty lines, and comments after a #. They are looked at every second, and valid
  changes take effect. Connections of those that are not trusted any more are closed within two seconds.
  To replace a secret, take each step on all nodes (with --admin) before the next:
    gossip-node --make-secret new.secret      once, and copy it to all nodes
    gossip-node secret add new.secret         accept it as well
    gossip-node secret use ID                 dial with it, once every node accepts it
    gossip-node secret remove OLD_ID          once no node lists a connection with the old one
  gossip-node secret list shows the ids and the connections of each. The commands also change the file.

Invites
  A node with --secret also accepts peers that hold an invite (unless --refuse-invites): strangers, such as
  browser tabs. They are leaves: believed only about themselves, within the limits of the invite.
    gossip-node invite --secret cluster.secret --for 1h --seed HOST:PORT --out word
                                              --admin instead of --secret lets a running node issue it
    gossip-node --invite word                 join with it
    gossip-node revoke ID                     end it on all nodes; --state-dir keeps that over restarts
    gossip-node revoke word                   the same by the file with its word, as above

Examples
  Make a secret, and start a first node with its page and status on port 8080:
    gossip-node --make-secret cluster.secret
    gossip-node --secret cluster.secret --id a --listen 127.0.0.1:7001 --http 127.0.0.1:8080

  Start a second node, which finds the first:
    gossip-node --secret cluster.secret --id b --listen 127.0.0.1:7002 --seed 127.0.0.1:7001

  Accept TLS at a public name, with a certificate that Let's Encrypt issues (port 443 must be reachable):
    gossip-node --secret cluster.secret --listen 0.0.0.0:443 --advertise 203.0.113.5:443 \\
        --acme admin@example.com --domain node.example.com --acme-dir acme

  Listen on a public interface, with a key that survives restarts and two trusted peers:
    gossip-node --listen 0.0.0.0:7001 --advertise 203.0.113.5:7001 --key node.key \\
        --trust KEY_OF_B --trust KEY_OF_C --seed b.example.com:7001

  Let browser tabs in from anywhere, with a certificate for the name node.example.com, or through a TLS proxy:
    gossip-node --secret cluster.secret --listen 0.0.0.0:443 --tls-cert fullchain.pem --tls-key privkey.pem \\
        --public-url wss://node.example.com/
    gossip-node --secret cluster.secret --listen 10.0.0.1:7946 --public-url wss://www.example.com/gossip

  Bridge browser tabs into a cluster of unmodified chitchat nodes, which use UDP:
    gossip-node --udp --secret cluster.secret --cluster NAME --listen 192.0.2.7:7280 \\
        --seed 192.0.2.1:7280 --http 127.0.0.1:8080 --web-root DIR

Files of options (--config)
  TOML with the names of options, such as listen = \"0.0.0.0:7946\", seed = [\"a:7946\", \"b:7946\"]
  and udp = true. The command line takes precedence, for lists as a whole. Relative paths are relative to
  the directory of the file. --check-config prints what would be used, as such a file.

Addresses (ADDR)
  IP:PORT or HOST:PORT. A host name is looked up once, and its first IPv4 address is taken, or else its
  first one.

HTTP (--http), for everyone who can reach that address; prefer a loopback address
  GET /status       this node's view of the cluster and its counters, as JSON
  GET /metrics      the same counters in the Prometheus text format
  GET /config.json  what a page needs in order to join: cluster, URLs or addresses, interval
  GET /healthz      200 while the node is a member
  GET /readyz       200 while it has a live peer, or is the first member
  GET /...          files of --web-root
  /status and /metrics are refused (421) unless the Host of the request is localhost, the address at
  which it arrives, or a name of --http-host. Nothing can be changed over HTTP.

Operating a running node (--admin)
  A node with --admin PATH listens on the Unix socket PATH, which only its user and root may use:
    gossip-node --secret cluster.secret --admin /run/user/1000/gossip-node.sock &
    gossip-node set color red
    gossip-node members --json
  Without --admin, subcommands use $GOSSIP_NODE_ADMIN, or else $XDG_RUNTIME_DIR/gossip-node.sock.
  Where there are no Unix sockets, PATH is a file (mode 0600) with a loopback port and its token.

Open files
  The node raises its limit of open files (ulimit -n) as far as it may, and shares it out, so that HTTP
  connections, dials and handshakes leave each other theirs. Of 1,000 free ones, 128 are for 64 HTTP
  connections, 64 for handshakes, the rest for gossip connections, dials included (at most 1,024). An
  HTTP connection ends after 5 s without a request, or 10 s without progress. Ten more are for --admin,
  which has 8 connections. The numbers can be set (--max-connections, --max-pending-handshakes and
  --max-http-connections); the node then starts only if so many files may be open.

Times
  --gossip-interval scales the failure detector: its initial interval is 5 times and its maximal
  interval 10 times the gossip interval. At the default of 1s a stopped node counts as dead after
  7 to 19 seconds: the younger the node, the later. At 200ms it takes a fifth of that. All members
  should use the same interval.

Environment
  RUST_LOG          what to log to stderr, for example info (the default), debug, or
                    warn,gossip_transport=trace

Exit codes
  0  left the cluster after SIGINT, SIGTERM or SIGHUP (unless it has --tls-cert, which SIGHUP
     reads again, or --acme); a subcommand: done
  1  could not run, for example because a port is in use or a file cannot be read; a subcommand: the
     node has refused it, for example because there is no such key; stderr has the reason
  2  invalid arguments, values that are out of bounds included; stderr says what to change
  3  a subcommand: no node answers, or it ended during a watch";
