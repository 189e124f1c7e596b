//! The timestamp of a repomd.xml. Pure; no entity is expanded.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The largest `<data><timestamp>`, its integer part.
///
/// # Errors
/// A sentence: it is no XML, cut short, no repomd.xml, or has no timestamp.
pub(super) fn timestamp(bytes: &[u8]) -> Result<i64, String> {
    let mut reader = Reader::from_reader(bytes);
    let mut depth = 0_usize;
    let mut in_data = false;
    // The text of the timestamp that is being read.
    let mut text: Option<String> = None;
    let mut largest = None;
    let mut root = false;
    loop {
        match reader.read_event().map_err(|error| format!("it is no XML: {error}"))? {
            Event::Start(start) => {
                let name = start.local_name();
                match (depth, name.as_ref()) {
                    (0, b"repomd") if !root => root = true,
                    (0, _) => return Err("it is no repomd.xml: its element is another".to_owned()),
                    (1, b"data") => in_data = true,
                    (2, b"timestamp") if in_data => text = Some(String::new()),
                    _ => {}
                }
                depth += 1;
            }
            Event::Empty(_) if depth == 0 => return Err("it is no repomd.xml, or an empty one".to_owned()),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                match depth {
                    1 => in_data = false,
                    2 => largest = text.take().map(|text| number(&text)).transpose()?.max(largest),
                    _ => {}
                }
            }
            Event::Text(part) => {
                if let Some(text) = &mut text {
                    text.push_str(&part.decode().map_err(|error| format!("it is no UTF-8: {error}"))?);
                }
            }
            Event::GeneralRef(_) if text.is_some() => return Err("an entity in a timestamp".to_owned()),
            Event::Eof if depth > 0 => return Err("it is no XML: it is cut short".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    if !root {
        return Err("it is no XML".to_owned());
    }
    largest.ok_or_else(|| "it has no timestamp".to_owned())
}

fn number(text: &str) -> Result<i64, String> {
    let whole = text.trim().split('.').next().unwrap_or_default();
    whole.parse().map_err(|_| format!("its timestamp `{}` is no number", text.trim().escape_default()))
}
