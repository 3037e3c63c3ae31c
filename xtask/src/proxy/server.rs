//! A server on the proxy's machine: a program that accepts connections until it is ended.
//!
//! It knows no configuration. Dropping a server ends it.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::host::process::Process;
use crate::host::{wait, workspace};
use crate::proxy::namespaces::Namespace;

/// Limit from the start of the program until it accepts connections.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Limit of one attempt to connect to it.
const CONNECT_WITHIN: Duration = Duration::from_millis(100);

/// How a program is started.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    /// The arguments with which it stays in the foreground.
    pub(crate) args: Vec<OsString>,
    /// The folder in which it starts, and which is the home of its user.
    pub(crate) folder: PathBuf,
    /// The file for its output.
    pub(crate) log: PathBuf,
    /// A port that it accepts connections on.
    pub(crate) port: u16,
}

/// A program that is running, or has failed to start again.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    namespace: &'a Namespace,
    launch: Launch,
    process: Option<Process>,
}

impl<'a> Server<'a> {
    /// Starts the program in `namespace`, and waits until it accepts connections.
    pub(crate) fn start(namespace: &'a Namespace, launch: Launch) -> anyhow::Result<Self> {
        let mut server = Self {
            namespace,
            launch,
            process: None,
        };
        server.run()?;
        Ok(server)
    }

    /// Ends the program, and with it all connections through it, and starts it again.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        self.run()
    }

    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Returns the id of the process that was started.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        Ok(process.context("the server does not run")?.id())
    }

    /// Calls `work` with the network of the server as that of the calling thread.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.namespace.run(work)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let Launch {
            program,
            args,
            folder,
            log,
            port,
        } = &self.launch;
        let name = program.file_name().unwrap_or(program.as_os_str()).display();
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(folder)
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = self.namespace.run(|| Process::spawn(&mut command))??;
        let process = self.process.insert(process);
        let addr = SocketAddr::from(([127, 0, 0, 1], *port));
        wait::until(READY_WITHIN, || {
            if let Some(status) = process.ended() {
                bail!("{name} ended ({status}): {}", workspace::tail(log, 5));
            }
            let connected = self
                .namespace
                .run(|| TcpStream::connect_timeout(&addr, CONNECT_WITHIN))?;
            Ok(connected
                .map(drop)
                .map_err(|error| format!("{name} does not accept connections: {error}")))
        })
    }
}
