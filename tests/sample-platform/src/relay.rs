//! Passes TCP connections on: so that a database which is not ours to stop has a program that is.

use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, complain, say, signals};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where connections are passed on to.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let ended = signals::termination()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    say(&format!("relay: listening on {}, passing on to {}", arguments.listen, arguments.to));
    tokio::select! {
        () = ended => Ok(ExitCode::SUCCESS),
        failed = accept(&listener, arguments.to) => failed,
    }
}

async fn accept(listener: &TcpListener, to: String) -> Result<ExitCode, Failure> {
    loop {
        let (incoming, peer) = listener.accept().await?;
        let to = to.clone();
        tokio::spawn(async move {
            if let Err(error) = pass(incoming, &to).await {
                complain(&format!("relay: {peer} to {to}: {error}"));
            }
        });
    }
}

async fn pass(mut incoming: TcpStream, to: &str) -> std::io::Result<()> {
    let mut outgoing = TcpStream::connect(to).await?;
    incoming.set_nodelay(true)?;
    outgoing.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await.map(drop)
}
