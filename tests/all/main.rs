//! Everything that is tested against real servers, real peers and the built binary: one module a subject.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: what is not there ends the test")]

mod accounts;
mod accounts_kerberos;
mod amqp;
mod catch_up;
mod confirm;
mod fedmsg;
mod fedmsg_discovery;
mod fedmsg_sockets;
mod gitolite;
mod http;
mod journal;
mod journal_postgres;
mod kill;
mod koji;
mod later;
mod looks;
mod mirror_db;
mod mirror_golden;
mod mirror_pull;
mod mirror_store;
mod nodes;
mod publish_tail;
mod reconcile;
mod running;
mod ssh_keys;
mod trouble;
mod vectors;
mod whole;
