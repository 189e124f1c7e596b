//! What is posted and asked over HTTP: the whole daemon, with curl and the real openssl at the other end.

mod history;
mod hook;
mod site;
mod trouble;
