//! A ring that is handed over a unix socket, for readers that nobody has to trust.
//!
//! ```text
//! cargo run --example hand_over_fd
//!
//!                                          ┌── socket ──▶ reader: ring and registry, so it is lossless
//!   server ──▶ strict ring in two memfds ──┤
//!                                          └── socket ──▶ follower: the ring alone, so nobody notices it
//! ```
//!
//! The server starts itself twice, as clients, and hands each a ring over a socket that is the client's standard input. The
//! ring is *strict*: once it is created, the kernel lets nobody else write it. The follower tries.
//!
//! Exit code: 0 if both received every record, in order, and the follower could not write.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use shmcast::{Handover, Options, RecvError};

const RECORDS: u64 = 100_000;
const MAX_RECORD_BYTES: u64 = 120;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => server(),
        ["reader"] => client(false),
        ["follower"] => client(true),
        _ => {
            eprintln!("usage: hand_over_fd");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hand_over_fd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Creates the ring, hands it to both clients, publishes, and compares what they received.
fn server() -> Result<()> {
    // Large enough for all records: nothing holds the writer back for a follower.
    let mut writer = Options::new().capacity(16 << 20).create_memfd_strict()?;
    let ring = writer.shared_ring()?;
    let mut clients = Vec::new();
    for role in ["reader", "follower"] {
        let mut client = Client::start(role)?;
        // To a process of this user; `allow_user` and `allow_group` let others have it.
        Handover::new().follower(role == "follower").share(&ring, &client.socket)?;
        // One byte says that it has joined.
        client.socket.read_exact(&mut [0])?;
        clients.push(client);
    }
    let mut digest = Sha256::new();
    for number in 0..RECORDS {
        let record = vec![number as u8; (number * 7 % MAX_RECORD_BYTES) as usize];
        digest.update(&record);
        writer.publish(&record)?;
    }
    // Closes the ring. The memory goes with its last user.
    drop(writer);
    let expected = format!("{RECORDS} records, sha256 {:x}", digest.finalize());
    println!("server: {expected}");
    for client in &mut clients {
        let mut report = String::new();
        client.socket.read_to_string(&mut report)?;
        println!("{}: {report}", client.role);
        if !report.starts_with(&expected) || !client.process.wait()?.success() {
            return Err(format!("the {} did not receive what was sent", client.role).into());
        }
    }
    Ok(())
}

/// A started client, and the server's end of its socket. Killed if the server fails.
struct Client {
    role: &'static str,
    process: Child,
    socket: UnixStream,
}

impl Client {
    fn start(role: &'static str) -> Result<Client> {
        let (ours, theirs) = UnixStream::pair()?;
        // Anywhere else: a UnixListener, and whoever connects.
        let process = Command::new(std::env::current_exe()?).arg(role).stdin(OwnedFd::from(theirs)).spawn()?;
        Ok(Client { role, process, socket: ours })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // No effect on those that have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Receives the ring and then all that is in it.
fn client(follows: bool) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?; // When the server dies.
    let mut socket = UnixStream::from(std::io::stdin().lock().as_fd().try_clone_to_owned()?);
    // From a process of this user, and only what nobody else can write.
    let ring = Handover::new().require_strict(true).receive(&socket)?;
    let mut reader = ring.open(&Options::new().lossy(follows))?;
    socket.write_all(b".")?;

    let (mut count, mut digest) = (0, Sha256::new());
    let mut buffer = vec![0; reader.max_payload()];
    loop {
        match reader.recv_into(&mut buffer) {
            Ok(received) => {
                count += 1;
                digest.update(&buffer[..received.len]);
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut report = format!("{count} records, sha256 {:x}", digest.finalize());
    if follows {
        // Of this user it can even open the ring to write. It does not help.
        let path = format!("/proc/self/fd/{}", ring.ring().as_raw_fd());
        let written = File::options().write(true).open(path).and_then(|mut file| file.write_all(b"mine!"));
        report += &match written {
            Ok(()) => return Err("the ring could be written".into()),
            Err(error) => format!(", and may not write: {error}"),
        };
    }
    socket.write_all(report.as_bytes())?;
    Ok(())
}
