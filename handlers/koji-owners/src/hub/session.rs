//! The line to a hub: calls without a login, and one session for writing.
//!
//! A session's calls go one after the other, each with a number (`callnum`) one higher than the last. A call whose answer was lost
//! is sent once more with the *same* number, so a hub that did it does not do it again, and one that is still at it lets this one
//! wait for its end. What it answers then says little (`RetryError` or `None` to a done as to a failed call, recorded 043-061), so
//! the caller looks ([`Told::Unknown`]).
//!
//! Koji gives out sessions at `HUB/ssllogin`, to a client certificate and to Kerberos alike.

use std::ffi::OsString;
use std::time::Duration;

use accounts::curl::{ClientCertificate, Curl, Kerberos, NoAnswer, Post, secret_file_in, server_of};
use handler_api::Failure;
use handler_api::words::quoted;
use tokio::sync::Mutex;

use super::judge::{code, judge};
use super::xml::{self, Fault, Reply, Value};
use super::{Login, Place};

/// Largest request, in bytes: a hub refuses more than 4 MiB ("Request too long").
pub(super) const REQUEST_BYTES_MAX: usize = 4_000_000;
/// How long logging out may take, in seconds: the session ends by itself too.
const LOGOUT_SECONDS_MAX: u64 = 2;

/// The line to one hub.
pub(super) struct Line {
    place: Place,
    /// Where the files of secrets are.
    secrets: Option<OsString>,
    session: Mutex<Option<Session>>,
}

/// A session that was opened. Its key is a secret.
struct Session {
    id: i64,
    key: String,
    /// The number of the next call.
    callnum: u64,
}

/// What came of a call that may write.
pub(super) enum Told {
    /// The hub's answer to it.
    Reply(Reply),
    /// It may have been done, wholly or in part, or not: why nobody knows.
    Unknown(String),
}

/// What came of sending one request once.
enum Sent {
    Reply(Reply),
    /// The hub may have acted.
    Lost(Failure),
    /// It has not.
    Not(Failure),
}

impl Line {
    pub(super) fn new(place: Place, secrets: Option<OsString>) -> Self {
        Self { place, secrets, session: Mutex::default() }
    }

    pub(super) fn server(&self) -> &str {
        server_of(&self.place.hub)
    }

    /// Calls without a session.
    pub(super) async fn ask(&self, method: &str, params: &[Value]) -> Result<Value, Failure> {
        let body = self.body(method, params)?;
        match self.send(self.post(self.place.hub.clone(), body, Vec::new()), Kerberos::No, self.place.timeout).await {
            Sent::Reply(Reply::Value(value)) => Ok(value),
            Sent::Reply(Reply::Fault(fault)) => Err(self.refused(method, &fault)),
            Sent::Lost(failure) | Sent::Not(failure) => Err(failure),
        }
    }

    /// Calls in the session; opens one if there is none. `Err` = it is certain that nothing was done, or the hub is gone.
    pub(super) async fn tell(&self, method: &str, params: &[Value]) -> Result<Told, Failure> {
        let body = self.body(method, params)?;
        let mut held = self.session.lock().await;
        let (mut lost, mut logged_in) = (false, false);
        let mut headers = self.next_call(&mut held).await?;
        loop {
            let post = self.post(self.place.hub.clone(), body.clone(), headers.clone());
            let reply = match self.send(post, Kerberos::No, self.place.timeout).await {
                Sent::Reply(reply) => reply,
                // The same call once more, with the same number.
                Sent::Lost(_) if !lost => {
                    lost = true;
                    continue;
                }
                Sent::Lost(failure) | Sent::Not(failure) => return Err(failure),
            };
            match &reply {
                Reply::Fault(fault) if code::SESSION_IS_OVER.contains(&fault.code) => {
                    *held = None;
                    if lost {
                        return Ok(Told::Unknown("the session ended after its answer was lost".to_owned()));
                    }
                    if logged_in {
                        return Err(self.refused(method, fault));
                    }
                    logged_in = true;
                    headers = self.next_call(&mut held).await?;
                }
                Reply::Fault(fault) if fault.code == code::SEQUENCE => {
                    *held = None;
                    return Ok(Told::Unknown("another call of the same session came in between".to_owned()));
                }
                Reply::Fault(fault) if fault.code == code::RETRY => {
                    return Ok(Told::Unknown("its answer was lost".to_owned()));
                }
                Reply::Value(Value::Nil) if lost => return Ok(Told::Unknown("its answer was lost".to_owned())),
                _ => return Ok(Told::Reply(reply)),
            }
        }
    }

    /// The headers of the session's next call, whose number is used up whatever comes of it.
    async fn next_call(&self, held: &mut Option<Session>) -> Result<Vec<String>, Failure> {
        let session = match held {
            Some(session) => session,
            None => held.insert(self.log_in().await?),
        };
        let headers = session.headers();
        session.callnum += 1;
        Ok(headers)
    }

    async fn log_in(&self) -> Result<Session, Failure> {
        let server = self.server();
        let body = xml::call("sslLogin", &[Value::keywords([("proxyuser", Value::Nil)])]);
        let mut post = self.post(format!("{}/ssllogin", self.place.hub), body, Vec::new());
        let kerberos = match &self.place.login {
            Some(Login::Certificate { .. }) => {
                post.certificate = self.certificate()?;
                Kerberos::No
            }
            Some(Login::Keytab(secret)) => Kerberos::Keytab(secret.clone()),
            Some(Login::Environment) => Kerberos::Environment,
            None => {
                return Err(Failure::retry(format!("{server} can't be written to: there is no `login`")).hinting(
                    "add `login: {certificate: SECRET}` or `login: {keytab: SECRET}` to the handler's block",
                ));
            }
        };
        let value = match self.send(post, kerberos, self.place.timeout).await {
            Sent::Reply(Reply::Value(value)) => value,
            // It can be mended without sending every reaction back, so it is tried again.
            Sent::Reply(Reply::Fault(fault)) if fault.code == code::AUTH => {
                let why = format!("{server}: the login was refused: {} ({})", quoted(&fault.text), fault.code);
                return Err(Failure::retry(why).hinting(self.login_hint()));
            }
            Sent::Reply(Reply::Fault(fault)) => return Err(self.refused("sslLogin", &fault)),
            // A certificate that has ended, or that the hub does not know, is refused in mid-conversation.
            Sent::Lost(failure) => return Err(Failure::retry(failure.message()).hinting(self.login_hint())),
            Sent::Not(failure) => return Err(failure),
        };
        Session::of(&value).ok_or_else(|| {
            Failure::retry(format!("{server}: the login gave no session with header-auth, as new hubs do"))
                .hinting(self.hub_hint())
        })
    }

    /// The files to log in with, if that is how.
    pub(super) fn certificate(&self) -> Result<Option<ClientCertificate>, Failure> {
        let Some(Login::Certificate { certificate, key }) = &self.place.login else { return Ok(None) };
        let file = |name: &String| secret_file_in(self.secrets.as_deref(), name);
        Ok(Some(ClientCertificate { certificate: file(certificate)?, key: key.as_ref().map(file).transpose()? }))
    }

    /// Ends the session at the hub, as well as it goes.
    async fn log_out(&self, session: &Session) {
        let body = xml::call("logout", &[Value::keywords([("session_id", Value::Nil)])]);
        let post = self.post(self.place.hub.clone(), body, session.headers());
        self.send(post, Kerberos::No, Duration::from_secs(LOGOUT_SECONDS_MAX)).await;
    }

    fn login_hint(&self) -> String {
        let how = match &self.place.login {
            Some(Login::Certificate { .. }) => "is the certificate still good, and does the hub trust who signed it?",
            _ => "is the keytab good, and does the hub know its principal?",
        };
        format!("{how} look with: reactor doctor")
    }

    fn hub_hint(&self) -> String {
        format!("is it a Koji hub? try: koji --server={} version", self.place.hub)
    }

    fn body(&self, method: &str, params: &[Value]) -> Result<String, Failure> {
        let body = xml::call(method, params);
        if body.len() > REQUEST_BYTES_MAX {
            let (server, bytes) = (self.server(), body.len());
            return Err(Failure::permanent(format!(
                "{server}: {method} would send {bytes} bytes; at most {REQUEST_BYTES_MAX} are allowed"
            )));
        }
        Ok(body)
    }

    fn post(&self, url: String, body: String, headers: Vec<String>) -> Post {
        Post { url, headers, content_type: "text/xml", body: body.into_bytes(), certificate: None }
    }

    async fn send(&self, post: Post, kerberos: Kerberos, timeout: Duration) -> Sent {
        let curl = Curl { ca: self.place.ca.clone(), timeout, kerberos };
        let answer = match curl.post(&post).await {
            Ok(answer) => answer,
            Err(NoAnswer::Lost(failure)) => return Sent::Lost(failure),
            Err(NoAnswer::NotSent(failure)) => return Sent::Not(failure),
        };
        let server = self.server();
        let body = || quoted(String::from_utf8_lossy(&answer.body).trim());
        match answer.status {
            200 => match xml::reply(&answer.body) {
                Ok(reply) => Sent::Reply(reply),
                Err(why) => {
                    let why = format!("{server}: the answer {why}: {}", body());
                    Sent::Lost(Failure::retry(why).hinting(self.hub_hint()))
                }
            },
            // A proxy says 502 or 504 when the hub did not answer *it* in time.
            500.. => Sent::Lost(Failure::retry(format!("{server} answered {}: {}", answer.status, body()))),
            status => {
                let hint = if [401, 403].contains(&status) { self.login_hint() } else { self.hub_hint() };
                Sent::Not(Failure::retry(format!("{server} answered {status}: {}", body())).hinting(hint))
            }
        }
    }

    fn refused(&self, method: &str, fault: &Fault) -> Failure {
        judge(&format!("{}: {method}", self.server()), fault, None)
    }
}

impl Session {
    /// `None` also for a hub so old that it has no header-auth.
    fn of(value: &Value) -> Option<Self> {
        let id = value.get("session-id")?.as_int()?;
        let key = value.get("session-key")?.as_str()?;
        let whole = value.get("header-auth")?.as_bool()? && !key.is_empty();
        whole.then(|| Self { id, key: key.to_owned(), callnum: 0 })
    }

    fn headers(&self) -> Vec<String> {
        let Self { id, key, callnum } = self;
        vec![
            format!("Koji-Session-Id: {id}"),
            format!("Koji-Session-Key: {key}"),
            // Clients send the first; a hub 1.35.3 looks only for the second (kojihub/auth.py) and would do a lost call twice.
            format!("Koji-Session-Callnum: {callnum}"),
            format!("Koji-Callnum: {callnum}"),
        ]
    }
}

impl Drop for Line {
    /// Logs out, on a thread with a runtime of its own: it may be dropped inside of another.
    fn drop(&mut self) {
        let Some(session) = self.session.get_mut().take() else { return };
        let this = &*self;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    runtime.block_on(this.log_out(&session));
                    runtime.shutdown_background();
                }
            });
        });
    }
}
