//! What a request is answered with when it fails: a code of ttrpc's, and a line of words.

use containerd_shim_protos::ttrpc::Code;
use ferrun::error::Error;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// containerd tells errors apart by `code`; people, Docker and the CRI read `words`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) words: String,
}

impl Failure {
    pub(crate) fn new(code: Code, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }

    pub(crate) fn not_found(words: impl Into<String>) -> Self {
        Self::new(Code::NOT_FOUND, words)
    }

    pub(crate) fn exists(words: impl Into<String>) -> Self {
        Self::new(Code::ALREADY_EXISTS, words)
    }

    pub(crate) fn precondition(words: impl Into<String>) -> Self {
        Self::new(Code::FAILED_PRECONDITION, words)
    }

    pub(crate) fn invalid(words: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENT, words)
    }

    pub(crate) fn unimplemented(words: impl Into<String>) -> Self {
        Self::new(Code::UNIMPLEMENTED, words)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Code::UNKNOWN, error.to_string())
    }
}
