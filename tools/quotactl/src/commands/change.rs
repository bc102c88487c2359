//! Making a change: show it, ask, send it under a key of its own, show what became of it.

use std::io::{BufRead, IsTerminal as _, Read as _};

use http::Method;

use crate::api::address::with_query;
use crate::api::{Api, Ask, Body, new_key};
use crate::cli::Making;
use crate::failure::{Failure, OK, REFUSED};
use crate::out;
use crate::text::change as shown;
use crate::text::paint::Style;

use super::Context;

/// A change before it is made.
pub struct Change {
    /// Where to post it.
    pub path: String,
    /// Its query.
    pub query: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Body,
    /// What to ask a person; `None`: nothing that runs changes, so nobody is asked.
    pub question: Option<String>,
    /// What to call the campaign file, if there is one.
    pub file: Option<String>,
    /// Whether the body was read from standard input, so that nobody can be asked there.
    pub stdin_used: bool,
}

impl Change {
    /// A change with a JSON body.
    pub fn json(path: String, body: serde_json::Value, question: impl Into<Option<String>>) -> Change {
        let (query, question) = (Vec::new(), question.into());
        Change { path, query, body: Body::Json(body), question, file: None, stdin_used: false }
    }

    fn ask(&self, dry_run: bool, key: Option<String>) -> Ask {
        let mut query = self.query.clone();
        if dry_run {
            query.push(("dry_run", "true".to_owned()));
        }
        let path = with_query(&self.path, &query);
        Ask { method: Method::POST, path, body: self.body.clone(), key, patience: None, once: false }
    }

    /// Makes the change, or shows what it would do.
    ///
    /// # Errors
    /// When it is refused, by the server or by the person who was asked, or nobody answers.
    pub async fn make(&self, context: &Context, making: &Making) -> Result<u8, Failure> {
        if making.dry_run {
            return self.preview(context).await;
        }
        let must_ask = self.question.as_ref().filter(|_| !making.yes);
        if must_ask.is_some() && (self.stdin_used || !std::io::stdin().is_terminal()) {
            return Err(Failure::Usage(
                "this changes what runs, and nobody can be asked here; look at it with --dry-run, then give it with \
                 --yes"
                    .into(),
            ));
        }
        let api = context.api()?;
        let base = match must_ask {
            Some(question) => self.agreed(context, &api, question).await?,
            None => None,
        };
        let key = making.idempotency_key.clone().map_or_else(new_key, Ok)?;
        let answer = api.ask(&self.ask(false, Some(key)), self.file.as_deref()).await?;
        let value = answer.json()?;
        let code = if shown::is_done(&value) { OK } else { REFUSED };
        if context.common.json {
            context.as_it_is(&answer)?;
            return Ok(code);
        }
        let mut lines = shown::answer(&value, context.paint);
        let made_on = shown::base_of(&value);
        if let (Some(base), Some(made_on)) = (base, made_on)
            && base != made_on
        {
            lines.push(format!(
                "note: you were shown it against SeqNo {base}, and it was made on SeqNo {made_on}"
            ));
        }
        if code != OK {
            let what = "not everything was done at once; see `quotactl status`, and give the command again";
            lines.push(context.paint.style(Style::Bad, what));
        }
        out::print(&lines.join("\n"))?;
        Ok(code)
    }

    async fn preview(&self, context: &Context) -> Result<u8, Failure> {
        let answer = context.api()?.ask(&self.ask(true, None), self.file.as_deref()).await?;
        if context.common.json {
            context.as_it_is(&answer)?;
        } else {
            let mut lines = shown::answer(&answer.json()?, context.paint);
            let end = "dry run: nothing was changed";
            if lines.last().is_none_or(|last| last != end) {
                lines.push(end.to_owned());
            }
            out::print(&lines.join("\n"))?;
        }
        Ok(OK)
    }

    /// Shows what the change would do, on standard error, and asks; the SeqNo that it was held against.
    async fn agreed(&self, context: &Context, api: &Api, question: &str) -> Result<Option<String>, Failure> {
        let answer = api.ask(&self.ask(true, None), self.file.as_deref()).await?;
        let value = answer.json()?;
        let mut lines = shown::answer(&value, context.paint);
        lines.retain(|line| line != "dry run: nothing was changed");
        out::tell(&lines.join("\n"));
        out::prompt(&format!("{question} [y/N] "));
        if !is_yes(&mut std::io::stdin().lock()) {
            return Err(Failure::Refused("nothing was changed, as you wish".into()));
        }
        Ok(shown::base_of(&value))
    }
}

/// Whether a person says yes. Anything else, and the end of input, is a no.
fn is_yes(input: &mut dyn BufRead) -> bool {
    let mut line = String::new();
    let read = input.take(64).read_line(&mut line);
    read.is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (text, yes) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false), ("n\n", false)]
        {
            assert_eq!(is_yes(&mut text.as_bytes()), yes, "{text:?}");
        }
        assert!(!is_yes(&mut "y".repeat(1000).as_bytes()));
    }
}
