//! Logs: one subscriber for the process, for people or for machines.
//!
//! `RUST_LOG` wins over the configuration, so that an operator can look closer without editing a file. Logs go
//! to standard error; standard output belongs to what a command prints.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// The section of the configuration that is about logs.
#[derive(Debug, Clone, Deserialize)]
pub struct LogConfig {
    /// What to log, in the syntax of `RUST_LOG`: `info`, or `info,lottery=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Human }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "log filter {filter:?} from {source_name} is not valid: {error}; an example that is: info,lottery=debug"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// `RUST_LOG` or the configuration.
        source_name: &'static str,
        /// What the parser says.
        error: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process has set up logging before.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the whole process; call once, early in `main`. `rust_log` is the value of the environment
/// variable `RUST_LOG`, if there is one.
///
/// # Errors
/// When the filter is wrong or logging has been set up before.
pub fn init(config: &LogConfig, rust_log: Option<&str>) -> Result<(), TelemetryError> {
    let (filter, source_name) = match rust_log.filter(|text| !text.trim().is_empty()) {
        Some(filter) => (filter, "RUST_LOG"),
        None => (config.filter.as_str(), "the configuration"),
    };
    let parsed = parse(filter, source_name)?;
    // A line that can't be written (standard error is a file on a full disk) is lost. The subscriber would report that on
    // standard error too, and end whatever task was logging by a panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match config.format {
        LogFormat::Human => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|_| TelemetryError::AlreadySet)
}

fn parse(filter: &str, source_name: &'static str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        source_name,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named_with_its_source_and_an_example() {
        let error = init(&LogConfig::default(), Some("lottery=loud")).unwrap_err().to_string();
        assert!(
            error.contains("lottery=loud") && error.contains("RUST_LOG") && error.contains("info"),
            "{error}"
        );
    }

    #[test]
    fn can_be_set_once() {
        init(&LogConfig::default(), Some(" ")).unwrap();
        assert!(matches!(init(&LogConfig::default(), None), Err(TelemetryError::AlreadySet)));
    }
}
