//! Keeps what TLS said when a connection breaks.
//!
//! With TLS 1.3 an agent refuses our certificate only after our side of the handshake is done: the refusal arrives as an
//! alert while HTTP/2 reads, and a call only learns that it was "cancelled". The alert is kept here and told instead.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use ops_trust::tls::Fault;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::StdError;

use crate::error::Error;

/// The last TLS failure of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    fn keep(&self, error: &io::Error) {
        if let Some(fault) = Fault::find(error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        }
    }

    /// Why a call failed: what TLS said, when it said something.
    pub(super) fn explain(&self, error: impl Into<StdError>) -> StdError {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(fault) => Error::from(fault).into(),
            None => error.into(),
        }
    }
}

/// A TLS stream whose failures are kept.
#[derive(Debug)]
pub(super) struct Tap {
    stream: TlsStream<TcpStream>,
    faults: Faults,
    /// What writing failed with, while the last words of the other side are waited for.
    failed: Option<io::Error>,
}

impl Tap {
    pub(super) fn new(stream: TlsStream<TcpStream>, faults: Faults) -> Self {
        Self { stream, faults, failed: None }
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn keep<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.faults.keep(error);
        }
        polled
    }

    /// A write that fails against a closed socket would hide the alert that is on its way to us: it is waited for, as
    /// the other side has ended and says nothing after it.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = polled else { return polled };
        self.faults.keep(&error);
        self.failed = Some(error);
        self.ended(cx)
    }

    fn ended<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut scratch = [0; 512];
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => {
                    self.faults.keep(&error);
                    break;
                }
            }
        }
        let error = self.failed.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        Poll::Ready(Err(error))
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, to);
        this.keep(polled)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return this.ended(cx);
        }
        let polled = Pin::new(&mut this.stream).poll_write(cx, from);
        this.written(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return this.ended(cx);
        }
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, from);
        this.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return this.ended(cx);
        }
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return this.ended(cx);
        }
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, polled)
    }
}
