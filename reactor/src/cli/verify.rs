//! `reactor verify`: is this message genuine, who signed it, and if not, why. Reads files; changes nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Common, Format, NO};
use crate::message::{BODY_BYTES_MAX, Form, RawMessage, TOPIC_BYTES_MAX};
use crate::trust::{Refusal, Verifier};

/// Largest file of messages, in bytes. A single message may be far smaller.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Say whether messages are genuine: signer, verdict, reason
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor verify --trust trust.yaml message.json
         reactor verify --trust trust.yaml --at 2023-01-01 --format json recorded.jsonl
Exit code: 0 all are valid; 1 one was refused, or could not be read. docs/trust.md says what goes into trust.yaml.")]
pub struct Args {
    /// Whom to believe: the YAML block that `bus: NAME: trust:` takes, in a file of its own
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// The topic that the transport gave (frame 0 of fedmsg); must be the one in the body
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Check as if it were this time: 2023-01-01 or 2023-01-01T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    /// Message bodies as they were on the bus; `-` is stdin; NAME.jsonl holds one a line
    #[arg(required = true, value_name = "MESSAGE")]
    messages: Vec<PathBuf>,
}

/// Checks each message and prints one line for it.
///
/// # Errors
/// A file that can't be read, or a trust block that is wrong.
pub fn run(args: Args, common: &Common) -> anyhow::Result<ExitCode> {
    let config = crate::rules::file::load_trust(&args.trust)?;
    #[expect(clippy::disallowed_methods, reason = "an edge: the operator asks about now")]
    let now = args.at.unwrap_or_else(Timestamp::now);
    let verifier = Verifier::open(config);
    if !common.quiet {
        verifier.problems(now).iter().for_each(|problem| eprintln!("warning: {problem}"));
    }
    let mut out = std::io::stdout().lock();
    let mut all_valid = true;
    for path in &args.messages {
        let content = read(path).with_context(|| format!("{0} can't be read\nhint: ls -l {0}", path.display()))?;
        for (shown, message) in messages(path, &content) {
            let verdict = check(&verifier, message, args.topic.as_deref(), now);
            all_valid &= verdict.is_ok();
            print(&mut out, common, &shown, &verdict)?;
        }
    }
    Ok(if all_valid { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let midnight = text.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::UTC));
    midnight.map(|time| time.timestamp()).map_err(|_| "write it as 2023-01-01 or 2023-01-01T00:00:00Z".into())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    } else {
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    }
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(anyhow!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(content)
}

/// The messages of one file with the names to show: the whole file, or each line that is not empty.
fn messages<'a>(path: &Path, content: &'a [u8]) -> Vec<(String, &'a [u8])> {
    let shown = path.display();
    if path.extension().is_none_or(|extension| extension != "jsonl") {
        return vec![(shown.to_string(), content)];
    }
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    let full = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    full.map(|(n, line)| (format!("{shown}:{}", n + 1), line)).collect()
}

/// `topic\0body` is the one-frame form of old publishers; its topic then is what the transport gave.
fn check(verifier: &Verifier, message: &[u8], topic: Option<&str>, now: Timestamp) -> Result<String, Refusal> {
    let refused = |reason: &str| Refusal { reason: reason.to_owned(), signer: None };
    let nul = message.iter().take(TOPIC_BYTES_MAX + 1).position(|byte| *byte == 0);
    let (framed, body) = match nul {
        Some(nul) => {
            let inline = std::str::from_utf8(&message[..nul]).map_err(|_| refused("its first frame is not a topic"))?;
            (Some(inline), &message[nul + 1..])
        }
        None => (topic, message),
    };
    if framed == Some("") {
        return Err(refused("it was sent without a topic"));
    }
    if framed.is_some() && topic.is_some_and(|topic| framed != Some(topic)) {
        return Err(refused("it was sent with another topic than --topic says"));
    }
    // One byte more than allowed is enough for the refusal.
    let body = body[..body.len().min(BODY_BYTES_MAX + 1)].to_vec();
    let raw = RawMessage {
        bus: "verify".into(),
        topic: framed.unwrap_or_default().to_owned(),
        body,
        received: now,
        token: 0,
        form: Form::Envelope,
    };
    verifier.verify(&raw, now).map(|message| message.into_inner().signer)
}

fn print(
    out: &mut impl std::io::Write,
    common: &Common,
    file: &str,
    verdict: &Result<String, Refusal>,
) -> std::io::Result<()> {
    match (common.format, verdict) {
        (Format::Human, Ok(signer)) => writeln!(out, "valid    {signer}  {file}"),
        (Format::Human, Err(refusal)) => writeln!(out, "refused  {file}: {}", refusal.reason),
        (Format::Json, Ok(signer)) => {
            writeln!(out, "{}", json!({"file": file, "verdict": "valid", "signer": signer, "reason": null}))
        }
        (Format::Json, Err(refusal)) => {
            let (signer, reason) = (&refusal.signer, &refusal.reason);
            writeln!(out, "{}", json!({"file": file, "verdict": "refused", "signer": signer, "reason": reason}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::TrustConfig;

    fn anyone() -> Verifier {
        Verifier::open(TrustConfig { accept_unlisted: true, accept_unsigned: true, ..TrustConfig::default() })
    }

    #[test]
    fn a_time_is_a_date_or_rfc_3339() {
        assert_eq!(parse_time("2023-01-01"), parse_time("2023-01-01T00:00:00Z"));
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn a_jsonl_file_holds_one_message_a_line() {
        let found = messages(Path::new("a.jsonl"), b"{}\n\n[]\n");
        assert_eq!(found, vec![("a.jsonl:1".to_owned(), &b"{}"[..]), ("a.jsonl:3".to_owned(), &b"[]"[..])]);
        assert_eq!(messages(Path::new("a.json"), b"{}\n").len(), 1);
    }

    #[test]
    fn the_topic_of_the_transport_must_be_that_of_the_body() {
        let (verifier, now) = (anyone(), Timestamp::UNIX_EPOCH);
        let body = br#"{"topic":"a.b","msg":1}"#;
        assert!(check(&verifier, body, None, now).is_ok());
        assert!(check(&verifier, body, Some("a.b"), now).is_ok());
        assert!(check(&verifier, body, Some("a.c"), now).is_err());
        assert!(check(&verifier, b"a.b\0{\"topic\":\"a.b\",\"msg\":1}", None, now).is_ok());
        assert!(check(&verifier, b"a.b\0{\"topic\":\"a.b\",\"msg\":1}", Some("a.c"), now).is_err());
        assert!(check(&verifier, b"a.c\0{\"topic\":\"a.b\",\"msg\":1}", None, now).is_err());
        assert!(check(&verifier, b"\0{\"topic\":\"a.b\",\"msg\":1}", None, now).is_err());
    }

    #[test]
    fn scripts_get_one_json_object_a_line() {
        let common = Common { state: None, format: Format::Json, verbose: 0, quiet: false };
        let mut out = Vec::new();
        print(&mut out, &common, "f", &Ok("host".into())).unwrap();
        print(&mut out, &common, "g", &Err(Refusal { reason: "why".into(), signer: None })).unwrap();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(
            lines,
            "{\"file\":\"f\",\"verdict\":\"valid\",\"signer\":\"host\",\"reason\":null}\n\
             {\"file\":\"g\",\"verdict\":\"refused\",\"signer\":null,\"reason\":\"why\"}\n"
        );
    }
}
