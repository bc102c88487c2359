//! TLS by configuration: a certificate chain and its key, read again when the files change.
//!
//! It acts at the start (bad files stop it, with the file and what is wrong), every few seconds (files that changed are
//! read; if they are bad, what was read before stays in force and the log says so), and on an operator's word. TLS 1.2
//! and 1.3, without client certificates: who speaks is proved by tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Where certificate and key are, and what is spoken within TLS.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those between it and the root, PEM, in this order.
    pub certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Whether the port for frames speaks TLS.
    #[serde(default = "yes")]
    pub frames: bool,
    /// Whether the port for HTTP and WebSockets speaks TLS.
    #[serde(default = "yes")]
    pub http: bool,
}

fn yes() -> bool {
    true
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{file} can't be read: {error}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is not the PEM that it should be.
    #[error("{file} has no {wanted}: {what}")]
    Pem {
        /// The file.
        file: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The two don't belong together, or can't be used.
    #[error("the certificate in {certificate} can't be used with the key in {key}: {what}")]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is nothing to read.
    #[error("TLS is not configured: set access.tls.certificate and access.tls.key, and start again")]
    Off,
}

/// When a file was written, and its length.
type Stamp = Option<(SystemTime, u64)>;

struct Loaded {
    acceptor: TlsAcceptor,
    stamps: [Stamp; 2],
}

/// What is in force.
pub(crate) struct Tls(Option<(TlsConfig, Mutex<Loaded>)>);

impl Tls {
    /// Reads the files, if there are any to be read.
    pub fn open(config: Option<TlsConfig>) -> Result<Self, TlsError> {
        let Some(config) = config else { return Ok(Tls(None)) };
        let loaded = load(&config)?;
        Ok(Tls(Some((config, Mutex::new(loaded)))))
    }

    /// Whether any port speaks TLS.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What a new connection for frames, or for HTTP, is accepted with; none: as it is.
    pub fn acceptor(&self, frames: bool) -> Option<TlsAcceptor> {
        let (config, loaded) = self.0.as_ref()?;
        let on = if frames { config.frames } else { config.http };
        on.then(|| loaded.lock().acceptor.clone())
    }

    /// Reads the files again.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Some((config, loaded)) = &self.0 else { return Err(TlsError::Off) };
        let read = load(config)?;
        *loaded.lock() = read;
        Ok(())
    }

    /// Reads the files again if they have changed.
    pub fn look(&self) {
        let Some((config, loaded)) = &self.0 else { return };
        let stamps = stamps(config);
        if std::mem::replace(&mut loaded.lock().stamps, stamps) == stamps {
            return;
        }
        match self.reload() {
            Ok(()) => {
                tracing::info!(certificate = %config.certificate.display(), "certificate and key were read again")
            }
            Err(error) => {
                tracing::error!(%error, "certificate or key have changed and can't be used; the old ones stay")
            }
        }
    }
}

fn stamps(config: &TlsConfig) -> [Stamp; 2] {
    [&config.certificate, &config.key].map(|file| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

fn load(config: &TlsConfig) -> Result<Loaded, TlsError> {
    // Before the files: what is written while they are read counts as a change.
    let stamps = stamps(config);
    let chain = read(&config.certificate)?;
    let bad = |file: &Path, wanted, what: String| TlsError::Pem { file: file.to_owned(), wanted, what };
    let certificates = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&config.certificate, "certificate", of_pem(&error, "CERTIFICATE")))?;
    if certificates.is_empty() {
        let what = of_pem(&PemError::NoItemsFound, "CERTIFICATE");
        return Err(bad(&config.certificate, "certificate", what));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?)
        .map_err(|error| bad(&config.key, "private key", of_pem(&error, "PRIVATE KEY")))?;
    let pair = |error: tokio_rustls::rustls::Error| TlsError::Pair {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        what: error.to_string(),
    };
    let server = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(pair)?;
    Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(server)), stamps })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::Read { file: file.to_owned(), error })
}

fn of_pem(error: &PemError, wanted: &str) -> String {
    match error {
        PemError::NoItemsFound => format!("no PEM section '-----BEGIN {wanted}-----' is in it"),
        other => format!("{other:?}"),
    }
}
