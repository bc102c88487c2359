//! `winners` and `tax`: CSV, written as it comes.
//!
//! The files name people and sums. They are made readable for nobody else, and a file appears under its name only when
//! it is whole, so that half an export is never taken for all of it.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::api::Ask;
use crate::api::address::with_query;
use crate::cli::{Export, Winners};
use crate::failure::{Failure, OK};
use crate::out;
use crate::text::value::grouped;

use super::Context;

/// `winners`.
pub async fn winners(context: &Context, args: &Winners) -> Result<u8, Failure> {
    let path = format!("/v1/campaigns/{}/winners.csv", args.export.campaign);
    let query = [("min_fen", args.min_yuan.to_string())];
    export(context, &args.export, with_query(&path, &query)).await
}

/// `tax`.
pub async fn tax(context: &Context, args: &Export) -> Result<u8, Failure> {
    export(context, args, format!("/v1/campaigns/{}/tax.csv", args.campaign)).await
}

async fn export(context: &Context, args: &Export, path: String) -> Result<u8, Failure> {
    let ask = Ask::get(path);
    match &args.out {
        None => {
            let mut stdout = Reader { gone: false };
            match context.api()?.download(&ask, &mut stdout).await {
                Err(_) if stdout.gone => Ok(OK),
                done => done.map(|_| OK),
            }
        }
        Some(path) => {
            let bytes = to_file(context, &ask, path).await?;
            out::tell(&format!("{}: {} bytes", path.display(), grouped(bytes)));
            Ok(OK)
        }
    }
}

/// Downloads into a file that appears when it is whole.
///
/// # Errors
/// As [`crate::api::Api::download`]; when the file can't be made.
pub async fn to_file(context: &Context, ask: &Ask, path: &Path) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::Refused(format!("writing {}: {error}", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    let bytes = context.api()?.download(ask, &mut file).await?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(bytes)
}

/// Standard output, whose reader may go away.
struct Reader {
    gone: bool,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = std::io::stdout().write(bytes);
        self.gone |= written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}
