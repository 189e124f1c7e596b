//! A stand-in for datagrepper: the form, the filters and the paging of its `/raw`, over what the test puts in. Messages of the
//! same second come in another order on each page, as a database may hand them over; and it fails where it is told to.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// What the next answer is instead of a page.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another HTTP status.
    Status(u16),
    /// A page whose end is missing.
    Cut,
    /// So many bytes that are no page.
    Huge(usize),
    /// 200 and this text.
    Text(String),
}

/// A running stand-in; it ends with the test's process.
#[derive(Clone, Debug)]
pub struct Datagrepper {
    shared: Arc<(Mutex<State>, Condvar)>,
    port: u16,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Value>,
    asked: Vec<Vec<(String, String)>>,
    faults: VecDeque<Fault>,
    is_shut: bool,
}

impl Datagrepper {
    /// Starts one, with nothing in it.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let ours = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = ours.clone();
                // Whoever hangs up in the middle gets no answer.
                std::thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { shared, port }
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/datagrepper/raw", self.port)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message as datanommer keeps one that it got as `envelope`.
    ///
    /// # Panics
    /// When it is no envelope.
    pub fn keep(&self, envelope: &str) {
        let mut kept: Value = serde_json::from_str(envelope).expect("JSON");
        let seconds = kept["timestamp"].as_f64().expect("a time");
        kept["timestamp"] = json!(seconds);
        for name in ["certificate", "signature", "crypto", "username"] {
            kept[name] = kept[name].take();
        }
        kept["headers"] = json!({});
        for (name, value) in [("source_name", json!("datanommer")), ("source_version", json!("1.5.0"))] {
            kept[name] = value;
        }
        kept["users"] = json!([]);
        kept["packages"] = json!([]);
        self.lock().messages.push(kept);
    }

    /// What it was asked so far: the queries, as names and values.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.lock().asked.clone()
    }

    /// The next answers fail.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Whoever asks waits from now on, or no longer.
    pub fn shut(&self, is_shut: bool) {
        self.lock().is_shut = is_shut;
        self.shared.1.notify_all();
    }
}

fn serve(stream: &TcpStream, shared: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let query = parse(target.split_once('?').map_or("", |(_, query)| query));
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_turned = !state.asked.contains(&query);
    state.asked.push(query.clone());
    let mut state = shared.1.wait_while(state, |state| state.is_shut).unwrap_or_else(PoisonError::into_inner);
    let page = page(&state.messages, &query, is_turned).to_string();
    let (status, cut, body) = match state.faults.pop_front() {
        None => (200, 0, page),
        Some(Fault::Status(status)) => (status, 0, json!({"error": "told to", "arguments": {}}).to_string()),
        Some(Fault::Cut) => (200, 10, page),
        Some(Fault::Huge(bytes)) => (200, 0, " ".repeat(bytes)),
        Some(Fault::Text(text)) => (200, 0, text),
    };
    drop(state);
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body.as_bytes()[..body.len().saturating_sub(cut)])
}

/// The parts of a query that a reactor asks with: no part of them needs more than `%` taken away.
fn parse(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (name.to_owned(), value.replace("%2D", "-"))).collect()
}

/// As `datagrepper/app.py` answers `/raw`.
fn page(messages: &[Value], query: &[(String, String)], is_turned: bool) -> Value {
    let all =
        |name: &str| query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    let number = |name: &str, default: f64| all(name).first().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, end) = (number("start", 0.0), number("end", 1e12));
    let (topics, categories) = (all("topic"), all("category"));
    let fits = |message: &&Value| {
        let (time, topic) = (message["timestamp"].as_f64().unwrap_or(0.0), message["topic"].as_str().unwrap_or(""));
        let category = topic.split('.').nth(3).unwrap_or("");
        (start..=end).contains(&time)
            && (topics.is_empty() || topics.contains(&topic))
            && (categories.is_empty() || categories.contains(&category))
    };
    let mut found: Vec<&Value> = messages.iter().filter(fits).collect();
    let (page, rows) = (number("page", 1.0) as usize, number("rows_per_page", 25.0) as usize);
    // Of one second the order is another on each page, at the first reading of it.
    if let (true, false) = (is_turned, found.is_empty()) {
        let turn = (page.saturating_sub(1) * 7) % found.len();
        found.rotate_left(turn);
    }
    found.sort_by(|a, b| a["timestamp"].as_f64().partial_cmp(&b["timestamp"].as_f64()).expect("times"));
    if all("order") != ["asc"] {
        found.reverse();
    }
    let total = found.len();
    let on_page: Vec<&Value> = found.into_iter().skip((page.max(1) - 1) * rows).take(rows).collect();
    json!({"raw_messages": on_page, "count": on_page.len(), "total": total, "pages": total.div_ceil(rows.max(1)), "arguments": {}})
}
