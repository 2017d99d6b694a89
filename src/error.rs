//! The one error type that crosses room borders.
//!
//! A kind answers one question: *who must act?* Foreign errors are translated at the door of the room that met them; the
//! message names the operand. What a client is told is decided in `server::dialect`, by kind, and nowhere else.

use crate::told::Told;
use std::fmt;

/// Who must act on an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The caller sent something that cannot be served as it is.
    Invalid,
    /// The caller is not known, or no longer.
    Unauthorized,
    /// The caller is known and may not do this.
    Forbidden,
    /// What the caller names does not exist.
    NotFound,
    /// The caller must send less.
    TooLarge,
    /// The caller must wait.
    Limited,
    /// The relay has no worker, no memory or no disk left for this request; try again.
    Overloaded,
    /// The admin must act: no account can serve.
    NoAccount,
    /// The upstream refused, broke off or could not be reached.
    Upstream,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The client has left; nobody is there to be told.
    ClientGone,
    /// The operator must act: a fault of this program or its machine.
    Internal,
}

/// An error: its kind, a sentence that names the operand, and what caused it.
pub struct Error {
    kind: Kind,
    message: String,
    told: Option<Box<Told>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail across room borders.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a foreign cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), told: None, source: None }
    }

    /// An error that a foreign one caused.
    pub fn from_source(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { kind, message: message.into(), told: None, source: Some(source.into()) }
    }

    /// An error that pages say in their own language.
    pub fn saying(kind: Kind, sentence: impl Into<Told>) -> Error {
        let told = Box::new(sentence.into());
        Error { kind, message: told.text().to_owned(), told: Some(told), source: None }
    }

    /// The caller's fault.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, message)
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    /// A fault of the program or the machine, with its cause.
    pub fn internal(message: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::from_source(Kind::Internal, message, source)
    }

    /// Who must act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The sentence with its name, if it has one.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_deref()
    }
}

impl fmt::Display for Error {
    /// The sentence and all its causes: for the log and the console, not for a client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
